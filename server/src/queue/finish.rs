//! Ending an attempt: every write names the fence of the claim, and one that finds no row is `Stale`.
//!
//! All of these are to be called in a transaction: the step, the journal, the run's wake-up, the fact and the audit
//! are recorded together or not at all.

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use workflows::run::{CallOutcome, StepFailure};
use workflows::steps::StepError;

use crate::store::database::{FAR, execute, notify};
use crate::store::steps::{self, step};
use crate::store::{StoreError, audit, events, journal, values};

use super::claim::Claimed;

/// Records a step's output as the answer of its call.
///
/// # Errors
///
/// `Stale` when the step has passed to somebody else; nothing is recorded then.
pub async fn complete(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    outcome: &CallOutcome,
) -> Result<(), StoreError> {
    let step = &claimed.0;
    let sql = "UPDATE step SET state = 'done', share_done = 1, waiting_for = NULL, error = NULL, \
               lease_owner = NULL, lease_until = NULL, ended_at = $3 \
               WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let values = values![step.id.as_str(), step.fence, now];
    if execute(db, sql, values).await? == 0
        || !journal::answer(db, now, &step.run_id, &step.position, outcome).await?
    {
        return Err(claimed.stale());
    }
    tell(db, now, step, "step.done", &json!({})).await
}

/// How an attempt that failed was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It is tried again at this moment.
    Again(i64),
    /// It is over, and the script is told.
    Over,
}

/// Records a failed attempt: tried again later where that may help and is allowed, else the call's answer.
///
/// # Errors
///
/// `Stale` when the step has passed to somebody else.
pub async fn fail(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    error: &StepError,
) -> Result<Finished, StoreError> {
    let step = &claimed.0;
    if !error.is_retryable() || step.attempt >= step.max_attempts {
        let message = error.to_string();
        let held = hold(db, claimed).await?;
        end_failed(db, now, &held, error.code(), &message, error.is_retryable()).await?;
        return Ok(Finished::Over);
    }
    let due = now + step.retry_delay_ms();
    let sql = "UPDATE step SET state = 'ready', run_at = $3, error = $4, lease_owner = NULL, \
               lease_until = NULL WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let text = format!("{}: {error}", error.code());
    let values = values![step.id.as_str(), step.fence, due, text];
    if execute(db, sql, values).await? == 0 {
        return Err(claimed.stale());
    }
    let detail = json!({
        "run": step.run_id, "position": step.position, "kind": step.kind,
        "attempt": step.attempt, "code": error.code(), "message": error.to_string(),
    });
    events::record(db, now, "step.retried", &step.id, &detail).await?;
    Ok(Finished::Again(due))
}

/// Makes sure that a claimed step is still the caller's until the end of the transaction.
///
/// # Errors
///
/// `Stale` when it has passed to somebody else.
pub async fn hold(db: &impl ConnectionTrait, claimed: &Claimed) -> Result<step::Model, StoreError> {
    let step = &claimed.0;
    // A write, though it changes nothing, so that the row is held until the end of the transaction.
    let sql = "UPDATE step SET attempt = attempt WHERE id = $1 AND fence = $2 AND state = 'leased'";
    if execute(db, sql, values![step.id.as_str(), step.fence]).await? == 0 {
        return Err(claimed.stale());
    }
    Ok(step.clone())
}

/// Ends a step whose row the transaction holds, with a failure the script is told.
pub(super) async fn end_failed(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
    code: &str,
    message: &str,
    retryable: bool,
) -> Result<(), StoreError> {
    let sql = "UPDATE step SET state = 'failed', waiting_for = NULL, error = $3, \
               lease_owner = NULL, lease_until = NULL, ended_at = $4 \
               WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let text = format!("{code}: {message}");
    let values = values![step.id.as_str(), step.fence, text, now];
    let outcome = CallOutcome::Err(StepFailure {
        kind: step.kind.clone(),
        code: code.to_owned(),
        message: message.to_owned(),
        retryable,
        position: step.position.parse().ok(),
    });
    if execute(db, sql, values).await? == 0
        || !journal::answer(db, now, &step.run_id, &step.position, &outcome).await?
    {
        return Err(Claimed(step.clone()).stale());
    }
    let detail = json!({ "code": code, "message": message });
    tell(db, now, step, "step.failed", &detail).await
}

/// Leaves a step until somebody wakes it; the attempt does not count. If it was woken since it was claimed it is
/// ready again at once.
///
/// # Errors
///
/// `Stale` when the step has passed to somebody else.
pub async fn park(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    waiting_for: &str,
) -> Result<(), StoreError> {
    let step = &claimed.0;
    let sql = "UPDATE step SET state = 'ready', attempt = attempt - 1, waiting_for = $5, \
               run_at = CASE WHEN wakes > $3 THEN $4 ELSE $6 END, error = NULL, \
               lease_owner = NULL, lease_until = NULL \
               WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let values = values![
        step.id.as_str(),
        step.fence,
        step.wakes,
        now,
        waiting_for,
        FAR
    ];
    if execute(db, sql, values).await? == 0 {
        return Err(claimed.stale());
    }
    notify(db).await
}

/// How an advance of a run left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The run goes on when it is woken, or at this moment.
    Until(Option<i64>),
    /// The run is over.
    Over,
}

/// Ends an advance of a run. If the run was woken since the advance was claimed it is ready again at once, so what
/// arrived meanwhile is not missed.
///
/// # Errors
///
/// `Stale` when the advance has passed to somebody else; then nothing of it may be kept.
pub async fn advance(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    left: Advance,
) -> Result<(), StoreError> {
    let step = &claimed.0;
    let touched = match left {
        Advance::Until(due) => {
            let sql = "UPDATE step SET state = 'ready', attempt = 0, error = NULL, \
                       run_at = CASE WHEN wakes > $3 THEN $4 ELSE $5 END, lease_owner = NULL, \
                       lease_until = NULL WHERE id = $1 AND fence = $2 AND state = 'leased'";
            let due = due.unwrap_or(FAR);
            let values = values![step.id.as_str(), step.fence, step.wakes, now, due];
            execute(db, sql, values).await?
        }
        Advance::Over => {
            let sql = "UPDATE step SET state = 'done', error = NULL, lease_owner = NULL, \
                       lease_until = NULL, ended_at = $3 \
                       WHERE id = $1 AND fence = $2 AND state = 'leased'";
            let values = values![step.id.as_str(), step.fence, now];
            execute(db, sql, values).await?
        }
    };
    if touched == 0 {
        return Err(claimed.stale());
    }
    notify(db).await
}

/// Wakes the run of a step that ended, and records the fact and the audit.
async fn tell(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
    name: &str,
    more: &Value,
) -> Result<(), StoreError> {
    steps::wake(db, now, &step.run_id, steps::ADVANCE).await?;
    let detail = json!({
        "run": step.run_id, "position": step.position, "kind": step.kind,
        "attempt": step.attempt, "fence": step.fence, "more": more,
    });
    events::record(db, now, name, &step.id, &detail).await?;
    let actor = step.lease_owner.as_deref().unwrap_or("server");
    audit::record(db, now, actor, name, &step.id, &detail).await
}
