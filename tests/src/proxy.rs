//! A wire that is cut: passes bytes on, and ends each of its connections after some byte, either way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::Seeded;

/// A running proxy; it ends with the runtime it was started on.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it listens.
    pub base: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ports: Vec<u16>,
    chance: Mutex<Seeded>,
    cutting: AtomicBool,
    cuts: AtomicU64,
    turn: AtomicU64,
}

/// Of so many connections one is cut early.
const EARLY_ONE_OF: u64 = 3;
/// One that is cut early passes on at most so many bytes, so that its first words are among what is lost.
const EARLY_BYTES: u64 = 2_500;
/// Every other one passes on at most so many.
const LATE_BYTES: u64 = 12_000;

impl Proxy {
    /// Passes on to these ports of the loopback, in turn.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start(ports: &[u16], seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let inner = Arc::new(Inner {
            ports: ports.to_owned(),
            chance: Mutex::new(Seeded::new(seed)),
            cutting: AtomicBool::new(true),
            cuts: AtomicU64::new(0),
            turn: AtomicU64::new(0),
        });
        let passing = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&passing).pass(near));
            }
        });
        Self {
            base: format!("http://{address}"),
            inner,
        }
    }

    /// How many connections were cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.inner.cuts.load(Ordering::Relaxed)
    }

    /// Cuts no more.
    pub fn calm(&self) {
        self.inner.cutting.store(false, Ordering::Relaxed);
    }
}

impl Inner {
    async fn pass(self: Arc<Self>, near: TcpStream) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let port = self.ports[(turn % self.ports.len() as u64) as usize];
        // Nobody there: the connection ends, and who opened it tries again.
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
            return;
        };
        let left = Arc::new(Mutex::new(self.draw()));
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        let cut = tokio::select! {
            cut = copy(near_in, far_out, &left) => cut,
            cut = copy(far_in, near_out, &left) => cut,
        };
        self.cuts.fetch_add(u64::from(cut), Ordering::Relaxed);
    }

    /// After how many bytes a connection is cut, if it is.
    fn draw(&self) -> Option<u64> {
        let mut chance = self.chance.lock().expect("no panic while held");
        let most = match chance.once_in(EARLY_ONE_OF) {
            true => EARLY_BYTES,
            false => LATE_BYTES,
        };
        let bytes = chance.between(1, most);
        self.cutting.load(Ordering::Relaxed).then_some(bytes)
    }
}

/// Copies until one side ends, or until no more bytes may pass; says whether that was it.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &Mutex<Option<u64>>) -> bool {
    let mut buffer = [0; 8_192];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return false;
        };
        let passed = match &mut *left.lock().expect("no panic while held") {
            None => read,
            Some(left) => {
                let passed = (read as u64).min(*left);
                *left -= passed;
                usize::try_from(passed).expect("a buffer's length")
            }
        };
        if to.write_all(&buffer[..passed]).await.is_err() {
            return false;
        }
        if passed < read {
            return true;
        }
    }
}
