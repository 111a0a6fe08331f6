//! The past of a run: its journal, read back whole.

use bytes::Bytes;
use serde_json::Value;
use workflows::model::ArtifactRef;
use workflows::run::{CallOutcome, Entry, Journal, inline_stored, outline_large};

use super::{Trouble, World};
use crate::store::database::from_json;
use crate::store::journal::journal;
use crate::store::{self, StoreError};

/// Why a run cannot be replayed.
#[derive(Debug)]
pub enum Stop {
    /// The database does not answer.
    Storage(StoreError),
    /// Something else does not answer; it may later.
    Again(Trouble),
    /// It never will.
    Never {
        /// Stable code.
        code: &'static str,
        /// Why.
        message: String,
    },
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

/// A run's journal out of its rows, with what they keep by digest.
///
/// # Errors
///
/// [`Stop`], when it cannot be read.
pub(super) async fn read_back(world: &World, rows: Vec<journal::Model>) -> Result<Journal, Stop> {
    let mut entries = Vec::with_capacity(rows.len());
    for (n, row) in rows.into_iter().enumerate() {
        // A long journal is not to keep others from this thread.
        if n % 64 == 63 {
            tokio::task::yield_now().await;
        }
        let input = from_json("journal input", &row.input)?;
        let outcome = row
            .outcome
            .as_deref()
            .map(|text| from_json("journal outcome", text))
            .transpose()?;
        let outcome = match outcome {
            Some(CallOutcome::Ok(value)) => Some(CallOutcome::Ok(
                fetch(world, value).await.map_err(Stop::Again)?,
            )),
            outcome => outcome,
        };
        entries.push(Entry {
            position: row.position.parse().map_err(|error| Stop::Never {
                code: "corrupt_journal",
                message: format!("{error}"),
            })?,
            kind: row.kind,
            input: fetch(world, input).await.map_err(Stop::Again)?,
            input_digest: row.input_digest,
            outcome,
            line: row.line.and_then(|line| u32::try_from(line).ok()),
            undo: row.undo,
        });
    }
    Ok(entries.into_iter().collect())
}

/// A value as the journal keeps it: what is large goes to the artifacts.
///
/// # Errors
///
/// When the artifacts or the database do not answer.
pub async fn keep(world: &World, value: Value) -> Result<Value, Trouble> {
    let mut large = None;
    let kept = outline_large(value, |bytes| {
        let digest = format!("sha256:{}", store::sha256_hex(bytes));
        large = Some((digest.clone(), Bytes::copy_from_slice(bytes)));
        Ok::<_, Trouble>(digest)
    })?;
    if let Some((digest, bytes)) = large {
        let artifact = ArtifactRef {
            digest,
            size_bytes: bytes.len() as u64,
            media: "application/json".to_owned(),
        };
        world.artifacts.put(&artifact.digest, bytes).await?;
        store::artifacts::put(&world.queue.db().write, world.queue.now(), &artifact).await?;
    }
    Ok(kept)
}

/// The value itself, where the journal only kept its digest.
///
/// # Errors
///
/// When the artifacts do not answer, or have no such bytes.
pub async fn fetch(world: &World, value: Value) -> Result<Value, Trouble> {
    let mut missing = None;
    // Asked once for the digest, and once more with the bytes.
    let _ = inline_stored(value.clone(), |digest| {
        missing = Some(digest.to_owned());
        Ok::<_, serde_json::Error>(b"null".to_vec())
    });
    let Some(digest) = missing else {
        return Ok(value);
    };
    let bytes = world
        .artifacts
        .get(&digest)
        .await?
        .ok_or_else(|| format!("there is no artifact `{digest}`"))?;
    Ok(inline_stored(value, |_| {
        Ok::<_, serde_json::Error>(bytes.to_vec())
    })?)
}
