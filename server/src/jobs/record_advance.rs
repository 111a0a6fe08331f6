//! What an advance of a run records: the calls its script made and what they ask for, or its end.
//!
//! It is made ready before the transaction, as large values go to the artifacts and hands are put by; then rows are
//! written, and last what is numbered is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tracing::info;
use workflows::run::machine::RunEvent;
use workflows::run::{
    Call, CallOutcome, Ending, Entry, Position, Progress, RunFailure, StepFailure, StepOptions,
};
use workflows::steps::Registry;

use super::workers::{WorkerContext, all_queues};
use crate::host::past::{Stop, keep};
use crate::queue::{self, Advance, Claimed, PutBy, Queue};
use crate::store::database::{Moved, to_json};
use crate::store::journal::NewEntry;
use crate::store::runs::{RunEnd, run};
use crate::store::steps::{NewLease, NewStep, step};
use crate::store::{self, DatabaseTransaction, StoreError};

/// How often a step is tried unless its options say otherwise.
const ATTEMPTS: u32 = 8;
/// How long it waits before its second attempt unless its options say otherwise.
const BACKOFF_MS: i64 = 1_000;

/// How far a run came, ready to be recorded.
pub(super) struct Advanced<'a> {
    queue: &'a Queue,
    run: &'a run::Model,
    kept: Kept<'a>,
    next: Next<'a>,
}

enum Next<'a> {
    /// It waits for the world.
    Waits(Waits<'a>),
    /// It is over.
    Over(RunEnd),
}

struct Waits<'a> {
    calls: &'a [Call],
    asked: Vec<Asked>,
    orders: Vec<Order>,
    hands: BTreeMap<String, PutBy>,
    abandoned: &'a [Position],
    /// Whether it goes on at once, whatever is answered.
    at_once: bool,
}

/// What an advance left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Whatever became ready is in a hand of this process.
    InHand,
    /// Something may wait to be claimed.
    Somewhere,
}

impl Left {
    /// Tells this process what may have moved.
    pub(super) fn tell(self, queue: &Queue) {
        queue.notify_local_of(match self {
            Self::InHand => Moved::Fact,
            Self::Somewhere => Moved::Anything,
        });
    }
}

/// What was written.
pub(super) enum Written {
    /// The run waits; these of its steps are claimed, and it may be due again at once.
    Waits {
        leased: Vec<step::Model>,
        again: bool,
    },
    /// Its end.
    Over,
    /// Nothing but that it waits for the kill switch.
    Held,
}

impl<'a> Advanced<'a> {
    /// Makes ready what a replay came to; `None` for what is no step forward: a script that diverged, or was cut off.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`], when the artifacts do not take what is large.
    pub(super) async fn of(
        context: &'a WorkerContext,
        run: &'a run::Model,
        now: i64,
        progress: &'a Progress,
    ) -> Result<Option<Self>, Stop> {
        match progress {
            Progress::Diverged(_) => Ok(None),
            Progress::Ended {
                ending: Ending::Failed(failure),
                ..
            } if cut_off(failure) => Ok(None),
            Progress::Ended { new, ending } => {
                let end = match ending.clone() {
                    Ending::Succeeded { result } => RunEnd::Succeeded(result),
                    Ending::Continued { event } => RunEnd::Continued(event),
                    Ending::Failed(failure) => RunEnd::Failed(json!(failure)),
                    Ending::Cancelled(failure) => RunEnd::Cancelled(json!(failure)),
                };
                let kept = Kept::of(context, new).await?;
                Ok(Some(Self {
                    kept,
                    ..Self::over(context, run, end)
                }))
            }
            Progress::Suspended {
                new,
                calls,
                abandoned,
                ..
            } => {
                let asked = (new.as_slice(), calls.as_slice(), abandoned.as_slice());
                Self::waiting(context, run, now, asked, false)
                    .await
                    .map(Some)
            }
            Progress::UsedUp {
                new,
                calls,
                abandoned,
            } => {
                let asked = (new.as_slice(), calls.as_slice(), abandoned.as_slice());
                Self::waiting(context, run, now, asked, true)
                    .await
                    .map(Some)
            }
        }
    }

    async fn waiting(
        context: &'a WorkerContext,
        run: &'a run::Model,
        now: i64,
        (new, calls, abandoned): (&'a [Entry], &'a [Call], &'a [Position]),
        at_once: bool,
    ) -> Result<Self, Stop> {
        let kept = Kept::of(context, new).await?;
        let waits = Waits::of(context, &kept, now, calls, abandoned)?;
        Ok(Self {
            queue: &context.world.queue,
            run,
            kept,
            next: Next::Waits(Waits { at_once, ..waits }),
        })
    }

    /// The end of a run of which nothing new is to be kept.
    pub(super) fn over(context: &'a WorkerContext, run: &'a run::Model, end: RunEnd) -> Self {
        Self {
            queue: &context.world.queue,
            run,
            kept: Kept::default(),
            next: Next::Over(end),
        }
    }

    /// Writes the rows under a claim of the advance; `None` when something was answered since the journal was read, so
    /// that nothing of this may be kept: the script comes further than the replay did.
    pub(super) async fn write(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        claimed: &Claimed,
    ) -> Result<Option<Written>, StoreError> {
        match &self.next {
            Next::Waits(waits) => self.write_waits(tx, now, claimed, waits).await,
            Next::Over(end) => self.write_end(tx, now, claimed, end).await,
        }
    }

    async fn write_waits(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        claimed: &Claimed,
        waits: &Waits<'_>,
    ) -> Result<Option<Written>, StoreError> {
        let run = self.run.id.as_str();
        if !abandon(tx, now, self.run, waits.abandoned).await? {
            return Ok(None);
        }
        self.kept.append(tx, now, run, &waits.asked).await?;
        let due = store::journal::next_due(tx, run).await?;
        // What was refused is answered, so the script goes on at once.
        let refused = waits.asked.iter().any(|asked| asked.refused.is_some());
        let at_once = refused || waits.at_once;
        let due = if at_once { Some(now) } else { due };
        let lease_until = now + self.queue.settings().step_lease_ms;
        let leased = waits.queue_steps(tx, now, run, lease_until).await?;
        for (call, asked) in waits.calls.iter().zip(&waits.asked) {
            if asked.refused.is_none() {
                see_to(tx, now, run, call, asked).await?;
            }
        }
        let again = queue::advance(tx, now, claimed, Advance::Until(due)).await?;
        let event = match at_once {
            true => RunEvent::Woken,
            false => RunEvent::Suspended { wakes: 0 },
        };
        store::runs::moved(tx, run, &event).await?;
        Ok(Some(Written::Waits { leased, again }))
    }

    async fn write_end(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        claimed: &Claimed,
        end: &RunEnd,
    ) -> Result<Option<Written>, StoreError> {
        let run = self.run.id.as_str();
        if matches!(end, RunEnd::Continued(_)) {
            if store::guards::stays_stopped(tx).await? {
                // Nothing of this replay is kept: it is played again once the next run may begin.
                queue::advance(tx, now, claimed, Advance::Until(None)).await?;
                store::guards::hold_back(tx, run).await?;
                store::runs::moved(tx, run, &RunEvent::Suspended { wakes: 0 }).await?;
                return Ok(Some(Written::Held));
            }
        } else {
            store::children::wake_parent(tx, now, self.run).await?;
        }
        self.kept.append(tx, now, run, &[]).await?;
        store::runs::withdraw(tx, now, run).await?;
        if !matches!(end, RunEnd::Succeeded(_)) {
            store::children::cancel(tx, now, run, None).await?;
        }
        queue::advance(tx, now, claimed, Advance::Over).await?;
        if matches!(end, RunEnd::Continued(_)) && store::runs::get(tx, run).await?.cancel_requested
        {
            // Somebody stopped it meanwhile: nothing is to go on, and what it did is to be undone.
            return Ok(None);
        }
        Ok(Some(Written::Over))
    }

    /// Tells what is numbered; the last of the transaction.
    pub(super) async fn tell(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        written: &Written,
    ) -> Result<(), StoreError> {
        let run = self.run;
        if matches!(written, Written::Held) {
            return Ok(());
        }
        match &self.next {
            Next::Waits(Waits { calls: [], .. }) => Ok(()),
            Next::Waits(Waits { calls, .. }) => {
                let positions: Vec<String> =
                    calls.iter().map(|c| c.position().to_string()).collect();
                let detail = json!({ "positions": positions });
                store::events::record(tx, now, "run.advanced", &run.id, &detail).await?;
                for call in *calls {
                    if let Call::WaitEvent {
                        position,
                        name,
                        key,
                        ..
                    } = call
                    {
                        let at = (&*position.to_string(), name.as_str(), key.as_str());
                        store::events::take_early(tx, now, run, at).await?;
                    }
                }
                Ok(())
            }
            Next::Over(end) => {
                store::runs::end(tx, now, &run.id, end).await?;
                if let RunEnd::Continued(event) = end {
                    store::runs::continue_as(tx, now, run, event).await?;
                }
                Ok(())
            }
        }
    }

    /// Gives what was claimed to the hands that were put by for it. After the commit.
    pub(super) async fn hand_out(self, now: i64, written: Written) -> Left {
        let (mut waits, leased, again) = match (self.next, written) {
            (Next::Waits(waits), Written::Waits { leased, again }) => (waits, leased, again),
            (Next::Over(end), Written::Over) => {
                let (run, duration_ms) = (self.run, now - self.run.started_at);
                info!(run.id = %run.id, run.workflow = %run.workflow, duration_ms,
                    "run {} of `{}` {}", run.id, run.workflow, end.state());
                return Left::Somewhere;
            }
            _ => return Left::Somewhere,
        };
        let (orders, calls) = (waits.orders.len(), waits.calls.len());
        let all_in_hand = !again && leased.len() == orders && orders == calls;
        let run = Arc::new(self.run.clone());
        for (name, leased) in by_queue(leased) {
            if let Some(hands) = waits.hands.remove(&name) {
                hands.hand_out(leased, |_| Some(run.clone())).await;
            }
        }
        match all_in_hand {
            true => Left::InHand,
            false => Left::Somewhere,
        }
    }
}

impl<'a> Waits<'a> {
    fn of(
        context: &WorkerContext,
        kept: &Kept<'_>,
        now: i64,
        calls: &'a [Call],
        abandoned: &'a [Position],
    ) -> Result<Self, StoreError> {
        let asked: Vec<Asked> = calls
            .iter()
            .map(|call| Asked::of(context, call, now))
            .collect();
        let granted = (calls.iter().zip(&asked)).filter(|(_, asked)| asked.refused.is_none());
        let orders: Vec<Order> = granted
            .filter_map(|(call, asked)| kept.order(call, asked))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hands: put_by(&context.world.queue, &orders),
            calls,
            asked,
            orders,
            abandoned,
            at_once: false,
        })
    }

    /// Queues the steps, each claimed as long as hands of its queue are left; gives those that were claimed.
    async fn queue_steps(
        &self,
        tx: &DatabaseTransaction,
        now: i64,
        run: &str,
        until: i64,
    ) -> Result<Vec<step::Model>, StoreError> {
        if self.orders.is_empty() {
            return Ok(Vec::new());
        }
        let hands = self.hands.iter();
        let mut free: BTreeMap<&str, usize> = hands
            .map(|(name, hands)| (&**name, hands.count()))
            .collect();
        let new: Vec<NewStep<'_>> = self
            .orders
            .iter()
            .map(|order| {
                let free = free.get_mut(&*order.queue).filter(|free| **free > 0);
                let lease = free.filter(|_| !order.is_counted()).and_then(|free| {
                    *free -= 1;
                    let owner = self.hands.get(&order.queue)?.owner();
                    Some(NewLease { owner, until })
                });
                order.step(run, lease)
            })
            .collect();
        let leased = store::steps::insert_all(tx, now, &new).await?;
        for order in &self.orders {
            if let Some(rate) = order.options.rate {
                let key = order.options.rate_key.as_deref().unwrap_or(&order.kind);
                store::rates::set(tx, (run, &order.position), key, rate).await?;
            }
        }
        Ok(leased)
    }
}

/// Whether a replay was stopped for no fault of its script; it may simply be replayed.
fn cut_off(failure: &RunFailure) -> bool {
    failure.failure.code == "limit.deadline" && failure.failure.retryable
}

/// Hands of this process for the steps that are about to be queued, by queue. A step that is counted, by its concurrency
/// key or its rate, has to wait until it is, so none is put by for it.
fn put_by(queue: &Queue, orders: &[Order]) -> BTreeMap<String, PutBy> {
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    for order in orders.iter().filter(|order| !order.is_counted()) {
        *wanted.entry(&order.queue).or_default() += 1;
    }
    let wanted = wanted.into_iter();
    wanted
        .filter_map(|(name, wanted)| Some((name.to_owned(), queue.put_by(name, wanted)?)))
        .collect()
}

fn by_queue(leased: Vec<step::Model>) -> BTreeMap<String, Vec<Claimed>> {
    let mut by_queue: BTreeMap<String, Vec<Claimed>> = BTreeMap::new();
    for step in leased {
        let queue = by_queue.entry(step.queue.clone()).or_default();
        queue.push(Claimed(step));
    }
    by_queue
}

/// Calls off what a run no longer waits for, and says so in its journal; `false` when it is cancelled and one of the calls
/// has been answered meanwhile, as its script would come further. A script that failed comes to that all the same.
async fn abandon(
    tx: &DatabaseTransaction,
    now: i64,
    run: &run::Model,
    abandoned: &[Position],
) -> Result<bool, StoreError> {
    if abandoned.is_empty() {
        return Ok(true);
    }
    let positions: Vec<String> = abandoned.iter().map(ToString::to_string).collect();
    store::runs::withdraw_calls(tx, now, &run.id, &positions).await?;
    let outcomes = abandoned.iter().zip(positions).map(|(position, text)| {
        let outcome = CallOutcome::Err(StepFailure::abandoned(position));
        (text, outcome)
    });
    let outcomes: Vec<_> = outcomes.collect();
    let answered = store::journal::answer_all(tx, now, &run.id, &outcomes).await?;
    Ok(answered == outcomes.len() || !run.cancel_requested)
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
#[derive(Default)]
struct Kept<'a> {
    entries: Vec<(&'a Entry, String, Value, Option<CallOutcome>)>,
}

impl<'a> Kept<'a> {
    async fn of(context: &WorkerContext, new: &'a [Entry]) -> Result<Self, Stop> {
        let world = &context.world;
        let mut entries = Vec::with_capacity(new.len());
        for entry in new {
            let input = keep(world, entry.input.clone())
                .await
                .map_err(Stop::Again)?;
            let outcome = match &entry.outcome {
                Some(CallOutcome::Ok(value)) => Some(CallOutcome::Ok(
                    keep(world, value.clone()).await.map_err(Stop::Again)?,
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

    /// The step that a call asks for, if it asks for one.
    fn order(&self, call: &Call, asked: &Asked) -> Option<Result<Order, StoreError>> {
        let Call::Step {
            kind,
            input,
            options,
            ..
        } = call
        else {
            return None;
        };
        let kept = (self.entries.iter()).find(|kept| kept.1 == asked.position);
        let input = to_json("step input", kept.map_or(input, |kept| &kept.2));
        // Two steps of one idempotency key at once would do twice what the key says to do once.
        let one_at_a_time =
            (options.idempotency_key.as_ref()).map(|key| format!("once:{kind}:{key}"));
        let key = (options.concurrency_key.as_ref()).map(|key| format!("key:{key}"));
        Some(input.map(|input| Order {
            position: asked.position.clone(),
            kind: kind.clone(),
            queue: asked.queue.clone(),
            options: options.clone(),
            due: asked.due,
            key: key.or(one_at_a_time),
            input,
        }))
    }
}

/// A step to be queued.
struct Order {
    position: String,
    kind: String,
    queue: String,
    options: StepOptions,
    due: Option<i64>,
    key: Option<String>,
    input: String,
}

impl Order {
    /// Whether it may be claimed only where it is counted.
    fn is_counted(&self) -> bool {
        self.key.is_some() || self.options.rate.is_some()
    }

    fn step<'s>(&'s self, run: &'s str, lease: Option<NewLease<'s>>) -> NewStep<'s> {
        let options = &self.options;
        let attempts = options
            .retry
            .map_or(ATTEMPTS, |again| again.saturating_add(1));
        NewStep {
            run,
            position: &self.position,
            kind: &self.kind,
            queue: &self.queue,
            priority: i64::from(options.priority),
            max_attempts: i64::from(attempts),
            backoff_ms: options.backoff_ms.unwrap_or(BACKOFF_MS),
            deadline: self.due,
            input: &self.input,
            concurrency_key: self.key.as_deref(),
            concurrency_limit: i64::from(options.concurrency_limit.unwrap_or(1)),
            idempotency_key: options.idempotency_key.as_deref(),
            lease,
        }
    }
}

/// Sees to a call that is no step.
async fn see_to(
    tx: &DatabaseTransaction,
    now: i64,
    run: &str,
    call: &Call,
    asked: &Asked,
) -> Result<(), StoreError> {
    let position = asked.position.as_str();
    match call {
        Call::Step { .. } | Call::Sleep { .. } => Ok(()),
        Call::WaitEvent { name, key, .. } => {
            store::events::wait_for(tx, run, position, name, key).await
        }
        Call::Approval { role, subject, .. } => {
            let at = (run, position);
            store::approvals::ask(tx, now, at, (role, subject), asked.due).await
        }
    }
}
