//! Taking steps: a claim counts the attempt, raises the fence and starts the lease, all in one statement.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use serde_json::{Value, json};

use crate::store::database::{
    all, among, execute, notify, number, one, rows_in, skip_locked, to_json,
};
use crate::store::steps::{self, step};
use crate::store::{StoreError, begin, rates, values};

use super::floor::Floor;

/// A step in a worker's hands, as it was when it was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed(pub step::Model);

impl Claimed {
    /// What a stale write to it is answered with.
    pub(super) fn stale(&self) -> StoreError {
        StoreError::stale("step", format!("{}/{}", self.0.run_id, self.0.position))
    }
}

/// Claims as [`claim_from`] does, from the beginning of the line.
#[cfg(test)]
pub async fn claim(
    db: &impl ConnectionTrait,
    now: i64,
    owner: &str,
    queue: &str,
    lease_ms: i64,
    limit: usize,
) -> Result<Vec<Claimed>, StoreError> {
    claim_from(db, &Floor::default(), now, owner, queue, lease_ms, limit).await
}

/// Claims up to `limit` ready steps of a queue for `owner`, those first in line first (see [`steps::PLACE`]).
///
/// It looks from the floor on, which is raised by what was taken. Steps with a concurrency key are not among them;
/// [`claim_keyed`] takes those.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim_from(
    db: &impl ConnectionTrait,
    floor: &Floor,
    now: i64,
    owner: &str,
    queue: &str,
    lease_ms: i64,
    limit: usize,
) -> Result<Vec<Claimed>, StoreError> {
    // The states are literals: with bound parameters the partial index would go unused.
    let first = format!(
        "SELECT id FROM step WHERE state = 'ready' AND concurrency_key IS NULL AND queue = $1 \
         AND run_at <= $2 AND attempt < max_attempts AND {place} >= $6 \
         ORDER BY {place}, run_at, id LIMIT $5 {}",
        skip_locked(db),
        place = steps::PLACE,
    );
    let sql = format!("{TAKE} WHERE id {} RETURNING *", among(db, &first));
    let from = floor.place();
    let more = values![from];
    let claimed = take(db, &sql, now, owner, queue, lease_ms, limit, more).await?;
    floor.claimed(from, now, &claimed, limit);
    Ok(claimed)
}

/// Claims up to `limit` ready steps that have a concurrency key, no more of each key than may be worked on at once; a
/// step that waits for what it began is worked on.
///
/// Of steps with a rate, no more of its key are claimed than may be started in its time; one that goes on after a wait
/// was started before.
///
/// On Postgres one process at a time does this, as the count of those at work has to hold until they are taken.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim_keyed(
    db: &DatabaseConnection,
    now: i64,
    owner: &str,
    queue: &str,
    lease_ms: i64,
    limit: usize,
) -> Result<Vec<Claimed>, StoreError> {
    // One statement for each of their indexes.
    let sql = "SELECT CAST(1 AS BIGINT) AS n WHERE \
               EXISTS (SELECT 1 FROM step WHERE state = 'ready' AND concurrency_key IS NOT NULL \
               AND rate_key IS NULL AND queue = $1 AND run_at <= $2) \
               OR EXISTS (SELECT 1 FROM step WHERE state = 'ready' AND rate_key IS NOT NULL \
               AND queue = $1 AND run_at <= $2)";
    if number(db, sql, values![queue, now]).await?.is_none() {
        return Ok(Vec::new());
    }
    let tx = begin(db).await?;
    if tx.get_database_backend() == DbBackend::Postgres {
        // Compiling the statement below would take longer than running it.
        let sql = "SELECT pg_advisory_xact_lock($1), set_config('jit', 'off', TRUE)";
        execute(&tx, sql, values![4_180_i64]).await?;
    }
    let sql = keyed_sql(tx.get_database_backend());
    let claimed = take(&tx, &sql, now, owner, queue, lease_ms, limit, values![]).await?;
    let taken: Vec<&step::Model> = claimed.iter().map(|claimed| &claimed.0).collect();
    rates::note(&tx, now, &taken).await?;
    tx.commit().await?;
    Ok(claimed)
}

/// Of the steps of one rate, so many are looked at, those first in line: more wait behind them than ever start at once.
const LOOKED_AT: i64 = 100;

/// The statement of [`claim_keyed`].
///
/// A step that waits for its build or its run has its key meanwhile, and goes on with it.
///
/// What a rate holds up is left out before places are counted, so that it takes none of those it does not hold up. Its
/// steps are found by their key, which is why it costs little however many of them wait.
fn keyed_sql(backend: DbBackend) -> String {
    let (place, goes_on, holders) = (steps::PLACE, rates::GOES_ON, steps::KEY_HOLDERS);
    let columns = format!(
        "id, {place} AS place, run_at, concurrency_key, concurrency_limit, \
         waiting_for IS NOT NULL AS has_key"
    );
    let due = "state = 'ready' AND queue = $1 AND run_at <= $2 AND attempt < max_attempts";
    let of_key = format!("{due} AND rate_key = k AND NOT {goes_on}");
    let first = format!("FROM step WHERE {of_key} ORDER BY {place}, run_at, id LIMIT {LOOKED_AT}");
    // Either reads the index of a key from its beginning. Left to themselves the databases read all of it.
    let first_in_line = match backend {
        DbBackend::Postgres => {
            format!("CROSS JOIN LATERAL (SELECT * {first}) AS step WHERE TRUE")
        }
        _ => format!("CROSS JOIN step WHERE id IN (SELECT id {first})"),
    };
    format!(
        "WITH RECURSIVE keys (k) AS (\
          SELECT MIN(rate_key) FROM step WHERE state = 'ready' AND rate_key IS NOT NULL \
          UNION ALL SELECT (SELECT MIN(rate_key) FROM step WHERE state = 'ready' \
           AND rate_key IS NOT NULL AND rate_key > k) FROM keys WHERE k IS NOT NULL), \
         rates AS MATERIALIZED (SELECT k, \
          (SELECT COUNT(*) FROM step_start WHERE step_start.rate_key = k AND until > $2) AS starts \
          FROM keys WHERE k IS NOT NULL), \
         line AS (SELECT {columns}, CAST(NULL AS TEXT) AS rated, rate_limit, CAST(0 AS BIGINT) AS starts \
           FROM step WHERE {due} AND concurrency_key IS NOT NULL AND rate_key IS NULL \
          UNION ALL SELECT {columns}, CAST(NULL AS TEXT), rate_limit, CAST(0 AS BIGINT) \
           FROM step WHERE {due} AND rate_key IS NOT NULL AND {goes_on} \
          UNION ALL SELECT {columns}, rate_key, rate_limit, starts \
           FROM rates {first_in_line} \
           AND starts < rate_limit), \
         busy AS (SELECT of_key, COUNT(*) AS works FROM ({holders}) AS holders GROUP BY of_key), \
         free AS (SELECT line.*, ROW_NUMBER() OVER \
          (PARTITION BY concurrency_key, has_key ORDER BY place, run_at, id) + COALESCE(works, 0) AS at_once \
          FROM line LEFT JOIN busy ON of_key = concurrency_key), \
         may AS (SELECT free.*, ROW_NUMBER() OVER \
          (PARTITION BY rated ORDER BY place, run_at, id) + starts AS in_time \
          FROM free WHERE has_key OR at_once <= concurrency_limit) \
         {TAKE} WHERE state = 'ready' AND id IN (SELECT id FROM may \
          WHERE rated IS NULL OR in_time <= rate_limit ORDER BY place, id LIMIT $5) \
         RETURNING *"
    )
}

/// Claims the advances of runs that are due, at most `limit`, in the transaction that woke them.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim_advances(
    db: &impl ConnectionTrait,
    now: i64,
    owner: &str,
    lease_ms: i64,
    runs: &BTreeSet<&str>,
    limit: usize,
) -> Result<Vec<Claimed>, StoreError> {
    let ids: Vec<Value> = runs.iter().map(|id| json!({ "id": id })).collect();
    let first = format!(
        "SELECT step.id FROM step JOIN {} ON step.run_id = f.id \
         WHERE step.position = '@' AND step.state = 'ready' AND step.run_at <= $2 \
         AND step.attempt < step.max_attempts ORDER BY step.id LIMIT $5 {}",
        rows_in(db, 1, &[("id", "text")]),
        steps::of_step(db)
    );
    let sql = format!("{TAKE} WHERE id {} RETURNING *", among(db, &first));
    let ids = to_json("runs", &ids)?;
    take(db, &sql, now, owner, &ids, lease_ms, limit, values![]).await
}

/// Claims the advance of a run that nobody works on, in a transaction that goes on with it, and holds the run; `None`
/// when it was woken or claimed since it was read.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim_parked(
    db: &impl ConnectionTrait,
    now: i64,
    owner: &str,
    lease_ms: i64,
    parked: &step::Model,
) -> Result<Option<Claimed>, StoreError> {
    let sql = format!(
        "{TAKE} WHERE id = $1 AND state = 'ready' AND wakes = $5 AND fence = $6 RETURNING *"
    );
    let id = parked.id.as_str();
    let values = values![id, now, owner, now + lease_ms, parked.wakes, parked.fence];
    let claimed: Option<step::Model> = one(db, &sql, values).await?;
    if claimed.is_some() {
        // The row of the run before anything is numbered, as everybody takes them.
        let sql =
            "UPDATE run SET state = 'running' WHERE id = $1 AND state IN ('running', 'waiting')";
        execute(db, sql, values![parked.run_id.as_str()]).await?;
    }
    Ok(claimed.map(Claimed))
}

const TAKE: &str = "UPDATE step SET state = 'leased', attempt = attempt + 1, fence = fence + 1, \
    lease_owner = $3, lease_until = $4, started_at = COALESCE(started_at, $2)";

#[expect(
    clippy::too_many_arguments,
    reason = "the values of one statement, in its order"
)]
async fn take(
    db: &impl ConnectionTrait,
    sql: &str,
    now: i64,
    owner: &str,
    queue: &str,
    lease_ms: i64,
    limit: usize,
    more: Vec<sea_orm::Value>,
) -> Result<Vec<Claimed>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut values = values![queue, now, owner, now + lease_ms, limit];
    values.extend(more);
    // A statement on its own is a commit of its own.
    #[cfg(test)]
    let place = crate::store::failpoints::Place::here();
    #[cfg(test)]
    place.alive();
    let mut claimed: Vec<step::Model> = all(db, sql, values).await?;
    #[cfg(test)]
    if !claimed.is_empty() {
        place.after().await;
    }
    claimed.sort_by(|a, b| (a.place(), a.run_at, &a.id).cmp(&(b.place(), b.run_at, &b.id)));
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
    let places = steps
        .iter()
        .map(|Claimed(step)| (&*step.queue, step.place()));
    // Their places are of the past.
    steps::tell_ready(db, i64::MAX, places).await?;
    notify(db).await
}
