//! Beginning a run again: a new run that takes over the answers of an old one up to a call.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::Serialize;
use serde_json::{Value, json};
use workflows::model::Timestamp;
use workflows::run::{CallOutcome, Kept, Position, Told, take_over};

use super::database::{execute, from_json, rows_in, to_json};
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
        let begun = !outcome.as_ref().is_some_and(CallOutcome::is_never_begun);
        Ok(Told {
            begun,
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

/// What is asked of a step beside its position.
const ASKED: &str = "kind, queue, priority, backoff_ms, input, concurrency_key, concurrency_limit, \
    idempotency_key, rate_key, rate_limit, rate_period_ms";
/// What became of a step.
const DONE: &str = "run_at, attempt, max_attempts, state, error, share_done, phase, created_at, \
    started_at, ended_at";

#[derive(Serialize)]
struct Place {
    ordinal: usize,
    position: String,
    again: i64,
}

/// Copies what is kept of a journal, and what was answered with what it made; what has no answer is asked again.
///
/// A journal may have thousands of entries, so each table is copied by one statement.
async fn copy(
    db: &impl ConnectionTrait,
    now: i64,
    (old, made): (&str, &run::Model),
    told: &[entry::Model],
    kept: &[Kept],
) -> Result<(), StoreError> {
    let new = made.id.as_str();
    let places: Vec<Place> = (kept.iter().enumerate())
        .map(|(ordinal, kept)| Place {
            ordinal,
            position: kept.position.to_string(),
            again: i64::from(kept.again),
        })
        .collect();
    let columns = [
        ("ordinal", "bigint"),
        ("position", "text"),
        ("again", "bigint"),
    ];
    let f = rows_in(db, 3, &columns);
    let entry = of_table("journal", ENTRY).replace("journal.ordinal", "f.ordinal");
    let (asked, done) = (of_table("step", ASKED), of_table("step", DONE));
    let made_of_it = "name, kind, revision, recorded_at";
    let made_there = of_table("provenance", made_of_it);
    let new_run = "CAST($1 AS TEXT)";
    let listed = to_json("positions", &places)?;
    for sql in [
        format!(
            "INSERT INTO journal (run_id, {ENTRY}) SELECT {new_run}, {entry} FROM journal \
             JOIN {f} ON f.position = journal.position WHERE journal.run_id = $2"
        ),
        // A step is named after the run, for nothing hangs on the name and the copy may be made once.
        format!(
            "INSERT INTO step (id, run_id, position, {ASKED}, {DONE}) \
             SELECT {new_run} || ':' || step.position, {new_run}, step.position, {asked}, {done} FROM step \
             JOIN {f} ON f.position = step.position WHERE step.run_id = $2 AND f.again = 0"
        ),
        format!(
            "INSERT INTO provenance (digest, run_id, position, {made_of_it}) \
             SELECT provenance.digest, {new_run}, provenance.position, {made_there} FROM provenance \
             JOIN {f} ON f.position = provenance.position WHERE provenance.run_id = $2 AND f.again = 0"
        ),
        format!(
            "INSERT INTO signal_taken (mailbox, seq, run_id, position) \
             SELECT {new_run}, signal_taken.seq, {new_run}, signal_taken.position FROM signal_taken \
             JOIN {f} ON f.position = signal_taken.position \
             WHERE signal_taken.run_id = $2 AND f.again = 0"
        ),
    ] {
        execute(db, &sql, values![new, old, listed.as_str()]).await?;
    }
    let rows: BTreeMap<&str, &entry::Model> = told
        .iter()
        .map(|row| (row.position.as_str(), row))
        .collect();
    for place in places.iter().filter(|place| place.again == 1) {
        if let Some(row) = rows.get(place.position.as_str()) {
            ask_again(db, now, (old, made), row).await?;
        }
    }
    Ok(())
}

/// Columns, each with the name of its table.
fn of_table(table: &str, columns: &str) -> String {
    let columns = columns
        .split(", ")
        .map(|column| format!("{table}.{column}"));
    columns.collect::<Vec<_>>().join(", ")
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
            let sql = format!(
                "INSERT INTO step (id, run_id, position, {ASKED}, run_at, state, max_attempts, deadline, created_at) \
                 SELECT CAST($1 AS TEXT) || ':' || position, CAST($1 AS TEXT), position, {ASKED}, \
                 CAST($4 AS BIGINT), 'ready', max_attempts, CAST($5 AS BIGINT), CAST($4 AS BIGINT) \
                 FROM step WHERE run_id = $2 AND position = $3"
            );
            execute(db, &sql, values![new, old, position, now, due]).await?;
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
