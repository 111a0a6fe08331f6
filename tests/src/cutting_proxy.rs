//! A proxy that cuts connections after so many bytes of the request or of the reply.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nowhere.
    Never,
    /// Once this many bytes of the client have reached the server.
    Request(usize),
    /// Once this many bytes of the server have reached the client.
    Reply(usize),
}

/// Stands between a client and a server; it stops with the value.
#[derive(Debug)]
pub struct CuttingProxy {
    /// Where it listens.
    pub address: SocketAddr,
    cut: Arc<Mutex<Cut>>,
    accepting: JoinHandle<()>,
}

impl CuttingProxy {
    /// One before the server at `http://HOST:PORT`.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub async fn before(base: &str) -> Self {
        let server = base.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let cut = Arc::new(Mutex::new(Cut::Never));
        let told = cut.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = *told.lock().expect("no panic while held");
                let server = TcpStream::connect(&server)
                    .await
                    .expect("the server listens");
                tokio::spawn(between(client, server, cut));
            }
        });
        Self {
            address,
            cut,
            accepting,
        }
    }

    /// Where it listens, as an address to speak HTTP to.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts the connections made from now on.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn cut(&self, at: Cut) {
        *self.cut.lock().expect("no panic while held") = at;
    }

    /// Sends bytes over a connection of their own; answers what came back until its end.
    ///
    /// # Panics
    ///
    /// When nobody listens.
    pub async fn exchange(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address)
            .await
            .expect("the proxy listens");
        // A connection that is cut may refuse what comes after; what came back by then counts.
        let _ = stream.write_all(request).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        reply
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes bytes on both ways until one side ends or the cut is reached; then both connections are closed.
async fn between(client: TcpStream, server: TcpStream, cut: Cut) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = match cut {
        Cut::Never => (usize::MAX, usize::MAX),
        Cut::Request(bytes) => (bytes, usize::MAX),
        Cut::Reply(bytes) => (usize::MAX, bytes),
    };
    tokio::select! {
        () = pass_on(from_client, to_server, up) => {}
        () = pass_on(from_server, to_client, down) => {}
    }
}

async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: usize) {
    let mut left = limit;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let room = left.min(buffer.len());
        let Ok(read @ 1..) = from.read(&mut buffer[..room]).await else {
            return;
        };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        left -= read;
    }
}
