//! How the queues stand, and how many of their steps ended lately.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;

use super::StoreError;
use super::database::{FAR, all, execute, rows_in, to_json};

/// Ends are counted in ticks of this length, milliseconds.
const TICK_MS: i64 = 10_000;
/// How many ticks are kept: an hour.
const KEPT_TICKS: i64 = 360;

/// Steps that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// With an output.
    pub done: i64,
    /// With a failure.
    pub failed: i64,
}

/// Counts steps that ended now, by queue. It comes after the facts of a transaction: as their writers come one after
/// the other, none waits here.
pub async fn count(
    db: &impl ConnectionTrait,
    now: i64,
    ends: &BTreeMap<&str, Ends>,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        queue: &'a str,
        done: i64,
        failed: i64,
    }
    let rows: Vec<Row<'_>> = ends
        .iter()
        .map(|(queue, ends)| Row {
            queue,
            done: ends.done,
            failed: ends.failed,
        })
        .collect();
    let columns = [("queue", "text"), ("done", "bigint"), ("failed", "bigint")];
    let sql = format!(
        "INSERT INTO queue_tick (queue, tick, done, failed) \
         SELECT f.queue, $1, f.done, f.failed FROM {} WHERE TRUE \
         ON CONFLICT (queue, tick) DO UPDATE SET done = queue_tick.done + excluded.done, \
         failed = queue_tick.failed + excluded.failed",
        rows_in(db, 2, &columns)
    );
    execute(db, &sql, values![now / TICK_MS, to_json("ends", &rows)?]).await?;
    Ok(())
}

/// Forgets the counts of more than an hour ago.
pub async fn prune(db: &impl ConnectionTrait, now: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM queue_tick WHERE tick < $1";
    execute(db, sql, values![now / TICK_MS - KEPT_TICKS]).await?;
    Ok(())
}

/// How one queue stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Steps that may be claimed now.
    pub ready: i64,
    /// Steps whose time has not come.
    pub delayed: i64,
    /// Steps that wait to be woken.
    pub parked: i64,
    /// Steps at work.
    pub leased: i64,
    /// When the step that has been ready longest became so.
    pub oldest_ready: Option<i64>,
    /// What ended in the minute before the current tick.
    pub last_minute: Ends,
    /// Who works on its steps at this moment, by name.
    pub workers: Vec<String>,
}

#[derive(FromQueryResult)]
struct Waiting {
    queue: String,
    ready: i64,
    delayed: i64,
    parked: i64,
    oldest: Option<i64>,
}

#[derive(FromQueryResult)]
struct Leased {
    queue: String,
    owner: String,
    leased: i64,
}

#[derive(FromQueryResult)]
struct Ended {
    queue: String,
    done: i64,
    failed: i64,
}

/// How every queue stands that has an open step or had one end in the last minute. Only the indexes of open steps are
/// read, so what has ended costs nothing.
pub async fn standings(
    db: &impl ConnectionTrait,
    now: i64,
) -> Result<BTreeMap<String, Standing>, StoreError> {
    let mut standings: BTreeMap<String, Standing> = BTreeMap::new();
    // One statement per index, as each holds some of the ready steps.
    for keyed in [
        "concurrency_key IS NULL",
        "concurrency_key IS NOT NULL AND rate_key IS NULL",
        "rate_key IS NOT NULL",
    ] {
        let sql = format!(
            "SELECT queue, SUM(CASE WHEN run_at <= $1 THEN 1 ELSE 0 END) AS ready, \
             SUM(CASE WHEN run_at > $1 AND run_at < $2 THEN 1 ELSE 0 END) AS delayed, \
             SUM(CASE WHEN run_at >= $2 THEN 1 ELSE 0 END) AS parked, \
             MIN(CASE WHEN run_at <= $1 THEN run_at END) AS oldest \
             FROM step WHERE state = 'ready' AND {keyed} GROUP BY queue"
        );
        for row in all::<Waiting>(db, &sql, values![now, FAR]).await? {
            let standing = standings.entry(row.queue).or_default();
            standing.ready += row.ready;
            standing.delayed += row.delayed;
            standing.parked += row.parked;
            let both = standing.oldest_ready.into_iter().chain(row.oldest);
            standing.oldest_ready = both.min();
        }
    }
    let sql = "SELECT queue, COALESCE(lease_owner, '') AS owner, COUNT(*) AS leased \
               FROM step WHERE state = 'leased' AND lease_until IS NOT NULL GROUP BY queue, lease_owner ORDER BY owner";
    for row in all::<Leased>(db, sql, values![]).await? {
        let standing = standings.entry(row.queue).or_default();
        standing.leased += row.leased;
        standing.workers.push(row.owner);
    }
    let sql = "SELECT queue, CAST(SUM(done) AS BIGINT) AS done, CAST(SUM(failed) AS BIGINT) AS failed \
               FROM queue_tick WHERE tick >= $1 AND tick < $2 GROUP BY queue";
    let tick = now / TICK_MS;
    for row in all::<Ended>(db, sql, values![tick - 60_000 / TICK_MS, tick]).await? {
        let standing = standings.entry(row.queue).or_default();
        standing.last_minute = Ends {
            done: row.done,
            failed: row.failed,
        };
    }
    Ok(standings)
}
