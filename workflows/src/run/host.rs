//! The functions a workflow calls, and the recorder that holds each call against the journal.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext, Position as Place,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Call, CallOutcome, Divergence, Entry, Journal, Position, ReplayContext, RunFailure, Side,
    StepFailure, StepOptions, calls::options_of,
};
use crate::{
    model::Timestamp,
    script::{duration, value},
};

/// Names and parameter counts of the functions below, for the checks.
pub(crate) const FUNCTIONS: [(&str, &[usize]); 18] = [
    ("step", &[2, 3]),
    ("start", &[2, 3]),
    ("wait", &[1]),
    ("wait_all", &[1]),
    ("wait_any", &[1]),
    ("sleep", &[1]),
    ("wait_event", &[3]),
    ("start_sleep", &[1]),
    ("start_event", &[3]),
    ("continue_as_new", &[1]),
    ("approval", &[3]),
    ("now", &[0]),
    ("random", &[0]),
    ("log", &[1, 2]),
    ("fail", &[1, 2]),
    ("on_failure", &[1]),
    ("time_plus", &[2]),
    ("seconds_between", &[2]),
];

/// Kinds that are calls of the script's own and can be no step.
const RESERVED: [&str; 7] = [
    "sleep",
    "wait_event",
    "approval",
    "wait_any",
    "now",
    "random",
    "log",
];

type Answer = Result<Dynamic, Box<EvalAltResult>>;

/// How often a run may use up its time and be undone all the same.
const MOST_STOPS: usize = 8;

/// What `start` gives and `wait` takes.
#[derive(Debug, Clone)]
struct Handle {
    position: Position,
    kind: String,
}

/// Why a replay cannot go on; no script can catch it.
pub(super) enum Halt {
    Suspended,
    Cancelled,
    Continued(Value),
    Diverged(Box<Divergence>),
    Failed(Box<RunFailure>),
}

/// Follows one replay: which call comes next, what the journal says to it, what is new.
pub(super) struct Recorder {
    journal: Journal,
    has_stops: bool,
    pub(super) entry_limit: usize,
    /// Somebody wants the run stopped: where the script would wait or ask for more, it is undone instead.
    pub(super) cancelled: bool,
    now: Timestamp,
    seed: u64,
    /// Calls are numbered below this position; at the top where there is none.
    below: Option<Position>,
    next: u32,
    visited: BTreeSet<Position>,
    started: Vec<Position>,
    awaited: BTreeSet<Position>,
    pub(super) new: Vec<Entry>,
    pub(super) calls: Vec<Call>,
    pub(super) compensations: Vec<(Position, FnPtr)>,
    pub(super) halt: Option<Halt>,
}

/// What became of asking.
enum Asked {
    Answered(CallOutcome),
    Open,
    New(Position),
}

impl Recorder {
    pub(super) fn new(journal: &Journal, ctx: &ReplayContext) -> Self {
        Self {
            journal: journal.clone(),
            has_stops: journal.iter().any(|e| e.stop().is_some()),
            entry_limit: ctx.limits.journal_entries,
            cancelled: ctx.cancelled,
            now: ctx.now,
            seed: ctx.seed,
            below: None,
            next: 0,
            visited: BTreeSet::new(),
            started: Vec::new(),
            awaited: BTreeSet::new(),
            new: Vec::new(),
            calls: Vec::new(),
            compensations: Vec::new(),
            halt: None,
        }
    }

    /// Numbers the calls that follow below a position.
    pub(super) fn enter(&mut self, below: Position) {
        self.below = Some(below);
        self.next = 0;
    }

    /// Why the script goes no further, if an earlier replay was stopped before its next call.
    pub(super) fn stopped_before(&mut self) -> Option<RunFailure> {
        if !self.has_stops {
            return None;
        }
        let entry = self.journal.get(&self.here(self.next + 1))?;
        let failure = RunFailure {
            failure: entry.stop()?.clone(),
            line: entry.line,
            not_undone: Vec::new(),
        };
        let position = entry.position.clone();
        self.visited.insert(position);
        Some(failure)
    }

    /// Halts the script where an earlier replay was stopped. To be asked when a call is over, not before the next one:
    /// there may never be one.
    fn unless_stopped(&mut self) -> Result<(), Box<EvalAltResult>> {
        match self.stopped_before() {
            Some(failure) => Err(self.halt(Halt::Failed(Box::new(failure)))),
            None => Ok(()),
        }
    }

    /// What says that this replay was stopped here, after everything the journal holds of the script, or of the closure
    /// that is at work; `None` where that has happened too often, or was not to happen: a script that is being undone
    /// came past this place before.
    pub(super) fn stop(&self, failure: &RunFailure) -> Option<Entry> {
        let stops = self.journal.iter().filter(|e| e.stop().is_some()).count();
        let begun = self.below.is_none() && self.journal.iter().any(|e| e.undo);
        if stops >= MOST_STOPS || begun {
            return None;
        }
        let told = self.journal.iter();
        let last = told.filter_map(|e| e.position.ordinal_below(self.below.as_ref()));
        let position = self.here(last.max().unwrap_or(0).max(self.next) + 1);
        let (failure, line) = (failure.failure.clone(), failure.line);
        Some(Entry::stopped(position, failure, line))
    }

    /// The first entry of the journal this replay has not asked for.
    pub(super) fn left_over(&self) -> Option<&Entry> {
        if self.visited.len() == self.journal.len() {
            return None;
        }
        self.journal
            .iter()
            .find(|e| !self.visited.contains(&e.position))
    }

    /// Entries without an answer, old and new.
    pub(super) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.journal
            .iter()
            .chain(&self.new)
            .filter(|e| e.outcome.is_none())
    }

    /// Answers what this replay was the first to ask for, and nobody has begun: the script failed.
    pub(super) fn call_off_new(&mut self) {
        self.calls.clear();
        for entry in self.new.iter_mut().filter(|e| e.outcome.is_none()) {
            let never_begun = StepFailure::never_begun(&entry.position);
            entry.outcome = Some(CallOutcome::Err(never_begun));
        }
    }

    /// Calls asked for before that have no answer.
    pub(super) fn unanswered(&self) -> Vec<Position> {
        self.journal
            .iter()
            .filter(|e| e.outcome.is_none() && self.visited.contains(&e.position))
            .map(|e| e.position.clone())
            .collect()
    }

    /// Answers of steps that were started and never waited for.
    pub(super) fn unawaited(&self) -> impl Iterator<Item = Option<&CallOutcome>> {
        self.started
            .iter()
            .filter(|p| !self.awaited.contains(*p))
            .map(|p| self.outcome(p))
    }

    fn outcome(&self, position: &Position) -> Option<&CallOutcome> {
        self.journal.get(position).and_then(|e| e.outcome.as_ref())
    }

    fn here(&self, ordinal: u32) -> Position {
        match &self.below {
            Some(parent) => parent.child(ordinal),
            None => Position::top(ordinal),
        }
    }

    fn advance(&mut self) -> Position {
        self.next += 1;
        self.here(self.next)
    }

    fn halt(&mut self, halt: Halt) -> Box<EvalAltResult> {
        self.halt = Some(halt);
        terminated()
    }

    /// Whether the script itself is to stop; what undoes it is not stopped.
    fn stops(&self) -> bool {
        self.cancelled && self.below.is_none()
    }

    /// Halts where there is nothing to go on with; for good where an earlier replay was stopped or the run is cancelled.
    fn suspend(&mut self) -> Box<EvalAltResult> {
        // A replay that was slower was stopped before it came so far.
        if let Some(failure) = self.stopped_before() {
            return self.halt(Halt::Failed(Box::new(failure)));
        }
        let stops = self.stops();
        self.halt(if stops {
            Halt::Cancelled
        } else {
            Halt::Suspended
        })
    }

    /// Hands an answer to the script, unless it only says that the run was cancelled.
    fn give(&mut self, outcome: CallOutcome) -> Answer {
        match &outcome {
            CallOutcome::Err(failure) if self.stops() && failure.is_abandoned() => {
                Err(self.suspend())
            }
            _ => {
                self.unless_stopped()?;
                give(outcome)
            }
        }
    }

    /// Holds a call against the journal; a call without an entry gets one.
    fn ask(
        &mut self,
        position: Position,
        kind: &str,
        input: Value,
        line: Option<u32>,
    ) -> Result<Asked, Box<EvalAltResult>> {
        let input_digest = value::digest(&input);
        let requested = Side {
            kind: kind.to_owned(),
            input,
            input_digest,
        };
        if self.stops() && self.journal.get(&position).is_none() {
            return Err(self.halt(Halt::Cancelled));
        }
        // Counted by what this replay asked, so that it is reached at the same call each time.
        if self.visited.len() + self.new.len() >= self.entry_limit {
            let message = format!(
                "the journal is full at {} entries; go on in a new run before that with \
                 `continue_as_new(event)`, or split the work into several runs",
                self.entry_limit
            );
            let failure = RunFailure::of_run("journal_full", &message, line);
            return Err(self.halt(Halt::Failed(Box::new(failure))));
        }
        if let Some(entry) = self.journal.get(&position) {
            if entry.kind != requested.kind || entry.input_digest != requested.input_digest {
                let recorded = Some(Side::of(entry));
                return Err(self.diverge(position, line, recorded, requested));
            }
            let outcome = entry.outcome.clone();
            self.visited.insert(position);
            return Ok(outcome.map_or(Asked::Open, Asked::Answered));
        }
        if let Some(skipped) = self.left_over() {
            let (position, recorded) = (skipped.position.clone(), Some(Side::of(skipped)));
            return Err(self.diverge(position, line, recorded, requested));
        }
        self.new.push(Entry {
            position: position.clone(),
            kind: requested.kind,
            input: requested.input,
            input_digest: requested.input_digest,
            outcome: None,
            line,
            undo: self.below.is_some(),
        });
        Ok(Asked::New(position))
    }

    /// Asks a call that is answered on the spot, and records the answer with it.
    fn ask_at_once(
        &mut self,
        kind: &str,
        input: Value,
        line: Option<u32>,
        answer: impl FnOnce(&Self, &Position) -> Value,
    ) -> Answer {
        let position = self.advance();
        let outcome = match self.ask(position, kind, input, line)? {
            Asked::Answered(outcome) => outcome,
            Asked::Open => return Err(self.suspend()),
            Asked::New(position) => {
                let outcome = CallOutcome::Ok(answer(self, &position));
                if let Some(entry) = self.new.last_mut() {
                    entry.outcome = Some(outcome.clone());
                }
                outcome
            }
        };
        self.give(outcome)
    }

    /// Asks a call the world answers: hands its answer over, or suspends.
    fn ask_the_world(
        &mut self,
        kind: &str,
        input: Value,
        line: Option<u32>,
        call: impl FnOnce(Position, Timestamp) -> Call,
    ) -> Answer {
        let position = self.advance();
        match self.ask(position, kind, input, line)? {
            Asked::Answered(outcome) => return self.give(outcome),
            Asked::Open => {}
            Asked::New(position) => self.calls.push(call(position, self.now)),
        }
        Err(self.suspend())
    }

    fn diverge(
        &mut self,
        position: Position,
        line: Option<u32>,
        recorded: Option<Side>,
        requested: Side,
    ) -> Box<EvalAltResult> {
        self.halt(Halt::Diverged(Box::new(Divergence {
            position,
            line,
            recorded,
            requested: Some(requested),
        })))
    }
}

/// A recorder the functions of an engine share.
pub(super) type Shared = Arc<Mutex<Recorder>>;

/// The recorder, whatever became of an earlier holder.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, Recorder> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the functions of a workflow known to an engine.
pub(super) fn register(engine: &mut Engine, shared: &Shared) {
    engine
        .register_type_with_name::<Handle>("Handle")
        .register_get("position", |h: &mut Handle| h.position.to_string())
        .register_get("kind", |h: &mut Handle| h.kind.clone());
    register_steps(engine, shared);
    register_waits(engine, shared);
    register_answers(engine, shared);
    register_failures(engine, shared);
    register_times(engine);
}

fn register_steps(engine: &mut Engine, shared: &Shared) {
    let s = shared.clone();
    engine.register_fn(
        "step",
        move |ctx: NativeCallContext, kind: &str, input: Dynamic| {
            step(&s, &ctx, kind, &input, &Map::new())
        },
    );
    let s = shared.clone();
    engine.register_fn(
        "step",
        move |ctx: NativeCallContext, kind: &str, input: Dynamic, options: Map| {
            step(&s, &ctx, kind, &input, &options)
        },
    );
    let s = shared.clone();
    engine.register_fn(
        "start",
        move |ctx: NativeCallContext, kind: &str, input: Dynamic| {
            start(&s, &ctx, kind, &input, &Map::new())
        },
    );
    let s = shared.clone();
    engine.register_fn(
        "start",
        move |ctx: NativeCallContext, kind: &str, input: Dynamic, options: Map| {
            start(&s, &ctx, kind, &input, &options)
        },
    );
}

fn register_waits(engine: &mut Engine, shared: &Shared) {
    let s = shared.clone();
    engine.register_fn("wait", move |handle: Handle| wait(&s, &handle));
    let s = shared.clone();
    engine.register_fn("wait_all", move |handles: Array| wait_all(&s, handles));
    let s = shared.clone();
    engine.register_fn("wait_any", move |ctx: NativeCallContext, handles: Array| {
        wait_any(&s, &ctx, handles)
    });
    let s = shared.clone();
    engine.register_fn("sleep", move |ctx: NativeCallContext, span: &str| {
        let ms = span_ms(span)?;
        running(&s)?.ask_the_world("sleep", json!({ "ms": ms }), line(&ctx), |position, now| {
            Call::Sleep {
                position,
                until: now.plus_ms(ms),
            }
        })
    });
    let s = shared.clone();
    engine.register_fn(
        "wait_event",
        move |ctx: NativeCallContext, name: &str, key: &str, timeout: &str| {
            let ms = span_ms(timeout)?;
            let input = json!({ "name": name, "key": key, "timeout_ms": ms });
            running(&s)?.ask_the_world("wait_event", input, line(&ctx), |position, now| {
                Call::WaitEvent {
                    position,
                    name: name.to_owned(),
                    key: key.to_owned(),
                    until: now.plus_ms(ms),
                }
            })
        },
    );
    register_started_waits(engine, shared);
    let s = shared.clone();
    engine.register_fn(
        "approval",
        move |ctx: NativeCallContext, role: &str, subject: Dynamic, timeout: &str| {
            approval(&s, &ctx, role, &subject, timeout)
        },
    );
}

/// Waits that are waited for like steps, so that a script can wait for whichever comes first.
fn register_started_waits(engine: &mut Engine, shared: &Shared) {
    let s = shared.clone();
    engine.register_fn("start_sleep", move |ctx: NativeCallContext, span: &str| {
        let ms = span_ms(span)?;
        let input = json!({ "ms": ms });
        start_call(&s, &ctx, "sleep", input, |position, now| Call::Sleep {
            position,
            until: now.plus_ms(ms),
        })
    });
    let s = shared.clone();
    engine.register_fn(
        "start_event",
        move |ctx: NativeCallContext, name: &str, key: &str, timeout: &str| {
            let ms = span_ms(timeout)?;
            let input = json!({ "name": name, "key": key, "timeout_ms": ms });
            start_call(&s, &ctx, "wait_event", input, |position, now| {
                Call::WaitEvent {
                    position,
                    name: name.to_owned(),
                    key: key.to_owned(),
                    until: now.plus_ms(ms),
                }
            })
        },
    );
}

fn register_answers(engine: &mut Engine, shared: &Shared) {
    let s = shared.clone();
    engine.register_fn("now", move |ctx: NativeCallContext| {
        running(&s)?.ask_at_once("now", Value::Null, line(&ctx), |recorder, _| {
            recorder.now.to_string().into()
        })
    });
    let s = shared.clone();
    engine.register_fn("random", move |ctx: NativeCallContext| {
        running(&s)?.ask_at_once("random", Value::Null, line(&ctx), |recorder, position| {
            random(recorder.seed, position).into()
        })
    });
    let s = shared.clone();
    engine.register_fn("log", move |ctx: NativeCallContext, message: Dynamic| {
        log(&s, &ctx, &message, &Dynamic::UNIT)
    });
    let s = shared.clone();
    engine.register_fn(
        "log",
        move |ctx: NativeCallContext, message: Dynamic, fields: Map| {
            log(&s, &ctx, &message, &fields.into())
        },
    );
}

fn register_failures(engine: &mut Engine, shared: &Shared) {
    let s = shared.clone();
    engine.register_fn("fail", move |ctx: NativeCallContext, reason: &str| {
        fail(&s, &ctx, "failed", reason)
    });
    let s = shared.clone();
    engine.register_fn(
        "fail",
        move |ctx: NativeCallContext, code: &str, reason: &str| fail(&s, &ctx, code, reason),
    );
    let s = shared.clone();
    engine.register_fn(
        "continue_as_new",
        move |ctx: NativeCallContext, event: Map| continue_as_new(&s, &ctx, &event),
    );
    let s = shared.clone();
    engine.register_fn("on_failure", move |undo: FnPtr| -> Answer {
        let mut recorder = running(&s)?;
        if recorder.below.is_some() {
            return Err(thrown(&StepFailure::of_run(
                "misplaced_on_failure",
                "`on_failure` cannot be called while a failed run is being undone",
            )));
        }
        let position = recorder.advance();
        recorder.compensations.push((position, undo));
        recorder.unless_stopped()?;
        Ok(Dynamic::UNIT)
    });
}

fn register_times(engine: &mut Engine) {
    engine.register_fn("time_plus", |time: &str, span: &str| -> Answer {
        Ok(time_of(time)?.plus_ms(span_ms(span)?).to_string().into())
    });
    #[expect(
        clippy::cast_precision_loss,
        reason = "spans of scripts are far below 2^53 ms"
    )]
    engine.register_fn("seconds_between", |from: &str, to: &str| -> Answer {
        Ok((time_of(to)?.since(time_of(from)?) as f64 / 1_000.0).into())
    });
}

fn step(
    shared: &Shared,
    ctx: &NativeCallContext,
    kind: &str,
    input: &Dynamic,
    options: &Map,
) -> Answer {
    let mut recorder = running(shared)?;
    let (input, options) = asked_for(kind, input, options)?;
    let (kind_of_call, input_of_call) = (kind.to_owned(), input.clone());
    recorder.ask_the_world(kind, input, line(ctx), |position, _| Call::Step {
        position,
        kind: kind_of_call,
        input: input_of_call,
        options,
    })
}

fn start(
    shared: &Shared,
    ctx: &NativeCallContext,
    kind: &str,
    input: &Dynamic,
    options: &Map,
) -> Answer {
    let (input, options) = asked_for(kind, input, options)?;
    let (kind_of_call, input_of_call) = (kind.to_owned(), input.clone());
    let handle = start_call(shared, ctx, kind, input, |position, _| Call::Step {
        position,
        kind: kind_of_call,
        input: input_of_call,
        options,
    })?;
    if let Some(handle) = handle.read_lock::<Handle>() {
        lock(shared).started.push(handle.position.clone());
    }
    Ok(handle)
}

/// Starts a call without waiting for it. The call itself has nothing to record; what it starts is its child.
fn start_call(
    shared: &Shared,
    ctx: &NativeCallContext,
    kind: &str,
    input: Value,
    call: impl FnOnce(Position, Timestamp) -> Call,
) -> Answer {
    let mut recorder = running(shared)?;
    let position = recorder.advance().child(1);
    if let Asked::New(position) = recorder.ask(position.clone(), kind, input, line(ctx))? {
        let now = recorder.now;
        recorder.calls.push(call(position, now));
    }
    recorder.unless_stopped()?;
    Ok(Dynamic::from(Handle {
        position,
        kind: kind.to_owned(),
    }))
}

fn asked_for(
    kind: &str,
    input: &Dynamic,
    options: &Map,
) -> Result<(Value, StepOptions), Box<EvalAltResult>> {
    let refused = |code: &str, message: String| {
        thrown(&StepFailure {
            kind: kind.to_owned(),
            code: code.to_owned(),
            message,
            retryable: false,
            position: None,
        })
    };
    if RESERVED.contains(&kind) {
        let message = format!("`{kind}` is a function of scripts, not a kind of step");
        return Err(refused("invalid_kind", message));
    }
    let options = options_of(options).map_err(|message| refused("invalid_options", message))?;
    let input = value::from_dynamic(input)
        .map_err(|e| refused("invalid_input", format!("input of step `{kind}`: {e}")))?;
    Ok((input, options))
}

fn wait(shared: &Shared, handle: &Handle) -> Answer {
    let mut recorder = running(shared)?;
    recorder.awaited.insert(handle.position.clone());
    match recorder.outcome(&handle.position).cloned() {
        Some(outcome) => recorder.give(outcome),
        None => Err(recorder.suspend()),
    }
}

/// Waits for all, then gives all values or throws the failure of the first handle that failed.
/// Throwing as soon as one fails would depend on which failed first, which a replay cannot know.
fn wait_all(shared: &Shared, handles: Array) -> Answer {
    let mut recorder = running(shared)?;
    let handles = handles_of(handles)?;
    recorder
        .awaited
        .extend(handles.iter().map(|h| h.position.clone()));
    let outcomes: Option<Vec<CallOutcome>> = handles
        .iter()
        .map(|h| recorder.outcome(&h.position).cloned())
        .collect();
    match outcomes {
        Some(outcomes) => {
            // All of them are looked at first: one given up on goes before one that failed.
            if recorder.stops() && outcomes.iter().any(CallOutcome::is_abandoned) {
                return Err(recorder.suspend());
            }
            let values: Array = outcomes.into_iter().map(give).collect::<Result<_, _>>()?;
            Ok(values.into())
        }
        None => Err(recorder.suspend()),
    }
}

/// Gives the first answer there is as `#{ index, output }`; which one that was is journalled.
fn wait_any(shared: &Shared, ctx: &NativeCallContext, handles: Array) -> Answer {
    let mut recorder = running(shared)?;
    let handles = handles_of(handles)?;
    recorder
        .awaited
        .extend(handles.iter().map(|h| h.position.clone()));
    let answered = handles
        .iter()
        .position(|h| recorder.outcome(&h.position).is_some());
    let told = recorder
        .journal
        .get(&recorder.here(recorder.next + 1))
        .is_some();
    if answered.is_none() && !told {
        return Err(recorder.suspend());
    }
    let input = handles.iter().map(|h| h.position.to_string()).collect();
    let index = recorder
        .ask_at_once("wait_any", input, line(ctx), |_, _| {
            answered.unwrap_or(0).into()
        })?
        .as_int()
        .ok()
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or(usize::MAX);
    let Some(outcome) = handles
        .get(index)
        .and_then(|h| recorder.outcome(&h.position).cloned())
    else {
        return Err(recorder.suspend());
    };
    let mut answer = Map::new();
    answer.insert("index".into(), Dynamic::from(index as i64));
    answer.insert("output".into(), recorder.give(outcome)?);
    Ok(answer.into())
}

fn handles_of(items: Array) -> Result<Vec<Handle>, Box<EvalAltResult>> {
    if items.is_empty() {
        return Err("there is nothing to wait for: the list of handles is empty".into());
    }
    items
        .into_iter()
        .map(|item| {
            let kind = item.type_name();
            item.try_cast::<Handle>().ok_or_else(|| {
                format!("only what `start`, `start_sleep` and `start_event` gave can be waited for, not a {kind}").into()
            })
        })
        .collect()
}

fn approval(
    shared: &Shared,
    ctx: &NativeCallContext,
    role: &str,
    subject: &Dynamic,
    timeout: &str,
) -> Answer {
    let mut recorder = running(shared)?;
    let ms = span_ms(timeout)?;
    let subject = value::from_dynamic(subject)
        .map_err(|e| Box::<EvalAltResult>::from(format!("subject of the approval: {e}")))?;
    let input = json!({ "role": role, "subject": subject, "timeout_ms": ms });
    let answer = recorder.ask_the_world("approval", input, line(ctx), |position, now| {
        Call::Approval {
            position,
            role: role.to_owned(),
            subject,
            until: now.plus_ms(ms),
        }
    })?;
    // A bare yes or no reads the same as one with a name and a comment.
    let Ok(yes) = answer.as_bool() else {
        return Ok(answer);
    };
    let mut map = Map::new();
    map.insert("answer".into(), yes.into());
    map.insert("by".into(), Dynamic::UNIT);
    map.insert("comment".into(), Dynamic::UNIT);
    Ok(map.into())
}

fn log(shared: &Shared, ctx: &NativeCallContext, message: &Dynamic, fields: &Dynamic) -> Answer {
    let mut recorder = running(shared)?;
    let input = json!({
        "message": message.to_string(),
        "fields": value::from_dynamic(fields).unwrap_or_else(|e| e.to_string().into()),
    });
    recorder.ask_at_once("log", input, line(ctx), |_, _| Value::Null)
}

fn fail(shared: &Shared, ctx: &NativeCallContext, code: &str, reason: &str) -> Answer {
    let failure = RunFailure::of_run(code, reason, line(ctx));
    Err(running(shared)?.halt(Halt::Failed(Box::new(failure))))
}

/// Ends the run and goes on in a new one; nothing of this run is undone.
fn continue_as_new(shared: &Shared, ctx: &NativeCallContext, event: &Map) -> Answer {
    let mut recorder = running(shared)?;
    if recorder.below.is_some() {
        return Err(thrown(&StepFailure::of_run(
            "misplaced_continue_as_new",
            "`continue_as_new` cannot be called while a run is being undone",
        )));
    }
    if recorder.stops() {
        return Err(recorder.halt(Halt::Cancelled));
    }
    if recorder.visited.is_empty() && recorder.new.is_empty() {
        let message = "`continue_as_new` was called before anything else: such runs would start each other for ever; \
                       do a step, sleep or wait first";
        let failure = RunFailure::of_run("idle_loop", message, line(ctx));
        return Err(recorder.halt(Halt::Failed(Box::new(failure))));
    }
    let event = value::from_dynamic(&event.clone().into())
        .map_err(|e| Box::<EvalAltResult>::from(format!("event of the new run: {e}")))?;
    Err(recorder.halt(Halt::Continued(event)))
}

/// The recorder, unless this replay is over: even a script that swallowed the halt gets no further call through.
fn running(shared: &Shared) -> Result<MutexGuard<'_, Recorder>, Box<EvalAltResult>> {
    let recorder = lock(shared);
    if recorder.halt.is_some() {
        return Err(terminated());
    }
    Ok(recorder)
}

fn give(outcome: CallOutcome) -> Answer {
    match outcome {
        CallOutcome::Ok(output) => value::to_dynamic(&output)
            .map_err(|e| format!("the answer cannot be given to a script: {e}").into()),
        CallOutcome::Err(failure) => Err(thrown(&failure)),
    }
}

/// A failure as scripts catch it: `#{ kind, code, message, retryable, position }`.
pub(super) fn thrown(failure: &StepFailure) -> Box<EvalAltResult> {
    let mut map = Map::new();
    map.insert("kind".into(), failure.kind.as_str().into());
    map.insert("code".into(), failure.code.as_str().into());
    map.insert("message".into(), failure.message.as_str().into());
    map.insert("retryable".into(), failure.retryable.into());
    let position = failure.position.as_ref();
    map.insert(
        "position".into(),
        position.map_or(Dynamic::UNIT, |p| p.to_string().into()),
    );
    EvalAltResult::ErrorRuntime(map.into(), Place::NONE).into()
}

/// The one kind of error no `try` catches and no function wraps.
fn terminated() -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, Place::NONE).into()
}

fn line(ctx: &NativeCallContext) -> Option<u32> {
    ctx.call_position()
        .line()
        .and_then(|line| u32::try_from(line).ok())
}

fn span_ms(text: &str) -> Result<i64, Box<EvalAltResult>> {
    duration::parse_ms(text).map_err(|e| e.to_string().into())
}

fn time_of(text: &str) -> Result<Timestamp, Box<EvalAltResult>> {
    text.parse()
        .map_err(|e| format!("`{text}` is not a time: {e}").into())
}

/// In `[0, 1)`, the same for the same seed and position.
fn random(seed: u64, position: &Position) -> f64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(position.to_string().as_bytes());
    let bits = hash
        .finalize()
        .iter()
        .take(8)
        .fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    share
}
