//! Steps: the rows the queue is made of. A run's own advancement is the row at the position [`ADVANCE`].
//!
//! Claiming, renewing and finishing are the queue's; here are the rows and what may be done without a lease.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::Serialize;

use super::database::{
    FAR, Moved, all, among, execute, for_update, notify, notify_of, number, one, rows_in, to_json,
};
use super::{StoreError, new_id};
use crate::queue::RECENT_MS;

/// The position of the row that stands for the run's own advancement.
pub const ADVANCE: &str = "@";
/// The kind of that row.
pub const ADVANCE_KIND: &str = "advance_run";
/// The queue of that row.
pub const RUNS: &str = "runs";
/// A step's place in line, least first: the moment it became due, a minute earlier for each point of priority.
///
/// What waits is overtaken only by what came at most as many minutes later as it has points more, so everything is
/// first one day. The index `step_ready` is in this order, so it is spelled alike wherever it is asked for.
pub const PLACE: &str = "run_at - priority * 60000";
/// The concurrency keys, as `of_key`, of the steps that have theirs: those in hand, and those that wait for what they
/// began. One statement for each of their indexes.
pub(crate) const KEY_HOLDERS: &str = "SELECT run_id, position, concurrency_key AS of_key FROM step \
    WHERE state = 'leased' AND concurrency_key IS NOT NULL \
    UNION ALL SELECT run_id, position, concurrency_key FROM step \
    WHERE state = 'ready' AND waiting_for IS NOT NULL AND concurrency_key IS NOT NULL";
/// How long the result of an idempotency key is given again.
pub const IDEMPOTENT_MS: i64 = 7 * 24 * 3_600_000;
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
    concurrency_key: Option<String>,
    concurrency_limit: i64,
    idempotency_key: Option<String>,
    rate_key: Option<String>,
    rate_limit: Option<i64>,
    rate_period_ms: Option<i64>,
});

/// A step to be queued.
#[derive(Debug, Clone, Serialize)]
pub struct NewStep<'a> {
    /// The run it belongs to.
    pub run: &'a str,
    /// Where in the script.
    pub position: &'a str,
    /// What sort of step.
    pub kind: &'a str,
    /// The name it is claimed under.
    pub queue: &'a str,
    /// Each point is worth a minute of waiting; see [`PLACE`].
    pub priority: i64,
    /// How often it may be tried.
    pub max_attempts: i64,
    /// How long to wait before the second attempt; doubled before each later one.
    pub backoff_ms: i64,
    /// When it is too late.
    pub deadline: Option<i64>,
    /// What is handed in, JSON.
    pub input: &'a str,
    /// Of the steps with this key, at most `concurrency_limit` are worked on at a time, over all processes.
    pub concurrency_key: Option<&'a str>,
    /// How many; at least 1.
    pub concurrency_limit: i64,
    /// Steps of the same kind with this key have one result.
    pub idempotency_key: Option<&'a str>,
    /// Its lease, if it is claimed as it is queued; not for one with a concurrency key.
    #[serde(flatten)]
    pub lease: Option<NewLease<'a>>,
}

#[cfg(test)]
impl<'a> NewStep<'a> {
    /// A step of the queue `io` that is like most others.
    pub fn plain(run: &'a str, position: &'a str) -> Self {
        Self {
            run,
            position,
            kind: "echo",
            queue: "io",
            priority: 0,
            max_attempts: 3,
            backoff_ms: 1_000,
            deadline: None,
            input: "null",
            concurrency_key: None,
            concurrency_limit: 1,
            idempotency_key: None,
            lease: None,
        }
    }
}

/// A lease that begins as its step is queued.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct NewLease<'a> {
    /// Who works on it.
    #[serde(rename = "lease_owner")]
    pub owner: &'a str,
    /// Until when, unless it is renewed.
    #[serde(rename = "lease_until")]
    pub until: i64,
}

/// Queues a step, ready at once; the same position is queued once.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    new: &NewStep<'_>,
) -> Result<(), StoreError> {
    insert_all(db, now, std::slice::from_ref(new)).await?;
    Ok(())
}

#[derive(Serialize)]
struct Queued<'a> {
    n: usize,
    id: String,
    #[serde(flatten)]
    new: &'a NewStep<'a>,
}

/// Queues steps in their order, in one statement; the same position is queued once.
///
/// Those with a lease are claimed and given back; the others are ready at once.
pub async fn insert_all(
    db: &impl ConnectionTrait,
    now: i64,
    new: &[NewStep<'_>],
) -> Result<Vec<step::Model>, StoreError> {
    let rows: Vec<Queued<'_>> = (new.iter().enumerate())
        .map(|(n, new)| Queued {
            n,
            id: new_id(now),
            new,
        })
        .collect();
    let columns = [
        ("n", "bigint"),
        ("id", "text"),
        ("run", "text"),
        ("position", "text"),
        ("kind", "text"),
        ("queue", "text"),
        ("priority", "bigint"),
        ("max_attempts", "bigint"),
        ("backoff_ms", "bigint"),
        ("deadline", "bigint"),
        ("input", "text"),
        ("concurrency_key", "text"),
        ("concurrency_limit", "bigint"),
        ("idempotency_key", "text"),
        ("lease_owner", "text"),
        ("lease_until", "bigint"),
    ];
    // A step that is leased as it is queued looks as if it had been claimed a moment later.
    let leased =
        |yes: &str, no: &str| format!("CASE WHEN f.lease_owner IS NULL THEN {no} ELSE {yes} END");
    let sql = format!(
        "INSERT INTO step (id, run_id, position, kind, queue, priority, run_at, \
         max_attempts, backoff_ms, deadline, input, created_at, concurrency_key, \
         concurrency_limit, idempotency_key, lease_owner, lease_until, state, attempt, fence, started_at) \
         SELECT f.id, f.run, f.position, f.kind, f.queue, f.priority, $1, \
         f.max_attempts, f.backoff_ms, f.deadline, f.input, $1, f.concurrency_key, \
         f.concurrency_limit, f.idempotency_key, f.lease_owner, f.lease_until, {}, {}, {}, {} \
         FROM {} WHERE TRUE ORDER BY f.n ON CONFLICT (run_id, position) DO NOTHING RETURNING *",
        leased("'leased'", "'ready'"),
        leased("1", "0"),
        leased("1", "0"),
        leased("$1", "NULL"),
        rows_in(db, 2, &columns)
    );
    let values = values![now, to_json("steps", &rows)?];
    let queued: Vec<step::Model> = all(db, &sql, values).await?;
    let (leased, ready): (Vec<_>, Vec<_>) =
        (queued.into_iter()).partition(|step| step.lease_owner.is_some());
    let places = ready.iter().map(|step| (&*step.queue, step.place()));
    tell_ready(db, now, places).await?;
    Ok(leased)
}

/// Tells the workers of queues that steps became ready, given by their queue and [`PLACE`], and where in line, if that
/// is further ahead than where they look by themselves.
pub(crate) async fn tell_ready(
    db: &impl ConnectionTrait,
    now: i64,
    ready: impl Iterator<Item = (&str, i64)>,
) -> Result<(), StoreError> {
    let mut first: BTreeMap<&str, i64> = BTreeMap::new();
    for (queue, place) in ready {
        let first = first.entry(queue).or_insert(place);
        *first = place.min(*first);
    }
    for (queue, place) in first {
        let ahead = place < now - RECENT_MS;
        let moved = match ahead {
            true => Moved::Place(queue, place),
            false => Moved::Queue(queue),
        };
        notify_of(db, moved).await?;
    }
    Ok(())
}

/// The first place in line ahead of another where a step without a concurrency key is ready and due.
pub(crate) async fn first_ahead(
    db: &impl ConnectionTrait,
    now: i64,
    queue: &str,
    place: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = format!(
        "SELECT {PLACE} AS n FROM step WHERE state = 'ready' AND concurrency_key IS NULL \
         AND queue = $1 AND {PLACE} < $2 AND run_at <= $3 AND attempt < max_attempts ORDER BY {PLACE}, run_at, id LIMIT 1"
    );
    number(db, &sql, values![queue, place, now]).await
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
        concurrency_key: None,
        concurrency_limit: 1,
        idempotency_key: None,
        lease: None,
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
               WHERE run_id = $1 AND position = $2 AND state IN ('ready', 'leased') RETURNING *";
    let woken: Option<step::Model> = one(db, sql, values![run, position, now]).await?;
    if position != ADVANCE {
        let places = woken.iter().map(|step| (&*step.queue, step.place()));
        tell_ready(db, now, places).await?;
        return notify(db).await;
    }
    let sql = "UPDATE run SET state = 'running' WHERE id = $1 AND state = 'waiting'";
    execute(db, sql, values![run]).await?;
    notify_of(db, Moved::Queue(RUNS)).await
}

/// Lets many runs be advanced now, as [`wake`] does one; it is told to nobody, as the caller may claim them itself.
pub async fn wake_runs(
    db: &impl ConnectionTrait,
    now: i64,
    runs: &BTreeSet<&str>,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Woken<'a> {
        id: &'a str,
    }
    let woken: Vec<Woken<'_>> = runs.iter().map(|id| Woken { id }).collect();
    let woken = to_json("runs", &woken)?;
    // The rows are taken in one order by everybody, so that no two of those who wake wait for each other.
    let advances = format!(
        "SELECT step.id FROM step JOIN {} ON step.run_id = f.id \
         WHERE step.position = '@' AND step.state IN ('ready', 'leased') ORDER BY step.id {}",
        rows_in(db, 2, &[("id", "text")]),
        of_step(db)
    );
    let sql = format!(
        "UPDATE step SET wakes = wakes + 1, \
         run_at = CASE WHEN state = 'ready' AND run_at > $1 THEN $1 ELSE run_at END \
         WHERE id {}",
        among(db, &advances)
    );
    execute(db, &sql, values![now, woken.as_str()]).await?;
    let asked = format!("SELECT f.id FROM {}", rows_in(db, 1, &[("id", "text")]));
    let sql = format!(
        "UPDATE run SET state = 'running' WHERE state = 'waiting' AND id {}",
        among(db, &asked)
    );
    execute(db, &sql, values![woken]).await?;
    Ok(())
}

/// `FOR UPDATE` of the steps alone in a statement that joins them with others, where the database has it.
pub(crate) fn of_step(db: &impl ConnectionTrait) -> String {
    match for_update(db) {
        "" => String::new(),
        lock => format!("{lock} OF step"),
    }
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

/// Who has the concurrency key of a step, itself left out: run and position of each.
pub async fn holders_of_key(
    db: &impl ConnectionTrait,
    step: &step::Model,
) -> Result<Vec<(String, String)>, StoreError> {
    #[derive(sea_orm::FromQueryResult)]
    struct Holder {
        run_id: String,
        position: String,
    }
    let sql = format!(
        "SELECT run_id, position FROM ({KEY_HOLDERS}) AS holders WHERE of_key = $1 \
         AND NOT (run_id = $2 AND position = $3) ORDER BY run_id, position"
    );
    let values = values![
        step.concurrency_key.as_deref(),
        step.run_id.as_str(),
        step.position.as_str()
    ];
    let holders: Vec<Holder> = all(db, &sql, values).await?;
    Ok(holders
        .into_iter()
        .map(|holder| (holder.run_id, holder.position))
        .collect())
}

/// The steps of a run that have not ended, its own advancement among them.
pub async fn open_of_run(
    db: &impl ConnectionTrait,
    run: &str,
) -> Result<Vec<step::Model>, StoreError> {
    let sql = "SELECT * FROM step WHERE run_id = $1 AND state IN ('ready', 'leased')";
    all(db, sql, values![run]).await
}

/// The recorded answer, JSON, of another step of the same kind and idempotency key, the latest within
/// [`IDEMPOTENT_MS`]; `None` as well for a step without a key.
pub async fn recorded_answer(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
) -> Result<Option<String>, StoreError> {
    #[derive(sea_orm::FromQueryResult)]
    struct Answer {
        outcome: Option<String>,
    }
    let Some(key) = &step.idempotency_key else {
        return Ok(None);
    };
    let sql = "SELECT journal.outcome AS outcome FROM step JOIN journal \
               ON journal.run_id = step.run_id AND journal.position = step.position \
               WHERE step.kind = $1 AND step.idempotency_key = $2 AND step.state = 'done' \
               AND step.ended_at > $3 ORDER BY step.ended_at DESC LIMIT 1";
    let since = now - IDEMPOTENT_MS;
    let answer: Option<Answer> =
        one(db, sql, values![step.kind.as_str(), key.as_str(), since]).await?;
    Ok(answer.and_then(|answer| answer.outcome))
}

impl step::Model {
    /// Its place in line; see [`PLACE`].
    #[must_use]
    pub fn place(&self) -> i64 {
        self.run_at
            .saturating_sub(self.priority.saturating_mul(60_000))
    }

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
