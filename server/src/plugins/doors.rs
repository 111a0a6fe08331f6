//! What stands behind a guest's imports on a server: the artifact store, the telemetry, what it remembers, other systems.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::plugins::bundle::digest;
use ::plugins::doors::{Doors, Kept, NewArtifact, Query};
use ::plugins::v1::http::{Request as HttpRequest, Response as HttpResponse};
use ::plugins::v1::types::{ArtifactRef, CapabilityError, Series};
use predict::series::Samples;
use tokio::runtime::Handle;
use workflows::model::ArtifactRef as Stored;

use super::{Plugins, http};
use crate::store;

/// How long a door may take where nobody says.
const PATIENCE: Duration = Duration::from_secs(10);

/// The world as one call sees it; used on a thread that may block.
pub(super) struct CallDoors {
    plugins: Plugins,
    plugin: String,
    handle: Handle,
    deadline: Mutex<Instant>,
}

impl CallDoors {
    /// To be made on the runtime.
    pub(super) fn new(plugins: Plugins, plugin: &str) -> Self {
        Self {
            plugins,
            plugin: plugin.to_owned(),
            handle: Handle::current(),
            deadline: Mutex::new(Instant::now() + PATIENCE),
        }
    }

    /// Waits for an answer, but no longer than the call may last.
    fn wait<T, E: std::fmt::Display>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CapabilityError> {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let unavailable = |why: &str| CapabilityError::Unavailable(why.to_owned());
        let answered = self
            .handle
            .block_on(async { tokio::time::timeout_at(deadline.into(), asked).await });
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                // What a database says is for the server's log, not for a guest.
                tracing::warn!(plugin = %self.plugin, "a plugin's call got no answer from {what}: {error:#}");
                Err(unavailable(&format!("{what} did not answer")))
            }
            Err(_) => Err(unavailable(&format!("{what} did not answer in time"))),
        }
    }
}

impl Doors for CallDoors {
    fn begin(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn read_artifact(
        &self,
        digest: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError> {
        let range = u64::from(offset)..u64::from(offset) + u64::from(most);
        let read = self.plugins.artifacts().read(digest, range);
        let bytes = self.wait("the artifact store", read)?;
        bytes
            .map(|bytes| bytes.to_vec())
            .ok_or(CapabilityError::NotFound)
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        let doors = Self {
            plugins: self.plugins.clone(),
            plugin: self.plugin.clone(),
            handle: self.handle.clone(),
            deadline: Mutex::new(*self.deadline.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        Ok(Box::new(Making {
            doors,
            bytes: Vec::new(),
        }))
    }

    fn query(&self, query: &Query) -> Result<Series, CapabilityError> {
        // Samples have whole milliseconds.
        let (from, to) = (
            query.start.ceil() as i64,
            (query.end.ceil() as i64).saturating_sub(1),
        );
        let asked = self.plugins.telemetry().samples(&query.asset, from, to);
        let mut found = self.wait("the telemetry", asked)?;
        let samples = found
            .remove(&query.metric)
            .ok_or(CapabilityError::NotFound)?;
        Ok(series(query, &samples))
    }

    fn state(&self, key: &str) -> Result<Option<Kept>, CapabilityError> {
        let db = &self.plugins.db().read;
        let asked = store::plugin_memory::get(db, &self.plugin, key);
        self.wait("the plugin's memory", asked)
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        let db = &self.plugins.db().read;
        let asked = store::plugin_memory::bytes(db, &self.plugin);
        self.wait("the plugin's memory", asked)
    }

    fn send(
        &self,
        request: &HttpRequest,
        timeout_ms: f64,
        most_bytes: u64,
    ) -> Result<HttpResponse, CapabilityError> {
        let timeout = Duration::try_from_secs_f64(timeout_ms / 1_000.0).unwrap_or(PATIENCE);
        let sent = http::send(request, most_bytes);
        let answered = self
            .handle
            .block_on(async { tokio::time::timeout(timeout, sent).await });
        answered.unwrap_or_else(|_| {
            let why = format!("no answer within {timeout_ms:.0} ms");
            Err(CapabilityError::Unavailable(why))
        })
    }
}

fn series(query: &Query, samples: &Samples) -> Series {
    let times = samples.times_ms.iter().map(|time| *time as f64);
    let samples: Vec<(f64, f64)> = times.zip(samples.values.iter().copied()).collect();
    let (times, values) = query.averaged(&samples).into_iter().unzip();
    Series {
        metric: query.metric.clone(),
        // Samples come without.
        unit: String::new(),
        times,
        values,
    }
}

/// An artifact in the making; the contract's own limits say how large it may become.
struct Making {
    doors: CallDoors,
    bytes: Vec<u8>,
}

impl NewArtifact for Making {
    fn append(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(
        self: Box<Self>,
        name: &str,
        media_type: &str,
    ) -> Result<ArtifactRef, CapabilityError> {
        let size = u32::try_from(self.bytes.len())
            .map_err(|_| CapabilityError::Quota("4 GiB or more".to_owned()))?;
        let digest = digest(&self.bytes);
        let (plugins, bytes) = (&self.doors.plugins, self.bytes);
        let put = plugins.artifacts().put(&digest, bytes.into());
        self.doors.wait("the artifact store", put)?;
        let stored = Stored {
            digest: digest.clone(),
            size_bytes: u64::from(size),
            media: media_type.to_owned(),
        };
        let noted = store::artifacts::put(&plugins.db().write, plugins.now(), &stored);
        self.doors.wait("the artifact store", noted)?;
        Ok(ArtifactRef {
            digest,
            media_type: media_type.to_owned(),
            size,
            name: name.to_owned(),
        })
    }
}
