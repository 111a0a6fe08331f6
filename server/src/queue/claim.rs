//! Taking steps: a claim counts the attempt, raises the fence and starts the lease, all in one statement.

use sea_orm::ConnectionTrait;
use serde_json::json;
use workflows::run::RunFailure;

use crate::store::database::{all, execute, notify, skip_locked};
use crate::store::runs::RunEnd;
use crate::store::steps::{self, step};
use crate::store::{StoreError, children, runs, values};

use super::finish;

/// A step in a worker's hands, as it was when it was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed(pub step::Model);

impl Claimed {
    /// What a stale write to it is answered with.
    pub(super) fn stale(&self) -> StoreError {
        StoreError::stale("step", format!("{}/{}", self.0.run_id, self.0.position))
    }
}

/// Claims up to `limit` ready steps of a queue for `owner`, the most urgent first.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim(
    db: &impl ConnectionTrait,
    now: i64,
    owner: &str,
    queue: &str,
    lease_ms: i64,
    limit: usize,
) -> Result<Vec<Claimed>, StoreError> {
    // The states are literals: with bound parameters the partial index would go unused.
    let sql = format!(
        "UPDATE step SET state = 'leased', attempt = attempt + 1, fence = fence + 1, \
         lease_owner = $3, lease_until = $4, started_at = COALESCE(started_at, $2) WHERE id IN \
         (SELECT id FROM step WHERE state = 'ready' AND queue = $1 AND run_at <= $2 \
          AND attempt < max_attempts ORDER BY priority DESC, run_at, id LIMIT {limit} {}) RETURNING *",
        skip_locked(db)
    );
    let mut claimed: Vec<step::Model> =
        all(db, &sql, values![queue, now, owner, now + lease_ms]).await?;
    claimed.sort_by(|a, b| (-a.priority, a.run_at, &a.id).cmp(&(-b.priority, b.run_at, &b.id)));
    Ok(claimed.into_iter().map(Claimed).collect())
}

/// Gives back steps that were claimed and never begun; the attempt does not count.
///
/// # Errors
///
/// When the database does not answer.
pub async fn release(db: &impl ConnectionTrait, steps: &[Claimed]) -> Result<(), StoreError> {
    for Claimed(step) in steps {
        let sql = "UPDATE step SET state = 'ready', attempt = attempt - 1, lease_owner = NULL, \
                   lease_until = NULL WHERE id = $1 AND fence = $2 AND state = 'leased'";
        execute(db, sql, values![step.id.as_str(), step.fence]).await?;
    }
    notify(db).await
}

/// What became of the steps whose lease ran out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// They are tried again.
    pub again: u64,
    /// They were tried as often as they may be.
    pub exhausted: u64,
}

/// Takes back steps whose lease ran out. To be called in a transaction.
///
/// # Errors
///
/// When the database does not answer.
pub async fn expire(db: &impl ConnectionTrait, now: i64) -> Result<Expired, StoreError> {
    let sql = format!(
        "UPDATE step SET state = 'ready', run_at = $1, lease_owner = NULL, lease_until = NULL \
         WHERE id IN (SELECT id FROM step WHERE state = 'leased' AND lease_until <= $1 \
         AND attempt < max_attempts {}) AND state = 'leased'",
        skip_locked(db)
    );
    let again = execute(db, &sql, values![now]).await?;
    let sql = format!(
        "SELECT * FROM step WHERE state = 'leased' AND lease_until <= $1 \
         AND attempt >= max_attempts ORDER BY id {}",
        skip_locked(db)
    );
    let exhausted: Vec<step::Model> = all(db, &sql, values![now]).await?;
    for step in &exhausted {
        give_up(db, now, step).await?;
    }
    if again > 0 {
        notify(db).await?;
    }
    Ok(Expired {
        again,
        exhausted: exhausted.len() as u64,
    })
}

async fn give_up(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
) -> Result<(), StoreError> {
    let message = format!(
        "whoever worked on it vanished {} times; it is not tried again",
        step.attempt
    );
    if step.position != steps::ADVANCE {
        return finish::end_failed(db, now, step, "attempts_exhausted", &message, false).await;
    }
    let run = runs::get(db, &step.run_id).await?;
    children::wake_parent(db, now, &run).await?;
    runs::withdraw(db, now, &step.run_id).await?;
    children::cancel(db, now, &step.run_id, None).await?;
    let sql = "UPDATE step SET state = 'failed', error = $3, lease_owner = NULL, \
               lease_until = NULL, ended_at = $4 WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let values = values![step.id.as_str(), step.fence, message.as_str(), now];
    execute(db, sql, values).await?;
    let failure = json!(RunFailure::of_run("attempts_exhausted", &message, None));
    runs::end(db, now, &step.run_id, &RunEnd::Failed(failure)).await
}
