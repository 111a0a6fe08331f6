//! What a run has been told so far: one entry per journalled call, by its position.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Position;
use crate::script::value;

/// Bytes of JSON an entry's input or output may hold itself; more is kept as an artifact.
pub const INLINE_LIMIT_BYTES: usize = 64 << 10;

/// Marks a value that is kept as an artifact.
const STORED: &str = "$stored";

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The call it answers.
    pub position: Position,
    /// A step's kind, or `sleep`, `wait_event`, `approval`, `wait_any`, `now`, `random`, `log`; `stopped` where the script
    /// used up its time.
    pub kind: String,
    /// What the script handed in.
    pub input: Value,
    /// Digest of that input; a replay that asks with another one has diverged.
    pub input_digest: String,
    /// The answer, once there is one.
    pub outcome: Option<CallOutcome>,
    /// Line of the script the call stands on.
    pub line: Option<u32>,
    /// Whether a closure of `on_failure` made the call, to undo something.
    #[serde(default)]
    pub undo: bool,
}

/// Kind of the entries that say where the script was stopped.
const STOPPED: &str = "stopped";

impl Entry {
    /// What says that the script was stopped before its call at this position, so that each later replay stops there.
    pub(super) fn stopped(position: Position, failure: StepFailure, line: Option<u32>) -> Self {
        Self {
            position,
            kind: STOPPED.to_owned(),
            input: Value::Null,
            input_digest: value::digest(&Value::Null),
            outcome: Some(CallOutcome::Err(failure)),
            line,
            undo: true,
        }
    }

    /// Why the script was stopped here, if it was. A step of this kind that failed has a position.
    pub(super) fn stop(&self) -> Option<&StepFailure> {
        match &self.outcome {
            Some(CallOutcome::Err(failure))
                if self.undo && self.kind == STOPPED && failure.position.is_none() =>
            {
                Some(failure)
            }
            _ => None,
        }
    }
}

/// How a journalled call was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// With a value.
    Ok(Value),
    /// With a failure, which the script may catch.
    Err(StepFailure),
}

/// What a failed call throws in the script, and what a failed run ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind} failed: {message} ({code})")]
pub struct StepFailure {
    /// Kind of the call, or `run` where the script itself failed.
    pub kind: String,
    /// Stable code; `timeout` when time ran out.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Whether trying again may help.
    pub retryable: bool,
    /// The call; `None` where the script itself failed.
    pub position: Option<Position>,
}

/// Code of the answer that calls get which a run no longer waits for, and what older journals say instead.
const ABANDONED: &str = "called_off";
const ABANDONED_BEFORE: &str = "run_cancelled";
/// Code of the answer that calls get which a script asked for in the very replay it failed in.
const NEVER_BEGUN: &str = "never_begun";

/// Code of the answer that calls get whose time is up.
pub(crate) const TIMEOUT: &str = "timeout";

impl StepFailure {
    /// The answer to a call whose time is up: asked again, it may well be in time.
    #[must_use]
    pub fn timed_out(kind: &str, position: Option<Position>) -> Self {
        Self {
            kind: kind.to_owned(),
            code: TIMEOUT.to_owned(),
            message: format!("`{kind}` was not answered in time"),
            retryable: true,
            position,
        }
    }

    /// The answer to a call that a run which failed or was cancelled no longer waits for; no script sees it.
    #[must_use]
    pub fn abandoned(position: &Position) -> Self {
        Self {
            kind: "run".to_owned(),
            code: ABANDONED.to_owned(),
            message: "the run failed or was cancelled before this was answered".to_owned(),
            retryable: false,
            position: Some(position.clone()),
        }
    }

    /// The answer to a call that a run failed beside; nobody has heard of it.
    #[must_use]
    pub fn never_begun(position: &Position) -> Self {
        Self {
            code: NEVER_BEGUN.to_owned(),
            message: "the run failed before this was begun".to_owned(),
            ..Self::abandoned(position)
        }
    }

    /// Whether it is one of these answers. The kind is part of it, for a step may fail with any code.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let codes = [ABANDONED, ABANDONED_BEFORE, NEVER_BEGUN];
        self.kind == "run" && codes.contains(&self.code.as_str())
    }
}

impl CallOutcome {
    /// Whether it only says that the run waits for it no longer.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        matches!(self, Self::Err(failure) if failure.is_abandoned())
    }

    /// Whether it only says that the call was never begun.
    #[must_use]
    pub fn is_never_begun(&self) -> bool {
        matches!(self, Self::Err(failure) if failure.is_abandoned() && failure.code == NEVER_BEGUN)
    }
}

/// All entries of one run; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Journal(Arc<BTreeMap<Position, Entry>>);

impl Journal {
    /// The entry of a call.
    #[must_use]
    pub fn get(&self, position: &Position) -> Option<&Entry> {
        self.0.get(position)
    }

    /// Adds an entry; one that is there already stays as it is, and `false` comes back.
    pub fn insert(&mut self, entry: Entry) -> bool {
        let entries = Arc::make_mut(&mut self.0);
        match entries.entry(entry.position.clone()) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(entry);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// Answers a call; an answer that is there already stays, and `false` comes back.
    pub fn answer(&mut self, position: &Position, outcome: CallOutcome) -> bool {
        match Arc::make_mut(&mut self.0).get_mut(position) {
            Some(entry) if entry.outcome.is_none() => {
                entry.outcome = Some(outcome);
                true
            }
            _ => false,
        }
    }

    /// The entries in order of position.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// How many times the time of one replay the next may take: undoing a run has as much as the run itself, and so has
    /// what comes after each stop.
    #[must_use]
    pub fn shares(&self) -> u32 {
        let undone = self.iter().any(|e| e.undo);
        let stops = self.iter().filter(|e| e.stop().is_some()).count();
        1 + u32::from(undone) + u32::try_from(stops).unwrap_or(u32::MAX / 2)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing has been told yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Entry> for Journal {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let entries = entries.into_iter().map(|e| (e.position.clone(), e));
        Self(Arc::new(entries.collect()))
    }
}

/// A value as an entry keeps it: itself, or, beyond [`INLINE_LIMIT_BYTES`], a note of the digest `store` gave it.
///
/// # Errors
///
/// Whatever `store` fails with.
pub fn outline_large<E>(
    value: Value,
    store: impl FnOnce(&[u8]) -> Result<String, E>,
) -> Result<Value, E> {
    let text = value.to_string();
    if text.len() <= INLINE_LIMIT_BYTES {
        return Ok(value);
    }
    Ok(json!({ STORED: store(text.as_bytes())? }))
}

/// The reverse of [`outline_large`]: the value itself, read through `load` where only its digest was kept.
///
/// # Errors
///
/// Whatever `load` fails with, and what stored bytes that are no JSON give.
pub fn inline_stored<E: From<serde_json::Error>>(
    value: Value,
    load: impl FnOnce(&str) -> Result<Vec<u8>, E>,
) -> Result<Value, E> {
    match value.get(STORED).and_then(Value::as_str) {
        Some(digest) => Ok(serde_json::from_slice(&load(digest)?)?),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_value_is_kept_by_its_digest_and_found_again() {
        let mut kept = Vec::new();
        let large = json!({ "text": "x".repeat(INLINE_LIMIT_BYTES) });
        let outlined = outline_large(large.clone(), |bytes| {
            kept = bytes.to_vec();
            Ok::<_, serde_json::Error>("sha256:1".to_owned())
        })
        .expect("stored");
        assert_eq!(outlined, json!({"$stored": "sha256:1"}));
        let again = inline_stored(outlined, |_| Ok::<_, serde_json::Error>(kept));
        assert_eq!(again.ok(), Some(large));
    }

    #[test]
    fn the_first_answer_stays() {
        let position = Position::top(1);
        let mut journal: Journal = [Entry {
            position: position.clone(),
            kind: "predict".into(),
            input: Value::Null,
            input_digest: String::new(),
            outcome: None,
            line: None,
            undo: false,
        }]
        .into_iter()
        .collect();
        assert!(journal.answer(&position, CallOutcome::Ok(json!(1))));
        assert!(!journal.answer(&position, CallOutcome::Ok(json!(2))));
        let kept = journal.get(&position).and_then(|e| e.outcome.clone());
        assert_eq!(kept, Some(CallOutcome::Ok(json!(1))));
    }
}
