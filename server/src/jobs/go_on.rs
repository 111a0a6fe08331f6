//! Going straight on: the ending of a step and the advance of its run in one transaction.
//!
//! A run that does one thing after the other would pay two commits for each step: its ending, and what the script asks
//! for next. Where no other step of it is open and a hand for runs is free here, the script is replayed with the answer
//! before that is recorded; then both are recorded together, if nothing of the run has moved meanwhile.

use tracing::warn;
use workflows::run::{CallOutcome, Progress};

use super::advance_run::script;
use super::long_lane::QUICK;
use super::record_advance::Advanced;
use super::workers::WorkerContext;
use crate::host::past::Stop;
use crate::host::replaying::Replaying;
use crate::queue::{self, Taken};
use crate::store::database::to_json;
use crate::store::journal::journal;
use crate::store::runs::run;
use crate::store::steps::{ADVANCE, RUNS, step};
use crate::store::{self, StoreError};

/// Records the answer of a step together with the advance of its run; `false` when the two are better, or can only be,
/// recorded one after the other. Nothing is recorded then.
///
/// # Errors
///
/// `Stale` when the step has passed to somebody else.
pub(super) async fn go_on(
    context: &WorkerContext,
    taken: &Taken,
    outcome: &CallOutcome,
) -> Result<bool, StoreError> {
    match recorded(context, taken, outcome).await {
        Err(error) if !matches!(error, StoreError::Stale { .. }) => {
            // What is wrong with the advance must not keep the step from its ending.
            let step = &taken.claimed.0;
            warn!(error = &error as &dyn std::error::Error, run.id = %step.run_id,
                "failed to go straight on with run {}", step.run_id);
            Ok(false)
        }
        told => told,
    }
}

async fn recorded(
    context: &WorkerContext,
    taken: &Taken,
    outcome: &CallOutcome,
) -> Result<bool, StoreError> {
    let queue = &context.world.queue;
    let step = &taken.claimed.0;
    // A key that is free again is told by the ordinary way.
    if step.concurrency_key.is_some() {
        return Ok(false);
    }
    let Some(hand) = queue.put_by_soon(RUNS).await else {
        return Ok(false);
    };
    let db = &queue.db().read;
    let open = store::steps::open_of_run(db, &step.run_id).await?;
    let others = |other: &step::Model| other.position != ADVANCE && other.id != step.id;
    let parked = open.iter().find(|step| step.position == ADVANCE);
    let parked = parked.filter(|step| step.state == "ready" && step.run_at > queue.now());
    let Some(parked) = parked.filter(|_| !open.iter().any(others)) else {
        return Ok(false);
    };
    // After the advance was seen: what comes of these is kept only if it was not touched since.
    let (run, journal) = tokio::join!(
        store::runs::get(db, &step.run_id),
        store::journal::of_run(db, &step.run_id),
    );
    let run = run?;
    if run.ended_at.is_some() || run.state == "diverged" || run.cancel_requested {
        return Ok(false);
    }
    let at = (step.position.as_str(), outcome);
    let Some(progress) = replayed(context, &run, journal?, at).await? else {
        return Ok(false);
    };
    let now = queue.now();
    let advanced = match Advanced::of(context, &run, now, &progress).await {
        Ok(Some(advanced)) => advanced,
        Err(Stop::Storage(error)) => return Err(error),
        Ok(None) | Err(Stop::Again(_) | Stop::Never { .. }) => return Ok(false),
    };
    let tx = store::begin(&queue.db().write).await?;
    queue::end(&tx, now, &taken.claimed, outcome).await?;
    let lease_ms = queue.settings().step_lease_ms;
    let claimed = queue::claim_parked(&tx, now, hand.owner(), lease_ms, parked).await?;
    let Some(claimed) = claimed else {
        tx.rollback().await?;
        return Ok(false);
    };
    let Some(written) = advanced.write(&tx, now, &claimed).await? else {
        tx.rollback().await?;
        return Ok(false);
    };
    queue::tell_end(&tx, now, &taken.claimed, outcome).await?;
    advanced.tell(&tx, now, &written).await?;
    tx.commit().await?;
    advanced.hand_out(now, written).await.tell(queue);
    Ok(true)
}

/// How far the script comes with one more answer; `None` where that is not from one call to the next. What has to be
/// called off is taken before the advance is, so an end, or a beginning of undoing, goes the ordinary way.
async fn replayed(
    context: &WorkerContext,
    run: &run::Model,
    mut journal: Vec<journal::Model>,
    (position, outcome): (&str, &CallOutcome),
) -> Result<Option<Progress>, StoreError> {
    for entry in &mut journal {
        if entry.position == position && entry.outcome.is_none() {
            entry.outcome = Some(to_json("outcome", outcome)?);
        }
    }
    match quickly(context, run, journal).await {
        Ok(progress) => Ok(progress.filter(|it| match it {
            Progress::Suspended { abandoned, .. } => abandoned.is_empty(),
            _ => false,
        })),
        Err(Stop::Storage(error)) => Err(error),
        Err(Stop::Again(_) | Stop::Never { .. }) => Ok(None),
    }
}

/// A replay, if it is one of those that keep a hand for a moment only.
async fn quickly(
    context: &WorkerContext,
    run: &run::Model,
    journal: Vec<journal::Model>,
) -> Result<Option<Progress>, Stop> {
    if context.long.knows(run) {
        return Ok(None);
    }
    let script = script(context, run).await?;
    let now = context.world.queue.now();
    let mut replaying = Replaying::begin(&context.world, run, journal, now, script).await?;
    match replaying.quickly(QUICK).await {
        Some(progress) => progress.map(Some),
        None => {
            replaying.give_up();
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::DbBackend;
    use serde_json::json;

    use crate::jobs::workers::tests::{count, ended, result, work_on};
    use crate::testing::{Fresh, on_both};

    on_both!(an_ending_and_what_follows_are_one_transaction);

    async fn an_ending_and_what_follows_are_one_transaction(f: Fresh) {
        const THREE: &str = r#"fn run(event) {
            let n = 1;
            for turn in 0..3 { n = step("double", #{ n: n }).n; }
            n
        }"#;
        let working = work_on(&f);
        let id = f.start(THREE, json!({})).await;
        assert_eq!(result(&ended(&f, &id).await), json!(8));
        working.stop().await;
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 3);
        if f.db.read.get_database_backend() == DbBackend::Postgres {
            // Facts are written once, so each still names the transaction that wrote it.
            let together = "event AS done JOIN event AS next ON next.xmin = done.xmin \
                            WHERE done.name = 'step.done' AND next.name = 'run.advanced'";
            assert_ne!(count(&f, together).await, 0);
        }
    }
}
