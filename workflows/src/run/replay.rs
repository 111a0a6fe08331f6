//! Runs a script against its journal until it suspends, ends, or turns out to be another script.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rhai::{Dynamic, Engine, EvalAltResult, FnPtr, Scope};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Call, CallOutcome, Entry, Journal, Position, StepFailure, WaitingFor,
    host::{self, Halt, Recorder, Shared, lock},
};
use crate::{
    model::Timestamp,
    script::{
        Limits, Script, ScriptError, StopFlag, StopReason, engine_for, innermost, on_big_stack,
        value,
    },
};

/// Entries a failing run may add to undo what it did, beyond its limit.
const UNDO_RESERVE: usize = 256;

/// What a replay needs beside script, event and journal.
#[derive(Debug, Clone, Copy)]
pub struct ReplayContext<'a> {
    /// The run.
    pub run: &'a str,
    /// What `now()` answers where the journal has no answer yet, and what waits are reckoned from.
    pub now: Timestamp,
    /// Seed of `random()`.
    pub seed: u64,
    /// Whether somebody wants the run stopped. The script then goes no further than its journal and is undone as
    /// if it had failed there.
    pub cancelled: bool,
    /// Limits of this one replay.
    pub limits: &'a Limits,
}

/// How far a replay came.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It waits for the world.
    Suspended {
        /// Entries to be stored; `now`, `random`, `log` and `wait_any` have their answer already.
        new: Vec<Entry>,
        /// What to have done: the calls among the new entries that the world answers.
        calls: Vec<Call>,
        /// Every call that has no answer yet and is waited for, old and new.
        waiting_for: Vec<WaitingFor>,
        /// Calls that a run which failed or is cancelled no longer waits for. They are to be called off and answered
        /// with [`StepFailure::abandoned`] together with what is stored. If one of a cancelled run has been answered
        /// meanwhile, nothing of this progress may be kept, for its script would have come further; a script that
        /// failed comes to that whatever is answered.
        abandoned: Vec<Position>,
    },
    /// It used up its time. It is to be replayed at once: that replay stops where this one was, and undoes what the
    /// script had done until then.
    UsedUp {
        /// Entries to be stored, the one that says so last.
        new: Vec<Entry>,
        /// What to have done, as for one that is suspended.
        calls: Vec<Call>,
        /// What to call off, likewise.
        abandoned: Vec<Position>,
    },
    /// It is over.
    Ended {
        /// Entries to be stored.
        new: Vec<Entry>,
        /// How it ended.
        ending: Ending,
    },
    /// The script asks for something else than its journal holds; nothing is to be stored.
    Diverged(Divergence),
}

impl Progress {
    /// Whether the run ended because its script wanted more than a script may have.
    #[must_use]
    pub fn hit_a_limit(&self) -> bool {
        let Self::Ended {
            ending: Ending::Failed(RunFailure { failure, .. }),
            ..
        } = self
        else {
            return false;
        };
        failure.code.starts_with("limit.") || failure.code == "journal_full"
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// `run` returned.
    Succeeded {
        /// What it returned.
        result: Value,
    },
    /// It called `continue_as_new`: a new run of the workflow goes on.
    Continued {
        /// What that is given.
        event: Value,
    },
    /// It called `fail`, or let a failure through.
    Failed(RunFailure),
    /// Somebody stopped it; what could be undone is undone.
    Cancelled(RunFailure),
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailure {
    /// The failure nobody caught; in JSON its fields are the run failure's own.
    #[serde(flatten)]
    pub failure: StepFailure,
    /// Line of the script.
    pub line: Option<u32>,
    /// Failures of `on_failure` closures: what could not be undone.
    pub not_undone: Vec<StepFailure>,
}

/// A script and its journal do not belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The call.
    pub position: Position,
    /// Line of the script that asks.
    pub line: Option<u32>,
    /// What the journal holds there.
    pub recorded: Option<Side>,
    /// What the script asks for; `None` where it ended or waited without asking.
    pub requested: Option<Side>,
}

/// One side of a divergence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Kind of the call.
    pub kind: String,
    /// Its input.
    pub input: Value,
    /// Digest of that.
    pub input_digest: String,
}

impl Side {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            kind: entry.kind.clone(),
            input: entry.input.clone(),
            input_digest: entry.input_digest.clone(),
        }
    }
}

impl StepFailure {
    /// A failure of the run itself.
    pub(super) fn of_run(code: &str, message: &str) -> Self {
        Self {
            kind: "run".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            retryable: false,
            position: None,
        }
    }
}

impl RunFailure {
    /// A failure of the run itself, not of one of its steps.
    #[must_use]
    pub fn of_run(code: &str, message: &str, line: Option<u32>) -> Self {
        Self {
            failure: StepFailure::of_run(code, message),
            line,
            not_undone: Vec::new(),
        }
    }

    /// What a run that somebody stopped ends with.
    #[must_use]
    pub fn cancelled(message: &str) -> Self {
        Self::of_run("cancelled", message, None)
    }
}

/// Runs `fn run(event)` of a script against a journal.
///
/// The same script, event and journal give the same progress, on any machine; only entries that are new take
/// anything from `ctx`. A replay that is given up (the limits' stop flag) ends with the retryable failure
/// `limit.deadline` and undoes nothing: it may simply be replayed. One that used up its time says in its journal where,
/// for time is the one thing that another machine would measure differently.
#[must_use]
pub fn replay(script: &Script, event: &Value, journal: &Journal, ctx: &ReplayContext) -> Progress {
    on_big_stack(|| Replay::new(script, journal, ctx).run(event)).unwrap_or_else(|panic| {
        Progress::Ended {
            new: Vec::new(),
            ending: Ending::Failed(RunFailure::of_run("internal", &panic.to_string(), None)),
        }
    })
}

struct Replay<'a> {
    script: &'a Script,
    engine: Engine,
    recorder: Shared,
    stop: StopFlag,
}

/// How the script's own part of a replay left off.
enum Left {
    With(Value),
    Continued(Value),
    Failing(RunFailure),
    Stopped(StopReason, RunFailure),
    Cancelled,
    Over(Progress),
}

impl<'a> Replay<'a> {
    fn new(script: &'a Script, journal: &Journal, ctx: &ReplayContext) -> Self {
        let recorder = Arc::new(Mutex::new(Recorder::new(journal, ctx)));
        let mut engine = engine_for(script, ctx.limits);
        host::register(&mut engine, &recorder);
        Self {
            script,
            engine,
            recorder,
            stop: ctx.limits.stop.clone().unwrap_or_default(),
        }
    }

    fn run(&self, event: &Value) -> Progress {
        match self.go(event) {
            Left::With(result) => self.ended(Ending::Succeeded { result }),
            Left::Continued(event) => self.ended(Ending::Continued { event }),
            Left::Failing(failure) => self.undo(failure, Ending::Failed),
            Left::Stopped(StopReason::GivenUp, failure) => cut_off(failure),
            Left::Stopped(StopReason::UsedUp, failure) if self.has_nothing_to_undo() => {
                self.ended(Ending::Failed(failure))
            }
            Left::Stopped(StopReason::UsedUp, failure) => {
                lock(&self.recorder).call_off_new();
                self.used_up(&failure, &[])
                    .unwrap_or_else(|| cut_off(failure))
            }
            Left::Cancelled => {
                let failure = RunFailure::cancelled("the run was cancelled");
                self.undo(failure, Ending::Cancelled)
            }
            Left::Over(progress) => progress,
        }
    }

    /// The script itself, up to its end and that of every step it started.
    fn go(&self, event: &Value) -> Left {
        let event = match value::to_dynamic(event) {
            Ok(event) => event,
            Err(e) => {
                let message = format!("event: {e}");
                return Left::Failing(RunFailure::of_run("invalid_event", &message, None));
            }
        };
        if !self.script.defines("run", 1) {
            let message = format!("script `{}` has no `fn run(event)`", self.script.name());
            return Left::Failing(RunFailure::of_run("missing_function", &message, None));
        }
        if let Some(failure) = lock(&self.recorder).stopped_before() {
            return Left::Failing(failure);
        }
        let left = self.leave(self.call("run", vec![event]));
        if !matches!(left, Left::With(_) | Left::Continued(_)) {
            return left;
        }
        let recorder = lock(&self.recorder);
        let mut open = false;
        let mut abandoned = false;
        let mut failed = None;
        for outcome in recorder.unawaited() {
            match outcome {
                None => open = true,
                Some(outcome) if outcome.is_abandoned() => abandoned = true,
                Some(CallOutcome::Err(failure)) if failed.is_none() => {
                    failed = Some(failure.clone())
                }
                Some(_) => {}
            }
        }
        let cancelled = recorder.cancelled && (open || abandoned);
        drop(recorder);
        match failed {
            _ if cancelled => Left::Cancelled,
            _ if open => Left::Over(self.suspended()),
            Some(failure) => Left::Failing(RunFailure {
                failure,
                line: None,
                not_undone: Vec::new(),
            }),
            None => left,
        }
    }

    /// Runs the `on_failure` closures, last first, each numbering its calls below its own position. What the script had
    /// open is called off first: undoing it beside itself would leave either of the two.
    fn undo(&self, mut failure: RunFailure, ending: fn(RunFailure) -> Ending) -> Progress {
        let (compensations, abandoned) = {
            let mut recorder = lock(&self.recorder);
            recorder.entry_limit += UNDO_RESERVE;
            let compensations = std::mem::take(&mut recorder.compensations);
            if !compensations.is_empty() {
                recorder.call_off_new();
            }
            (compensations, recorder.unanswered())
        };
        let mut out_of_time = false;
        for (position, closure) in compensations.into_iter().rev() {
            if out_of_time {
                failure.not_undone.push(not_begun(position));
                continue;
            }
            match self.undo_one(position, &closure) {
                Left::With(_) | Left::Continued(_) | Left::Cancelled => {}
                Left::Failing(failed) => failure.not_undone.push(failed.failure),
                Left::Stopped(StopReason::GivenUp, failed) => return cut_off(failed),
                Left::Stopped(StopReason::UsedUp, failed) => {
                    if let Some(progress) = self.used_up(&failed, &abandoned) {
                        return progress;
                    }
                    failure.not_undone.push(failed.failure);
                    out_of_time = true;
                }
                Left::Over(progress) => return without(progress, &abandoned),
            }
        }
        match out_of_time {
            // What the journal holds of the closure that was stopped has not been asked for.
            true => self.ended_with(ending(failure)),
            false => self.ended(ending(failure)),
        }
    }

    fn undo_one(&self, position: Position, closure: &FnPtr) -> Left {
        let mut recorder = lock(&self.recorder);
        recorder.enter(position);
        if let Some(failure) = recorder.stopped_before() {
            return Left::Failing(failure);
        }
        drop(recorder);
        self.leave(self.call_closure(closure))
    }

    /// Whether no closure was registered, and the script has come past everything its journal holds.
    fn has_nothing_to_undo(&self) -> bool {
        let recorder = lock(&self.recorder);
        recorder.compensations.is_empty() && recorder.left_over().is_none()
    }

    /// Leaves off where its time was used up, if that may be.
    fn used_up(&self, failure: &RunFailure, abandoned: &[Position]) -> Option<Progress> {
        let mut recorder = lock(&self.recorder);
        let stop = recorder.stop(failure)?;
        let mut new = std::mem::take(&mut recorder.new);
        new.push(stop);
        Some(Progress::UsedUp {
            new,
            calls: std::mem::take(&mut recorder.calls),
            abandoned: abandoned.to_vec(),
        })
    }

    fn call(&self, function: &str, args: Vec<Dynamic>) -> Result<Dynamic, Box<EvalAltResult>> {
        self.engine
            .call_fn(&mut Scope::new(), self.script.ast(), function, args)
    }

    fn call_closure(&self, closure: &FnPtr) -> Result<Dynamic, Box<EvalAltResult>> {
        self.call(closure.fn_name(), closure.curry().to_vec())
    }

    /// Sorts out how a call into the script left off; a halt goes before whatever the script made of it.
    fn leave(&self, result: Result<Dynamic, Box<EvalAltResult>>) -> Left {
        let halt = lock(&self.recorder).halt.take();
        match (halt, result) {
            (Some(Halt::Suspended), _) => Left::Over(self.suspended()),
            (Some(Halt::Cancelled), _) => Left::Cancelled,
            (Some(Halt::Continued(event)), _) => Left::Continued(event),
            (Some(Halt::Diverged(divergence)), _) => Left::Over(Progress::Diverged(*divergence)),
            (Some(Halt::Failed(failure)), _) => Left::Failing(*failure),
            (None, Ok(result)) => match value::from_dynamic(&result) {
                Ok(result) => Left::With(result),
                Err(e) => {
                    let message = format!("what the script returned cannot be stored: {e}");
                    Left::Failing(RunFailure::of_run("invalid_result", &message, None))
                }
            },
            (None, Err(error)) => self.failed(&error),
        }
    }

    fn failed(&self, error: &EvalAltResult) -> Left {
        let mut failure = uncaught(self.script, error);
        let terminated = matches!(innermost(error), EvalAltResult::ErrorTerminated(..));
        match self.stop.raised().filter(|_| terminated) {
            Some(reason) => {
                failure.failure.retryable = reason == StopReason::GivenUp;
                if reason == StopReason::UsedUp {
                    let message = "the script used up its processor time to come this far";
                    message.clone_into(&mut failure.failure.message);
                }
                Left::Stopped(reason, failure)
            }
            None => Left::Failing(failure),
        }
    }

    fn suspended(&self) -> Progress {
        let mut recorder = lock(&self.recorder);
        if let Some(divergence) = unasked(&recorder) {
            return Progress::Diverged(divergence);
        }
        let waiting_for = recorder
            .open()
            .map(|entry| WaitingFor {
                kind: entry.kind.clone(),
                position: entry.position.clone(),
                what: entry.input.clone(),
            })
            .collect();
        Progress::Suspended {
            new: std::mem::take(&mut recorder.new),
            calls: std::mem::take(&mut recorder.calls),
            waiting_for,
            abandoned: Vec::new(),
        }
    }

    /// Steps started in this very replay are dropped with the end: nobody has begun them.
    fn ended(&self, ending: Ending) -> Progress {
        if let Some(divergence) = unasked(&lock(&self.recorder)) {
            return Progress::Diverged(divergence);
        }
        self.ended_with(ending)
    }

    fn ended_with(&self, ending: Ending) -> Progress {
        let mut new = std::mem::take(&mut lock(&self.recorder).new);
        // One of them stays, for who begins the run again: what was asked after it belongs to nothing that is kept.
        if let Some(first) = new.iter_mut().find(|entry| entry.outcome.is_none()) {
            let never_begun = StepFailure::never_begun(&first.position);
            first.outcome = Some(CallOutcome::Err(never_begun));
        }
        new.retain(|entry| entry.outcome.is_some());
        Progress::Ended { new, ending }
    }
}

/// What became of a closure that is left out, as no time is left.
fn not_begun(position: Position) -> StepFailure {
    StepFailure {
        position: Some(position),
        ..StepFailure::of_run("limit.deadline", "no time was left to undo this")
    }
}

/// A replay that was stopped; it leaves nothing behind.
fn cut_off(failure: RunFailure) -> Progress {
    Progress::Ended {
        new: Vec::new(),
        ending: Ending::Failed(failure),
    }
}

/// A suspension of what undoes a run, which no longer waits for what its script had open.
fn without(progress: Progress, abandoned: &[Position]) -> Progress {
    match progress {
        Progress::Suspended {
            new,
            calls,
            mut waiting_for,
            ..
        } => {
            let gone: BTreeSet<&Position> = abandoned.iter().collect();
            waiting_for.retain(|wait| !gone.contains(&wait.position));
            Progress::Suspended {
                new,
                calls,
                waiting_for,
                abandoned: abandoned.to_vec(),
            }
        }
        progress => progress,
    }
}

/// An entry the script came past without asking for it.
fn unasked(recorder: &Recorder) -> Option<Divergence> {
    recorder.left_over().map(|entry| Divergence {
        position: entry.position.clone(),
        line: entry.line,
        recorded: Some(Side::of(entry)),
        requested: None,
    })
}

fn uncaught(script: &Script, error: &EvalAltResult) -> RunFailure {
    let found = ScriptError::from_eval(script, error);
    let mut failure = StepFailure::of_run(&found.code, &found.message);
    if let Some(name) = &found.nearest {
        failure.message = format!("{}; did you mean `{name}`?", found.message);
    }
    if let EvalAltResult::ErrorRuntime(thrown, _) = innermost(error)
        && let Some(map) = thrown.read_lock::<rhai::Map>()
    {
        let text = |key: &str| map.get(key).and_then(|v| v.clone().into_string().ok());
        failure.kind = text("kind").unwrap_or(failure.kind);
        failure.code = text("code").unwrap_or(failure.code);
        failure.retryable = map
            .get("retryable")
            .is_some_and(|v| v.as_bool() == Ok(true));
        failure.position = text("position").and_then(|p| p.parse().ok());
    }
    RunFailure {
        failure,
        line: found.line,
        not_undone: Vec::new(),
    }
}
