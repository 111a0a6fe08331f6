//! What stands behind the host's functions: the world, as one call may see it.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::v1::http::{Request as HttpRequest, Response as HttpResponse};
use crate::v1::types::{ArtifactRef, CapabilityError, Series};

/// A question to the telemetry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The asset.
    pub asset: String,
    /// The metric.
    pub metric: String,
    /// From this moment, in milliseconds.
    pub start: f64,
    /// Up to this one, which is excluded.
    pub end: f64,
    /// The most points of the answer.
    pub max_points: u32,
}

impl Query {
    /// Of samples within the query's span, sorted by time, no more points than are asked for: means of equal spans, each
    /// at the beginning of its span. What told nothing (`NaN`) is left out of them.
    #[must_use]
    pub fn averaged(&self, samples: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let most = self.max_points as usize;
        if samples.len() <= most {
            return samples.to_vec();
        }
        let span = (self.end - self.start) / f64::from(self.max_points);
        let mut means: Vec<(f64, f64, u32)> = Vec::new();
        for (time, value) in samples {
            let begin = self.start + ((time - self.start) / span).floor() * span;
            if means.last().is_none_or(|(last, ..)| *last < begin) {
                means.push((begin, 0.0, 0));
            }
            if let Some((_, sum, count)) = means.last_mut()
                && !value.is_nan()
            {
                *sum += value;
                *count += 1;
            }
        }
        let mean = |(time, sum, count)| (time, sum / f64::from(count));
        means.into_iter().take(most).map(mean).collect()
    }
}

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// None where it was removed.
    pub value: Option<Vec<u8>>,
    /// How often it was written or removed.
    pub version: u32,
}

/// The world as one call of one plugin may see it. Whoever calls makes one for each call.
///
/// Grants and shapes are checked before these are asked. What a guest is told is what they answer.
///
/// # Errors
///
/// Every door may refuse, in the contract's words.
pub trait Doors: Send + Sync {
    /// Told once, before anything else: the guest is stopped at this moment, but only once the host has answered. No
    /// door may take longer.
    fn begin(&self, _deadline: Instant) {}

    /// Whether the call was cancelled.
    fn cancelled(&self) -> bool {
        false
    }

    /// Told how far the call is, 0 to 1; answers whether it was cancelled.
    fn progress(&self, _share: f64, _phase: &str) -> bool {
        self.cancelled()
    }

    /// Why the call has to stop where it is, if it has to; asked after every door.
    fn halted(&self) -> Option<Halt> {
        None
    }

    /// Bytes of an artifact from `offset`, at most `most`; shorter at its end.
    fn read_artifact(
        &self,
        digest: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError>;

    /// Begins a new artifact.
    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError>;

    /// Answers a question to the telemetry.
    fn query(&self, query: &Query) -> Result<Series, CapabilityError>;

    /// What the plugin remembered under a key before the call; none for a key that was never written.
    fn state(&self, key: &str) -> Result<Option<Kept>, CapabilityError>;

    /// Bytes of all keys and values that the plugin remembered before the call.
    fn state_bytes(&self) -> Result<u64, CapabilityError>;

    /// Sends a request, gives up after `timeout_ms`, and reads no more than `most_bytes` of headers and body: a longer
    /// answer is `quota`. Follows no redirect, and connects to no address of the server's own networks unless the
    /// origin names that address.
    fn send(
        &self,
        request: &HttpRequest,
        timeout_ms: f64,
        most_bytes: u64,
    ) -> Result<HttpResponse, CapabilityError>;
}

/// An artifact in the making; dropped, it never was.
///
/// # Errors
///
/// What the guest is told.
pub trait NewArtifact: Send {
    /// Adds bytes.
    fn append(&mut self, chunk: &[u8]) -> Result<(), CapabilityError>;

    /// Keeps it under its digest.
    fn finish(
        self: Box<Self>,
        name: &str,
        media_type: &str,
    ) -> Result<ArtifactRef, CapabilityError>;
}

/// Why a call that is recorded, or run again, has to stop.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Halt {
    /// Run again, it asked for something else than it had.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// What it is told is more than a recording holds.
    #[error("what it was told is more than the {0} bytes that a recording holds")]
    RecordingFull(usize),
}

/// Run again, a guest asked for something else than it had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("run again, call {at} to the host was {now}; it had been {then}")]
pub struct Diverged {
    /// Which call, counted from 0.
    pub at: usize,
    /// What it asked for the first time.
    pub then: String,
    /// What it asks for now.
    pub now: String,
}

/// A world in which there is nothing; for plugins without capabilities.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

fn nothing() -> CapabilityError {
    CapabilityError::Unavailable("there is nothing behind this door".to_owned())
}

impl Doors for Nowhere {
    fn read_artifact(&self, _: &str, _: u32, _: u32) -> Result<Vec<u8>, CapabilityError> {
        Err(nothing())
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        Err(nothing())
    }

    fn query(&self, _: &Query) -> Result<Series, CapabilityError> {
        Err(nothing())
    }

    fn state(&self, _: &str) -> Result<Option<Kept>, CapabilityError> {
        Ok(None)
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        Ok(0)
    }

    fn send(&self, _: &HttpRequest, _: f64, _: u64) -> Result<HttpResponse, CapabilityError> {
        Err(nothing())
    }
}
