//! Bytes between a cell and the server, resumed where a connection was cut.

use anyhow::bail;
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};

use super::protocol::PATIENCE;
use crate::client::{Client, ClientError};

/// What is sent in one go; more is announced first, so that a cut costs only what had not arrived.
const SMALL_BYTES: usize = 1024 * 1024;

/// The bytes of a digest. What came before a cut is kept, and only the rest asked for again.
pub(super) async fn fetch(api: &Client, digest: &str) -> anyhow::Result<Vec<u8>> {
    let path = format!("/artifacts/{digest}");
    let mut bytes = Vec::new();
    while !fetch_some(api, &path, digest, &mut bytes).await? {
        tokio::time::sleep(PATIENCE).await;
    }
    let actual = crate::artifacts::digest(&bytes);
    if actual != digest {
        bail!("the server sent G-code with the digest `{actual}`, not `{digest}`");
    }
    Ok(bytes)
}

/// Adds what comes over one connection; says whether that was the rest.
async fn fetch_some(
    api: &Client,
    path: &str,
    digest: &str,
    bytes: &mut Vec<u8>,
) -> Result<bool, ClientError> {
    let mut request = api.request(Method::GET, path);
    if !bytes.is_empty() {
        request = request
            .header(header::RANGE, format!("bytes={}-", bytes.len()))
            .header(header::IF_RANGE, format!("\"{digest}\""));
    }
    let answer = api.open(request).await;
    // Cut off after the last byte: there is no rest.
    if matches!(&answer, Err(error) if error.code() == Some("range_not_satisfiable")) {
        return Ok(true);
    }
    let Some(mut response) = patiently(answer)? else {
        return Ok(false);
    };
    if response.status() != StatusCode::PARTIAL_CONTENT {
        bytes.clear();
    }
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(true),
            Err(error) => {
                tracing::warn!("cut off after {} bytes of {path}: {error}", bytes.len());
                return Ok(false);
            }
        }
    }
}

/// Stores bytes; answers their digest.
pub(super) async fn upload(api: &Client, media: &str, bytes: &[u8]) -> anyhow::Result<String> {
    let digest = crate::artifacts::digest(bytes);
    let path = format!("/artifacts/{digest}");
    loop {
        let stored = if bytes.len() <= SMALL_BYTES {
            patiently(api.put_bytes(&path, media, bytes.to_vec()).await)?.is_some()
        } else {
            upload_some(api, &digest, media, bytes).await?
        };
        if stored {
            return Ok(digest);
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Announces the bytes, which finds what has come of them before, and sends the rest; says whether that was all.
async fn upload_some(
    api: &Client,
    digest: &str,
    media: &str,
    bytes: &[u8],
) -> Result<bool, ClientError> {
    let body = json!({ "digest": digest, "size_bytes": bytes.len(), "media": media });
    let Some(upload) = patiently(api.post::<Value>("/artifacts/uploads", &body).await)? else {
        return Ok(false);
    };
    let path = format!(
        "/artifacts/uploads/{}",
        upload["id"].as_str().unwrap_or_default()
    );
    let offset = upload["offset"].as_u64().unwrap_or_default();
    let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
    if let Some(rest @ [_, ..]) = rest {
        let request: RequestBuilder = api
            .request(Method::PATCH, &path)
            .header("upload-offset", offset)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(rest.to_vec());
        match api.bytes(request).await {
            // What an older connection sent is still being put away: ask again where it stands.
            Err(error) if error.code() == Some("upload_offset") => return Ok(false),
            sent => {
                if patiently(sent)?.is_none() {
                    return Ok(false);
                }
            }
        }
    }
    let finish = format!("{path}/finish");
    Ok(patiently(api.post::<Value>(&finish, &json!({})).await)?.is_some())
}

/// Nothing for what may work when it is tried again.
fn patiently<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_transient() => {
            tracing::warn!("{error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::auth::Role;
    use crate::testing::TestServer;

    /// Passes each connection on to a server, and cuts it after so many bytes, one way or the other.
    async fn cutting(server: std::net::SocketAddr, cut_after: usize) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = cuts.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server)
                    .await
                    .expect("the server listens");
                let (up, down) = (client.into_split(), server.into_split());
                let counted = counted.clone();
                tokio::spawn(async move {
                    let cut = tokio::select! {
                        cut = pass_on(up.0, down.1, cut_after) => cut,
                        cut = pass_on(down.0, up.1, cut_after) => cut,
                    };
                    counted.fetch_add(usize::from(cut), Ordering::SeqCst);
                });
            }
        });
        (format!("http://{address}"), cuts)
    }

    async fn pass_on(
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        mut left: usize,
    ) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        while left > 0 {
            let room = left.min(buffer.len());
            let Ok(read @ 1..) = from.read(&mut buffer[..room]).await else {
                return false;
            };
            if to.write_all(&buffer[..read]).await.is_err() {
                return false;
            }
            left -= read;
        }
        true
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_cut_goes_on_where_it_was() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Cell, "c1").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = crate::router::router(server.app.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });

        let bytes: Vec<u8> = (0..6_000_000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
            .collect();
        // Less than the whole, so that no connection carries it in one go.
        let (base, cuts) = cutting(address, 2_500_000).await;
        let api = Client::new(&base, Some(token)).expect("a client");
        let digest = upload(&api, "model/ply", &bytes).await.expect("stored");
        let while_sending = cuts.load(Ordering::SeqCst);
        assert!(while_sending >= 2, "{while_sending} cuts");
        let got = fetch(&api, &digest).await.expect("fetched");
        assert!(got == bytes);
        assert!(cuts.load(Ordering::SeqCst) >= while_sending + 2);
    }
}
