//! What a plugin finds around it in a case: what its author put there, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::bundle::digest;
use crate::doors::{Doors, Kept, NewArtifact, Query};
use crate::v1::http::{Request as HttpRequest, Response as HttpResponse};
use crate::v1::types::{ArtifactRef, CapabilityError, Series};

/// Samples at equal steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    asset: String,
    metric: String,
    #[serde(default)]
    unit: String,
    start: f64,
    step: f64,
    values: Vec<f64>,
}

/// A request that is answered once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    method: String,
    url: String,
    /// What the request's body has to have in it.
    #[serde(default)]
    sends: String,
    status: u32,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

/// What a plugin finds around it; clones share what it makes and what it was answered.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    artifacts: BTreeMap<String, Vec<u8>>,
    telemetry: Vec<Measured>,
    state: BTreeMap<String, String>,
    http: Vec<Exchange>,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug, Default)]
struct Used {
    made: Vec<Made>,
    /// Which requests were answered.
    answered: Vec<usize>,
}

/// An artifact that a plugin made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Under which it is known.
    pub artifact: ArtifactRef,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Desk {
    pub(super) fn new(
        telemetry: Vec<Measured>,
        state: BTreeMap<String, String>,
        http: Vec<Exchange>,
    ) -> Result<Self, String> {
        for (n, one) in telemetry.iter().enumerate() {
            let (asset, metric) = (&one.asset, &one.metric);
            let refused = |why: &str| Err(format!("`{metric}` of `{asset}` {why}"));
            if !(one.step.is_finite() && one.step > 0.0 && one.start.is_finite()) {
                return refused("has no finite start, or no step greater than 0");
            }
            if one.values.iter().any(|value| value.is_infinite()) {
                return refused("has an infinite value, which does not occur");
            }
            let same = |other: &Measured| other.asset == *asset && other.metric == *metric;
            if telemetry[..n].iter().any(same) {
                return refused("is there twice");
            }
        }
        Ok(Self {
            telemetry,
            state,
            http,
            ..Self::default()
        })
    }

    /// Has these bytes lie there, under their digest.
    pub fn keep(&mut self, bytes: Vec<u8>) {
        self.artifacts.insert(digest(&bytes), bytes);
    }

    /// Whether bytes of this digest lie there.
    #[must_use]
    pub fn has(&self, digest: &str) -> bool {
        self.artifacts.contains_key(digest)
    }

    /// What the plugin made.
    #[must_use]
    pub fn made(&self) -> Vec<Made> {
        self.used().made.clone()
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doors for Desk {
    fn read_artifact(
        &self,
        wanted: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError> {
        let used = self.used();
        let made = used.made.iter().find(|made| made.artifact.digest == wanted);
        let bytes = made.map(|made| &made.bytes).or(self.artifacts.get(wanted));
        let bytes = bytes.ok_or(CapabilityError::NotFound)?;
        let from = (offset as usize).min(bytes.len());
        let to = from.saturating_add(most as usize).min(bytes.len());
        Ok(bytes[from..to].to_vec())
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        Ok(Box::new(Making {
            bytes: Vec::new(),
            used: self.used.clone(),
        }))
    }

    fn query(&self, query: &Query) -> Result<Series, CapabilityError> {
        let mut of_metric = (self.telemetry.iter()).filter(|one| one.metric == query.metric);
        let found = of_metric.find(|one| one.asset == query.asset);
        let found = found.ok_or(CapabilityError::NotFound)?;
        let at = |n: usize| found.start + n as f64 * found.step;
        let samples = (found.values.iter().enumerate()).map(|(n, value)| (at(n), *value));
        let samples: Vec<(f64, f64)> = samples
            .filter(|(time, _)| (query.start..query.end).contains(time))
            .collect();
        let (times, values) = query.averaged(&samples).into_iter().unzip();
        Ok(Series {
            metric: found.metric.clone(),
            unit: found.unit.clone(),
            times,
            values,
        })
    }

    fn state(&self, key: &str) -> Result<Option<Kept>, CapabilityError> {
        Ok(self.state.get(key).map(|value| Kept {
            value: Some(value.clone().into_bytes()),
            version: 1,
        }))
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        let bytes = |(key, value): (&String, &String)| (key.len() + value.len()) as u64;
        Ok(self.state.iter().map(bytes).sum())
    }

    fn send(&self, request: &HttpRequest, _: f64, _: u64) -> Result<HttpResponse, CapabilityError> {
        let mut used = self.used();
        let body = String::from_utf8_lossy(&request.body);
        let fits = |exchange: &Exchange| {
            exchange.method == request.method
                && exchange.url == request.url
                && body.contains(&exchange.sends)
        };
        let next = (self.http.iter().enumerate())
            .find(|(n, exchange)| !used.answered.contains(n) && fits(exchange));
        let Some((n, exchange)) = next else {
            return Err(CapabilityError::Unavailable(format!(
                "the case has no answer for {} {} {body:?}",
                request.method, request.url
            )));
        };
        used.answered.push(n);
        Ok(HttpResponse {
            status: exchange.status,
            headers: exchange.headers.clone().into_iter().collect(),
            body: exchange.body.clone().into_bytes(),
        })
    }
}

struct Making {
    bytes: Vec<u8>,
    used: Arc<Mutex<Used>>,
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
        let artifact = ArtifactRef {
            digest: digest(&self.bytes),
            media_type: media_type.to_owned(),
            size: u32::try_from(self.bytes.len())
                .map_err(|_| CapabilityError::Quota("4 GiB or more".to_owned()))?,
            name: name.to_owned(),
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.made.push(Made {
            artifact: artifact.clone(),
            bytes: self.bytes,
        });
        Ok(artifact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct World {
        telemetry: Vec<Measured>,
        http: Vec<Exchange>,
    }

    fn desk(text: &str) -> Desk {
        let World { telemetry, http } = toml::from_str(text).unwrap();
        Desk::new(telemetry, BTreeMap::new(), http).unwrap()
    }

    #[test]
    fn a_request_is_answered_once_and_in_turn() {
        let text = "[[http]]\nmethod = 'GET'\nurl = 'https://a'\nstatus = 503\n\
                    [[http]]\nmethod = 'GET'\nurl = 'https://a'\nsends = 'x'\nstatus = 200\nbody = 'b'\n";
        let desk = desk(text);
        let send = |body: &str| {
            let request = HttpRequest {
                method: "GET".to_owned(),
                url: "https://a".to_owned(),
                headers: Vec::new(),
                body: body.as_bytes().to_vec(),
            };
            desk.send(&request, 1.0, 1).map(|answer| answer.status)
        };
        assert_eq!(send("x").unwrap(), 503);
        assert!(send("y").is_err());
        assert_eq!(send("xy").unwrap(), 200);
        assert!(send("x").is_err());
    }

    #[test]
    fn what_is_made_can_be_read() {
        let desk = Desk::default();
        let mut making = desk.clone().new_artifact().unwrap();
        making.append(b"so").unwrap();
        making.append(b"lid").unwrap();
        let artifact = making.finish("a.stl", "model/stl").unwrap();
        assert_eq!(desk.read_artifact(&artifact.digest, 2, 9).unwrap(), b"lid");
        assert_eq!(desk.made()[0].bytes, b"solid");
    }

    #[test]
    fn more_samples_than_asked_for_are_averaged() {
        let text = "[[telemetry]]\nasset = 'a'\nmetric = 'm'\nstart = 0.0\nstep = 10.0\n\
                    values = [1.0, 3.0, nan, 5.0, nan, nan]";
        let query = |max_points| Query {
            asset: "a".to_owned(),
            metric: "m".to_owned(),
            start: 0.0,
            end: 60.0,
            max_points,
        };
        let three = desk(text).query(&query(3)).unwrap();
        assert_eq!(three.times, [0.0, 20.0, 40.0]);
        assert_eq!(three.values[..2], [2.0, 5.0]);
        assert!(three.values[2].is_nan());
        assert_eq!(desk(text).query(&query(6)).unwrap().times.len(), 6);
    }
}
