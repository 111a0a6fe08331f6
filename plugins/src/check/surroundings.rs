//! A small world for conformance cases: a little of everything, or the same refusal everywhere.

use crate::doors::{Doors, Kept, NewArtifact, Query};
use crate::v1::http::{Request as HttpRequest, Response as HttpResponse};
use crate::v1::types::{ArtifactRef, CapabilityError, Series};

use super::samples;

/// From one sample to the next, in milliseconds.
const STEP_MS: f64 = 60_000.0;
/// The most samples of one answer.
const MOST_POINTS: f64 = 10_000.0;

/// What a case's call sees of the world.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    refusal: Option<CapabilityError>,
    cancelled: bool,
}

impl Surroundings {
    pub(super) fn refusing(error: CapabilityError) -> Self {
        Self {
            refusal: Some(error),
            ..Self::default()
        }
    }

    pub(super) fn cancelled() -> Self {
        Self {
            cancelled: true,
            ..Self::default()
        }
    }

    fn open(&self) -> Result<(), CapabilityError> {
        self.refusal.clone().map_or(Ok(()), Err)
    }
}

impl Doors for Surroundings {
    fn cancelled(&self) -> bool {
        self.cancelled
    }

    fn read_artifact(
        &self,
        digest: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError> {
        self.open()?;
        let bytes = samples::bytes_of(digest).ok_or(CapabilityError::NotFound)?;
        let from = (offset as usize).min(bytes.len());
        let to = from.saturating_add(most as usize).min(bytes.len());
        Ok(bytes[from..to].to_vec())
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        self.open()?;
        Ok(Box::new(Forgotten(Vec::new())))
    }

    fn query(&self, query: &Query) -> Result<Series, CapabilityError> {
        self.open()?;
        let span = (query.end - query.start) / STEP_MS;
        let count = span.clamp(0.0, MOST_POINTS.min(f64::from(query.max_points))) as u32;
        let times: Vec<f64> = (0..count)
            .map(|n| query.start.ceil() + f64::from(n) * STEP_MS)
            .collect();
        let values = (0..count).map(|n| samples::wave(n, 1.0)).collect();
        Ok(Series {
            metric: query.metric.clone(),
            unit: String::new(),
            times,
            values,
        })
    }

    fn state(&self, _key: &str) -> Result<Option<Kept>, CapabilityError> {
        self.open()?;
        Ok(None)
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        self.open()?;
        Ok(0)
    }

    fn send(&self, _: &HttpRequest, _: f64, _: u64) -> Result<HttpResponse, CapabilityError> {
        self.open()?;
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Ok(HttpResponse {
            status: 200,
            headers,
            body: b"{}".to_vec(),
        })
    }
}

/// Named by its digest, and kept by nobody.
struct Forgotten(Vec<u8>);

impl NewArtifact for Forgotten {
    fn append(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        self.0.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(
        self: Box<Self>,
        name: &str,
        media_type: &str,
    ) -> Result<ArtifactRef, CapabilityError> {
        Ok(samples::artifact(name, media_type, &self.0))
    }
}
