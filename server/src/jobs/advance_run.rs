//! Advances one run: replays its script against its journal and records what the script asks for next.

use serde_json::{Value, json};
use tracing::warn;
use workflows::run::{CallOutcome, Progress, RunFailure, StepFailure};
use workflows::script::{Script, ScriptError};

use super::long_lane::QUICK;
use super::record_advance::{Advanced, Left};
use super::workers::WorkerContext;
use crate::host::past::Stop;
use crate::host::replaying::Replaying;
use crate::queue::{self, Advance, Taken};
use crate::store::journal::journal;
use crate::store::runs::{RunEnd, run};
use crate::store::scripts::Scripts;
use crate::store::{self, StoreError};

/// How long to wait until a run is tried again that could not be replayed.
const BACKOFF_MS: i64 = 1_000;
/// When a long replay tries again to find a place among the long ones.
const LATER_MS: i64 = 1_000;

/// Advances a claimed run, records how far it came, and tells this process what that moved.
///
/// # Errors
///
/// `Stale` when the advance has passed to somebody else; otherwise when the database does not answer.
pub(super) async fn advance_run(context: &WorkerContext, taken: &Taken) -> Result<(), StoreError> {
    let left = advance(context, taken).await;
    let moved = left.as_ref().copied().unwrap_or(Left::Somewhere);
    moved.tell(&context.world.queue);
    left.map(|_| ())
}

async fn advance(context: &WorkerContext, taken: &Taken) -> Result<Left, StoreError> {
    let queue = &context.world.queue;
    let now = queue.now();
    let run = store::runs::get(&queue.db().read, &taken.claimed.0.run_id).await?;
    if run.ended_at.is_some() {
        return finish(context, taken, Advance::Over).await;
    }
    if run.state == "diverged" && run.cancel_requested {
        // The run that had it done was stopped. It cannot be replayed, so nothing is undone.
        let message = "the run was cancelled; it had diverged, so nothing could be undone";
        return cancelled(context, taken, &run, message).await;
    }
    if run.state == "diverged" {
        return finish(context, taken, Advance::Until(None)).await;
    }
    answer_overdue(context, &run, now).await?;
    match step_forward(context, taken, &run, now).await {
        Ok(left) => Ok(left),
        Err(Stop::Storage(error)) => Err(error),
        Err(Stop::Again(why)) => {
            warn!(error = &*why, run.id = %run.id, "failed to advance run {}; trying again", run.id);
            put_off(context, taken, &*why).await
        }
        Err(Stop::Never { code, message }) => {
            let end = RunEnd::Failed(json!(RunFailure::of_run(code, &message, None)));
            end_as_is(context, taken, &run, end).await
        }
    }
}

/// Replays a run and records how far it came.
async fn step_forward(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    now: i64,
) -> Result<Left, Stop> {
    let queue = &context.world.queue;
    match replayed(context, taken, run, now).await? {
        Replayed::Later => {
            let later = queue.now() + LATER_MS;
            Ok(finish(context, taken, Advance::Until(Some(later))).await?)
        }
        Replayed::With(Progress::Diverged(_)) if run.cancel_requested => {
            let message = "the run was cancelled; its script asks for something else than its journal holds, so \
                           nothing could be undone";
            Ok(cancelled(context, taken, run, message).await?)
        }
        Replayed::With(Progress::Diverged(divergence)) => {
            let tx = store::begin(&queue.db().write).await?;
            queue::advance(&tx, now, &taken.claimed, Advance::Until(None)).await?;
            store::runs::diverge(&tx, now, &run.id, &json!(divergence)).await?;
            tx.commit().await.map_err(StoreError::from)?;
            warn!(run.id = %run.id, "run {} diverged at {}", run.id, divergence.position);
            Ok(Left::Somewhere)
        }
        Replayed::With(progress) => {
            match Advanced::of(context, run, queue.now(), &progress).await? {
                Some(advanced) => Ok(record(context, taken, advanced).await?),
                // It was out of time.
                None => {
                    let due = queue.now() + BACKOFF_MS * 10;
                    Ok(finish(context, taken, Advance::Until(Some(due))).await?)
                }
            }
        }
    }
}

/// Ends a run that was stopped and cannot undo anything.
async fn cancelled(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    message: &str,
) -> Result<Left, StoreError> {
    let end = RunEnd::Cancelled(json!(RunFailure::cancelled(message)));
    end_as_is(context, taken, run, end).await
}

/// Ends a run that its script brings no further.
async fn end_as_is(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    end: RunEnd,
) -> Result<Left, StoreError> {
    record(context, taken, Advanced::over(context, run, end)).await
}

/// Leaves a run for a moment, and says why; it is tried for as long as that takes.
async fn put_off(
    context: &WorkerContext,
    taken: &Taken,
    why: &(dyn std::error::Error + Send + Sync + 'static),
) -> Result<Left, StoreError> {
    let queue = &context.world.queue;
    let tx = store::begin(&queue.db().write).await?;
    let due = queue.now() + BACKOFF_MS;
    queue::advance(&tx, queue.now(), &taken.claimed, Advance::Until(Some(due))).await?;
    queue::say_why(&tx, &taken.claimed, &cad::error_chain(why)).await?;
    tx.commit().await?;
    Ok(Left::Somewhere)
}

/// Records how far the run came, under the claim of its advance.
async fn record(
    context: &WorkerContext,
    taken: &Taken,
    advanced: Advanced<'_>,
) -> Result<Left, StoreError> {
    let queue = &context.world.queue;
    let now = queue.now();
    let tx = store::begin(&queue.db().write).await?;
    let Some(written) = advanced.write(&tx, now, &taken.claimed).await? else {
        tx.rollback().await?;
        return finish(context, taken, Advance::Until(Some(now))).await;
    };
    advanced.tell(&tx, now, &written).await?;
    tx.commit().await?;
    Ok(advanced.hand_out(now, written).await)
}

/// Answers the calls that came due: a sleep is over, everything else timed out.
async fn answer_overdue(
    context: &WorkerContext,
    run: &run::Model,
    now: i64,
) -> Result<(), StoreError> {
    let queue = &context.world.queue;
    let overdue = store::journal::overdue(&queue.db().read, now, &run.id).await?;
    if overdue.is_empty() {
        return Ok(());
    }
    let tx = store::begin(&queue.db().write).await?;
    for entry in overdue {
        let outcome = match entry.kind.as_str() {
            "sleep" => CallOutcome::Ok(Value::Null),
            "wait_event" => {
                store::events::wait_no_more(&tx, &run.id, &entry.position).await?;
                timed_out(&entry)
            }
            "approval" => {
                store::approvals::expire(&tx, now, &run.id, &entry.position).await?;
                timed_out(&entry)
            }
            _ => {
                let positions = [entry.position.clone()];
                store::builds::cancel(&tx, now, &run.id, Some(&positions)).await?;
                if entry.kind == "run" {
                    store::children::cancel(&tx, now, &run.id, Some(&positions)).await?;
                }
                let error = "timeout: its time was up";
                store::steps::expire(&tx, now, &run.id, &entry.position, error).await?;
                timed_out(&entry)
            }
        };
        store::journal::answer(&tx, now, &run.id, &entry.position, &outcome).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn timed_out(entry: &journal::Model) -> CallOutcome {
    let position = entry.position.parse().ok();
    CallOutcome::Err(StepFailure::timed_out(&entry.kind, position))
}

/// How a replay left off.
enum Replayed {
    With(Progress),
    /// It takes long, and others that do are at work.
    Later,
}

/// Replays a run. One that takes long leaves its hand to others and goes on beside them, at a low priority.
async fn replayed(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    now: i64,
) -> Result<Replayed, Stop> {
    let script = script(context, run).await?;
    let lane = &context.long;
    let mut place = None;
    if lane.knows(run) {
        let Some(found) = lane.enter() else {
            return Ok(Replayed::Later);
        };
        taken.place.leave();
        place = Some(found);
    }
    let journal = store::journal::of_run(&context.world.queue.db().read, &run.id).await?;
    let mut replaying = Replaying::begin(&context.world, run, journal, now, script).await?;
    if place.is_some() {
        // For a moment it counts as short itself, and waits for itself.
        replaying.step_back(&lane.short);
    }
    if let Some(progress) = replaying.quickly(QUICK).await {
        match &progress {
            Ok(progress) if progress.hit_a_limit() => lane.beware(run),
            _ => lane.forget(run),
        }
        return progress.map(Replayed::With);
    }
    lane.remember(run);
    if place.is_none() {
        let Some(found) = lane.enter() else {
            replaying.give_up();
            return Ok(Replayed::Later);
        };
        taken.place.leave();
        place = Some(found);
    }
    replaying.step_back(&lane.short);
    // Where the process goes down somebody else replays it.
    let progress = replaying.ended(|| context.is_stopping()).await;
    drop(place);
    if !matches!(
        progress,
        Ok(Progress::Suspended { .. } | Progress::UsedUp { .. })
    ) {
        lane.leave(run);
    }
    progress.map(Replayed::With)
}

/// Gives the script a run is pinned to, compiled.
type GiveScript = Box<dyn FnOnce() -> Result<Script, ScriptError> + Send>;

/// What gives the script a run is pinned to; to be called where the run is replayed, as compiling may take long.
pub(super) async fn script(context: &WorkerContext, run: &run::Model) -> Result<GiveScript, Stop> {
    if let Some(script) = context.compiled(&run.revision) {
        return Ok(Box::new(|| Ok(script)));
    }
    let db = &context.world.queue.db().read;
    let revision = match Scripts::Workflows
        .revision(db, &run.workflow, &run.revision)
        .await
    {
        Err(error @ StoreError::Unknown { .. }) => {
            return Err(Stop::Never {
                code: "unknown_workflow",
                message: error.to_string(),
            });
        }
        revision => revision?,
    };
    let context = context.clone();
    Ok(Box::new(move || {
        context.script(&revision.digest, || {
            Script::compile(&revision.name, &revision.source)
        })
    }))
}

/// Ends an advance that records nothing.
async fn finish(context: &WorkerContext, taken: &Taken, left: Advance) -> Result<Left, StoreError> {
    let queue = &context.world.queue;
    let tx = store::begin(&queue.db().write).await?;
    queue::advance(&tx, queue.now(), &taken.claimed, left).await?;
    tx.commit().await?;
    Ok(Left::Somewhere)
}
