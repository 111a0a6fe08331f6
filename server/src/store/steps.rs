//! Steps: the rows the queue is made of. A run's own advancement is the row at the position [`ADVANCE`].
//!
//! Claiming, renewing and finishing are the queue's; here are the rows and what may be done without a lease.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use super::database::{FAR, execute, notify};
use super::{StoreError, new_id};

/// The position of the row that stands for the run's own advancement.
pub const ADVANCE: &str = "@";
/// The kind of that row.
pub const ADVANCE_KIND: &str = "advance_run";
/// The queue of that row.
pub const RUNS: &str = "runs";
/// How often advancing a run may crash before the run is given up.
const ADVANCE_ATTEMPTS: i64 = 10;

table!(
    /// Steps.
    step, "step", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    run_id: String,
    position: String,
    kind: String,
    queue: String,
    priority: i64,
    run_at: i64,
    state: String,
    attempt: i64,
    max_attempts: i64,
    fence: i64,
    lease_owner: Option<String>,
    lease_until: Option<i64>,
    wakes: i64,
    cancel_requested: bool,
    backoff_ms: i64,
    deadline: Option<i64>,
    input: String,
    waiting_for: Option<String>,
    error: Option<String>,
    share_done: f64,
    phase: String,
    created_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
});

/// A step to be queued.
#[derive(Debug, Clone)]
pub struct NewStep<'a> {
    /// The run it belongs to.
    pub run: &'a str,
    /// Where in the script.
    pub position: &'a str,
    /// What sort of step.
    pub kind: &'a str,
    /// The name it is claimed under.
    pub queue: &'a str,
    /// Higher is claimed first.
    pub priority: i64,
    /// How often it may be tried.
    pub max_attempts: i64,
    /// How long to wait before the second attempt; doubled before each later one.
    pub backoff_ms: i64,
    /// When it is too late.
    pub deadline: Option<i64>,
    /// What is handed in, JSON.
    pub input: &'a str,
}

/// Queues a step, ready at once; the same position is queued once.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    new: &NewStep<'_>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO step (id, run_id, position, kind, queue, priority, run_at, state, \
               max_attempts, backoff_ms, deadline, input, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, 'ready', $8, $9, $10, $11, $7) \
               ON CONFLICT (run_id, position) DO NOTHING";
    let values = values![
        new_id(now),
        new.run,
        new.position,
        new.kind,
        new.queue,
        new.priority,
        now,
        new.max_attempts,
        new.backoff_ms,
        new.deadline,
        new.input
    ];
    execute(db, sql, values).await?;
    notify(db).await
}

/// Queues a run's own advancement.
pub async fn insert_advance(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
) -> Result<(), StoreError> {
    let new = NewStep {
        run,
        position: ADVANCE,
        kind: ADVANCE_KIND,
        queue: RUNS,
        priority: 0,
        max_attempts: ADVANCE_ATTEMPTS,
        backoff_ms: 1_000,
        deadline: None,
        input: "null",
    };
    insert(db, now, &new).await
}

/// Lets a parked step be claimed now. One that is being worked on at this moment is claimed once more after it, so
/// no wake-up is lost.
pub async fn wake(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    position: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE step SET wakes = wakes + 1, \
               run_at = CASE WHEN state = 'ready' AND run_at > $3 THEN $3 ELSE run_at END \
               WHERE run_id = $1 AND position = $2 AND state IN ('ready', 'leased')";
    execute(db, sql, values![run, position, now]).await?;
    if position == ADVANCE {
        let sql = "UPDATE run SET state = 'running' WHERE id = $1 AND state = 'waiting'";
        execute(db, sql, values![run]).await?;
    }
    notify(db).await
}

/// Ends the steps of a run that have not ended: what is being worked on loses its lease, the rest is never begun.
pub async fn cancel_rest(db: &impl ConnectionTrait, now: i64, run: &str) -> Result<(), StoreError> {
    let sql = "UPDATE step SET state = 'cancelled', cancel_requested = TRUE, fence = fence + 1, \
               lease_owner = NULL, lease_until = NULL, ended_at = $2 \
               WHERE run_id = $1 AND position <> '@' AND state IN ('ready', 'leased')";
    execute(db, sql, values![run, now]).await?;
    Ok(())
}

/// Ends one step that has not ended, whoever works on it, because it is too late; `false` when it has.
pub async fn expire(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    position: &str,
    error: &str,
) -> Result<bool, StoreError> {
    let sql = "UPDATE step SET state = 'failed', cancel_requested = TRUE, fence = fence + 1, \
               lease_owner = NULL, lease_until = NULL, waiting_for = NULL, error = $4, \
               ended_at = $3 WHERE run_id = $1 AND position = $2 AND state IN ('ready', 'leased')";
    Ok(execute(db, sql, values![run, position, now, error]).await? == 1)
}

/// The steps of a run, oldest first, without its own advancement.
pub async fn of_run(db: &impl ConnectionTrait, run: &str) -> Result<Vec<step::Model>, StoreError> {
    Ok(step::Entity::find()
        .filter(step::Column::RunId.eq(run))
        .filter(step::Column::Position.ne(ADVANCE))
        .order_by_asc(step::Column::Id)
        .all(db)
        .await?)
}

/// One step of a run.
pub async fn at(
    db: &impl ConnectionTrait,
    run: &str,
    position: &str,
) -> Result<step::Model, StoreError> {
    let row = step::Entity::find()
        .filter(step::Column::RunId.eq(run))
        .filter(step::Column::Position.eq(position))
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("step", format!("{run}/{position}")))
}

impl step::Model {
    /// Whether it is parked until somebody wakes it.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.state == "ready" && self.run_at >= FAR
    }

    /// How long to wait before the next attempt: doubled each time, at most an hour, spread by a quarter either way
    /// so that what failed together is not tried again together.
    #[must_use]
    pub fn retry_delay_ms(&self) -> i64 {
        let doublings = u32::try_from(self.attempt - 1).unwrap_or(0).min(20);
        let delay = self
            .backoff_ms
            .saturating_mul(1 << doublings)
            .clamp(1, 3_600_000);
        let spread = spread(&self.id, self.attempt);
        delay - delay / 4 + i64::try_from(spread % 1_000).unwrap_or(0) * (delay / 2) / 1_000
    }
}

/// A number that depends on the step and the attempt alone (FNV-1a).
fn spread(id: &str, attempt: i64) -> u64 {
    id.bytes()
        .chain(attempt.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
