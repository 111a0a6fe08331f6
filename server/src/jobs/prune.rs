//! Removes what is kept no longer, a few rows at a time: ended runs go into the archive first.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;
use workflows::model::{ArtifactRef, Timestamp};

use crate::artifacts;
use crate::config::Retention;
use crate::host::ArtifactBytes;
use crate::store::archives::{self, Part};
use crate::store::retention::{self, Aged, Archive};
use crate::store::runs::run;
use crate::store::{self, Database};

const DAY_MS: i64 = 24 * 3_600_000;

/// How many runs are archived in one transaction, and how many rows of one are held in memory.
const RUNS: u64 = 20;
const PAGE: usize = 500;

/// What a pass works with.
#[derive(Clone)]
pub struct Keeper {
    /// Tables.
    pub db: Database,
    /// Where archives go.
    pub artifacts: Arc<dyn ArtifactBytes>,
    /// How long what is kept.
    pub rules: Retention,
}

/// How many of what a pass removed, by name.
pub type Removed = BTreeMap<&'static str, u64>;

/// What is looked through, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Ended runs are archived.
    Archive,
    /// The rows of archived runs are removed.
    Runs,
    Events,
    Signals,
    Audit,
    Of(Aged),
}

const STAGES: [Stage; 13] = [
    Stage::Archive,
    Stage::Runs,
    Stage::Events,
    Stage::Signals,
    Stage::Audit,
    Stage::Of(retention::COMPARISONS),
    Stage::Of(retention::DECISIONS),
    Stage::Of(retention::PREDICTIONS),
    Stage::Of(retention::DELIVERIES),
    Stage::Of(retention::MESSAGES),
    Stage::Of(retention::REQUESTS),
    Stage::Of(retention::CAUSES),
    Stage::Of(retention::TICKS),
];

/// The moment before which something named so is too old, by the rules; nothing where it is kept for good.
#[must_use]
pub fn too_old_before(rules: &Retention, now: i64, name: &str) -> Option<i64> {
    let days = match name {
        "runs" => rules.runs_days,
        "events" => rules.events_days,
        "audit" => rules.audit_days,
        "comparisons" | "decisions" => rules.decisions_days,
        "predictions" => rules.predictions_days,
        "deliveries" | "messages" => rules.deliveries_days,
        "requests" | "causes" => rules.requests_days,
        "ticks" => rules.ticks_days,
        _ => 0,
    };
    (days > 0).then(|| now - i64::from(days) * DAY_MS)
}

/// One look through everything. It keeps nothing that a crash could lose: the next one goes on from the tables.
pub(super) struct Pass<'a> {
    keeper: &'a Keeper,
    now: i64,
    stage: usize,
    /// The last run that was looked at; one that is held is not looked at again in this pass.
    after: String,
    removed: Removed,
}

impl<'a> Pass<'a> {
    pub(super) fn new(keeper: &'a Keeper, now: i64) -> Self {
        Self {
            keeper,
            now,
            stage: 0,
            after: String::new(),
            removed: Removed::new(),
        }
    }

    /// Does one transaction's worth; `false` when there is nothing left to do.
    pub(super) async fn advance(&mut self) -> anyhow::Result<bool> {
        let Some(stage) = STAGES.get(self.stage).copied() else {
            return Ok(false);
        };
        let is_through = match stage {
            Stage::Archive => self.archive().await?,
            Stage::Runs => self.remove_runs().await?,
            Stage::Events | Stage::Signals | Stage::Audit | Stage::Of(_) => {
                self.remove(stage).await?
            }
        };
        self.stage += usize::from(is_through);
        Ok(true)
    }

    async fn archive(&mut self) -> anyhow::Result<bool> {
        let Some(before) = too_old_before(&self.keeper.rules, self.now, "runs") else {
            return Ok(true);
        };
        let db = &self.keeper.db;
        let old = retention::old_runs(&db.read, before, &self.after, RUNS).await?;
        let Some(last) = old.last() else {
            return Ok(true);
        };
        self.after.clone_from(&last.id);
        let mut archives = Vec::with_capacity(old.len());
        for run in &old {
            archives.push(self.keeper.archive_of(self.now, run).await?);
        }
        let tx = store::begin(&db.write).await?;
        retention::archive(&tx, self.now, before, &archives).await?;
        tx.commit().await?;
        Ok(false)
    }

    async fn remove_runs(&mut self) -> anyhow::Result<bool> {
        let limit = self.keeper.rules.batch_rows;
        let tx = store::begin(&self.keeper.db.write).await?;
        let (rows, runs) = retention::remove_archived(&tx, limit).await?;
        tx.commit().await?;
        *self.removed.entry("runs").or_default() += runs;
        Ok(rows == 0)
    }

    async fn remove(&mut self, stage: Stage) -> anyhow::Result<bool> {
        let name = match stage {
            Stage::Of(aged) => aged.name,
            Stage::Audit => "audit",
            _ => "events",
        };
        let Some(before) = too_old_before(&self.keeper.rules, self.now, name) else {
            return Ok(true);
        };
        let limit = self.keeper.rules.batch_rows;
        let tx = store::begin(&self.keeper.db.write).await?;
        let count = match stage {
            Stage::Of(aged) => aged.remove(&tx, before, limit).await?,
            Stage::Audit => retention::remove_audit(&tx, before, limit).await?,
            Stage::Signals => retention::remove_signals(&tx, before, limit).await?,
            _ => retention::remove_events(&tx, before, limit).await?,
        };
        tx.commit().await?;
        if stage != Stage::Signals {
            *self.removed.entry(name).or_default() += count;
        }
        Ok(count < limit)
    }
}

impl Keeper {
    /// Stores a run's archive, if one is wanted, and says where it is.
    async fn archive_of(&self, now: i64, run: &run::Model) -> anyhow::Result<Archive> {
        let id = run.id.clone();
        if !self.rules.archive {
            return Ok(Archive {
                id,
                digest: None,
                size_bytes: 0,
            });
        }
        let bytes = document(&self.db, &id).await?;
        let artifact = ArtifactRef {
            digest: artifacts::digest(&bytes),
            size_bytes: bytes.len() as u64,
            media: "application/gzip".to_owned(),
        };
        let stored = self.artifacts.put(&artifact.digest, bytes.into()).await;
        stored.map_err(|error| anyhow::anyhow!(error))?;
        store::artifacts::put(&self.db.write, now, &artifact).await?;
        Ok(Archive {
            id,
            size_bytes: artifact.size_bytes.cast_signed(),
            digest: Some(artifact.digest),
        })
    }
}

/// The archive of a run: gzipped JSON, the same bytes whenever it is made.
async fn document(db: &Database, run: &str) -> anyhow::Result<Vec<u8>> {
    let told = archives::told(&db.read, run).await?;
    let told = told.with_context(|| format!("run `{run}` is gone"))?;
    // No name and no time in its head, so the same run has the same digest.
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    write!(out, "{{\"format\":\"forewright.run/1\",\"run\":{told}")?;
    for part in archives::PARTS {
        write!(out, ",\n\"{}\":[", part.name)?;
        write_part(db, run, part, &mut out).await?;
        write!(out, "]")?;
    }
    writeln!(out, "}}")?;
    Ok(out.finish()?)
}

/// Writes the rows of a part, some at a time: a journal may be long.
async fn write_part(
    db: &Database,
    run: &str,
    part: Part,
    out: &mut GzEncoder<Vec<u8>>,
) -> anyhow::Result<()> {
    for from in (0..).step_by(PAGE) {
        let rows = archives::rows(&db.read, run, part, from, PAGE).await?;
        for (n, row) in rows.iter().enumerate() {
            let comma = if from + n > 0 { ",\n" } else { "" };
            write!(out, "{comma}{row}")?;
        }
        if rows.len() < PAGE {
            break;
        }
    }
    Ok(())
}

/// Removes what is too old until nothing is left or the time is up; says what went. Between two transactions it rests,
/// so that others come in between.
///
/// # Errors
///
/// When the database or the artifact store does not answer. What was removed until then is gone; nothing is in between.
pub async fn prune(keeper: &Keeper, now: i64, patience: Duration) -> anyhow::Result<Removed> {
    let begun = Instant::now();
    let mut pass = Pass::new(keeper, now);
    let mut is_whole = true;
    while pass.advance().await? {
        if begun.elapsed() >= patience {
            is_whole = false;
            break;
        }
        tokio::time::sleep(Duration::from_millis(keeper.rules.pause_ms)).await;
    }
    pass.removed.retain(|_, count| *count > 0);
    let removed = pass.removed;
    note(keeper, now, begun.elapsed(), &removed, is_whole).await?;
    Ok(removed)
}

async fn note(
    keeper: &Keeper,
    now: i64,
    took: Duration,
    removed: &Removed,
    is_whole: bool,
) -> anyhow::Result<()> {
    let tx = store::begin(&keeper.db.write).await?;
    let noted = json!({
        "at": Timestamp(now), "duration_ms": took.as_millis() as u64, "removed": removed, "whole": is_whole,
    });
    retention::note_pass(&tx, &noted).await?;
    if !removed.is_empty() {
        info!(?removed, "removed what was kept long enough: {removed:?}");
        let detail: Value = json!({ "removed": removed });
        store::audit::record(&tx, now, "server", "prune", "retention", &detail).await?;
    }
    tx.commit().await?;
    Ok(())
}
