//! Beginning a run again: a new run that takes over the answers of an old one up to a call.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use workflows::model::Timestamp;
use workflows::run::{CallOutcome, Kept, Position, Told, take_over};

use super::database::{execute, from_json};
use super::journal::{self, journal as entry};
use super::runs::{self, NewRun, run};
use super::{StoreError, approvals, audit, events, guards};

/// How a run is to be begun again.
#[derive(Debug, Clone)]
pub struct Restart<'a> {
    /// The call to begin again with; the one it failed or diverged at if not said.
    pub from: Option<&'a Position>,
    /// Digest of another revision of its workflow.
    pub revision: Option<&'a str>,
    /// Who wants it.
    pub actor: &'a str,
}

/// Begins a run again and gives the new one. To be called in a transaction.
///
/// Steps whose answers are taken over are not done again, nor is anything they had made; calls that were open are asked
/// again where the script has passed them. An old run that diverged ends here, so that not both of them go on.
///
/// # Errors
///
/// `run_not_restartable` unless it failed, was cancelled or diverged; `invalid_position` when its script made no such
/// call; `kill_switch_on` when nothing is to begin.
pub async fn restart(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    how: &Restart<'_>,
) -> Result<run::Model, StoreError> {
    // Held to the end: one that goes into the archive meanwhile would be taken over in part.
    let sql = "UPDATE run SET state = state WHERE id = $1 AND ended_at IS NOT NULL";
    execute(db, sql, values![id]).await?;
    let old = runs::get(db, id).await?;
    if !matches!(&*old.state, "failed" | "cancelled" | "diverged") {
        return Err(StoreError::refused(
            "run_not_restartable",
            format_args!(
                "run `{id}` is {}; only one that failed, was cancelled or diverged is begun again",
                old.state
            ),
        ));
    }
    guards::may_start(db).await?;
    let told = journal::of_run(db, id).await?;
    let from = match how.from {
        Some(from) => Some(from.clone()),
        None => stopped_at(&old, &told)?,
    };
    let kept = take_over(&read(&told)?, from.as_ref())
        .map_err(|error| StoreError::refused("invalid_position", error))?;
    if old.state == "diverged" {
        runs::request_cancel(db, now, how.actor, id, true).await?;
    }
    let event: Value = from_json("event", &old.event)?;
    let new = NewRun {
        workflow: &old.workflow,
        revision: how.revision.unwrap_or(&old.revision),
        event: &event,
        seed: Some(old.seed.cast_unsigned()),
        decision: old.decision.as_deref(),
        actor: how.actor,
    };
    let made = runs::create(db, now, &new).await?;
    let position = from.map(|from| from.to_string());
    let sql = "UPDATE run SET restarted_from = $2, restarted_position = $3, events_after = $4 \
               WHERE id = $1";
    let values = values![made.id.as_str(), id, position.clone(), old.events_after];
    execute(db, sql, values).await?;
    let made = runs::get(db, &made.id).await?;
    copy(db, now, (&old.id, &made), &told, &kept).await?;
    let detail = json!({ "run": made.id, "position": position, "revision": new.revision });
    audit::record(db, now, how.actor, "restart_run", id, &detail).await?;
    runs::get(db, &made.id).await
}

/// The call an old run came to nothing at, if it is one of its journal.
fn stopped_at(old: &run::Model, told: &[entry::Model]) -> Result<Option<Position>, StoreError> {
    let Some(failure) = old.failure.as_deref() else {
        return Ok(None);
    };
    let failure: Value = from_json("failure", failure)?;
    let at = failure["position"].as_str().unwrap_or_default();
    let known = told.iter().any(|e| e.position == at && !e.undo);
    Ok(known.then(|| at.parse().ok()).flatten())
}

fn read(told: &[entry::Model]) -> Result<Vec<Told>, StoreError> {
    let read = |row: &entry::Model| {
        let outcome: Option<CallOutcome> = match row.outcome.as_deref() {
            Some(text) => Some(from_json("journal outcome", text)?),
            None => None,
        };
        let position = row.position.parse();
        Ok(Told {
            position: position.map_err(|error| StoreError::refused("corrupt_journal", error))?,
            undo: row.undo,
            answered: outcome.is_some_and(|outcome| !outcome.is_abandoned()),
            recorded_at: Timestamp(row.recorded_at),
            answered_at: row.answered_at.map(Timestamp),
        })
    };
    told.iter().map(read).collect()
}

/// Columns of a journal entry beside its run.
const ENTRY: &str = "position, ordinal, kind, input, input_digest, line, due, outcome, recorded_at, answered_at, undo";

async fn copy(
    db: &impl ConnectionTrait,
    now: i64,
    (old, made): (&str, &run::Model),
    told: &[entry::Model],
    kept: &[Kept],
) -> Result<(), StoreError> {
    let new = made.id.as_str();
    for (ordinal, kept) in (0_i64..).zip(kept) {
        let position = kept.position.to_string();
        let Some(row) = told.iter().find(|e| e.position == position) else {
            continue;
        };
        let columns = ENTRY.replace("ordinal", "$4");
        let sql = format!(
            "INSERT INTO journal (run_id, {ENTRY}) SELECT $1, {columns} FROM journal \
             WHERE run_id = $2 AND position = $3"
        );
        let values = values![new, old, position.as_str(), ordinal];
        execute(db, &sql, values).await?;
        if kept.again {
            ask_again(db, now, (old, made), row).await?;
        } else {
            reuse(db, (old, new), &position).await?;
        }
    }
    Ok(())
}

/// Shows an answered step and what it made under the new run too.
async fn reuse(
    db: &impl ConnectionTrait,
    (old, new): (&str, &str),
    position: &str,
) -> Result<(), StoreError> {
    let done = "run_at, attempt, max_attempts, state, error, share_done, phase, created_at, \
                started_at, ended_at";
    copy_step(db, (old, new), position, done, done, vec![]).await?;
    let sql = "INSERT INTO provenance (digest, run_id, position, name, kind, revision, recorded_at) \
               SELECT digest, $1, position, name, kind, revision, recorded_at FROM provenance \
               WHERE run_id = $2 AND position = $3";
    execute(db, sql, values![new, old, position]).await?;
    let sql = "INSERT INTO signal_taken (mailbox, seq, run_id, position) \
               SELECT $1, seq, $1, position FROM signal_taken WHERE run_id = $2 AND position = $3";
    execute(db, sql, values![new, old, position]).await?;
    Ok(())
}

/// Copies what was asked of a step; `columns` of the copy get `values` of the old row.
async fn copy_step(
    db: &impl ConnectionTrait,
    (old, new): (&str, &str),
    position: &str,
    columns: &str,
    values: &str,
    more: Vec<sea_orm::Value>,
) -> Result<(), StoreError> {
    let asked = "run_id, position, kind, queue, priority, backoff_ms, input, concurrency_key, \
                 concurrency_limit, idempotency_key, rate_key, rate_limit, rate_period_ms";
    let taken = asked.replace("run_id", "$2");
    let sql = format!(
        "INSERT INTO step (id, {asked}, {columns}) SELECT $1, {taken}, {values} FROM step \
         WHERE run_id = $3 AND position = $4"
    );
    // Named after the run, for nothing hangs on the name and the copy may be made once.
    let id = format!("{new}:{position}");
    let mut all = values![id, new, old, position];
    all.extend(more);
    execute(db, &sql, all).await?;
    Ok(())
}

/// Asks a call again that had no answer, as it was asked before, with all the time it had then.
async fn ask_again(
    db: &impl ConnectionTrait,
    now: i64,
    (old, made): (&str, &run::Model),
    row: &entry::Model,
) -> Result<(), StoreError> {
    let new = made.id.as_str();
    let position = row.position.as_str();
    let due = row.due.map(|due| now + (due - row.recorded_at).max(0));
    let sql = "UPDATE journal SET outcome = NULL, answered_at = NULL, recorded_at = $3, due = $4 \
               WHERE run_id = $1 AND position = $2";
    execute(db, sql, values![new, position, now, due]).await?;
    let input: Value = from_json("journal input", &row.input)?;
    match row.kind.as_str() {
        "sleep" => Ok(()),
        "wait_event" => {
            let text = |name: &str| input[name].as_str().unwrap_or_default();
            let at = (position, text("name"), text("key"));
            events::wait_for(db, new, at.0, at.1, at.2).await?;
            events::take_early(db, now, made, at).await?;
            Ok(())
        }
        "approval" => {
            let role = input["role"].as_str().unwrap_or_default();
            approvals::ask(db, now, (new, position), (role, &input["subject"]), due).await
        }
        _ => {
            let columns = "run_at, state, max_attempts, deadline, created_at";
            // The cast tells Postgres what a parameter of no column is.
            let values =
                "CAST($5 AS BIGINT), 'ready', max_attempts, CAST($6 AS BIGINT), CAST($5 AS BIGINT)";
            let more = values![now, due];
            copy_step(db, (old, new), position, columns, values, more).await?;
            super::database::notify(db).await
        }
    }
}

/// The runs that were begun again from a run, oldest first.
pub async fn of(db: &impl ConnectionTrait, id: &str) -> Result<Vec<run::Model>, StoreError> {
    Ok(run::Entity::find()
        .filter(run::Column::RestartedFrom.eq(id))
        .order_by_asc(run::Column::Id)
        .all(db)
        .await?)
}
