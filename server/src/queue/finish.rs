//! Ending an attempt: every write names the fence of the claim, and one that finds no row is `Stale`.
//!
//! All of these are to be called in a transaction: the step, the journal, the run's wake-up, the fact and the audit
//! are recorded together or not at all.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use workflows::run::{CallOutcome, StepFailure};
use workflows::steps::StepError;

use crate::store::database::{FAR, Moved, execute, notify, notify_of, number};
use crate::store::steps::{self, step};
use crate::store::{StoreError, audit, events, journal, queues, values};

use super::claim::Claimed;
use super::finisher;

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
    end(db, now, claimed, outcome).await?;
    steps::wake(db, now, &claimed.0.run_id, steps::ADVANCE).await?;
    tell_end(db, now, claimed, outcome).await
}

/// Ends a step that is over and answers its call. Its run is to be woken or advanced, and the ending told
/// ([`tell_end`]), in the same transaction.
///
/// # Errors
///
/// `Stale` when the step has passed to somebody else; nothing may be recorded then.
pub async fn end(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    outcome: &CallOutcome,
) -> Result<(), StoreError> {
    let step = &claimed.0;
    let sql = "UPDATE step SET state = $4, error = $5, waiting_for = NULL, \
               share_done = CASE WHEN $4 = 'done' THEN 1 ELSE share_done END, \
               lease_owner = NULL, lease_until = NULL, ended_at = $3 \
               WHERE id = $1 AND fence = $2 AND state = 'leased'";
    let (state, error) = match outcome {
        CallOutcome::Ok(_) => ("done", None),
        CallOutcome::Err(failure) => {
            let error = format!("{}: {}", failure.code, failure.message);
            ("failed", Some(error))
        }
    };
    let values = values![step.id.as_str(), step.fence, now, state, error];
    if execute(db, sql, values).await? == 0
        || !journal::answer(db, now, &step.run_id, &step.position, outcome).await?
    {
        return Err(claimed.stale());
    }
    Ok(())
}

/// Tells that a step ended: the fact, the audit, and the queue's count. Last in a transaction, as it is numbered.
///
/// # Errors
///
/// When the database does not answer.
pub async fn tell_end(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    outcome: &CallOutcome,
) -> Result<(), StoreError> {
    match outcome {
        CallOutcome::Ok(_) => tell(db, now, &claimed.0, "step.done", &json!({})).await,
        CallOutcome::Err(failure) => {
            let detail = json!({ "code": failure.code, "message": failure.message });
            tell(db, now, &claimed.0, "step.failed", &detail).await
        }
    }
}

/// The answer of a step whose attempt failed, if it is not to be tried again.
#[must_use]
pub fn answer_if_over(step: &step::Model, error: &StepError) -> Option<CallOutcome> {
    let over = !error.is_retryable() || step.attempt >= step.max_attempts;
    over.then(|| {
        CallOutcome::Err(failure(
            step,
            error.code(),
            &error.to_string(),
            error.is_retryable(),
        ))
    })
}

fn failure(step: &step::Model, code: &str, message: &str, retryable: bool) -> StepFailure {
    StepFailure {
        kind: step.kind.clone(),
        code: code.to_owned(),
        message: message.to_owned(),
        retryable,
        position: step.position.parse().ok(),
    }
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
    let claimed = Claimed(step.clone());
    let outcome = CallOutcome::Err(failure(step, code, message, retryable));
    complete(db, now, &claimed, &outcome).await
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
/// arrived meanwhile is not missed: then, or when it is due already, the answer is `true`.
///
/// # Errors
///
/// `Stale` when the advance has passed to somebody else; then nothing of it may be kept.
pub async fn advance(
    db: &impl ConnectionTrait,
    now: i64,
    claimed: &Claimed,
    left: Advance,
) -> Result<bool, StoreError> {
    let step = &claimed.0;
    let next = match left {
        Advance::Until(due) => {
            let sql = "UPDATE step SET state = 'ready', attempt = 0, error = NULL, waiting_for = NULL, \
                       run_at = CASE WHEN wakes > $3 THEN $4 ELSE $5 END, lease_owner = NULL, \
                       lease_until = NULL WHERE id = $1 AND fence = $2 AND state = 'leased' \
                       RETURNING run_at AS n";
            let due = due.unwrap_or(FAR);
            let values = values![step.id.as_str(), step.fence, step.wakes, now, due];
            number(db, sql, values).await?
        }
        Advance::Over => {
            let sql = "UPDATE step SET state = 'done', error = NULL, lease_owner = NULL, \
                       lease_until = NULL, ended_at = $3 \
                       WHERE id = $1 AND fence = $2 AND state = 'leased' RETURNING CAST($4 AS BIGINT) AS n";
            let values = values![step.id.as_str(), step.fence, now, FAR];
            number(db, sql, values).await?
        }
    };
    let again = next.ok_or_else(|| claimed.stale())? <= now;
    if again {
        notify_of(db, Moved::Queue(steps::RUNS)).await?;
    }
    Ok(again)
}

/// Notes why an advance that was ended goes on later only.
///
/// # Errors
///
/// When the database does not answer.
pub async fn say_why(
    db: &impl ConnectionTrait,
    claimed: &Claimed,
    why: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE step SET error = $3 WHERE id = $1 AND fence = $2 AND state = 'ready'";
    let values = values![claimed.0.id.as_str(), claimed.0.fence, why];
    execute(db, sql, values).await?;
    Ok(())
}

/// Records the fact and the audit of an ending.
async fn tell(
    db: &impl ConnectionTrait,
    now: i64,
    step: &step::Model,
    name: &str,
    more: &Value,
) -> Result<(), StoreError> {
    let detail = finisher::detail(step, more);
    let actor = step.lease_owner.as_deref().unwrap_or("server");
    audit::record_with_fact(db, now, name, (actor, name), &step.id, &detail).await?;
    let ends = match name {
        "step.done" => queues::Ends { done: 1, failed: 0 },
        _ => queues::Ends { done: 0, failed: 1 },
    };
    let ends = BTreeMap::from([(step.queue.as_str(), ends)]);
    queues::count(db, now, &ends).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::{
        Floor, Heartbeat, claim, claim_from, claim_keyed, claim_parked, expire, release,
    };
    use crate::store::database::number;
    use crate::store::journal::NewEntry;
    use crate::store::steps::NewStep;
    use crate::store::values;
    use crate::testing::{Fresh, on_both};

    on_both!(
        a_step_is_claimed_by_one_of_many,
        an_old_fence_is_stale_after_a_reclaim,
        a_step_is_completed_once,
        a_wake_up_during_an_advance_is_not_lost,
        a_wake_up_before_the_parking_is_not_lost,
        an_advance_that_was_woken_is_not_gone_on_with,
        a_step_nobody_finishes_is_tried_as_often_as_allowed,
        a_failed_attempt_waits_before_the_next,
        a_step_given_back_was_not_attempted,
        a_heartbeat_keeps_a_lease_and_hears_of_its_loss,
        urgent_steps_come_first,
        what_waits_long_enough_is_first,
        what_became_ready_further_ahead_is_found,
        no_more_of_a_key_are_at_work_than_may_be,
    );

    const LEASE: i64 = 10_000;

    async fn step(f: &Fresh, run: &str, position: &str, priority: i64) {
        let new = NewStep {
            run,
            position,
            kind: "echo",
            queue: "io",
            priority,
            max_attempts: 3,
            backoff_ms: 1_000,
            deadline: None,
            input: "null",
            concurrency_key: None,
            concurrency_limit: 1,
            idempotency_key: None,
            lease: None,
        };
        let entry = NewEntry {
            position,
            kind: "echo",
            input: &Value::Null,
            input_digest: "",
            line: None,
            due: None,
            undo: false,
            outcome: None,
        };
        let db = &f.db.write;
        journal::append(db, f.now(), run, &[entry]).await.unwrap();
        steps::insert(db, f.now(), &new).await.unwrap();
    }

    async fn one_step(f: &Fresh) -> String {
        let run = f.start("fn run(event) { }", Value::Null).await;
        step(f, &run, "1", 0).await;
        run
    }

    async fn take(f: &Fresh, queue: &str) -> Option<Claimed> {
        let db = &f.db.write;
        let mut got = claim(db, f.now(), "w", queue, LEASE, 1).await.unwrap();
        got.pop()
    }

    async fn done(f: &Fresh, claimed: &Claimed, value: i64) -> Result<(), StoreError> {
        let tx = crate::store::begin(&f.db.write).await?;
        let outcome = CallOutcome::Ok(json!(value));
        complete(&tx, f.now(), claimed, &outcome).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn answer(f: &Fresh, run: &str) -> Option<CallOutcome> {
        let journal = journal::of_run(&f.db.write, run).await.unwrap();
        let text = journal[0].outcome.as_deref()?;
        Some(serde_json::from_str(text).unwrap())
    }

    async fn a_step_is_claimed_by_one_of_many(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        for n in 1..=20 {
            step(&f, &run, &n.to_string(), 0).await;
        }
        let mut claiming = Vec::new();
        for n in 0..8 {
            let (db, now) = (f.db.write.clone(), f.now());
            claiming.push(tokio::spawn(async move {
                claim(&db, now, &format!("w{n}"), "io", LEASE, 5).await
            }));
        }
        let mut got = Vec::new();
        for task in claiming {
            let claimed = task.await.unwrap().unwrap();
            got.extend(claimed.into_iter().map(|c| c.0.position));
        }
        got.sort();
        let all = got.len();
        got.dedup();
        assert_eq!((got.len(), all), (20, 20));
    }

    async fn an_old_fence_is_stale_after_a_reclaim(f: Fresh) {
        let run = one_step(&f).await;
        let zombie = take(&f, "io").await.unwrap();
        f.advance(LEASE);
        let expired = expire(&f.db.write, f.now()).await.unwrap();
        assert_eq!(expired, (1, 0));
        let late = done(&f, &zombie, 1).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        let next = take(&f, "io").await.unwrap();
        assert_eq!(next.0.fence, zombie.0.fence + 1);
        let late = done(&f, &zombie, 1).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        done(&f, &next, 2).await.unwrap();
        let late = done(&f, &zombie, 1).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        assert_eq!(answer(&f, &run).await, Some(CallOutcome::Ok(json!(2))));
    }

    async fn a_step_is_completed_once(f: Fresh) {
        one_step(&f).await;
        let claimed = take(&f, "io").await.unwrap();
        let f = Arc::new(f);
        let mut finishing = Vec::new();
        for n in 0..6 {
            let (f, claimed) = (f.clone(), claimed.clone());
            finishing.push(tokio::spawn(
                async move { done(&f, &claimed, n).await.is_ok() },
            ));
        }
        let mut accepted = 0;
        for task in finishing {
            accepted += i32::from(task.await.unwrap());
        }
        assert_eq!(accepted, 1);
        let sql = "SELECT COUNT(*) AS n FROM event WHERE name = 'step.done'";
        assert_eq!(number(&f.db.write, sql, values![]).await.unwrap(), Some(1));
        assert_eq!(audit::first_broken(&f.db.write).await.unwrap(), None);
    }

    async fn a_wake_up_during_an_advance_is_not_lost(f: Fresh) {
        let run = one_step(&f).await;
        let db = &f.db.write;
        let claimed = take(&f, steps::RUNS).await.unwrap();
        let step = take(&f, "io").await.unwrap();
        done(&f, &step, 1).await.unwrap();
        advance(db, f.now(), &claimed, Advance::Until(None))
            .await
            .unwrap();
        let again = take(&f, steps::RUNS).await.expect("it is ready at once");
        advance(db, f.now(), &again, Advance::Until(None))
            .await
            .unwrap();
        assert_eq!(take(&f, steps::RUNS).await, None);
        assert!(
            steps::at(db, &run, steps::ADVANCE)
                .await
                .unwrap()
                .is_parked()
        );
        steps::wake(db, f.now(), &run, steps::ADVANCE)
            .await
            .unwrap();
        let woken = take(&f, steps::RUNS).await.expect("woken");
        assert_eq!(woken.0.attempt, 1, "waiting is no attempt");
    }

    async fn a_wake_up_before_the_parking_is_not_lost(f: Fresh) {
        let run = one_step(&f).await;
        let db = &f.db.write;
        let claimed = take(&f, "io").await.unwrap();
        steps::wake(db, f.now(), &run, "1").await.unwrap();
        park(db, f.now(), &claimed, "{}").await.unwrap();
        let again = take(&f, "io").await.expect("it is ready at once");
        park(db, f.now(), &again, "{}").await.unwrap();
        assert_eq!(take(&f, "io").await, None);
        assert_eq!(steps::at(db, &run, "1").await.unwrap().attempt, 0);
    }

    async fn an_advance_that_was_woken_is_not_gone_on_with(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let db = &f.db.write;
        let advancing = take(&f, steps::RUNS).await.unwrap();
        let at = async || steps::at(db, &run, steps::ADVANCE).await.unwrap();
        let gone_on = async |parked: &step::Model| {
            let claimed = claim_parked(db, f.now(), "w", LEASE, parked).await;
            claimed.unwrap().map(|claimed| claimed.0.fence)
        };
        let taken = at().await;
        assert_eq!(gone_on(&taken).await, None, "somebody advances it");
        advance(db, f.now(), &advancing, Advance::Until(None))
            .await
            .unwrap();
        let parked = at().await;
        steps::wake(db, f.now(), &run, steps::ADVANCE)
            .await
            .unwrap();
        assert_eq!(gone_on(&parked).await, None);
        let parked = at().await;
        assert_eq!(gone_on(&parked).await, Some(parked.fence + 1));
        assert_eq!(gone_on(&parked).await, None, "once");
    }

    async fn a_step_nobody_finishes_is_tried_as_often_as_allowed(f: Fresh) {
        let run = one_step(&f).await;
        for attempt in 1..=3 {
            assert_eq!(take(&f, "io").await.unwrap().0.attempt, attempt);
            f.advance(LEASE);
            expire(&f.db.write, f.now()).await.unwrap();
        }
        assert_eq!(take(&f, "io").await, None);
        let Some(CallOutcome::Err(failure)) = answer(&f, &run).await else {
            panic!("the script is told");
        };
        assert_eq!(failure.code, "attempts_exhausted");
    }

    async fn a_failed_attempt_waits_before_the_next(f: Fresh) {
        let run = one_step(&f).await;
        let db = &f.db.write;
        let trouble = StepError::unavailable("busy", "not now");
        for attempt in 1..=3 {
            let claimed = take(&f, "io").await.unwrap();
            let left = fail(db, f.now(), &claimed, &trouble).await.unwrap();
            match left {
                Finished::Again(due) => {
                    let wait = due - f.now();
                    let usual = 1_000 << (attempt - 1);
                    assert!((usual * 3 / 4..=usual * 5 / 4).contains(&wait), "{wait}");
                    assert_eq!(take(&f, "io").await, None);
                    f.advance(wait);
                }
                Finished::Over => assert_eq!(attempt, 3),
            }
        }
        let Some(CallOutcome::Err(failure)) = answer(&f, &run).await else {
            panic!("the script is told");
        };
        assert_eq!((failure.code.as_str(), failure.retryable), ("busy", true));
    }

    async fn a_step_given_back_was_not_attempted(f: Fresh) {
        one_step(&f).await;
        let claimed = take(&f, "io").await.unwrap();
        release(&f.db.write, std::slice::from_ref(&claimed))
            .await
            .unwrap();
        let again = take(&f, "io").await.unwrap();
        assert_eq!((again.0.attempt, again.0.fence), (1, claimed.0.fence + 1));
        let late = done(&f, &claimed, 1).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
    }

    async fn a_heartbeat_keeps_a_lease_and_hears_of_its_loss(f: Fresh) {
        let run = one_step(&f).await;
        let queue = f.queue();
        let heartbeat = Heartbeat::new(f.db.clone(), queue.clock(), queue.settings());
        let claimed = take(&f, "io").await.unwrap();
        let held = heartbeat.hold(&claimed);
        held.progress(0.5, "half way");
        f.advance(LEASE - 1);
        heartbeat.beat().await.unwrap();
        f.advance(LEASE - 1);
        assert_eq!(expire(&f.db.write, f.now()).await.unwrap(), (0, 0));
        let row = steps::at(&f.db.write, &run, "1").await.unwrap();
        assert_eq!((row.share_done, row.phase.as_str()), (0.5, "half way"));
        assert!(!held.should_stop());
        f.advance(1);
        expire(&f.db.write, f.now()).await.unwrap();
        let next = heartbeat.hold(&take(&f, "io").await.unwrap());
        drop(next);
        let held = heartbeat.hold(&claimed);
        heartbeat.beat().await.unwrap();
        assert!(held.should_stop(), "the lease has passed on");
        drop(held);
        assert_eq!(heartbeat.count(), 0);
    }

    async fn urgent_steps_come_first(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        for (position, priority) in [("1", 0), ("2", 5), ("3", -1), ("4", 5)] {
            step(&f, &run, position, priority).await;
            f.advance(1);
        }
        let db = &f.db.write;
        let claimed = claim(db, f.now(), "w", "io", LEASE, 9).await.unwrap();
        let order: Vec<&str> = claimed.iter().map(|c| c.0.position.as_str()).collect();
        assert_eq!(order, ["2", "4", "1", "3"]);
    }

    async fn what_waits_long_enough_is_first(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        step(&f, &run, "1", -2).await;
        f.advance(3 * 60_000 - 1);
        step(&f, &run, "2", 1).await;
        f.advance(2);
        step(&f, &run, "3", 1).await;
        let db = &f.db.write;
        let claimed = claim(db, f.now(), "w", "io", LEASE, 9).await.unwrap();
        let order: Vec<&str> = claimed.iter().map(|c| c.0.position.as_str()).collect();
        assert_eq!(order, ["2", "1", "3"], "a point is worth a minute");
    }

    async fn what_became_ready_further_ahead_is_found(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let (db, floor) = (&f.db.write, Floor::default());
        let take = async |limit: usize| -> Vec<String> {
            let claimed = claim_from(db, &floor, f.now(), "w", "io", LEASE, limit).await;
            let positions = claimed.unwrap().into_iter().map(|c| c.0.position);
            positions.collect()
        };
        step(&f, &run, "1", 0).await;
        f.advance(1);
        step(&f, &run, "2", 0).await;
        assert_eq!(take(1).await, ["1"]);
        assert_eq!(
            take(9).await,
            ["2"],
            "what is left behind the last taken is not passed over"
        );
        f.advance(5_000);
        assert_eq!(take(9).await, [""; 0]);
        step(&f, &run, "3", 0).await;
        step(&f, &run, "4", 7).await;
        assert_eq!(take(9).await, ["3"]);
        let ahead = || steps::first_ahead(db, f.now(), "io", floor.place());
        let place = f.now() - 7 * 60_000;
        assert_eq!(ahead().await.unwrap(), Some(place));
        floor.lower(place);
        assert_eq!(ahead().await.unwrap(), None);
        assert_eq!(take(9).await, ["4"]);
    }

    async fn keyed(f: &Fresh, run: &str, position: &str, key: &str, limit: i64) {
        step(f, run, position, 0).await;
        let sql = "UPDATE step SET concurrency_key = $3, concurrency_limit = $4 \
                   WHERE run_id = $1 AND position = $2";
        let values = values![run, position, key, limit];
        execute(&f.db.write, sql, values).await.unwrap();
    }

    async fn no_more_of_a_key_are_at_work_than_may_be(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        for n in 1..=6 {
            keyed(&f, &run, &n.to_string(), "press", 2).await;
            f.advance(1);
        }
        keyed(&f, &run, "7", "oven", 1).await;
        let mut claiming = Vec::new();
        for n in 0..6 {
            let (db, now) = (f.db.write.clone(), f.now());
            claiming.push(tokio::spawn(async move {
                let owner = format!("w{n}");
                claim_keyed(&db, now, &owner, "io", LEASE, 5).await.unwrap()
            }));
        }
        let mut at_work = Vec::new();
        for task in claiming {
            at_work.extend(task.await.unwrap());
        }
        at_work.sort_by(|a, b| a.0.position.cmp(&b.0.position));
        let positions: Vec<&str> = at_work.iter().map(|c| c.0.position.as_str()).collect();
        assert_eq!(positions, ["1", "2", "7"]);
        assert_eq!(take(&f, "io").await, None, "no other claim takes them");
        done(&f, &at_work[0], 1).await.unwrap();
        let next = claim_keyed(&f.db.write, f.now(), "w", "io", LEASE, 9)
            .await
            .unwrap();
        let next: Vec<&str> = next.iter().map(|c| c.0.position.as_str()).collect();
        assert_eq!(next, ["3"]);
    }
}
