//! What guests may import, over the doors of their call.
//!
//! Every function looks at the deadline before it begins and after it ended: epochs stop the guest's own code only.

use wasmtime::component::Resource;

use super::bindings::{artifacts, host, http, state, telemetry, types};
use super::guest::{Guest, Held, Stop};
use super::request;
use crate::doors::{NewArtifact, Query};
use crate::log::{Level, Line};
use crate::origin::origin;
use crate::world::Capability;
use types::{ArtifactRef, CapabilityError, Series};

/// The most bytes that are read or appended at once.
const PIECE: u32 = 1 << 20;

/// Artifacts that a call may make.
const MOST_ARTIFACTS: usize = 256;
/// Keys that a call may use.
const MOST_KEYS: usize = 4_096;
/// Points of the longest answer of telemetry.
const MOST_POINTS: u32 = 100_000;
/// The longest name of an asset or a metric, and the longest phase, in bytes.
const LONGEST_NAME: usize = 256;

type Answer<T> = wasmtime::Result<Result<T, CapabilityError>>;

/// An artifact that is read.
pub struct Reader {
    digest: String,
    size: u32,
}

/// An artifact that is written.
pub struct Writer {
    artifact: Box<dyn NewArtifact>,
    name: String,
    media_type: String,
}

fn invalid<T>(why: impl Into<String>) -> Result<T, CapabilityError> {
    Err(CapabilityError::Invalid(why.into()))
}

impl types::Host for Guest {}

impl host::Host for Guest {
    fn log(
        &mut self,
        level: host::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.enter(None)?;
        let level = match level {
            host::Level::Trace => Level::Trace,
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        let line = Line {
            level,
            message,
            fields,
        };
        self.log.add(line, self.limits.log_bytes());
        self.leave()
    }

    fn progress(&mut self, share: f64, mut phase: String) -> wasmtime::Result<bool> {
        self.enter(None)?;
        let share = if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        };
        phase.truncate(phase.floor_char_boundary(LONGEST_NAME));
        let cancelled = self.doors.progress(share, &phase);
        self.leave()?;
        Ok(cancelled)
    }

    fn config(&mut self) -> wasmtime::Result<String> {
        self.enter(None)?;
        Ok(self.context.config.clone())
    }

    fn now(&mut self) -> wasmtime::Result<f64> {
        self.enter(None)?;
        Ok(self.context.now_ms)
    }

    fn seed(&mut self) -> wasmtime::Result<u32> {
        self.enter(None)?;
        Ok(self.context.seed)
    }
}

impl artifacts::Host for Guest {
    fn open(&mut self, artifact: ArtifactRef) -> Answer<Resource<Reader>> {
        self.enter(Some(Capability::Artifacts))?;
        let Some(known) = self.artifacts.get(&artifact.digest) else {
            let why = "the artifact was neither given to this call nor made by it".to_owned();
            return Ok(Err(CapabilityError::Denied(why)));
        };
        let (media_type, size) = (known.media_type.clone(), known.size);
        if !self.grants.media(&media_type) {
            return Ok(Err(denied_media(&media_type)));
        }
        self.note(Capability::Artifacts, &media_type);
        let reader = Reader {
            digest: artifact.digest,
            size,
        };
        Ok(Ok(self.table.push(reader).map_err(|_| Stop::Handles)?))
    }

    fn create(&mut self, name: String, media_type: String) -> Answer<Resource<Writer>> {
        self.enter(Some(Capability::Artifacts))?;
        if !is_media_type(&media_type) {
            return Ok(invalid(
                "a media type is as in `model/stl`, in at most 127 bytes",
            ));
        }
        if !self.grants.media(&media_type) {
            return Ok(Err(denied_media(&media_type)));
        }
        if !is_file_name(&name) {
            return Ok(invalid(
                "a name has 1 to 255 bytes, no slashes and no control characters",
            ));
        }
        if self.made == MOST_ARTIFACTS {
            let why = format!("a call may make {MOST_ARTIFACTS} artifacts");
            return Ok(Err(CapabilityError::Quota(why)));
        }
        self.note(Capability::Artifacts, &media_type);
        let artifact = self.doors.new_artifact();
        self.leave()?;
        let artifact = match artifact {
            Ok(artifact) => artifact,
            Err(error) => return Ok(Err(error)),
        };
        self.made += 1;
        let writer = Writer {
            artifact,
            name,
            media_type,
        };
        Ok(Ok(self.table.push(writer).map_err(|_| Stop::Handles)?))
    }
}

fn denied_media(media_type: &str) -> CapabilityError {
    CapabilityError::Denied(format!("`artifacts` is not granted for `{media_type}`"))
}

/// Type and subtype of the characters that RFC 6838 (4.2) leaves for names.
fn is_media_type(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
    let part = |text: &str| !text.is_empty() && text.chars().all(plain);
    text.len() <= 127
        && text
            .split_once('/')
            .is_some_and(|(kind, rest)| part(kind) && part(rest))
}

fn is_file_name(name: &str) -> bool {
    let apart = |c: char| c == '/' || c == '\\' || c.is_control();
    !name.is_empty() && name.len() <= 255 && !name.contains(apart) && !matches!(name, "." | "..")
}

impl artifacts::HostReader for Guest {
    fn size(&mut self, reader: Resource<Reader>) -> wasmtime::Result<u32> {
        self.enter(Some(Capability::Artifacts))?;
        Ok(self.table.get(&reader)?.size)
    }

    fn read(&mut self, reader: Resource<Reader>, offset: u32, most: u32) -> Answer<Vec<u8>> {
        self.enter(Some(Capability::Artifacts))?;
        let reader = self.table.get(&reader)?;
        let most = most.min(PIECE).min(reader.size.saturating_sub(offset));
        if most == 0 {
            return Ok(Ok(Vec::new()));
        }
        let bytes = self.doors.read_artifact(&reader.digest, offset, most);
        self.leave()?;
        Ok(bytes)
    }

    fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

impl artifacts::HostWriter for Guest {
    fn append(&mut self, writer: Resource<Writer>, chunk: Vec<u8>) -> Answer<()> {
        self.enter(Some(Capability::Artifacts))?;
        let length = chunk.len() as u64;
        if length > u64::from(PIECE) {
            let why = format!("{length} bytes at once; {PIECE} are the most");
            return Ok(Err(CapabilityError::Invalid(why)));
        }
        let most = self.grants.write_bytes();
        if self.written + length > most {
            let why = format!("a call may write {most} bytes into artifacts");
            return Ok(Err(CapabilityError::Quota(why)));
        }
        let appended = self.table.get_mut(&writer)?.artifact.append(&chunk);
        if appended.is_ok() {
            self.written += length;
        }
        self.leave()?;
        Ok(appended)
    }

    fn finish(&mut self, writer: Resource<Writer>) -> Answer<ArtifactRef> {
        self.enter(Some(Capability::Artifacts))?;
        let writer = self.table.delete(writer)?;
        let kept = writer.artifact.finish(&writer.name, &writer.media_type);
        if let Ok(artifact) = &kept {
            self.artifacts
                .insert(artifact.digest.clone(), artifact.clone());
        }
        self.leave()?;
        Ok(kept)
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

impl telemetry::Host for Guest {
    fn query(
        &mut self,
        asset: String,
        metric: String,
        start: f64,
        end: f64,
        max_points: u32,
    ) -> Answer<Series> {
        self.enter(Some(Capability::Telemetry))?;
        if asset.len() > LONGEST_NAME || metric.len() > LONGEST_NAME {
            return Ok(invalid(format!("names have at most {LONGEST_NAME} bytes")));
        }
        if !self.grants.metric(&metric) {
            let why = format!("`telemetry` is not granted for the metric `{metric}`");
            return Ok(Err(CapabilityError::Denied(why)));
        }
        if !start.is_finite() || end.is_nan() || start > end || max_points == 0 {
            return Ok(invalid(
                "a query is from a moment to a later one, for at least one point",
            ));
        }
        self.note(Capability::Telemetry, &metric);
        // What lies after the call's moment would be different the next time.
        let end = end.min(self.context.now_ms);
        if start >= end {
            return Ok(Ok(Series {
                metric,
                unit: String::new(),
                times: Vec::new(),
                values: Vec::new(),
            }));
        }
        let series = self.doors.query(&Query {
            asset,
            metric,
            start,
            end,
            max_points: max_points.min(MOST_POINTS),
        });
        self.leave()?;
        Ok(series)
    }
}

impl Guest {
    /// A key as this call sees it; looked up once.
    fn held(&mut self, key: &str) -> Result<&mut Held, CapabilityError> {
        if key.is_empty() || key.len() > LONGEST_NAME {
            return invalid(format!("a key has 1 to {LONGEST_NAME} bytes"));
        }
        if !self.state.contains_key(key) {
            if self.state.len() == MOST_KEYS {
                let why = format!("a call may use {MOST_KEYS} keys");
                return Err(CapabilityError::Quota(why));
            }
            let held = match self.doors.state(key)? {
                Some(kept) => Held {
                    value: kept.value,
                    version: kept.version,
                    seen: kept.version,
                },
                None => Held::default(),
            };
            self.state.insert(key.to_owned(), held);
        }
        self.state.get_mut(key).ok_or(CapabilityError::NotFound)
    }

    /// Writes a key, or removes it, if what is remembered then is no more than is granted.
    fn write_state(
        &mut self,
        key: &str,
        value: Option<Vec<u8>>,
        expected: Option<u32>,
    ) -> Result<u32, CapabilityError> {
        let held = self.held(key)?;
        if expected.is_some_and(|expected| expected != held.version) {
            return Err(CapabilityError::Conflict);
        }
        let before = held.bytes(key);
        let written = Held {
            value,
            // However long a plugin lives: two thousand writes a second for sixty years.
            version: held.version.saturating_add(1),
            seen: held.seen,
        };
        let after = written.bytes(key);
        let all = match self.state_bytes {
            Some(all) => all,
            None => self.doors.state_bytes()?,
        };
        let all = all.saturating_sub(before) + after;
        let most = self.grants.state_bytes();
        if all > most && after > before {
            let why = format!("{most} bytes may be remembered, keys included");
            return Err(CapabilityError::Quota(why));
        }
        self.state_bytes = Some(all);
        let version = written.version;
        self.state.insert(key.to_owned(), written);
        Ok(version)
    }
}

impl state::Host for Guest {
    fn get(&mut self, key: String) -> Answer<state::Entry> {
        self.enter(Some(Capability::State))?;
        let entry = self.held(&key).and_then(|held| {
            let value = held.value.clone().ok_or(CapabilityError::NotFound)?;
            Ok(state::Entry {
                value,
                version: held.version,
            })
        });
        self.leave()?;
        Ok(entry)
    }

    fn set(&mut self, key: String, value: Vec<u8>, expected: Option<u32>) -> Answer<u32> {
        self.enter(Some(Capability::State))?;
        let written = self.write_state(&key, Some(value), expected);
        self.leave()?;
        Ok(written)
    }

    fn remove(&mut self, key: String) -> Answer<()> {
        self.enter(Some(Capability::State))?;
        let there = self.held(&key).map(|held| held.value.is_some());
        let removed = match there {
            Ok(true) => self.write_state(&key, None, None).map(|_| ()),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        self.leave()?;
        Ok(removed)
    }
}

impl http::Host for Guest {
    fn send(&mut self, request: http::Request, timeout: Option<f64>) -> Answer<http::Response> {
        self.enter(Some(Capability::Http))?;
        let Some(origin) = origin(&request.url) else {
            return Ok(invalid("the address is none of `https://` or `http://`"));
        };
        if !self.grants.origin(&origin) {
            let why = format!("`http` is not granted for the origin `{origin}`");
            return Ok(Err(CapabilityError::Denied(why)));
        }
        if let Err(why) = request::check(&request) {
            return Ok(invalid(why));
        }
        self.note(Capability::Http, &origin);
        let left = self.left_ms();
        let timeout = timeout
            .filter(|ms| *ms >= 0.0)
            .map_or(left, |ms| ms.min(left));
        let most = self.grants.response_bytes();
        let answer = self.doors.send(&request, timeout, most);
        self.leave()?;
        Ok(answer.and_then(|response| {
            if request::size(&response.headers) + response.body.len() as u64 > most {
                let why = format!("the answer has more than the {most} bytes that are granted");
                return Err(CapabilityError::Quota(why));
            }
            Ok(response)
        }))
    }
}
