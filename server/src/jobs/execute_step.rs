//! Executes one step: its input out of the row, its output into the journal, all under the claim's fence.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::{info, warn};
use workflows::run::CallOutcome;
use workflows::steps::{Outcome, StepError, Wait};

use super::go_on::go_on;
use super::workers::WorkerContext;
use crate::host::StepHost;
use crate::host::past::{fetch, keep};
use crate::queue::{self, Taken};
use crate::store::database::{Moved, from_json, to_json};
use crate::store::runs::run;
use crate::store::{self, StoreError};

/// How often recording is tried again before the lease is left to run out.
pub(super) const TRIES: u32 = 4;

/// Executes a claimed step and records how it left off.
///
/// # Errors
///
/// `Stale` when the step has passed to somebody else; otherwise when the database does not answer.
pub(super) async fn execute_step(context: &WorkerContext, taken: &Taken) -> Result<(), StoreError> {
    let step = &taken.claimed.0;
    let left = match attempt(context, taken).await {
        Err(StepError::Cancelled) if context.is_stopping() && !step.cancel_requested => {
            // The process goes down, not the run: somebody else does it.
            return queue::release(
                &context.world.queue.db().write,
                std::slice::from_ref(&taken.claimed),
            )
            .await;
        }
        Ok(Outcome::Done(output)) => match keep(&context.world, output).await {
            Ok(output) => Ok(Outcome::Done(output)),
            Err(trouble) => Err(StepError::unavailable("artifacts", trouble)),
        },
        left => left,
    };
    let mut tries = 0;
    loop {
        match record(context, taken, &left).await {
            Err(error @ (StoreError::Database(_) | StoreError::Connect(_))) if tries < TRIES => {
                warn!(error = &error as &dyn std::error::Error, step.kind = %step.kind,
                    "failed to record step `{}`; trying again", step.kind);
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                tries += 1;
            }
            recorded => return recorded,
        }
    }
}

async fn attempt(context: &WorkerContext, taken: &Taken) -> Result<Outcome<Value>, StepError> {
    let step = &taken.claimed.0;
    let storage = |error: StoreError| StepError::unavailable("storage", error);
    let db = &context.world.queue.db().read;
    let now = context.world.queue.now();
    let recorded = store::steps::recorded_answer(db, now, step)
        .await
        .map_err(storage)?;
    if let Some(answer) = recorded {
        let answer: CallOutcome = from_json("outcome", &answer).map_err(storage)?;
        if let CallOutcome::Ok(output) = answer {
            // As it was kept: a large one by its digest, which is kept again as it is.
            return Ok(Outcome::Done(output));
        }
    }
    let run = match &taken.run {
        Some(run) => run::Model::clone(run),
        None => store::runs::get(db, &step.run_id).await.map_err(storage)?,
    };
    let input = from_json("step input", &step.input).map_err(storage)?;
    let input = fetch(&context.world, input)
        .await
        .map_err(|trouble| StepError::unavailable("artifacts", trouble))?;
    let host = StepHost::new(
        context.world.clone(),
        run,
        taken.claimed.clone(),
        taken.held.clone(),
    );
    let (registry, kind) = (Arc::clone(&context.registry), step.kind.clone());
    // A blocking thread of its own, so that no computation can hold up a heartbeat.
    let done = tokio::task::spawn_blocking(move || match registry.get(&kind) {
        Some(step) => step.run(input, &host),
        None => Err(StepError::failed(
            "unknown_step",
            format_args!("there is no step of kind `{kind}`"),
        )),
    });
    match done.await {
        Ok(outcome) => outcome,
        Err(error) => Err(StepError::unavailable(
            "panicked",
            format_args!("step `{}` panicked: {}", step.kind, said(error)),
        )),
    }
}

/// What a panic said.
fn said(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

async fn record(
    context: &WorkerContext,
    taken: &Taken,
    left: &Result<Outcome<Value>, StepError>,
) -> Result<(), StoreError> {
    let queue = &context.world.queue;
    let (now, step, claimed) = (queue.now(), &taken.claimed.0, &taken.claimed);
    match left {
        Ok(Outcome::Done(output)) => {
            answer(context, taken, CallOutcome::Ok(output.clone())).await?;
            let duration_ms = now - step.started_at.unwrap_or(now);
            info!(run.id = %step.run_id, step.position = %step.position, step.kind = %step.kind,
                step.attempt, duration_ms, "finished step `{}` of run {}", step.kind, step.run_id);
        }
        Ok(Outcome::Waiting(wait)) => {
            let tx = store::begin(&queue.db().write).await?;
            let turned_off =
                *wait == Wait::KillSwitch && !store::guards::stays_stopped(&tx).await?;
            queue::park(&tx, now, claimed, &to_json("wait", wait)?).await?;
            if turned_off {
                store::steps::wake(&tx, now, &step.run_id, &step.position).await?;
            }
            tx.commit().await?;
            queue.notify_local_of(Moved::Queue(&step.queue));
            let what = match wait {
                Wait::Build(build) => format!("build {build}"),
                Wait::Run(run) => format!("run {run}"),
                Wait::KillSwitch => "the kill switch to be turned off".to_owned(),
            };
            info!(run.id = %step.run_id, step.position = %step.position,
                "step `{}` of run {} waits for {what}", step.kind, step.run_id);
        }
        Err(failure) => {
            let left = match queue::answer_if_over(step, failure) {
                Some(outcome) => {
                    answer(context, taken, outcome).await?;
                    queue::Finished::Over
                }
                None => {
                    let tx = store::begin(&queue.db().write).await?;
                    let left = queue::fail(&tx, now, claimed, failure).await?;
                    tx.commit().await?;
                    queue.notify_local_of(Moved::Fact);
                    left
                }
            };
            warn!(run.id = %step.run_id, step.position = %step.position, step.kind = %step.kind,
                step.attempt, code = failure.code(), ?left,
                "step `{}` of run {} failed: {failure}", step.kind, step.run_id);
        }
    }
    Ok(())
}

/// Has the answer of a step recorded, with the advance of its run or with the answers of other steps; the hand is free for
/// the next step meanwhile, once there is room for this one.
async fn answer(
    context: &WorkerContext,
    taken: &Taken,
    outcome: CallOutcome,
) -> Result<(), StoreError> {
    let _room = context.finisher.room().await?;
    taken.place.leave();
    if go_on(context, taken, &outcome).await? {
        return Ok(());
    }
    let claimed = taken.claimed.clone();
    let handed_in = context.finisher.hand_in(claimed, outcome).await?;
    handed_in.recorded().await
}
