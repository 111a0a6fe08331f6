//! A call that can be run again: everything it was asked and told.
//!
//! [`Recorder`] stands between a call and its doors and writes down what was told; [`Player`] answers from that, and
//! [`replay`] runs the whole call again. Bytes of artifacts are not written down: they are named by their digest, and
//! read again from where they lie.
//!
//! A call that ended by itself, or by the number of its instructions, ends the same way again, bit for bit. One that the
//! clock stopped, or somebody who did not want to wait, or that used up its stack, may get further or less far.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::call::{Context, Outcome, Request};
use crate::doors::{Diverged, Doors, Halt, Kept, NewArtifact, Query};
use crate::engine::{Pace, Plugin};
use crate::grants::Grants;
use crate::limits::{GREATEST, Limits};
use crate::v1::http::{Request as HttpRequest, Response as HttpResponse};
use crate::v1::types::{ArtifactRef, CapabilityError, Series};

/// What an entry takes beside its text, in bytes.
const ENTRY_BYTES: usize = 128;

/// One question to the world, as it was asked and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// Whether the call was cancelled, asked with how far it is.
    Progress {
        /// 0 to 1.
        share: f64,
        /// Its phase.
        phase: String,
        /// Whether it was.
        cancelled: bool,
    },
    /// Bytes of an artifact.
    Read {
        /// Of which.
        digest: String,
        /// From where.
        offset: u32,
        /// How many there were, or why none.
        told: Result<u32, CapabilityError>,
    },
    /// Telemetry.
    Query(Query, Result<Series, CapabilityError>),
    /// A key.
    State(String, Result<Option<Kept>, CapabilityError>),
    /// Bytes of all keys.
    StateBytes(Result<u64, CapabilityError>),
    /// A request to another system.
    Send(HttpRequest, Result<HttpResponse, CapabilityError>),
    /// An artifact that was begun.
    New(Result<(), CapabilityError>),
    /// So many bytes that were added to one.
    Append(u32, Result<(), CapabilityError>),
    /// An artifact that was finished.
    Finish(Result<ArtifactRef, CapabilityError>),
}

impl Told {
    /// About how much it takes in memory.
    fn bytes(&self) -> usize {
        let headers = |all: &[(String, String)]| {
            all.iter()
                .map(|(name, value)| 48 + name.len() + value.len())
                .sum::<usize>()
        };
        let text = match self {
            Self::Progress { phase, .. } => phase.len(),
            Self::Query(query, told) => {
                let points = told.as_ref().map_or(0, |series| 16 * series.times.len());
                query.asset.len() + query.metric.len() + points
            }
            Self::State(key, told) => {
                let kept = told.as_ref().ok().and_then(Option::as_ref);
                key.len()
                    + kept
                        .and_then(|kept| kept.value.as_ref())
                        .map_or(0, Vec::len)
            }
            Self::Send(request, told) => {
                let answer = told
                    .as_ref()
                    .map_or(0, |one| one.body.len() + headers(&one.headers));
                request.url.len() + request.body.len() + headers(&request.headers) + answer
            }
            Self::Read { .. }
            | Self::StateBytes(_)
            | Self::New(_)
            | Self::Append(..)
            | Self::Finish(_) => 0,
        };
        ENTRY_BYTES + text
    }

    /// The question in words.
    fn asked(&self) -> String {
        match self {
            Self::Progress { share, phase, .. } => format!("progress {share} {phase:?}"),
            Self::Read { digest, offset, .. } => format!("`{digest}` from {offset}"),
            Self::Query(query, _) => format!("{query:?}"),
            Self::State(key, _) => format!("state {key:?}"),
            Self::StateBytes(_) => "the size of its state".to_owned(),
            Self::Send(request, _) => format!("{} {}", request.method, request.url),
            Self::New(_) => "a new artifact".to_owned(),
            Self::Append(bytes, _) => format!("to add {bytes} bytes"),
            Self::Finish(Ok(artifact)) => {
                format!("to keep `{}` as `{}`", artifact.name, artifact.digest)
            }
            Self::Finish(Err(_)) => "to keep an artifact".to_owned(),
        }
    }
}

/// A whole call: what it was asked, what it was told on the way, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// The digest of the plugin's file.
    pub plugin: String,
    /// The version of the contract.
    pub contract: String,
    /// What stopped it, if anything did.
    pub pace: Pace,
    /// What it was asked.
    pub request: Request,
    /// What it was about.
    pub context: Context,
    /// What it might use.
    pub limits: Limits,
    /// What it might reach.
    pub grants: Grants,
    /// What it was told, in order.
    pub told: Vec<Told>,
    /// How it went.
    pub outcome: Outcome,
}

/// What the bytes of a recording begin with, and the version of what follows.
const MAGIC: &[u8] = b"forewright call 1\n";

/// The bytes are no recording.
#[derive(Debug, thiserror::Error)]
pub enum NotARecording {
    /// They begin otherwise.
    #[error("the bytes are no recording of a plugin's call, or one of another version")]
    Foreign,
    /// They begin like one.
    #[error("the recording of a plugin's call is broken")]
    Broken(#[source] postcard::Error),
}

impl Recording {
    /// Digests of the artifacts that the call read and did not make itself; to be there when it is run again.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<&str> {
        let made: BTreeSet<&str> = (self.told.iter())
            .filter_map(|told| match told {
                Told::Finish(Ok(artifact)) => Some(&*artifact.digest),
                _ => None,
            })
            .collect();
        let read = self.told.iter().filter_map(|told| match told {
            Told::Read {
                digest,
                told: Ok(_),
                ..
            } => Some(&**digest),
            _ => None,
        });
        read.filter(|digest| !made.contains(digest)).collect()
    }

    /// As bytes; numbers keep every bit.
    ///
    /// # Panics
    ///
    /// Never: everything in a recording can be written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = postcard::to_extend(self, MAGIC.to_vec());
        bytes.expect("a recording holds plain data")
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// If they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotARecording> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or(NotARecording::Foreign)?;
        postcard::from_bytes(bytes).map_err(NotARecording::Broken)
    }
}

/// How a call went that was run again.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// How it went.
    pub outcome: Outcome,
    /// Whether it answered the same, bit for bit, or failed with the same code, and would remember the same.
    pub same: bool,
    /// Where it asked for something else than it had, or for less.
    pub diverged: Option<Diverged>,
}

/// Runs a recorded call again: nothing is asked of the world but artifacts, which `artifacts` has.
///
/// The plugin is the recorded one or another version of it, on either pace, within the recorded grants. Its time is not
/// limited as it was, since this machine may be slower, and its instructions only if they were.
#[must_use]
pub fn replay(plugin: &Plugin, recording: &Recording, artifacts: Arc<dyn Doors>) -> Replay {
    let mut limits = Limits {
        deadline_ms: GREATEST.deadline_ms,
        ..recording.limits.clone()
    };
    if recording.pace == Pace::Timed {
        limits.fuel_millions = GREATEST.fuel_millions;
    }
    let player = Arc::new(Player::new(recording.told.clone(), artifacts));
    let plugin = plugin.within(&limits).reaching(&recording.grants);
    let outcome = plugin.call(&recording.request, &recording.context, player.clone());
    let diverged = player.diverged();
    let same = diverged.is_none()
        && outcome.answer_bits() == recording.outcome.answer_bits()
        && outcome.state == recording.outcome.state;
    Replay {
        outcome,
        same,
        diverged,
    }
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Doors that write down what is told through them, up to a number of bytes.
pub struct Recorder {
    doors: Arc<dyn Doors>,
    tape: Arc<Taking>,
    /// Whether a call goes on that is told more.
    goes_on: bool,
}

struct Taking {
    most: usize,
    told: Mutex<(Vec<Told>, usize)>,
}

impl Taking {
    fn note(&self, told: Told) {
        let mut taken = locked(&self.told);
        taken.1 = taken.1.saturating_add(told.bytes());
        if taken.1 <= self.most {
            taken.0.push(told);
        } else {
            // A part of what was told is worth nothing.
            taken.0 = Vec::new();
        }
    }

    fn is_full(&self) -> bool {
        locked(&self.told).1 > self.most
    }
}

impl Recorder {
    /// In front of these doors, for at most so many bytes; beyond that they halt the call.
    #[must_use]
    pub fn new(doors: Arc<dyn Doors>, most_bytes: usize) -> Self {
        let told = Mutex::default();
        let tape = Arc::new(Taking {
            most: most_bytes,
            told,
        });
        Self {
            doors,
            tape,
            goes_on: false,
        }
    }

    /// The same for a call that matters more than its recording: beyond the bytes it goes on, and there is none.
    #[must_use]
    pub fn while_it_fits(doors: Arc<dyn Doors>, most_bytes: usize) -> Self {
        Self {
            goes_on: true,
            ..Self::new(doors, most_bytes)
        }
    }

    /// Takes what was told; none if it was more than fits.
    #[must_use]
    pub fn take(&self) -> Option<Vec<Told>> {
        let told = !self.tape.is_full();
        told.then(|| std::mem::take(&mut locked(&self.tape.told).0))
    }
}

impl Doors for Recorder {
    fn begin(&self, deadline: Instant) {
        self.doors.begin(deadline);
    }

    fn cancelled(&self) -> bool {
        self.doors.cancelled()
    }

    fn progress(&self, share: f64, phase: &str) -> bool {
        let cancelled = self.doors.progress(share, phase);
        let phase = phase.to_owned();
        self.tape.note(Told::Progress {
            share,
            phase,
            cancelled,
        });
        cancelled
    }

    fn halted(&self) -> Option<Halt> {
        let full = !self.goes_on && self.tape.is_full();
        let own = full.then_some(Halt::RecordingFull(self.tape.most));
        own.or_else(|| self.doors.halted())
    }

    fn read_artifact(
        &self,
        digest: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError> {
        let bytes = self.doors.read_artifact(digest, offset, most);
        let told = bytes
            .as_ref()
            .map(|bytes| bytes.len() as u32)
            .map_err(Clone::clone);
        let digest = digest.to_owned();
        self.tape.note(Told::Read {
            digest,
            offset,
            told,
        });
        bytes
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        let begun = self.doors.new_artifact();
        self.tape
            .note(Told::New(begun.as_ref().map(|_| ()).map_err(Clone::clone)));
        let (artifact, tape) = (begun?, self.tape.clone());
        Ok(Box::new(Recorded { artifact, tape }))
    }

    fn query(&self, query: &Query) -> Result<Series, CapabilityError> {
        let answer = self.doors.query(query);
        self.tape.note(Told::Query(query.clone(), answer.clone()));
        answer
    }

    fn state(&self, key: &str) -> Result<Option<Kept>, CapabilityError> {
        let answer = self.doors.state(key);
        self.tape.note(Told::State(key.to_owned(), answer.clone()));
        answer
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        let answer = self.doors.state_bytes();
        self.tape.note(Told::StateBytes(answer.clone()));
        answer
    }

    fn send(
        &self,
        request: &HttpRequest,
        timeout_ms: f64,
        most_bytes: u64,
    ) -> Result<HttpResponse, CapabilityError> {
        let answer = self.doors.send(request, timeout_ms, most_bytes);
        self.tape.note(Told::Send(request.clone(), answer.clone()));
        answer
    }
}

struct Recorded {
    artifact: Box<dyn NewArtifact>,
    tape: Arc<Taking>,
}

impl NewArtifact for Recorded {
    fn append(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        let added = self.artifact.append(chunk);
        self.tape
            .note(Told::Append(chunk.len() as u32, added.clone()));
        added
    }

    fn finish(
        self: Box<Self>,
        name: &str,
        media_type: &str,
    ) -> Result<ArtifactRef, CapabilityError> {
        let kept = self.artifact.finish(name, media_type);
        self.tape.note(Told::Finish(kept.clone()));
        kept
    }
}

/// Doors that answer what was told the first time.
pub struct Player {
    artifacts: Arc<dyn Doors>,
    tape: Arc<Tape>,
}

struct Tape {
    told: Vec<Told>,
    at: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    next: usize,
    diverged: Option<Diverged>,
}

impl Player {
    /// Answers from what was told; artifacts are read through the doors beside it, and new ones are made there.
    #[must_use]
    pub fn new(told: Vec<Told>, artifacts: Arc<dyn Doors>) -> Self {
        let at = Mutex::default();
        Self {
            artifacts,
            tape: Arc::new(Tape { told, at }),
        }
    }

    /// Where the call asked for something else than it had, or for less, if it did.
    #[must_use]
    pub fn diverged(&self) -> Option<Diverged> {
        let place = locked(&self.tape.at);
        let left = || {
            let then = self.tape.told.get(place.next)?.asked();
            Some(Diverged {
                at: place.next,
                then,
                now: "nothing".to_owned(),
            })
        };
        place.diverged.clone().or_else(left)
    }
}

impl Tape {
    /// What was told next, if that was an answer to the same question; from the first other one on nothing is.
    fn next<T>(
        &self,
        now: impl FnOnce() -> String,
        same: impl FnOnce(&Told) -> Option<T>,
    ) -> Result<T, CapabilityError> {
        let mut place = locked(&self.at);
        let told = self.told.get(place.next);
        if place.diverged.is_none()
            && let Some(answer) = told.and_then(same)
        {
            place.next += 1;
            return Ok(answer);
        }
        let then = told.map_or_else(|| "nothing".to_owned(), Told::asked);
        let at = place.next;
        let diverged = place.diverged.get_or_insert_with(|| Diverged {
            at,
            then,
            now: now(),
        });
        Err(CapabilityError::Unavailable(diverged.to_string()))
    }
}

impl Tape {
    /// What was told next, if it was this; otherwise it is still to come.
    fn take_if<T>(&self, wanted: impl FnOnce(&Told) -> Option<T>) -> Option<T> {
        let mut place = locked(&self.at);
        let found = self.told.get(place.next).and_then(wanted)?;
        place.next += 1;
        Some(found)
    }
}

impl Doors for Player {
    fn begin(&self, deadline: Instant) {
        self.artifacts.begin(deadline);
    }

    fn halted(&self) -> Option<Halt> {
        locked(&self.tape.at).diverged.clone().map(Halt::Diverged)
    }

    fn progress(&self, share: f64, phase: &str) -> bool {
        let same = |told: &Told| match told {
            Told::Progress {
                share: then,
                phase: before,
                cancelled,
            } if then.to_bits() == share.to_bits() && before == phase => Some(*cancelled),
            _ => None,
        };
        let told = self
            .tape
            .next(|| format!("progress {share} {phase:?}"), same);
        told.unwrap_or(true)
    }

    fn read_artifact(
        &self,
        digest: &str,
        offset: u32,
        most: u32,
    ) -> Result<Vec<u8>, CapabilityError> {
        let same = |told: &Told| match told {
            Told::Read {
                digest: then,
                offset: from,
                told,
            } if then == digest && *from == offset => Some(told.clone()),
            _ => None,
        };
        let length = self
            .tape
            .next(|| format!("`{digest}` from {offset}"), same)??;
        self.artifacts
            .read_artifact(digest, offset, most.min(length))
    }

    fn new_artifact(&self) -> Result<Box<dyn NewArtifact>, CapabilityError> {
        let same = |told: &Told| match told {
            Told::New(begun) => Some(begun.clone()),
            _ => None,
        };
        self.tape.next(|| "a new artifact".to_owned(), same)??;
        let artifact = self.artifacts.new_artifact()?;
        Ok(Box::new(Played {
            artifact,
            tape: self.tape.clone(),
        }))
    }

    fn query(&self, query: &Query) -> Result<Series, CapabilityError> {
        let same = |told: &Told| match told {
            Told::Query(then, answer) if then == query => Some(answer.clone()),
            _ => None,
        };
        self.tape.next(|| format!("{query:?}"), same)?
    }

    fn state(&self, key: &str) -> Result<Option<Kept>, CapabilityError> {
        let same = |told: &Told| match told {
            Told::State(then, answer) if then == key => Some(answer.clone()),
            _ => None,
        };
        self.tape.next(|| format!("state {key:?}"), same)?
    }

    fn state_bytes(&self) -> Result<u64, CapabilityError> {
        let same = |told: &Told| match told {
            Told::StateBytes(answer) => Some(answer.clone()),
            _ => None,
        };
        self.tape
            .next(|| "the size of its state".to_owned(), same)?
    }

    fn send(&self, request: &HttpRequest, _: f64, _: u64) -> Result<HttpResponse, CapabilityError> {
        // How long it was ready to wait hangs on how fast it came there.
        let same = |told: &Told| match told {
            Told::Send(then, answer) if then == request => Some(answer.clone()),
            _ => None,
        };
        self.tape
            .next(|| format!("{} {}", request.method, request.url), same)?
    }
}

struct Played {
    artifact: Box<dyn NewArtifact>,
    tape: Arc<Tape>,
}

impl NewArtifact for Played {
    fn append(&mut self, chunk: &[u8]) -> Result<(), CapabilityError> {
        let bytes = chunk.len() as u32;
        let same = |told: &Told| match told {
            Told::Append(then, added) if *then == bytes => Some(added.clone()),
            _ => None,
        };
        self.tape.next(|| format!("to add {bytes} bytes"), same)??;
        self.artifact.append(chunk)
    }

    fn finish(
        self: Box<Self>,
        name: &str,
        media_type: &str,
    ) -> Result<ArtifactRef, CapabilityError> {
        // One that could not be kept is not made now either.
        let failed = |told: &Told| match told {
            Told::Finish(Err(error)) => Some(error.clone()),
            _ => None,
        };
        if let Some(error) = self.tape.take_if(failed) {
            return Err(error);
        }
        let kept = self.artifact.finish(name, media_type)?;
        let same = |told: &Told| match told {
            Told::Finish(Ok(then)) if *then == kept => Some(()),
            _ => None,
        };
        self.tape
            .next(|| format!("to keep `{name}` as `{}`", kept.digest), same)?;
        Ok(kept)
    }
}
