//! Large bytes are sent in as many stretches as the network allows, and fetched so too; each byte crosses it once.

use reqwest::{Method, header};
use serde_json::{Value, json};
use tests::{Answer, Client, Cut, CuttingProxy, Server, digest};

const MIB: usize = 1024 * 1024;

/// Bytes no two stretches of which are alike.
fn many(count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) as u8)
        .collect()
}

/// Where the connections are cut: the same at every run.
struct Cuts(u64);

impl Cuts {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

async fn announce(client: &Client, bytes: &[u8]) -> Value {
    let body = json!({ "digest": digest(bytes), "size_bytes": bytes.len(), "media": "model/ply" });
    client.post("/artifacts/uploads", &body).await.ok()
}

fn path_of(upload: &Value) -> String {
    format!(
        "/artifacts/uploads/{}",
        upload["id"].as_str().expect("an id")
    )
}

fn append(client: &Client, path: &str, offset: usize, bytes: &[u8]) -> reqwest::RequestBuilder {
    let request = client.request(Method::PATCH, path);
    // Each stretch over a connection of its own, which is cut where it is meant to be.
    let request = request.header("connection", "close");
    let request = request.header("upload-offset", offset.to_string());
    request
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(bytes.to_vec())
}

async fn offset(client: &Client, path: &str) -> usize {
    let answer = client.send(client.request(Method::HEAD, path)).await;
    answer.expect(200);
    answer.header("upload-offset").parse().expect("a number")
}

/// Sends all bytes over connections that are cut now and then; answers how often one was.
async fn send_with_cuts(direct: &Client, proxy: &CuttingProxy, bytes: &[u8], cuts: usize) -> usize {
    let cut_off = direct.through(&proxy.base());
    let path = path_of(&announce(direct, bytes).await);
    let mut random = Cuts(7);
    let mut failed = 0;
    loop {
        let at = offset(direct, &path).await;
        if at == bytes.len() {
            break;
        }
        let cut = match failed < cuts {
            true => Cut::Request(random.next(bytes.len() / cuts)),
            false => Cut::Never,
        };
        proxy.cut(cut);
        match cut_off
            .try_send(append(&cut_off, &path, at, &bytes[at..]))
            .await
        {
            // What an older connection sent may still be on its way to the disk.
            Ok(answer) if answer.status == 409 => {}
            Ok(answer) => assert_eq!(answer.status, 204, "{}", answer.text()),
            Err(_) => failed += 1,
        }
    }
    let stored = direct
        .post(&format!("{path}/finish"), &json!({}))
        .await
        .expect(201);
    assert_eq!(stored["digest"], digest(bytes));
    failed
}

/// Fetches a digest over connections that are cut now and then; answers the bytes and how often one was.
async fn fetch_with_cuts(
    direct: &Client,
    proxy: &CuttingProxy,
    named: &str,
    size: usize,
    cuts: usize,
) -> (Vec<u8>, usize) {
    let cut_off = direct.through(&proxy.base());
    let mut random = Cuts(11);
    let (mut bytes, mut failed) = (Vec::new(), 0);
    while bytes.len() < size {
        let cut = match failed < cuts {
            true => Cut::Reply(random.next(size / cuts)),
            false => Cut::Never,
        };
        proxy.cut(cut);
        let request = cut_off
            .request(Method::GET, &format!("/artifacts/{named}"))
            .header("connection", "close")
            .header("range", format!("bytes={}-", bytes.len()))
            .header("if-range", format!("\"{named}\""));
        let Ok(mut response) = request.send().await else {
            failed += 1;
            continue;
        };
        assert_eq!(response.status(), 206);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(_) => {
                    failed += 1;
                    break;
                }
            }
        }
    }
    (bytes, failed)
}

#[tokio::test]
async fn what_is_larger_than_the_memory_it_may_take_is_sent_and_fetched_over_a_bad_network() {
    let server = Server::start().await;
    let proxy = CuttingProxy::before(server.anonymous.base()).await;
    let bytes = many(96 * MIB);
    let before = server.memory_bytes("VmHWM");
    let cuts = send_with_cuts(&server.operator, &proxy, &bytes, 20).await;
    assert!(cuts >= 20, "{cuts} cuts");
    let named = digest(&bytes);
    let (fetched, cuts) = fetch_with_cuts(&server.operator, &proxy, &named, bytes.len(), 20).await;
    assert!(cuts >= 20, "{cuts} cuts");
    assert!(fetched == bytes, "the same bytes");
    let grown = server.memory_bytes("VmHWM").saturating_sub(before) / MIB as u64;
    assert!(
        grown <= 48,
        "{} MiB took {grown} MiB of memory",
        bytes.len() / MIB
    );
    // Announced again there is nothing left to send.
    let again = announce(&server.operator, &bytes).await;
    assert_eq!(
        (&again["state"], &again["offset"]),
        (&json!("stored"), &json!(bytes.len()))
    );
    let pieces = std::fs::read_dir(server.data.join("artifacts/uploads"));
    let left: usize = pieces.map_or(0, |dirs| {
        let files =
            |dir: std::fs::DirEntry| std::fs::read_dir(dir.path()).map_or(0, Iterator::count);
        dirs.flatten().map(files).sum()
    });
    assert_eq!(left, 0, "the pieces are gone");
}

#[tokio::test]
async fn an_upload_goes_on_after_the_server_was_killed() {
    let mut server = Server::start().await;
    let bytes = many(3 * MIB);
    let path = path_of(&announce(&server.operator, &bytes).await);
    let half = bytes.len() / 2;
    let sent = server
        .operator
        .send(append(&server.operator, &path, 0, &bytes[..half]))
        .await;
    assert_eq!(
        (sent.status, sent.header("upload-offset")),
        (204, half.to_string().as_str())
    );
    server.kill_and_restart().await;
    let found = announce(&server.operator, &bytes).await;
    assert_eq!(
        (path_of(&found), &found["offset"]),
        (path.clone(), &json!(half))
    );
    let sent = server
        .operator
        .send(append(&server.operator, &path, half, &bytes[half..]))
        .await;
    sent.expect(204);
    let finish = format!("{path}/finish");
    for _ in 0..2 {
        server.operator.post(&finish, &json!({})).await.expect(201);
    }
    let whole = server
        .operator
        .get(&format!("/artifacts/{}", digest(&bytes)))
        .await;
    assert!(whole.bytes == bytes);
    assert_eq!(whole.header("content-type"), "model/ply");
}

#[tokio::test]
async fn what_does_not_fit_an_upload_is_refused() {
    let server = Server::with(&[("FOREWRIGHT_SERVER_MAX_ARTIFACT_BYTES", "1000")]).await;
    let operator = &server.operator;
    let too_large = json!({ "digest": digest(b""), "size_bytes": 1_001 });
    let refused = operator.post("/artifacts/uploads", &too_large).await;
    assert_eq!(
        refused.expect_problem(413, "too_large")["limit_bytes"],
        1_000
    );
    let nameless = json!({ "digest": "md5:0", "size_bytes": 1 });
    operator
        .post("/artifacts/uploads", &nameless)
        .await
        .expect_problem(400, "not_a_digest");

    let bytes = many(100);
    let path = path_of(&announce(operator, &bytes).await);
    let ask = async |offset, bytes: &[u8]| -> Answer {
        operator.send(append(operator, &path, offset, bytes)).await
    };
    ask(7, &bytes[7..])
        .await
        .expect_problem(409, "upload_offset");
    ask(0, &many(101))
        .await
        .expect_problem(422, "upload_too_long");
    ask(0, &bytes[..40]).await.expect(204);
    let early = operator.post(&format!("{path}/finish"), &json!({})).await;
    assert_eq!(early.expect_problem(409, "upload_incomplete")["offset"], 40);
    let other = server.client_of("engineer").await;
    other.get(&path).await.expect_problem(404, "not_found");
    let differs = json!({ "digest": digest(&bytes), "size_bytes": 99 });
    operator
        .post("/artifacts/uploads", &differs)
        .await
        .expect_problem(409, "upload_differs");

    // Other bytes than were announced: nothing is kept of them.
    ask(40, &[0; 60]).await.expect(204);
    let lie = operator.post(&format!("{path}/finish"), &json!({})).await;
    lie.expect_problem(422, "digest_mismatch");
    operator.get(&path).await.expect_problem(404, "not_found");

    let path = path_of(&announce(operator, &bytes).await);
    operator
        .send(append(operator, &path, 0, &bytes[..40]))
        .await
        .expect(204);
    operator
        .send(operator.request(Method::DELETE, &path))
        .await
        .expect(204);
    operator.get(&path).await.expect_problem(404, "not_found");
    operator
        .get(&format!("/artifacts/{}", digest(&bytes)))
        .await
        .expect_problem(404, "not_found");
}
