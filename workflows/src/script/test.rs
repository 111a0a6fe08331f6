//! Runs `*_test.rhai`: every `fn test_…()` on its own, against the script it tests.
//!
//! Tests of a workflow run the real replay: `on_step(kind, |input| …)` or `|input, nth|` says what a step answers
//! (throwing `#{ code, message }` fails it), `on_approval(|role, subject| …)` and `on_event(|name, key| …)`
//! likewise, and `run_workflow(event)` gives `#{ state, result, failure, steps, calls, log }`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhai::{AST, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Limits, Script, ScriptError, innermost, limited_engine, on_big_stack, value};
use crate::{
    model::Timestamp,
    policy::{Decision, Facts},
    run::{
        Call, CallOutcome, Ending, Entry, Journal, Position, Progress, ReplayContext, RunFailure,
        StepFailure, replay,
    },
};

/// What became of the tests of one script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// The test script.
    pub script: String,
    /// Its tests, in order of line.
    pub tests: Vec<TestResult>,
}

impl TestReport {
    /// Whether there are tests and all of them pass.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.tests.is_empty() && self.tests.iter().all(|t| t.failure.is_none())
    }
}

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Its name, e.g. `test_a_healthy_asset_is_monitored`.
    pub name: String,
    /// Why it failed, with the line.
    pub failure: Option<ScriptError>,
}

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
}

type Shared = Arc<Mutex<Mocks>>;

/// What a test's runs are played in.
struct World {
    mocks: Shared,
    script: Script,
    tests: AST,
    limits: Limits,
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

/// Runs every function of `tests` whose name begins with `test_` and that takes nothing.
///
/// # Errors
///
/// Never for a failing test, which is in the report; only when the engine itself breaks.
pub fn run_tests(
    subject: &Script,
    tests: &Script,
    limits: &Limits,
) -> Result<TestReport, ScriptError> {
    on_big_stack(|| {
        let both = subject.ast().merge(tests.ast());
        let mut found: Vec<(usize, String)> = tests
            .ast()
            .iter_functions()
            .filter(|f| f.name.starts_with("test_") && f.params.is_empty())
            .map(|f| (line_of(tests, f.name), f.name.to_owned()))
            .collect();
        found.sort();
        let run = |(_, name): (usize, String)| TestResult {
            failure: run_test(subject, tests, &both, &name, limits).err(),
            name,
        };
        TestReport {
            script: tests.name().to_owned(),
            tests: found.into_iter().map(run).collect(),
        }
    })
    .map_err(|panic| ScriptError::internal(tests.name(), &panic.to_string()))
}

fn run_test(
    subject: &Script,
    tests: &Script,
    both: &AST,
    name: &str,
    limits: &Limits,
) -> Result<(), ScriptError> {
    let mut engine = limited_engine(limits);
    register_asserts(&mut engine);
    let mocks = Shared::default();
    register_mocks(&mut engine, &mocks);
    let world = World {
        mocks,
        script: subject.clone(),
        tests: both.clone(),
        limits: limits.clone(),
    };
    engine.register_fn(
        "run_workflow",
        move |ctx: NativeCallContext, event: Dynamic| run_workflow(&ctx, &world, &event),
    );
    engine
        .call_fn::<Dynamic>(&mut Scope::new(), both, name, ())
        .map(|_| ())
        .map_err(|e| {
            let mut place: &EvalAltResult = &e;
            let mut of = tests;
            while let EvalAltResult::ErrorInFunctionCall(function, _, inner, _) = place {
                let here = |s: &Script| s.ast().iter_functions().any(|f| f.name == function);
                of = if here(tests) { tests } else { subject };
                place = inner;
            }
            ScriptError::from_eval(of, &e)
        })
}

fn line_of(script: &Script, function: &str) -> usize {
    let head = format!("fn {function}(");
    let lines = script.source().lines();
    lines.take_while(|line| !line.contains(&head)).count()
}

fn register_asserts(engine: &mut Engine) {
    engine.register_fn("assert", |holds: bool| {
        check(holds, "the assertion does not hold")
    });
    engine.register_fn("assert", |holds: bool, what: &str| check(holds, what));
    engine.register_fn("assert_eq", |left: Dynamic, right: Dynamic| {
        let text = format!("{left} is not {right}");
        check(same(&left, &right), &text)
    });
    engine.register_fn("assert_ne", |left: Dynamic, right: Dynamic| {
        check(!same(&left, &right), &format!("both are {left}"))
    });
    engine.register_fn("assert_decision", |answer: Dynamic| {
        let answer = value::from_dynamic(&answer).map_err(|e| assertion(&e.to_string()))?;
        let decision = Decision::try_from(&answer).map_err(|e| assertion(&e.to_string()))?;
        Ok::<Dynamic, Box<EvalAltResult>>(decision.action().into())
    });
    engine.register_fn("example_facts", || -> Answer {
        let facts = Facts::about("fan-1", "fan_tray", Timestamp(1_766_368_800_000));
        let facts = serde_json::to_value(facts).map_err(|e| e.to_string())?;
        value::to_dynamic(&facts).map_err(|e| e.to_string().into())
    });
}

fn check(holds: bool, what: &str) -> Result<(), Box<EvalAltResult>> {
    if holds { Ok(()) } else { Err(assertion(what)) }
}

fn assertion(what: &str) -> Box<EvalAltResult> {
    let mut map = Map::new();
    map.insert("code".into(), "assertion".into());
    map.insert("message".into(), what.into());
    EvalAltResult::ErrorRuntime(map.into(), rhai::Position::NONE).into()
}

fn same(left: &Dynamic, right: &Dynamic) -> bool {
    match (value::from_dynamic(left), value::from_dynamic(right)) {
        (Ok(left), Ok(right)) => equal(&left, &right),
        _ => left.to_string() == right.to_string(),
    }
}

/// Equality of values in which `1` and `1.0` are the same.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || l.as_f64() == r.as_f64(),
        (Value::Array(l), Value::Array(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| equal(l, r))
        }
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().all(|(k, l)| r.get(k).is_some_and(|r| equal(l, r)))
        }
        _ => left == right,
    }
}

fn register_mocks(engine: &mut Engine, mocks: &Shared) {
    let m = mocks.clone();
    engine.register_fn("on_step", move |kind: &str, answer: FnPtr| {
        let mut mocks = lock(&m);
        mocks.counts.remove(kind);
        mocks.steps.insert(kind.to_owned(), answer);
    });
    let m = mocks.clone();
    engine.register_fn("on_approval", move |answer: FnPtr| {
        lock(&m).approval = Some(answer)
    });
    let m = mocks.clone();
    engine.register_fn("on_event", move |answer: FnPtr| {
        lock(&m).event = Some(answer)
    });
}

fn lock(mocks: &Shared) -> MutexGuard<'_, Mocks> {
    mocks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays a run to its end, answering every call from the mocks and replaying after every answer.
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
            told.push(entry.position.clone());
            journal.insert(entry);
        }
    };
    for _ in 0..MAX_REPLAYS {
        match replay(&world.script, &event, &journal, &replay_ctx) {
            Progress::Ended { new, ending } => {
                keep(&mut journal, new);
                let outcome = outcome_of(&told, &journal, &ending);
                return value::to_dynamic(&outcome).map_err(|e| e.to_string().into());
            }
            Progress::Suspended { new, calls, .. } => {
                keep(&mut journal, new);
                if calls.is_empty() {
                    return Err("the workflow waits for something that never comes".into());
                }
                for call in calls {
                    let outcome = answer(ctx, world, &call)?;
                    // What waits is over at once, and the clock has gone on as if it were not.
                    if let Some(until) = waited_until(&call, &outcome) {
                        replay_ctx.now = replay_ctx.now.max(until);
                    }
                    journal.answer(call.position(), outcome);
                }
            }
            Progress::Diverged(divergence) => {
                let text = format!("the workflow is not deterministic: {divergence:?}");
                return Err(text.into());
            }
        }
    }
    Err(format!("the workflow did not end within {MAX_REPLAYS} replays").into())
}

/// The moment a call was answered at because nothing else came.
fn waited_until(call: &Call, outcome: &CallOutcome) -> Option<Timestamp> {
    match (call, outcome) {
        (Call::Sleep { until, .. }, _) => Some(*until),
        (Call::WaitEvent { until, .. }, CallOutcome::Err(why)) if why.code == "timeout" => {
            Some(*until)
        }
        _ => None,
    }
}

fn answer(
    ctx: &NativeCallContext,
    world: &World,
    call: &Call,
) -> Result<CallOutcome, Box<EvalAltResult>> {
    let dynamic = |value: &Value| {
        value::to_dynamic(value).map_err(|e| Box::<EvalAltResult>::from(e.to_string()))
    };
    let (kind, result) = match call {
        Call::Step { kind, input, .. } => {
            let (mock, nth) = {
                let mut mocks = lock(&world.mocks);
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
        Call::Sleep { .. } => return Ok(CallOutcome::Ok(Value::Null)),
        Call::Approval { role, subject, .. } => match lock(&world.mocks).approval.clone() {
            Some(mock) => {
                let args = (role.clone(), dynamic(subject)?);
                ("approval", mock.call_within_context(ctx, args))
            }
            None => {
                let yes = json!({"answer": true, "by": "test", "comment": null});
                return Ok(CallOutcome::Ok(yes));
            }
        },
        Call::WaitEvent { name, key, .. } => match lock(&world.mocks).event.clone() {
            Some(mock) => {
                let args = (name.clone(), key.clone());
                ("wait_event", mock.call_within_context(ctx, args))
            }
            None => return Err(format!("no `on_event(…)` says what event `{name}` brings").into()),
        },
    };
    outcome(kind, call.position(), result)
}

/// What a mock gave or threw; a failed assertion in it fails the test, not the step.
fn outcome(
    kind: &str,
    position: &Position,
    result: Answer,
) -> Result<CallOutcome, Box<EvalAltResult>> {
    let error = match result {
        Ok(output) => {
            let output = value::from_dynamic(&output).map_err(|e| e.to_string())?;
            return Ok(CallOutcome::Ok(output));
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
    Ok(CallOutcome::Err(StepFailure {
        kind: kind.to_owned(),
        code,
        message: text("message").unwrap_or_else(|| thrown.to_string()),
        retryable: fields
            .get("retryable")
            .is_some_and(|v| v.as_bool() == Ok(true)),
        position: Some(position.clone()),
    }))
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
