//! How the open calls of a run stand: what `workflows::run::why` needs to say why it is where it is.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use serde_json::Value;
use workflows::build::fit::{Capabilities, Needs};
use workflows::model::Timestamp;
use workflows::run::Rate;
use workflows::run::why::{BuildNow, CellNow, OpenCall, Standing, StepNow};
use workflows::steps::Wait;

use super::database::{from_json, number};
use super::steps::{self, step};
use super::{StoreError, builds, cells, children, guards, journal, rates, runs};

/// The calls of a run that have no answer, in the order its script made them.
pub async fn open_calls(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
) -> Result<Vec<OpenCall>, StoreError> {
    let mut rows = BTreeMap::new();
    for row in steps::of_run(db, run).await? {
        rows.insert(row.position.clone(), row);
    }
    let mut calls = Vec::new();
    for entry in journal::of_run(db, run).await? {
        if entry.outcome.is_some() {
            continue;
        }
        let position = entry.position.parse();
        calls.push(OpenCall {
            step: match rows.get(&entry.position) {
                Some(row) => Some(step_now(db, now, row).await?),
                None => None,
            },
            position: position.map_err(|e| StoreError::refused("corrupt_journal", e))?,
            kind: entry.kind,
            input: from_json("journal input", &entry.input)?,
            since: Timestamp(entry.recorded_at),
            until: entry.due.map(Timestamp),
        });
    }
    Ok(calls)
}

/// How a step stands; also the one that stands for a run's own advancement.
pub async fn step_now(
    db: &impl ConnectionTrait,
    now: i64,
    row: &step::Model,
) -> Result<StepNow, StoreError> {
    Ok(StepNow {
        standing: standing(db, now, row).await?,
        queue: row.queue.clone(),
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        error: row.error.clone(),
    })
}

async fn standing(
    db: &impl ConnectionTrait,
    now: i64,
    row: &step::Model,
) -> Result<Standing, StoreError> {
    if row.state == "leased" {
        return Ok(Standing::Working {
            worker: row.lease_owner.clone().unwrap_or_default(),
            progress: row.share_done,
            phase: row.phase.clone(),
        });
    }
    if row.is_parked()
        && let Some(wait) = row.waiting_for.as_deref()
    {
        return match from_json("wait", wait)? {
            Wait::Build(id) => Ok(Standing::Build(build_now(db, &id).await?)),
            Wait::Run(first) => {
                // What it waited for first may have continued as another run.
                let run = match children::at(db, &row.run_id, &row.position).await? {
                    Some(run) => run,
                    None => runs::get(db, &first).await?,
                };
                Ok(Standing::Child {
                    run: run.id,
                    state: run.state,
                })
            }
            Wait::KillSwitch => match guards::kill_switch(db).await? {
                Some(on) => Ok(Standing::KillSwitch(on)),
                None => ready(db, now, row).await,
            },
        };
    }
    if row.run_at > now && !row.is_parked() {
        return Ok(Standing::Later {
            at: Timestamp(row.run_at),
        });
    }
    if let (Some(until), Some(key)) = (rates::holds(db, now, row).await?, &row.rate_key) {
        return Ok(Standing::Rated {
            key: key.clone(),
            rate: Rate {
                limit: u32::try_from(row.rate_limit.unwrap_or(0)).unwrap_or(u32::MAX),
                period_ms: row.rate_period_ms.unwrap_or(0),
            },
            until: Timestamp(until),
        });
    }
    if let Some(keyed) = keyed(db, row).await? {
        return Ok(keyed);
    }
    ready(db, now, row).await
}

/// The key that holds a step up, and who has it; a step that waits for what it began has it itself.
async fn keyed(
    db: &impl ConnectionTrait,
    row: &step::Model,
) -> Result<Option<Standing>, StoreError> {
    let key = row
        .idempotency_key
        .as_ref()
        .or(row.concurrency_key.as_ref());
    let Some(key) = key.filter(|_| row.waiting_for.is_none()) else {
        return Ok(None);
    };
    let holders = steps::holders_of_key(db, row).await?;
    let is_held_up = i64::try_from(holders.len()).unwrap_or(i64::MAX) >= row.concurrency_limit;
    Ok(is_held_up.then(|| Standing::Keyed {
        key: key.strip_prefix("key:").unwrap_or(key).to_owned(),
        limit: row.concurrency_limit,
        holders,
    }))
}

async fn ready(
    db: &impl ConnectionTrait,
    now: i64,
    row: &step::Model,
) -> Result<Standing, StoreError> {
    let sql = "SELECT COUNT(*) AS n FROM step WHERE queue = $1 AND state = 'leased' \
               AND lease_until IS NOT NULL";
    let at_work = number(db, sql, values![row.queue.as_str()]).await?;
    let place = steps::PLACE;
    let sql = format!(
        "SELECT COUNT(*) AS n FROM step WHERE queue = $1 AND state = 'ready' AND run_at <= $2 \
         AND ({place} < $3 OR ({place} = $3 AND (run_at < $4 OR (run_at = $4 AND id < $5))))"
    );
    let values = values![
        row.queue.as_str(),
        now,
        row.place(),
        row.run_at,
        row.id.as_str()
    ];
    Ok(Standing::Ready {
        at_work: at_work.unwrap_or(0),
        ahead: number(db, &sql, values).await?.unwrap_or(0),
    })
}

async fn build_now(db: &impl ConnectionTrait, id: &str) -> Result<BuildNow, StoreError> {
    let row = builds::get(db, id).await?;
    let mut unknown = builds::unknown_plates(db).await?;
    let cells = cells::list(db).await?.into_iter().map(|cell| CellNow {
        capabilities: capabilities(&cell.machine),
        left_uncertain: unknown.remove(&cell.id),
        id: cell.id,
        seen_at: cell.seen_at.map(Timestamp),
    });
    Ok(BuildNow {
        state: row.state()?,
        on_plate: row.on_plate()?,
        needs: Needs {
            printer: row.printer,
            material: row.material,
            size_mm: None,
        },
        id: row.id,
        cell: row.cell,
        cells: cells.collect(),
    })
}

/// What a cell enrolled with, as far as it says; a cell is free to describe its machine as it likes.
fn capabilities(machine: &str) -> Capabilities {
    let machine: Value = serde_json::from_str(machine).unwrap_or_default();
    serde_json::from_value(machine).unwrap_or_default()
}
