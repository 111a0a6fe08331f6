//! What steps see of the world: `workflows::host::Host` over storage, artifacts and telemetry.

pub(crate) mod action;
mod designer;
pub mod detector;
mod history;
mod lives;
mod panel;
pub mod past;
pub mod predictor;
pub mod replaying;
mod scheduler;
mod script_thread;
pub mod short_work;
mod step_host;
mod verifier;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use predict::series::Samples;

pub use history::{reach, unit_history};
pub use lives::{installed, present_since};
pub use step_host::{StepHost, World};

/// What went wrong behind one of the doors below; always worth another try.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Where the bytes of artifacts lie, by digest (`sha256:…`).
pub trait ArtifactBytes: Send + Sync {
    /// Keeps bytes; the same digest is kept once.
    fn put<'a>(&'a self, digest: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), Trouble>>;
    /// The bytes of a digest, if they are kept.
    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>>;
    /// Some of them; shorter at their end.
    fn read<'a>(
        &'a self,
        digest: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>> {
        Box::pin(async move {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let whole = self.get(digest).await?;
            Ok(whole.map(|bytes| {
                let end = place(range.end).min(bytes.len());
                bytes.slice(place(range.start).min(end)..end)
            }))
        })
    }
}

/// Where the samples of assets lie.
pub trait Telemetry: Send + Sync {
    /// Every metric of an asset within `from_ms..=to_ms`.
    fn samples<'a>(
        &'a self,
        asset: &'a str,
        from_ms: i64,
        to_ms: i64,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Samples>, Trouble>>;
}
