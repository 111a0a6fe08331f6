//! Runs of workflows.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};
use workflows::run::Ending;
use workflows::run::machine::{self, RunEffect, RunEvent, RunState, RunStatus};

use super::database::{
    all, among, execute, from_json, listed, listed_in, notify, one, rows_in, to_json,
};
use super::scripts::Scripts;
use super::{
    Page, StoreError, archives, audit, builds, children, first_id_of, guards, new_id, steps,
    windows,
};

table!(
    /// Runs; `event`, `result` and `failure` are JSON, `asset` is the event's.
    run, "run", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    workflow: String,
    revision: String,
    state: String,
    event: String,
    asset: Option<String>,
    seed: i64,
    decision: Option<String>,
    result: Option<String>,
    failure: Option<String>,
    cancel_requested: bool,
    started_at: i64,
    ended_at: Option<i64>,
    failed_position: Option<String>,
    restarted_from: Option<String>,
    restarted_position: Option<String>,
    parent: Option<String>,
    parent_position: Option<String>,
    depth: i64,
    continues: Option<String>,
    mailbox: Option<String>,
    events_after: i64,
    archived_at: Option<i64>,
});

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// The workflow's name.
    pub workflow: &'a str,
    /// Digest of the revision it is pinned to.
    pub revision: &'a str,
    /// What it is started with.
    pub event: &'a Value,
    /// Seed of everything random in it; else the event's `seed`, else one drawn from its id.
    pub seed: Option<u64>,
    /// The decision that started it.
    pub decision: Option<&'a str>,
    /// Who started it.
    pub actor: &'a str,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// With what its script gave back.
    Succeeded(Value),
    /// With a failure nobody caught.
    Failed(Value),
    /// Because somebody asked for it; with what could not be undone.
    Cancelled(Value),
    /// So that a new run goes on with this event.
    Continued(Value),
}

impl RunEnd {
    /// The state a run has after it.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
            Self::Continued(_) => "continued",
        }
    }
}

/// Starts a run: the row, its first wake-up, the fact and the audit. To be called in a transaction.
pub async fn create(
    db: &impl ConnectionTrait,
    now: i64,
    new: &NewRun<'_>,
) -> Result<run::Model, StoreError> {
    let id = new_id(now);
    let named = new.event.get("seed").and_then(Value::as_u64);
    let seed = new.seed.or(named).unwrap_or_else(|| seed_of(&id));
    // Events are numbered in the order they become visible, so what comes after the latest comes after the start.
    let sql = "INSERT INTO run (id, workflow, revision, state, event, seed, decision, started_at, \
               asset, events_after) VALUES ($1, $2, $3, 'running', $4, $5, $6, $7, $8, \
               (SELECT COALESCE(MAX(seq), 0) FROM signal)) RETURNING *";
    let asset = new.event.get("asset").and_then(Value::as_str);
    let values = values![
        id.as_str(),
        new.workflow,
        new.revision,
        to_json("event", new.event)?,
        seed.cast_signed(),
        new.decision.map(str::to_owned),
        now,
        asset.map(str::to_owned)
    ];
    let run: Option<run::Model> = one(db, sql, values).await?;
    steps::insert_advance(db, now, &id).await?;
    let detail = json!({ "workflow": new.workflow, "revision": new.revision });
    audit::record_with_fact(
        db,
        now,
        "run.started",
        (new.actor, "start_run"),
        &id,
        &detail,
    )
    .await?;
    run.ok_or_else(|| StoreError::unknown("run", id))
}

/// One run.
///
/// # Errors
///
/// `Archived`, with where its archive is, when it is kept no longer.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<run::Model, StoreError> {
    match run::Entity::find_by_id(id.to_owned()).one(db).await? {
        Some(row) if row.archived_at.is_none() => Ok(row),
        _ => Err(archives::instead_of(db, id).await?),
    }
}

/// The runs of these ids.
pub async fn of_ids(
    db: &impl ConnectionTrait,
    ids: &BTreeSet<&str>,
) -> Result<Vec<run::Model>, StoreError> {
    let ids: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
    // Postgres takes a list for a hundred rows, and would read all of a table of thousands to join it.
    let asked = format!("SELECT f.id FROM {}", rows_in(db, 1, &[("id", "text")]));
    let sql = format!("SELECT * FROM run WHERE id {}", among(db, &asked));
    all(db, &sql, values![to_json("runs", &ids)?]).await
}

/// Which runs are listed; what is absent is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunFilter<'a> {
    /// In this state.
    pub state: Option<&'a str>,
    /// Of this workflow.
    pub workflow: Option<&'a str>,
    /// About this asset.
    pub asset: Option<&'a str>,
    /// Started at this moment or later.
    pub from: Option<i64>,
    /// Started before this moment.
    pub to: Option<i64>,
}

/// Runs, newest first.
///
/// State, workflow and asset each have an index that ends in the id, which begins with the moment of the start: so a
/// span of time is a span of ids, and every list is read in order from where it goes on.
pub async fn list(
    db: &impl ConnectionTrait,
    only: RunFilter<'_>,
    page: Page<'_>,
) -> Result<Vec<run::Model>, StoreError> {
    use run::Column;
    let equal = |column: Column, value: Option<&str>| value.map(|value| column.eq(value));
    let conditions = [
        equal(Column::State, only.state),
        equal(Column::Workflow, only.workflow),
        equal(Column::Asset, only.asset),
        only.from.map(|from| Column::Id.gte(first_id_of(from))),
        only.to.map(|to| Column::Id.lt(first_id_of(to))),
        page.after.map(|after| Column::Id.lt(after)),
    ];
    let mut find = run::Entity::find()
        .filter(Column::ArchivedAt.is_null())
        .order_by_desc(Column::Id)
        .limit(page.limit);
    for condition in conditions.into_iter().flatten() {
        find = find.filter(condition);
    }
    Ok(find.all(db).await?)
}

/// Asks a run to stop: its next advance undoes what it did. To be called in a transaction.
///
/// A run that diverged cannot be replayed and ends at once, and so does any with `force`. Asking again changes nothing.
///
/// # Errors
///
/// `run_ended` when it is over.
pub async fn request_cancel(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    id: &str,
    force: bool,
) -> Result<(), StoreError> {
    let event = match force {
        true => RunEvent::Forced,
        false => RunEvent::Cancelled,
    };
    let row = get(db, id).await?;
    let (next, effects) = machine::apply(&row.standing()?, &event).map_err(|_| over(&row))?;
    if effects.contains(&RunEffect::CloseOpenCalls) {
        children::wake_parent(db, now, &row).await?;
        withdraw(db, now, id).await?;
        children::cancel(db, now, id, None).await?;
        let sql = "UPDATE step SET state = 'cancelled', fence = fence + 1, lease_owner = NULL, \
                   lease_until = NULL, ended_at = $2 \
                   WHERE run_id = $1 AND position = '@' AND state IN ('ready', 'leased')";
        execute(db, sql, values![id, now]).await?;
        let Some(Ending::Cancelled(failure)) = next.ending else {
            return Err(over(&row));
        };
        end(db, now, id, &RunEnd::Cancelled(json!(failure))).await?;
    } else {
        steps::wake(db, now, id, steps::ADVANCE).await?;
        let sql = "UPDATE run SET cancel_requested = TRUE, state = $2 \
                   WHERE id = $1 AND state IN ('running', 'waiting')";
        if execute(db, sql, values![id, word(next.status)]).await? == 0 {
            return Err(over(&get(db, id).await?));
        }
    }
    let detail = json!({ "force": force });
    audit::record(db, now, actor, "cancel_run", id, &detail).await
}

fn over(run: &run::Model) -> StoreError {
    StoreError::refused(
        "run_ended",
        format_args!("run `{}` is over: {}", run.id, run.state),
    )
}

/// Calls off single calls of a run that goes on without them: their builds, steps, waits and approvals.
pub async fn withdraw_calls(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    positions: &[String],
) -> Result<(), StoreError> {
    if positions.is_empty() {
        return Ok(());
    }
    // Table by table, in the order `withdraw` keeps.
    builds::cancel(db, now, id, Some(positions)).await?;
    let among = listed_in(db, 2);
    let steps = format!(
        "UPDATE step SET state = 'cancelled', cancel_requested = TRUE, fence = fence + 1, \
         lease_owner = NULL, lease_until = NULL, ended_at = $3 \
         WHERE run_id = $1 AND position IN {among} AND state IN ('ready', 'leased')"
    );
    execute(db, &steps, values![id, listed(positions), now]).await?;
    let waits = format!("DELETE FROM event_wait WHERE run_id = $1 AND position IN {among}");
    execute(db, &waits, values![id, listed(positions)]).await?;
    let approvals = format!(
        "UPDATE approval SET state = 'withdrawn', answered_at = $3 \
         WHERE run_id = $1 AND position IN {among} AND state = 'open'"
    );
    execute(db, &approvals, values![id, listed(positions), now]).await?;
    children::cancel(db, now, id, Some(positions)).await
}

/// Calls off whatever of a run has not ended: its builds, its steps, its waits, its approvals.
///
/// It comes before the run's own rows are written: every transaction takes builds, steps, waits, the advance, the
/// run and then what is numbered, in this order, so that none waits for another in a circle.
pub async fn withdraw(db: &impl ConnectionTrait, now: i64, id: &str) -> Result<(), StoreError> {
    builds::cancel(db, now, id, None).await?;
    steps::cancel_rest(db, now, id).await?;
    execute(db, "DELETE FROM event_wait WHERE run_id = $1", values![id]).await?;
    let sql = "UPDATE approval SET state = 'withdrawn', answered_at = $2 \
               WHERE run_id = $1 AND state = 'open'";
    execute(db, sql, values![id, now]).await?;
    Ok(())
}

/// Ends a run, once. To be called in a transaction, after [`withdraw`].
///
/// Whoever was to come in a window of a run that came to nothing is free again; the windows of one that succeeded
/// are agreed, whether their time has come or not.
pub async fn end(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    end: &RunEnd,
) -> Result<(), StoreError> {
    let (result, failure) = match end {
        RunEnd::Continued(_) => (None, None),
        RunEnd::Succeeded(result) => (Some(to_json("result", result)?), None),
        RunEnd::Failed(failure) | RunEnd::Cancelled(failure) => {
            (None, Some(to_json("failure", failure)?))
        }
    };
    let sql = "UPDATE run SET state = $2, result = $3, failure = $4, ended_at = $5, \
               failed_position = $6 WHERE id = $1 AND ended_at IS NULL";
    let failed = match end {
        RunEnd::Failed(failure) => failure["position"].as_str().map(str::to_owned),
        RunEnd::Succeeded(_) | RunEnd::Cancelled(_) | RunEnd::Continued(_) => None,
    };
    let values = values![id, end.state(), result, failure, now, failed];
    if execute(db, sql, values).await? == 0 {
        return Ok(());
    }
    if matches!(end, RunEnd::Failed(_) | RunEnd::Cancelled(_)) {
        windows::cancel_of_run(db, now, id).await?;
    }
    let detail = json!({ "state": end.state() });
    audit::record_with_fact(db, now, "run.ended", ("server", "end_run"), id, &detail).await
}

/// Notes what a replay made of a run, if the machine lets it happen from where the run stands now.
///
/// A replay that began because something came due did so in the state `waiting`; for the machine it was woken.
pub async fn moved(
    db: &impl ConnectionTrait,
    id: &str,
    event: &RunEvent,
) -> Result<bool, StoreError> {
    let Some(to) = led_to(event) else {
        return Ok(false);
    };
    let sql = "UPDATE run SET state = $2 WHERE id = $1 AND state IN ('running', 'waiting') \
               AND state <> $2";
    Ok(execute(db, sql, values![id, word(to)]).await? == 1)
}

/// The state an event leads to in a run that is being replayed.
fn led_to(event: &RunEvent) -> Option<RunStatus> {
    let (next, _) = machine::apply(&RunState::new(), event).ok()?;
    Some(next.status)
}

/// Lets a run that diverged go on with a revision. To be called in a transaction.
///
/// # Errors
///
/// `run_not_diverged` when it did not diverge, `kill_switch_on` when nothing is to begin.
pub async fn pin(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    id: &str,
    revision: &str,
) -> Result<(), StoreError> {
    guards::may_start(db).await?;
    steps::wake(db, now, id, steps::ADVANCE).await?;
    let row = get(db, id).await?;
    let sql = "UPDATE run SET revision = $2, state = 'running', failure = NULL \
               WHERE id = $1 AND state = 'diverged'";
    let legal = machine::apply(&row.standing()?, &RunEvent::Resumed).is_ok();
    if !legal || execute(db, sql, values![id, revision]).await? == 0 {
        return Err(StoreError::refused(
            "run_not_diverged",
            format_args!(
                "run `{id}` is {}; only one that diverged can be pinned: migrate the open runs of a \
                 workflow, or restart one that ended",
                row.state
            ),
        ));
    }
    let detail = json!({ "from": row.revision, "to": revision });
    audit::record_with_fact(db, now, "run.pinned", (actor, "pin_run"), id, &detail).await
}

/// Runs of a workflow that are pinned to a revision and not over, newest first.
pub async fn open_of(
    db: &impl ConnectionTrait,
    (workflow, revision): (&str, &str),
    page: Page<'_>,
) -> Result<Vec<run::Model>, StoreError> {
    let mut find = run::Entity::find()
        .filter(run::Column::State.is_in(["running", "waiting", "diverged"]))
        .filter(run::Column::Workflow.eq(workflow))
        .filter(run::Column::Revision.eq(revision))
        .order_by_desc(run::Column::Id)
        .limit(page.limit);
    if let Some(after) = page.after {
        find = find.filter(run::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

/// How far a run's own advancement was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    fence: i64,
    wakes: i64,
}

/// How far a run's own advancement is; nothing while somebody is at it.
pub async fn seen(db: &impl ConnectionTrait, id: &str) -> Result<Option<Seen>, StoreError> {
    let row = steps::at(db, id, steps::ADVANCE).await?;
    Ok((row.state == "ready").then_some(Seen {
        fence: row.fence,
        wakes: row.wakes,
    }))
}

/// Pins an open run to another revision, unless it moved on since it was looked at; says whether it did so. To be
/// called in a transaction.
pub async fn migrate(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    row: &run::Model,
    seen: Seen,
    to: &str,
) -> Result<bool, StoreError> {
    // It is woken: what it waits for stays, but one that had diverged goes on.
    let sql = "UPDATE step SET wakes = wakes + 1, run_at = CASE WHEN run_at > $4 THEN $4 ELSE run_at END \
               WHERE run_id = $1 AND position = '@' AND state = 'ready' AND fence = $2 AND wakes = $3";
    let id = row.id.as_str();
    if execute(db, sql, values![id, seen.fence, seen.wakes, now]).await? == 0 {
        return Ok(false);
    }
    let sql = "UPDATE run SET revision = $2, state = 'running', \
               failure = CASE WHEN state = 'diverged' THEN NULL ELSE failure END \
               WHERE id = $1 AND revision = $3 AND ended_at IS NULL";
    if execute(db, sql, values![id, to, row.revision.as_str()]).await? == 0 {
        return Err(StoreError::stale("run", id));
    }
    notify(db).await?;
    let detail = json!({ "from": row.revision, "to": to });
    audit::record_with_fact(db, now, "run.migrated", (actor, "migrate_run"), id, &detail).await?;
    Ok(true)
}

/// Stops a run whose script asks for something else than its journal holds; nothing of it is lost.
pub async fn diverge(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    divergence: &Value,
) -> Result<(), StoreError> {
    let sql = "UPDATE run SET state = 'diverged', failure = $2 \
               WHERE id = $1 AND state IN ('running', 'waiting')";
    let text = to_json("divergence", divergence)?;
    if execute(db, sql, values![id, text]).await? == 1 {
        audit::record_with_fact(
            db,
            now,
            "run.diverged",
            ("server", "diverge_run"),
            id,
            divergence,
        )
        .await?;
    }
    Ok(())
}

/// Starts the run that goes on where another ended with `continue_as_new`, and gives its id. To be called in the
/// transaction that ended that, after it was ended.
///
/// It is pinned to the revision that serves now: between two runs of a loop is where its script may change. It keeps
/// the place of the old run: the step that had it done waits for the new one, and no event is lost between them.
///
/// # Errors
///
/// Unknown, when no revision of the workflow serves any more.
pub async fn continue_as(
    db: &impl ConnectionTrait,
    now: i64,
    old: &run::Model,
    event: &Value,
) -> Result<String, StoreError> {
    let revision = Scripts::Workflows.active(db, &old.workflow).await?;
    let new = NewRun {
        workflow: &old.workflow,
        revision: &revision.digest,
        event,
        seed: None,
        decision: old.decision.as_deref(),
        actor: &format!("run:{}", old.id),
    };
    let made = create(db, now, &new).await?;
    let sql = "UPDATE run SET continues = $2, mailbox = $3, events_after = $4, parent = $5, \
               parent_position = $6, depth = $7 WHERE id = $1";
    let values = values![
        made.id.as_str(),
        old.id.as_str(),
        old.mailbox(),
        old.events_after,
        old.parent.clone(),
        old.parent_position.clone(),
        old.depth
    ];
    execute(db, sql, values).await?;
    Ok(made.id)
}

/// The run that goes on where a run ended.
pub async fn continued_as(
    db: &impl ConnectionTrait,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let next = run::Entity::find()
        .filter(run::Column::Continues.eq(id))
        .one(db)
        .await?;
    Ok(next.map(|run| run.id))
}

/// The word a status is stored as.
#[must_use]
pub fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Waiting => "waiting",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
        RunStatus::Continued => "continued",
        RunStatus::Diverged => "diverged",
    }
}

impl run::Model {
    /// Whose events it takes: those of the first of the runs that continue each other, itself as a rule.
    #[must_use]
    pub fn mailbox(&self) -> &str {
        self.mailbox.as_deref().unwrap_or(&self.id)
    }

    /// Where it stands, as the machine of `workflows` knows it; how it ended and what woke it are elsewhere.
    pub fn standing(&self) -> Result<RunState, StoreError> {
        Ok(RunState {
            status: from_json("run state", &format!("\"{}\"", self.state))?,
            cancelling: self.cancel_requested,
            ..RunState::new()
        })
    }
}

/// A seed that depends on the run's id alone.
fn seed_of(id: &str) -> u64 {
    let hash = super::sha256_hex(id.as_bytes());
    u64::from_str_radix(&hash[..16], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use workflows::model::{NewWindow, Timestamp, WindowState};

    use super::*;
    use crate::store::begin;
    use crate::testing::{Fresh, on_both};

    on_both!(
        a_run_that_came_to_nothing_leaves_its_technician_free,
        a_run_that_succeeded_keeps_its_windows,
    );

    const HOUR: i64 = 3_600_000;

    async fn window(f: &Fresh, run: &str, position: &str) -> String {
        let new = NewWindow {
            asset: "fan-1".into(),
            from: Timestamp(f.now()),
            to: Timestamp(f.now() + HOUR),
            technician: Some("ada".into()),
            reasons: Value::Null,
            alternatives: Vec::new(),
        };
        let db = &f.db.write;
        let stored = windows::insert(db, f.now(), (run, position), &new).await;
        stored.unwrap().id
    }

    async fn ended(f: &Fresh, ending: &RunEnd) -> [String; 3] {
        let db = &f.db.write;
        let run = f.start("fn run(event) { 1 }", Value::Null).await;
        let [proposed, accepted, done] = [
            window(f, &run, "1").await,
            window(f, &run, "2").await,
            window(f, &run, "3").await,
        ];
        for (id, state) in [
            (&accepted, WindowState::Accepted),
            (&done, WindowState::Done),
        ] {
            let moved = windows::set_state(db, f.now(), "ada", id, state).await;
            moved.unwrap();
        }
        let tx = begin(db).await.unwrap();
        withdraw(&tx, f.now(), &run).await.unwrap();
        end(&tx, f.now(), &run, ending).await.unwrap();
        tx.commit().await.unwrap();
        let ids = [proposed, accepted, done];
        let states = windows::states(db, ids.clone()).await.unwrap();
        ids.map(|id| states[&id].clone())
    }

    async fn busy(f: &Fresh) -> usize {
        let busy = windows::overlapping(&f.db.write, f.now(), f.now() + HOUR).await;
        busy.unwrap().len()
    }

    async fn a_run_that_came_to_nothing_leaves_its_technician_free(f: Fresh) {
        let left = ["cancelled", "cancelled", "done"];
        assert_eq!(ended(&f, &RunEnd::Cancelled(Value::Null)).await, left);
        assert_eq!(ended(&f, &RunEnd::Failed(Value::Null)).await, left);
        assert_eq!(busy(&f).await, 2, "what was done took its time");
        assert_eq!(audit::first_broken(&f.db.write).await.unwrap(), None);
    }

    async fn a_run_that_succeeded_keeps_its_windows(f: Fresh) {
        let kept = ended(&f, &RunEnd::Succeeded(Value::Null)).await;
        assert_eq!(kept, ["proposed", "accepted", "done"]);
        assert_eq!(busy(&f).await, 3);
    }
}
