//! Rates of steps: how many of a key are started in a time, over all processes.

use sea_orm::ConnectionTrait;
use serde::Serialize;
use workflows::run::Rate;

use super::StoreError;
use super::database::{execute, number, rows_in, to_json};
use super::steps::{PLACE, step};

/// More than are ever at work at once: a step that has a rate and no concurrency key is kept apart by a key of its
/// own, which holds nobody up, as steps with keys are claimed by one process at a time.
const ANY_NUMBER: i64 = i32::MAX as i64;

/// Whether a step, when it is claimed next, goes on with what it had begun: it waited, and has not failed since.
pub const GOES_ON: &str = "(waiting_for IS NOT NULL AND error IS NULL)";

fn goes_on(step: &step::Model) -> bool {
    step.waiting_for.is_some() && step.error.is_none()
}

/// Gives a step its rate, before anybody may claim it: in the transaction that queued it.
pub async fn set(
    db: &impl ConnectionTrait,
    (run, position): (&str, &str),
    key: &str,
    rate: Rate,
) -> Result<(), StoreError> {
    let sql = "UPDATE step SET rate_key = $3, rate_limit = $4, rate_period_ms = $5, \
               concurrency_limit = CASE WHEN concurrency_key IS NULL THEN $6 ELSE concurrency_limit END, \
               concurrency_key = COALESCE(concurrency_key, $7) \
               WHERE run_id = $1 AND position = $2 AND rate_key IS NULL AND state = 'ready'";
    let values = values![
        run,
        position,
        key,
        i64::from(rate.limit),
        rate.period_ms,
        ANY_NUMBER,
        format!("rate:{key}")
    ];
    execute(db, sql, values).await?;
    Ok(())
}

#[derive(Serialize)]
struct Start<'a> {
    step: &'a str,
    fence: i64,
    rate_key: &'a str,
    until: i64,
}

/// Notes which of some steps, just claimed, count as starts: those with a rate that do not go on after a wait. What
/// counts no longer is forgotten. To be called in the transaction of the claim.
pub async fn note(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &[&step::Model],
) -> Result<(), StoreError> {
    let mut starts = Vec::new();
    for step in claimed {
        if let (Some(rate_key), Some(period_ms), false) =
            (&step.rate_key, step.rate_period_ms, goes_on(step))
        {
            starts.push(Start {
                step: &step.id,
                fence: step.fence,
                rate_key,
                until: now + period_ms,
            });
        }
    }
    if starts.is_empty() {
        return Ok(());
    }
    let columns = [
        ("step", "text"),
        ("fence", "bigint"),
        ("rate_key", "text"),
        ("until", "bigint"),
    ];
    let sql = format!(
        "INSERT INTO step_start (step, fence, rate_key, until) \
         SELECT f.step, f.fence, f.rate_key, f.until FROM {}",
        rows_in(db, 1, &columns)
    );
    execute(db, &sql, values![to_json("starts", &starts)?]).await?;
    execute(db, "DELETE FROM step_start WHERE until <= $1", values![now]).await?;
    Ok(())
}

/// Until when a step waits because of its rate; nothing where the rate lets it go.
///
/// Those of its key that come before it start as places come free, so with enough of them it is periods away.
pub async fn holds(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
) -> Result<Option<i64>, StoreError> {
    let (Some(key), Some(limit), Some(period_ms)) =
        (&step.rate_key, step.rate_limit, step.rate_period_ms)
    else {
        return Ok(None);
    };
    if goes_on(step) {
        return Ok(None);
    }
    if free_at(db, now, key, limit - 1).await?.is_none() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT COUNT(*) AS n FROM step WHERE state = 'ready' AND rate_key = $1 \
         AND NOT {GOES_ON} AND run_at <= $2 AND ({PLACE} < $3 OR ({PLACE} = $3 AND id < $4))"
    );
    let place = step.run_at - step.priority * 60_000;
    let values = values![key.as_str(), now, place, step.id.as_str()];
    let ahead = number(db, &sql, values).await?.unwrap_or(0);
    let free_at = free_at(db, now, key, limit - 1 - ahead % limit).await?;
    Ok(free_at.map(|at| at + ahead / limit * period_ms))
}

/// When the start counts no longer that is this far from the latest.
async fn free_at(
    db: &impl ConnectionTrait,
    now: i64,
    key: &str,
    from_latest: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT until AS n FROM step_start WHERE rate_key = $1 AND until > $2 \
               ORDER BY until DESC LIMIT 1 OFFSET $3";
    number(db, sql, values![key, now, from_latest.max(0)]).await
}
