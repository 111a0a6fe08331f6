//! Advances one run: replays its script against its journal and records what the script asks for next.

use serde_json::{Value, json};
use tracing::{info, warn};
use workflows::run::machine::RunEvent;
use workflows::run::{
    Call, CallOutcome, Ending, Entry, Position, Progress, RunFailure, StepFailure, StepOptions,
};
use workflows::script::{Script, ScriptError};
use workflows::steps::Registry;

use super::long_lane::QUICK;
use super::workers::{WorkerContext, all_queues};
use crate::host::Trouble;
use crate::host::past::{Stop, keep};
use crate::host::replaying::Replaying;
use crate::queue::{self, Advance, Taken};
use crate::store::database::to_json;
use crate::store::journal::{NewEntry, journal};
use crate::store::runs::{RunEnd, run};
use crate::store::scripts::Scripts;
use crate::store::steps::NewStep;
use crate::store::{self, DatabaseTransaction, StoreError};

/// How often a step is tried unless its options say otherwise.
const ATTEMPTS: u32 = 8;
/// How long it waits before its second attempt unless its options say otherwise.
const BACKOFF_MS: i64 = 1_000;
/// When a long replay tries again to find a place among the long ones.
const LATER_MS: i64 = 1_000;

/// Advances a claimed run and records how far it came.
///
/// # Errors
///
/// `Stale` when the advance has passed to somebody else; otherwise when the database does not answer.
pub(super) async fn advance_run(context: &WorkerContext, taken: &Taken) -> Result<(), StoreError> {
    let queue = &context.world.queue;
    let now = queue.now();
    let run = store::runs::get(&queue.db().read, &taken.claimed.0.run_id).await?;
    if run.ended_at.is_some() {
        return finish(context, taken, Advance::Over).await;
    }
    if run.state == "diverged" && run.cancel_requested {
        // The run that had it done was stopped. It cannot be replayed, so nothing is undone.
        let message = "the run was cancelled; it had diverged, so nothing could be undone";
        let failure = RunEnd::Cancelled(json!(RunFailure::cancelled(message)));
        return end(context, taken, &run, &[], &failure).await;
    }
    if run.state == "diverged" {
        return finish(context, taken, Advance::Until(None)).await;
    }
    answer_overdue(context, &run, now).await?;
    match replayed(context, taken, &run, now).await {
        Err(Stop::Storage(error)) => Err(error),
        Err(Stop::Again(why)) => {
            warn!(error = &*why, run.id = %run.id, "failed to replay run {}; trying again", run.id);
            finish(context, taken, Advance::Until(Some(now + BACKOFF_MS))).await
        }
        Err(Stop::Never { code, message }) => {
            end(context, taken, &run, &[], &failed(code, &message)).await
        }
        Ok(Left::Later) => {
            let later = queue.now() + LATER_MS;
            finish(context, taken, Advance::Until(Some(later))).await
        }
        Ok(Left::With(Progress::Suspended {
            new,
            calls,
            abandoned,
            ..
        })) => suspend(context, taken, &run, &new, &calls, &abandoned).await,
        Ok(Left::With(Progress::Ended { new, ending })) => match ending {
            Ending::Failed(failure) if cut_off(&failure) => {
                let due = queue.now() + BACKOFF_MS * 10;
                finish(context, taken, Advance::Until(Some(due))).await
            }
            Ending::Failed(failure) => {
                let failure = RunEnd::Failed(json!(failure));
                end(context, taken, &run, &new, &failure).await
            }
            Ending::Cancelled(failure) => {
                let failure = RunEnd::Cancelled(json!(failure));
                end(context, taken, &run, &new, &failure).await
            }
            Ending::Continued { event } => {
                end(context, taken, &run, &new, &RunEnd::Continued(event)).await
            }
            Ending::Succeeded { result } => {
                end(context, taken, &run, &new, &RunEnd::Succeeded(result)).await
            }
        },
        Ok(Left::With(Progress::Diverged(_))) if run.cancel_requested => {
            let message = "the run was cancelled; its script asks for something else than its journal holds, so \
                           nothing could be undone";
            let failure = RunEnd::Cancelled(json!(RunFailure::cancelled(message)));
            end(context, taken, &run, &[], &failure).await
        }
        Ok(Left::With(Progress::Diverged(divergence))) => {
            let tx = store::begin(&queue.db().write).await?;
            queue::advance(&tx, now, &taken.claimed, Advance::Until(None)).await?;
            store::runs::diverge(&tx, now, &run.id, &json!(divergence)).await?;
            tx.commit().await?;
            warn!(run.id = %run.id, "run {} diverged at {}", run.id, divergence.position);
            Ok(())
        }
    }
}

fn failed(code: &str, message: &str) -> RunEnd {
    RunEnd::Failed(json!(RunFailure::of_run(code, message, None)))
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
                store::builds::cancel(&tx, now, &run.id, Some(&entry.position)).await?;
                if entry.kind == "run" {
                    let positions = [entry.position.clone()];
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
    CallOutcome::Err(StepFailure {
        kind: entry.kind.clone(),
        code: "timeout".to_owned(),
        message: format!("`{}` was not answered in time", entry.kind),
        retryable: true,
        position: entry.position.parse().ok(),
    })
}

/// How a replay left off.
enum Left {
    With(Progress),
    /// It takes long, and others that do are at work.
    Later,
}

/// Whether a replay was stopped for no fault of its script; it may simply be replayed.
fn cut_off(failure: &RunFailure) -> bool {
    failure.failure.code == "limit.deadline" && failure.failure.retryable
}

/// Replays a run. One that takes long leaves its hand to others and goes on beside them, at a low priority.
async fn replayed(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    now: i64,
) -> Result<Left, Stop> {
    let script = script(context, run).await?;
    let lane = &context.long;
    let mut place = None;
    if lane.knows(&run.id) {
        let Some(found) = lane.enter() else {
            return Ok(Left::Later);
        };
        taken.place.leave();
        place = Some(found);
    }
    let mut replaying = Replaying::begin(&context.world, run, now, script).await?;
    if let Some(progress) = replaying.within(QUICK).await {
        lane.forget(&run.id);
        return progress.map(Left::With);
    }
    lane.remember(&run.id);
    if place.is_none() {
        let Some(found) = lane.enter() else {
            replaying.give_up();
            return Ok(Left::Later);
        };
        taken.place.leave();
        place = Some(found);
    }
    replaying.step_back();
    // Where the process goes down somebody else replays it.
    let progress = replaying.ended(|| context.is_stopping()).await;
    drop(place);
    if !matches!(progress, Ok(Progress::Suspended { .. })) {
        lane.forget(&run.id);
    }
    progress.map(Left::With)
}

/// What gives the script a run is pinned to, compiled; to be called where the run is replayed, as it may take long.
async fn script(
    context: &WorkerContext,
    run: &run::Model,
) -> Result<impl FnOnce() -> Result<Script, ScriptError> + Send + 'static, Stop> {
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
    Ok(move || {
        context.script(&revision.digest, || {
            Script::compile(&revision.name, &revision.source)
        })
    })
}

/// Ends an advance that records nothing.
async fn finish(context: &WorkerContext, taken: &Taken, left: Advance) -> Result<(), StoreError> {
    let queue = &context.world.queue;
    let tx = store::begin(&queue.db().write).await?;
    queue::advance(&tx, queue.now(), &taken.claimed, left).await?;
    tx.commit().await?;
    Ok(())
}

/// Records the end of a run and calls off the rest of it.
async fn end(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    new: &[Entry],
    ending: &RunEnd,
) -> Result<(), StoreError> {
    let queue = &context.world.queue;
    let now = queue.now();
    let kept = Kept::of(context, new).await?;
    let tx = store::begin(&queue.db().write).await?;
    if matches!(ending, RunEnd::Continued(_)) {
        if store::guards::stays_stopped(&tx).await? {
            // Nothing of this replay is kept: it is played again once the next run may begin.
            queue::advance(&tx, now, &taken.claimed, Advance::Until(None)).await?;
            store::guards::hold_back(&tx, &run.id).await?;
            store::runs::moved(&tx, &run.id, &RunEvent::Suspended { wakes: 0 }).await?;
            tx.commit().await?;
            return Ok(());
        }
    } else {
        store::children::wake_parent(&tx, now, run).await?;
    }
    kept.append(&tx, now, &run.id, &[]).await?;
    store::runs::withdraw(&tx, now, &run.id).await?;
    if !matches!(ending, RunEnd::Succeeded(_)) {
        store::children::cancel(&tx, now, &run.id, None).await?;
    }
    queue::advance(&tx, now, &taken.claimed, Advance::Over).await?;
    if let RunEnd::Continued(event) = ending {
        if store::runs::get(&tx, &run.id).await?.cancel_requested {
            // Somebody stopped it meanwhile: nothing is to go on, and what it did is to be undone.
            tx.rollback().await?;
            return finish(context, taken, Advance::Until(Some(now))).await;
        }
        store::runs::end(&tx, now, &run.id, ending).await?;
        store::runs::continue_as(&tx, now, run, event).await?;
    } else {
        store::runs::end(&tx, now, &run.id, ending).await?;
    }
    tx.commit().await?;
    let duration_ms = now - run.started_at;
    info!(run.id = %run.id, run.workflow = %run.workflow, duration_ms,
        "run {} of `{}` {}", run.id, run.workflow, ending.state());
    Ok(())
}

/// Records what the script asks for, and leaves the run until something of it is answered or comes due.
async fn suspend(
    context: &WorkerContext,
    taken: &Taken,
    run: &run::Model,
    new: &[Entry],
    calls: &[Call],
    abandoned: &[Position],
) -> Result<(), StoreError> {
    let queue = &context.world.queue;
    let now = queue.now();
    let kept = Kept::of(context, new).await?;
    let asked: Vec<Asked> = calls
        .iter()
        .map(|call| Asked::of(context, call, now))
        .collect();
    let refused = asked.iter().any(|asked| asked.refused.is_some());
    let tx = store::begin(&queue.db().write).await?;
    if !abandon(&tx, now, &run.id, abandoned).await? {
        // Something was answered since the journal was read: the script comes further than this replay did.
        tx.rollback().await?;
        return finish(context, taken, Advance::Until(Some(now))).await;
    }
    kept.append(&tx, now, &run.id, &asked).await?;
    let due = store::journal::next_due(&tx, &run.id).await?;
    // What was refused is answered, so the script goes on at once.
    let due = if refused { Some(now) } else { due };
    for (call, asked) in calls.iter().zip(&asked) {
        if asked.refused.is_none() {
            kept.see_to(&tx, now, &run.id, call, asked).await?;
        }
    }
    queue::advance(&tx, now, &taken.claimed, Advance::Until(due)).await?;
    let event = match refused {
        true => RunEvent::Woken,
        false => RunEvent::Suspended { wakes: 0 },
    };
    store::runs::moved(&tx, &run.id, &event).await?;
    if !calls.is_empty() {
        let positions: Vec<String> = calls.iter().map(|c| c.position().to_string()).collect();
        let detail = json!({ "positions": positions });
        store::events::record(&tx, now, "run.advanced", &run.id, &detail).await?;
    }
    for call in calls {
        if let Call::WaitEvent {
            position,
            name,
            key,
            ..
        } = call
        {
            let at = (&*position.to_string(), name.as_str(), key.as_str());
            store::events::take_early(&tx, now, run, at).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Calls off what a cancelled run no longer waits for, and says so in its journal; `false` when one of the calls has
/// been answered meanwhile.
async fn abandon(
    tx: &DatabaseTransaction,
    now: i64,
    run: &str,
    abandoned: &[Position],
) -> Result<bool, StoreError> {
    let positions: Vec<String> = abandoned.iter().map(ToString::to_string).collect();
    store::runs::withdraw_calls(tx, now, run, &positions).await?;
    for (position, text) in abandoned.iter().zip(&positions) {
        let outcome = CallOutcome::Err(StepFailure::abandoned(position));
        if !store::journal::answer(tx, now, run, text, &outcome).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// When a call comes due, and why it is refused, if it is.
struct Asked {
    position: String,
    due: Option<i64>,
    queue: String,
    refused: Option<CallOutcome>,
}

impl Asked {
    fn of(context: &WorkerContext, call: &Call, now: i64) -> Self {
        let (due, queue, refused) = match call {
            Call::Step { kind, options, .. } => {
                let known = context.registry.get(kind).map(|step| step.queue());
                let refused = refusal(kind, options, &context.registry);
                let queue = options.queue.clone().or(known.map(str::to_owned));
                (options.timeout_ms.map(|ms| now + ms), queue, refused)
            }
            Call::Sleep { until, .. }
            | Call::WaitEvent { until, .. }
            | Call::Approval { until, .. } => (Some(until.0), None, None),
        };
        let outcome = refused.map(|(code, message)| {
            CallOutcome::Err(StepFailure {
                kind: match call {
                    Call::Step { kind, .. } => kind.clone(),
                    _ => "run".to_owned(),
                },
                code: code.to_owned(),
                message,
                retryable: false,
                position: Some(call.position().clone()),
            })
        });
        Self {
            position: call.position().to_string(),
            due,
            queue: queue.unwrap_or_default(),
            refused: outcome,
        }
    }
}

/// What a step cannot be asked for, said at once instead of never being done.
fn refusal(
    kind: &str,
    options: &StepOptions,
    registry: &Registry,
) -> Option<(&'static str, String)> {
    if registry.get(kind).is_none() {
        return Some(("unknown_step", format!("there is no step of kind `{kind}`")));
    }
    if let Some(queue) = &options.queue {
        let queues = all_queues(registry);
        if !queues.contains(queue) {
            let message = format!(
                "the option `queue` names `{queue}`, which no worker serves; give one of `{}`, or leave it out",
                queues.join("`, `")
            );
            return Some(("unknown_queue", message));
        }
    }
    let both = options.concurrency_key.is_some() && options.idempotency_key.is_some();
    both.then(|| {
        let message = "the options `concurrency_key` and `idempotency_key` exclude each other, as an idempotency key \
                       lets one step at a time run; give one of them";
        ("unsupported_option", message.to_owned())
    })
}

/// New entries as the journal keeps them.
struct Kept<'a> {
    entries: Vec<(&'a Entry, String, Value, Option<CallOutcome>)>,
}

impl<'a> Kept<'a> {
    async fn of(context: &WorkerContext, new: &'a [Entry]) -> Result<Self, StoreError> {
        let world = &context.world;
        let trouble = |trouble: Trouble| {
            StoreError::refused(
                "artifacts",
                format_args!("a large value is not kept: {trouble}"),
            )
        };
        let mut entries = Vec::with_capacity(new.len());
        for entry in new {
            let input = keep(world, entry.input.clone()).await.map_err(trouble)?;
            let outcome = match &entry.outcome {
                Some(CallOutcome::Ok(value)) => Some(CallOutcome::Ok(
                    keep(world, value.clone()).await.map_err(trouble)?,
                )),
                outcome => outcome.clone(),
            };
            entries.push((entry, entry.position.to_string(), input, outcome));
        }
        Ok(Self { entries })
    }

    async fn append(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        run: &str,
        asked: &[Asked],
    ) -> Result<(), StoreError> {
        let entries: Vec<NewEntry> = self
            .entries
            .iter()
            .map(|(entry, position, input, outcome)| {
                let asked = asked.iter().find(|asked| asked.position == *position);
                NewEntry {
                    position,
                    kind: &entry.kind,
                    input,
                    input_digest: &entry.input_digest,
                    line: entry.line.map(i64::from),
                    due: asked.and_then(|asked| asked.due),
                    undo: entry.undo,
                    outcome: asked
                        .and_then(|asked| asked.refused.as_ref())
                        .or(outcome.as_ref()),
                }
            })
            .collect();
        store::journal::append(tx, now, run, &entries).await
    }

    async fn see_to(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        run: &str,
        call: &Call,
        asked: &Asked,
    ) -> Result<(), StoreError> {
        let position = asked.position.as_str();
        match call {
            Call::Step {
                kind,
                input,
                options,
                ..
            } => {
                let kept = self.entries.iter().find(|kept| kept.1 == position);
                let input = to_json("step input", kept.map_or(input, |kept| &kept.2))?;
                let attempts = options
                    .retry
                    .map_or(ATTEMPTS, |again| again.saturating_add(1));
                // Two steps of one idempotency key at once would do twice what the key says to do once.
                let one_result = options.idempotency_key.as_deref();
                let one_at_a_time = one_result.map(|key| format!("once:{kind}:{key}"));
                let key = options
                    .concurrency_key
                    .as_ref()
                    .map(|key| format!("key:{key}"));
                let key = key.or(one_at_a_time);
                let new = NewStep {
                    concurrency_key: key.as_deref(),
                    concurrency_limit: i64::from(options.concurrency_limit.unwrap_or(1)),
                    idempotency_key: one_result,
                    run,
                    position,
                    kind,
                    queue: &asked.queue,
                    priority: i64::from(options.priority),
                    max_attempts: i64::from(attempts),
                    backoff_ms: options.backoff_ms.unwrap_or(BACKOFF_MS),
                    deadline: asked.due,
                    input: &input,
                };
                store::steps::insert(tx, now, &new).await?;
                if let Some(rate) = options.rate {
                    let key = options.rate_key.as_deref().unwrap_or(kind);
                    store::rates::set(tx, (run, position), key, rate).await?;
                }
                Ok(())
            }
            Call::Sleep { .. } => Ok(()),
            Call::WaitEvent { name, key, .. } => {
                store::events::wait_for(tx, run, position, name, key).await
            }
            Call::Approval { role, subject, .. } => {
                let at = (run, position);
                store::approvals::ask(tx, now, at, (role, subject), asked.due).await
            }
        }
    }
}
