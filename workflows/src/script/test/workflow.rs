//! Plays runs of a workflow: the real replay, against a world that the test describes and a clock that is its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhai::{AST, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext};
use serde_json::{Value, json};

use super::{Suite, coverage::Cover};
use crate::{
    model::Timestamp,
    run::{
        Call, CallOutcome, Ending, Entry, Journal, Position, Progress, ReplayContext, RunFailure,
        StepFailure, TIMEOUT, replay,
    },
    script::{Limits, Script, duration, innermost, value},
};

/// Replays one test may take before its run counts as endless.
const MAX_REPLAYS: usize = 10_000;

type Answer = Result<Dynamic, Box<EvalAltResult>>;

/// What a test has said about the world.
#[derive(Default)]
struct Mocks {
    steps: BTreeMap<String, FnPtr>,
    counts: BTreeMap<String, i64>,
    approval: Option<FnPtr>,
    event: Option<FnPtr>,
    /// How long what answers now takes.
    takes_ms: i64,
    /// Operations of the longest replay so far.
    longest: u64,
    /// How the last run failed, if it did.
    failed: Option<String>,
}

/// What the tests say, shared with the engine that runs them.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Mocks>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the last run failed, if it did.
    pub(super) fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// Operations of the longest replay, if there was one.
    pub(super) fn longest(&self) -> u64 {
        self.lock().longest
    }
}

/// What a test's runs are played in.
struct World {
    mocks: Shared,
    script: Script,
    tests: AST,
    limits: Limits,
    cover: Arc<Cover>,
}

impl World {
    /// How many parameters a closure of the test takes, beside what it captured.
    fn parameters(&self, closure: &FnPtr) -> usize {
        self.tests
            .iter_functions()
            .find(|f| f.name == closure.fn_name())
            .map_or(1, |f| f.params.len().saturating_sub(closure.curry().len()))
    }
}

/// Gives an engine what tests of workflows can call.
pub(super) fn register(engine: &mut Engine, suite: &Suite) -> Shared {
    let mocks = Shared::default();
    register_mocks(engine, &mocks);
    let world = World {
        mocks: mocks.clone(),
        script: suite.subject.clone(),
        tests: suite.both.clone(),
        limits: suite.within(Limits::workflow()),
        cover: suite.cover.clone(),
    };
    engine.register_fn(
        "run_workflow",
        move |ctx: NativeCallContext, event: Dynamic| run_workflow(&ctx, &world, &event),
    );
    mocks
}

/// The same without a world to run a workflow in.
pub(super) fn register_for_checks(engine: &mut Engine) {
    register_mocks(engine, &Shared::default());
    engine.register_fn("run_workflow", |event: Dynamic| event);
}

fn register_mocks(engine: &mut Engine, mocks: &Shared) {
    let m = mocks.clone();
    engine.register_fn("on_step", move |kind: &str, answer: FnPtr| {
        let mut mocks = m.lock();
        mocks.counts.remove(kind);
        mocks.steps.insert(kind.to_owned(), answer);
    });
    let m = mocks.clone();
    engine.register_fn("on_approval", move |answer: FnPtr| {
        m.lock().approval = Some(answer);
    });
    let m = mocks.clone();
    engine.register_fn("on_event", move |answer: FnPtr| {
        m.lock().event = Some(answer);
    });
    let m = mocks.clone();
    engine.register_fn(
        "takes",
        move |span: &str| -> Result<(), Box<EvalAltResult>> {
            m.lock().takes_ms = duration::parse_ms(span).map_err(|e| e.to_string())?;
            Ok(())
        },
    );
    engine.register_fn("never", || -> Answer {
        let mut map = Map::new();
        map.insert("code".into(), NEVER.into());
        map.insert("message".into(), "nothing answers".into());
        Err(EvalAltResult::ErrorRuntime(map.into(), rhai::Position::NONE).into())
    });
}

/// What a mock throws that does not answer at all.
const NEVER: &str = "never";

/// An answer on its way, on the clock of the test.
struct Due {
    at: Timestamp,
    position: Position,
    outcome: CallOutcome,
}

/// Plays a run to its end: what it asks for is answered from the mocks, when it is due, and it is replayed then.
fn run_workflow(ctx: &NativeCallContext, world: &World, event: &Dynamic) -> Answer {
    let event = value::from_dynamic(event).map_err(|e| e.to_string())?;
    let now = event["at"]
        .as_str()
        .and_then(|at| at.parse().ok())
        .unwrap_or_default();
    let mut replay_ctx = ReplayContext {
        run: "test",
        now,
        seed: 7,
        cancelled: false,
        limits: &world.limits,
    };
    let mut journal = Journal::default();
    let mut told: Vec<Position> = Vec::new();
    let mut keep = |journal: &mut Journal, new: Vec<Entry>| {
        for entry in new {
            let never_begun = entry
                .outcome
                .as_ref()
                .is_some_and(CallOutcome::is_never_begun);
            told.extend((!never_begun).then(|| entry.position.clone()));
            journal.insert(entry);
        }
    };
    let mut on_its_way: Vec<Due> = Vec::new();
    for _ in 0..MAX_REPLAYS {
        match play(world, &event, &journal, &replay_ctx) {
            Progress::Ended { new, ending } => {
                keep(&mut journal, new);
                world.mocks.lock().failed = failed(&ending);
                let mut outcome = outcome_of(&told, &journal, &ending);
                outcome["ended_at"] = replay_ctx.now.to_string().into();
                return value::to_dynamic(&outcome).map_err(|e| e.to_string().into());
            }
            Progress::Suspended {
                new,
                calls,
                abandoned,
                ..
            } => {
                keep(&mut journal, new);
                on_its_way.retain(|due| !abandoned.contains(&due.position));
                for position in abandoned {
                    let called_off = CallOutcome::Err(StepFailure::abandoned(&position));
                    journal.answer(&position, called_off);
                }
                for call in calls {
                    on_its_way.extend(due(ctx, world, &call, replay_ctx.now)?);
                }
                let Some(next) = on_its_way.iter().map(|due| due.at).min() else {
                    return Err("the workflow waits for something that never comes".into());
                };
                replay_ctx.now = replay_ctx.now.max(next);
                let (here, later) = on_its_way.into_iter().partition(|due| due.at <= next);
                on_its_way = later;
                let here: Vec<Due> = here;
                for due in here {
                    journal.answer(&due.position, due.outcome);
                }
            }
            Progress::UsedUp { .. } => return Err("the tests had their time".into()),
            Progress::Diverged(divergence) => {
                let text = format!("the workflow is not deterministic: {divergence:?}");
                return Err(text.into());
            }
        }
    }
    Err(format!("the workflow did not end within {MAX_REPLAYS} replays").into())
}

/// How a run failed, if it did, in words.
fn failed(ending: &Ending) -> Option<String> {
    let (Ending::Failed(why) | Ending::Cancelled(why)) = ending else {
        return None;
    };
    let line = why.line.map(|line| format!(" in line {line}"));
    let line = line.unwrap_or_default();
    Some(format!("the run failed{line}: {}", why.failure))
}

/// One replay, watched.
fn play(world: &World, event: &Value, journal: &Journal, ctx: &ReplayContext) -> Progress {
    let watching = world.cover.watching();
    let progress = replay(&world.script.watched(watching.clone()), event, journal, ctx);
    let left = !matches!(
        &progress,
        Progress::Ended {
            ending: Ending::Succeeded { .. },
            ..
        }
    );
    let operations = watching.end(left);
    let mut mocks = world.mocks.lock();
    mocks.longest = mocks.longest.max(operations);
    progress
}

/// When a call that is made now is answered, and how; `None` for one that never is.
fn due(
    ctx: &NativeCallContext,
    world: &World,
    call: &Call,
    now: Timestamp,
) -> Result<Option<Due>, Box<EvalAltResult>> {
    world.mocks.lock().takes_ms = 0;
    let answered = answer(ctx, world, call)?;
    let takes_ms = std::mem::take(&mut world.mocks.lock().takes_ms);
    let (mut at, until) = match call {
        Call::Sleep { until, .. } => (*until, None),
        Call::WaitEvent { until, .. } | Call::Approval { until, .. } => {
            (now.plus_ms(takes_ms), Some(*until))
        }
        Call::Step { options, .. } => {
            let until = options.timeout_ms.map(|ms| now.plus_ms(ms));
            (now.plus_ms(takes_ms), until)
        }
    };
    let position = call.position().clone();
    let timed_out =
        |outcome: &CallOutcome| matches!(outcome, CallOutcome::Err(why) if why.code == TIMEOUT);
    let outcome = match (answered, until) {
        // A wait whose mock says so itself has waited for as long as it may.
        (Some(outcome), Some(until)) if at <= until => {
            if timed_out(&outcome) && takes_ms == 0 {
                at = until;
            }
            outcome
        }
        (Some(outcome), None) => outcome,
        (_, Some(until)) => {
            at = until;
            CallOutcome::Err(timeout(call))
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Due {
        at,
        position,
        outcome,
    }))
}

fn timeout(call: &Call) -> StepFailure {
    let kind = match call {
        Call::Step { kind, .. } => kind.as_str(),
        Call::Sleep { .. } => "sleep",
        Call::WaitEvent { .. } => "wait_event",
        Call::Approval { .. } => "approval",
    };
    StepFailure::timed_out(kind, Some(call.position().clone()))
}

/// What the test says a call is answered with; `None` where nothing answers.
fn answer(
    ctx: &NativeCallContext,
    world: &World,
    call: &Call,
) -> Result<Option<CallOutcome>, Box<EvalAltResult>> {
    let dynamic = |value: &Value| {
        value::to_dynamic(value).map_err(|e| Box::<EvalAltResult>::from(e.to_string()))
    };
    let (kind, result) = match call {
        Call::Step { kind, input, .. } => {
            let (mock, nth) = {
                let mut mocks = world.mocks.lock();
                let count = mocks.counts.entry(kind.clone()).or_default();
                *count += 1;
                let nth = *count;
                (mocks.steps.get(kind).cloned(), nth)
            };
            let mock = mock.ok_or_else(|| {
                format!("no `on_step(\"{kind}\", …)` says what step `{kind}` answers")
            })?;
            let parameters = world.parameters(&mock);
            let input = dynamic(input)?;
            let result: Answer = if parameters >= 2 {
                mock.call_within_context(ctx, (input, nth))
            } else {
                mock.call_within_context(ctx, (input,))
            };
            (kind.as_str(), result)
        }
        Call::Sleep { .. } => return Ok(Some(CallOutcome::Ok(Value::Null))),
        Call::Approval { role, subject, .. } => {
            let mock = world.mocks.lock().approval.clone();
            match mock {
                Some(mock) => {
                    let args = (role.clone(), dynamic(subject)?);
                    ("approval", mock.call_within_context(ctx, args))
                }
                None => {
                    let yes = json!({"answer": true, "by": "test", "comment": null});
                    return Ok(Some(CallOutcome::Ok(yes)));
                }
            }
        }
        Call::WaitEvent { name, key, .. } => {
            let mock = world.mocks.lock().event.clone();
            let mock =
                mock.ok_or_else(|| format!("no `on_event(…)` says what event `{name}` brings"))?;
            let args = (name.clone(), key.clone());
            ("wait_event", mock.call_within_context(ctx, args))
        }
    };
    outcome(kind, call.position(), result)
}

/// What a mock gave or threw; a failed assertion in it fails the test, not the step.
fn outcome(
    kind: &str,
    position: &Position,
    result: Answer,
) -> Result<Option<CallOutcome>, Box<EvalAltResult>> {
    let error = match result {
        Ok(output) => {
            let output = value::from_dynamic(&output).map_err(|e| e.to_string())?;
            return Ok(Some(CallOutcome::Ok(output)));
        }
        Err(error) => error,
    };
    let EvalAltResult::ErrorRuntime(thrown, _) = innermost(&error) else {
        return Err(error);
    };
    let fields = thrown
        .read_lock::<Map>()
        .map(|m| m.clone())
        .unwrap_or_default();
    let text = |key: &str| fields.get(key).and_then(|v| v.clone().into_string().ok());
    let code = text("code").unwrap_or_else(|| "failed".to_owned());
    if code == "assertion" {
        return Err(error);
    }
    if code == NEVER {
        return Ok(None);
    }
    Ok(Some(CallOutcome::Err(StepFailure {
        kind: kind.to_owned(),
        retryable: fields
            .get("retryable")
            .map_or(code == TIMEOUT, |v| v.as_bool() == Ok(true)),
        code,
        message: text("message").unwrap_or_else(|| thrown.to_string()),
        position: Some(position.clone()),
    })))
}

fn outcome_of(told: &[Position], journal: &Journal, ending: &Ending) -> Value {
    let entries: Vec<&Entry> = told.iter().filter_map(|p| journal.get(p)).collect();
    let calls: Vec<Value> = entries
        .iter()
        .filter(|e| !matches!(e.kind.as_str(), "now" | "random" | "log" | "wait_any"))
        .map(
            |e| json!({ "kind": e.kind, "position": e.position, "input": e.input, "line": e.line }),
        )
        .collect();
    let steps: Vec<Value> = calls.iter().map(|c| c["kind"].clone()).collect();
    let log: Vec<Value> = entries
        .iter()
        .filter(|e| e.kind == "log")
        .map(|e| e.input["message"].clone())
        .collect();
    let (state, result, failure) = match ending {
        Ending::Succeeded { result } => ("succeeded", result.clone(), Value::Null),
        Ending::Continued { event } => ("continued", event.clone(), Value::Null),
        Ending::Failed(RunFailure {
            failure,
            line,
            not_undone,
        })
        | Ending::Cancelled(RunFailure {
            failure,
            line,
            not_undone,
        }) => (
            "failed",
            Value::Null,
            json!({
                "kind": failure.kind, "code": failure.code, "message": failure.message,
                "position": failure.position, "line": line,
                "not_undone": not_undone.iter().map(|f| f.message.clone()).collect::<Vec<_>>(),
            }),
        ),
    };
    json!({
        "state": state, "result": result, "failure": failure, "steps": steps, "calls": calls, "log": log,
    })
}
