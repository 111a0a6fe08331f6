//! Runs a script against its journal until it suspends, ends, or turns out to be another script.

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
    script::{Limits, Script, ScriptError, innermost, limited_engine, on_big_stack, value},
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
        /// Every call that has no answer yet, old and new.
        waiting_for: Vec<WaitingFor>,
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

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// `run` returned.
    Succeeded {
        /// What it returned.
        result: Value,
    },
    /// It called `fail`, or let a failure through.
    Failed(RunFailure),
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
}

/// Runs `fn run(event)` of a script against a journal.
///
/// The same script, event and journal give the same progress, on any machine; only entries that are new take
/// anything from `ctx`. A run stopped by its deadline (the limits' stop flag) ends with the retryable failure
/// `limit.deadline` and undoes nothing: it may simply be replayed.
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
}

/// How the script's own part of a replay left off.
enum Left {
    With(Value),
    Failing(RunFailure),
    Over(Progress),
}

impl<'a> Replay<'a> {
    fn new(script: &'a Script, journal: &Journal, ctx: &ReplayContext) -> Self {
        let limit = ctx.limits.journal_entries;
        let recorder = Recorder::new(journal, ctx.now, ctx.seed, limit);
        let recorder = Arc::new(Mutex::new(recorder));
        let mut engine = limited_engine(ctx.limits);
        host::register(&mut engine, &recorder);
        Self {
            script,
            engine,
            recorder,
        }
    }

    fn run(&self, event: &Value) -> Progress {
        match self.go(event) {
            Left::With(result) => self.ended(Ending::Succeeded { result }),
            Left::Failing(failure) if failure.failure.code == "limit.deadline" => Progress::Ended {
                new: Vec::new(),
                ending: Ending::Failed(failure),
            },
            Left::Failing(failure) => self.undo(failure),
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
        let left = self.leave(self.call("run", vec![event]));
        let Left::With(result) = left else {
            return left;
        };
        let recorder = lock(&self.recorder);
        let mut open = false;
        let mut failed = None;
        for outcome in recorder.unawaited() {
            match outcome {
                None => open = true,
                Some(CallOutcome::Err(failure)) if failed.is_none() => {
                    failed = Some(failure.clone())
                }
                Some(_) => {}
            }
        }
        drop(recorder);
        match failed {
            _ if open => Left::Over(self.suspended()),
            Some(failure) => Left::Failing(RunFailure {
                failure,
                line: None,
                not_undone: Vec::new(),
            }),
            None => Left::With(result),
        }
    }

    /// Runs the `on_failure` closures, last first, each numbering its calls below its own position.
    fn undo(&self, mut failure: RunFailure) -> Progress {
        let compensations = {
            let mut recorder = lock(&self.recorder);
            recorder.entry_limit += UNDO_RESERVE;
            std::mem::take(&mut recorder.compensations)
        };
        for (position, closure) in compensations.into_iter().rev() {
            lock(&self.recorder).enter(position);
            match self.leave(self.call_closure(&closure)) {
                Left::With(_) => {}
                Left::Failing(failed) => failure.not_undone.push(failed.failure),
                Left::Over(progress) => return progress,
            }
        }
        self.ended(Ending::Failed(failure))
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
            (Some(Halt::Diverged(divergence)), _) => Left::Over(Progress::Diverged(*divergence)),
            (Some(Halt::Failed(failure)), _) => Left::Failing(*failure),
            (None, Ok(result)) => match value::from_dynamic(&result) {
                Ok(result) => Left::With(result),
                Err(e) => {
                    let message = format!("what the script returned cannot be stored: {e}");
                    Left::Failing(RunFailure::of_run("invalid_result", &message, None))
                }
            },
            (None, Err(error)) => Left::Failing(uncaught(self.script, &error)),
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
        }
    }

    /// Steps started in this very replay are dropped with the end: nobody has begun them.
    fn ended(&self, ending: Ending) -> Progress {
        let mut recorder = lock(&self.recorder);
        if let Some(divergence) = unasked(&recorder) {
            return Progress::Diverged(divergence);
        }
        let mut new = std::mem::take(&mut recorder.new);
        new.retain(|entry| entry.outcome.is_some());
        Progress::Ended { new, ending }
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
    failure.retryable = found.code == "limit.deadline";
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_766_368_800_000);

    fn script(source: &str) -> Script {
        Script::compile("t", source).expect("compiles")
    }

    fn once(script: &Script, journal: &Journal) -> Progress {
        let limits = Limits::workflow();
        let ctx = ReplayContext {
            run: "r1",
            now: NOW,
            seed: 7,
            limits: &limits,
        };
        replay(
            script,
            &json!({"asset": "fan-1", "at": "2025-12-22T02:00:00.000Z"}),
            journal,
            &ctx,
        )
    }

    /// Stores what is new, as a server would; gives the calls.
    fn store(progress: Progress, journal: &mut Journal, order: &mut Vec<Entry>) -> Vec<Call> {
        let Progress::Suspended {
            new,
            calls,
            waiting_for,
        } = progress
        else {
            panic!("suspension expected, not {progress:?}");
        };
        assert!(!waiting_for.is_empty());
        for entry in new {
            order.push(entry.clone());
            assert!(journal.insert(entry), "inserted twice");
        }
        calls
    }

    /// Plays a run to its end; `world` answers calls. Gives the ending and all entries in the order they came.
    fn play(source: &str, mut world: impl FnMut(&Call) -> CallOutcome) -> (Ending, Vec<Entry>) {
        let script = script(source);
        let (mut journal, mut order) = (Journal::default(), Vec::new());
        for _ in 0..1_000 {
            match once(&script, &journal) {
                Progress::Ended { new, ending } => {
                    for entry in new {
                        order.push(entry.clone());
                        journal.insert(entry);
                    }
                    let order = order
                        .iter()
                        .map(|e| journal.get(&e.position).expect("stored").clone())
                        .collect();
                    return (ending, order);
                }
                Progress::Diverged(divergence) => panic!("diverged: {divergence:?}"),
                suspended => {
                    for call in store(suspended, &mut journal, &mut order) {
                        assert!(journal.answer(call.position(), world(&call)));
                    }
                }
            }
        }
        panic!("the run never ended");
    }

    fn echo(call: &Call) -> CallOutcome {
        match call {
            Call::Step { input, kind, .. } => {
                CallOutcome::Ok(json!({"kind": kind, "input": input}))
            }
            Call::Approval { .. } => CallOutcome::Ok(json!({"answer": true, "by": "ada"})),
            _ => CallOutcome::Ok(Value::Null),
        }
    }

    fn failing(kind: &str, code: &str, position: &Position) -> CallOutcome {
        CallOutcome::Err(StepFailure {
            kind: kind.into(),
            code: code.into(),
            message: "it did not work".into(),
            retryable: false,
            position: Some(position.clone()),
        })
    }

    fn succeeded(ending: Ending) -> Value {
        match ending {
            Ending::Succeeded { result } => result,
            Ending::Failed(failure) => panic!("failed: {failure:?}"),
        }
    }

    fn failed(ending: Ending) -> RunFailure {
        match ending {
            Ending::Failed(failure) => failure,
            Ending::Succeeded { result } => panic!("succeeded with {result}"),
        }
    }

    const LONG: &str = r#"
        fn relieve(asset) { step("allocate", #{ asset: asset, goal: "stand_in" }) }
        fn run(event) {
            let at = now();
            on_failure(|| step("allocate", #{ goal: "undo", at: at }));
            let relief = relieve(event.asset);
            let window = start("schedule", #{ asset: event.asset });
            let other = start("notify", #{ luck: random() });
            let tried = 0;
            for attempt in 1..=3 {
                let built = step("make", #{ attempt: attempt }, #{ retry: 2, timeout: "2h" });
                try { step("verify", #{ build: built.input.attempt }); } catch (e) { tried += 1; }
                log(`attempt ${attempt}`);
            }
            sleep("2h");
            let said = wait_event("plate", "cell-1", "1h");
            let first = wait_any([window, other]);
            let both = wait_all([other, window]);
            let yes = approval("technician", #{ asset: event.asset }, "24h");
            if !yes.answer { fail("declined"); }
            #{ tried: tried, both: both.len(), at: at, first: first.index }
        }
    "#;

    fn hard_world(call: &Call) -> CallOutcome {
        match call {
            Call::Step { kind, position, .. } if kind == "verify" => {
                failing(kind, "timeout", position)
            }
            call => echo(call),
        }
    }

    #[test]
    fn a_long_run_ends_with_its_result() {
        let (ending, entries) = play(LONG, hard_world);
        let result = succeeded(ending);
        assert_eq!(
            result,
            json!({"tried": 3, "both": 2, "at": NOW.to_string(), "first": 0})
        );
        let positions: Vec<String> = entries.iter().map(|e| e.position.to_string()).collect();
        assert_eq!(positions[..6], ["1", "3", "4.1", "5", "6.1", "7"]);
    }

    /// What a replay asks for next, whatever it has already been told.
    fn asks(progress: &Progress) -> Vec<(Position, String, String)> {
        let (Progress::Suspended { new, .. } | Progress::Ended { new, .. }) = progress else {
            panic!("diverged: {progress:?}");
        };
        new.iter()
            .map(|e| (e.position.clone(), e.kind.clone(), e.input_digest.clone()))
            .collect()
    }

    /// Any prefix of a journal, as a crash may leave it, leads to the calls that really came next.
    #[test]
    fn any_prefix_of_a_journal_replays_to_the_same_calls() {
        let script = script(LONG);
        for declined in [false, true] {
            let world = |call: &Call| match call {
                Call::Approval { .. } if declined => CallOutcome::Ok(json!(false)),
                call => hard_world(call),
            };
            let (_, entries) = play(LONG, world);
            for cut in 0..=entries.len() {
                let journal: Journal = entries[..cut].iter().cloned().collect();
                let progress = once(&script, &journal);
                assert_eq!(progress, once(&script, &journal), "cut at {cut}");
                let asked = asks(&progress);
                let came: Vec<_> = entries[cut..]
                    .iter()
                    .map(|e| (e.position.clone(), e.kind.clone(), e.input_digest.clone()))
                    .take(asked.len())
                    .collect();
                assert_eq!(asked, came, "cut at {cut}");
                assert_eq!(asked.is_empty(), cut == entries.len(), "cut at {cut}");
            }
        }
    }

    /// A crash between asking and being answered asks nothing twice.
    #[test]
    fn an_open_call_is_waited_for_and_not_asked_again() {
        let script = script(LONG);
        let (_, entries) = play(LONG, hard_world);
        for cut in 1..=entries.len() {
            let mut told = entries[..cut].to_vec();
            let last = &mut told[cut - 1];
            if matches!(last.kind.as_str(), "now" | "random" | "log" | "wait_any") {
                continue;
            }
            last.outcome = None;
            let open = last.position.clone();
            let progress = once(&script, &told.into_iter().collect());
            let Progress::Suspended {
                calls, waiting_for, ..
            } = progress
            else {
                panic!("suspension expected at {open}, not {progress:?}");
            };
            assert!(waiting_for.iter().any(|w| w.position == open), "{open}");
            assert!(calls.iter().all(|c| *c.position() != open), "{open}");
        }
    }

    #[test]
    fn started_steps_run_together_and_may_be_waited_for_in_any_order() {
        let source = r#"fn run(event) {
            let a = start("predict", #{ n: 1 });
            let b = start("predict", #{ n: 2 });
            let second = wait(b);
            let first = wait(a);
            [first.input.n, second.input.n]
        }"#;
        let (mut journal, mut order) = (Journal::default(), Vec::new());
        let calls = store(once(&script(source), &journal), &mut journal, &mut order);
        assert_eq!(calls.len(), 2);
        // The first answer to come is the one waited for last.
        journal.answer(calls[0].position(), echo(&calls[0]));
        let Progress::Suspended {
            new, waiting_for, ..
        } = once(&script(source), &journal)
        else {
            panic!("suspension expected");
        };
        assert!(new.is_empty());
        assert_eq!(waiting_for[0].position.to_string(), "2.1");
        journal.answer(calls[1].position(), echo(&calls[1]));
        let Progress::Ended { ending, .. } = once(&script(source), &journal) else {
            panic!("end expected");
        };
        assert_eq!(succeeded(ending), json!([1, 2]));
    }

    #[test]
    fn wait_all_is_patient_and_throws_the_first_failure_by_order_not_by_time() {
        let source = r#"fn run(event) {
            let steps = [];
            for n in 0..3 { steps.push(start("predict", #{ n: n })); }
            try { wait_all(steps); } catch (e) { return e.position; }
        }"#;
        let (mut journal, mut order) = (Journal::default(), Vec::new());
        let calls = store(once(&script(source), &journal), &mut journal, &mut order);
        for late in [2, 1, 0] {
            assert!(matches!(
                once(&script(source), &journal),
                Progress::Suspended { .. }
            ));
            let position = calls[late].position();
            let outcome = match late {
                0 => echo(&calls[0]),
                _ => failing("predict", "broken", position),
            };
            journal.answer(position, outcome);
        }
        let Progress::Ended { ending, .. } = once(&script(source), &journal) else {
            panic!("end expected");
        };
        assert_eq!(succeeded(ending), json!("2.1"));
    }

    #[test]
    fn wait_any_remembers_who_was_first() {
        let source = r#"fn run(event) {
            let first = wait_any([start("predict", 1), start("predict", 2)]);
            step("notify", #{ first: first.index });
            first.index
        }"#;
        let (mut journal, mut order) = (Journal::default(), Vec::new());
        let calls = store(once(&script(source), &journal), &mut journal, &mut order);
        assert!(store(once(&script(source), &journal), &mut journal, &mut order).is_empty());
        journal.answer(calls[1].position(), echo(&calls[1]));
        let notify = store(once(&script(source), &journal), &mut journal, &mut order);
        journal.answer(calls[0].position(), echo(&calls[0]));
        journal.answer(notify[0].position(), echo(&notify[0]));
        let Progress::Ended { ending, .. } = once(&script(source), &journal) else {
            panic!("end expected");
        };
        assert_eq!(succeeded(ending), json!(1));
    }

    #[test]
    fn a_failed_step_throws_a_map_that_can_be_caught() {
        let source = r#"fn run(event) {
            try { step("make", #{}); } catch (e) {
                return #{ kind: e.kind, code: e.code, again: e.retryable, at: e.position };
            }
        }"#;
        let world = |call: &Call| failing("make", "timeout", call.position());
        let (ending, _) = play(source, world);
        assert_eq!(
            succeeded(ending),
            json!({"kind": "make", "code": "timeout", "again": false, "at": "1"})
        );
    }

    #[test]
    fn a_failure_nobody_catches_fails_the_run_with_its_line() {
        let source = "fn run(event) {\n  step(\"make\", #{});\n}";
        let world = |call: &Call| failing("make", "cell_broken", call.position());
        let failure = failed(play(source, world).0);
        assert_eq!(failure.failure.code, "cell_broken");
        assert_eq!(failure.failure.position, Some(Position::top(1)));
        assert_eq!(failure.line, Some(2));
    }

    #[test]
    fn suspension_and_fail_cannot_be_caught() {
        for wait in [
            "step(\"make\", #{})",
            "helper()",
            "[1].map(|x| step(\"make\", #{}))",
            "wait(start(\"make\", #{}))",
            "sleep(\"1h\")",
            "approval(\"technician\", #{}, \"1h\")",
        ] {
            let source = format!(
                "fn helper() {{ step(\"make\", #{{}}) }}
                 fn run(event) {{ try {{ {wait}; }} catch (e) {{ step(\"notify\", #{{}}); }} 1 }}"
            );
            let Progress::Suspended { calls, .. } = once(&script(&source), &Journal::default())
            else {
                panic!("`{wait}` was not a suspension");
            };
            assert_eq!(calls.len(), 1, "{wait}");
            assert!(
                !matches!(&calls[0], Call::Step { kind, .. } if kind == "notify"),
                "{wait}"
            );
        }
        let source = "fn run(event) { try { fail(\"enough\"); } catch (e) { 1 } }";
        let failure = failed(play(source, echo).0);
        assert_eq!(failure.failure.message, "enough");
    }

    #[test]
    fn even_a_swallowed_suspension_lets_no_further_call_through() {
        // A comparer's error is swallowed by `sort`; the halt is not.
        let source = r#"fn run(event) {
            let list = [2, 1, 3];
            list.sort(|a, b| { step("make", #{ a: a }); a - b });
            step("notify", #{});
        }"#;
        let Progress::Suspended { new, .. } = once(&script(source), &Journal::default()) else {
            panic!("suspension expected");
        };
        assert_eq!(new.len(), 1);
    }

    #[test]
    fn another_script_diverges_with_both_sides_and_the_line() {
        let before =
            "fn run(event) {\n  step(\"predict\", #{ asset: 1 });\n  step(\"make\", #{});\n}";
        let (_, entries) = play(before, echo);
        let journal: Journal = entries.into_iter().collect();
        let diverged = |source: &str| match once(&script(source), &journal) {
            Progress::Diverged(divergence) => divergence,
            progress => panic!("divergence expected, not {progress:?}"),
        };

        let other_input =
            diverged("fn run(event) {\n\n  try { step(\"predict\", #{ asset: 2 }); } catch { }\n}");
        assert_eq!(
            (other_input.position.to_string().as_str(), other_input.line),
            ("1", Some(3))
        );
        assert_eq!(
            other_input.recorded.map(|s| s.input),
            Some(json!({"asset": 1}))
        );
        assert_eq!(
            other_input.requested.map(|s| s.input),
            Some(json!({"asset": 2}))
        );

        let other_kind = diverged("fn run(event) {\n  step(\"verify\", #{ asset: 1 });\n}");
        assert_eq!(other_kind.requested.map(|s| s.kind), Some("verify".into()));

        let shorter = diverged("fn run(event) {\n  step(\"predict\", #{ asset: 1 });\n}");
        assert_eq!(shorter.position, Position::top(2));
        assert_eq!((shorter.requested, shorter.line), (None, Some(3)));

        let skipped = diverged(
            "fn run(event) {\n  start(\"predict\", #{ asset: 1 });\n  step(\"make\", #{});\n}",
        );
        assert_eq!(skipped.recorded.map(|s| s.kind), Some("predict".into()));
        assert_eq!(skipped.line, Some(2));
    }

    #[test]
    fn what_was_done_is_undone_in_reverse_order_and_replays_alike() {
        let source = r#"fn run(event) {
            let name = "first";
            on_failure(|| { step("allocate", #{ undo: name }); step("notify", #{}); });
            on_failure(|| { throw "cannot undo"; });
            on_failure(|| step("allocate", #{ undo: "third" }));
            step("make", #{});
        }"#;
        let world = |call: &Call| match call {
            Call::Step { kind, position, .. } if kind == "make" => {
                failing("make", "broken", position)
            }
            call => echo(call),
        };
        let (ending, entries) = play(source, world);
        let failure = failed(ending);
        assert_eq!(failure.failure.code, "broken");
        assert_eq!(failure.not_undone.len(), 1);
        assert_eq!(failure.not_undone[0].message, "cannot undo");
        let came: Vec<(String, Value)> = entries
            .iter()
            .map(|e| (e.position.to_string(), e.input["undo"].clone()))
            .collect();
        assert_eq!(
            came,
            [
                ("4".to_owned(), Value::Null),
                ("3.1".to_owned(), json!("third")),
                ("1.1".to_owned(), json!("first")),
                ("1.2".to_owned(), Value::Null),
            ]
        );
    }

    #[test]
    fn a_run_that_succeeds_undoes_nothing() {
        let (ending, entries) = play(
            "fn run(event) { on_failure(|| step(\"notify\", #{})); 1 }",
            echo,
        );
        assert_eq!((succeeded(ending), entries.len()), (json!(1), 0));
    }

    #[test]
    fn a_run_ends_only_with_the_steps_it_started() {
        let source = "fn run(event) { start(\"notify\", #{}); 1 }";
        assert_eq!(succeeded(play(source, echo).0), json!(1));
        let world = |call: &Call| failing("notify", "unreachable", call.position());
        assert_eq!(failed(play(source, world).0).failure.code, "unreachable");
    }

    #[test]
    fn time_and_chance_are_told_once() {
        let source = "fn run(event) { let t = now(); let r = random(); sleep(\"1d\"); [t, r, now(), random()] }";
        let (ending, entries) = play(source, echo);
        let result = succeeded(ending);
        assert_eq!(result[0], json!(NOW.to_string()));
        assert!(result[1].as_f64().is_some_and(|r| (0.0..1.0).contains(&r)));
        assert_ne!(result[1], result[3]);
        assert!(entries.iter().all(|e| e.outcome.is_some()));
    }

    #[test]
    fn options_and_times_travel_with_the_call() {
        let source = r#"fn run(event) {
            start("make", #{}, #{ retry: 1, backoff: "30s", timeout: "2h", priority: 5, queue: "io", concurrency_key: "c", idempotency_key: "i" });
            approval("technician", #{ window: "w" }, "24h");
        }"#;
        let Progress::Suspended { calls, .. } = once(&script(source), &Journal::default()) else {
            panic!("suspension expected");
        };
        let Call::Step { options, .. } = &calls[0] else {
            panic!("step expected");
        };
        assert_eq!(
            (options.backoff_ms, options.timeout_ms),
            (Some(30_000), Some(7_200_000))
        );
        let Call::Approval { until, role, .. } = &calls[1] else {
            panic!("approval expected");
        };
        assert_eq!(
            (*until, role.as_str()),
            (NOW.plus_ms(86_400_000), "technician")
        );
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        for (source, code) in [
            ("step(\"make\", #{ x: 0.0 / 0.0 })", "invalid_input"),
            ("step(\"make\", #{ x: start(\"a\", #{}) })", "invalid_input"),
            ("step(\"now\", #{})", "invalid_kind"),
            (
                "step(\"make\", #{}, #{ timout: \"2h\" })",
                "invalid_options",
            ),
            ("sleep(\"2 hours\")", "thrown"),
            ("wait_all([])", "thrown"),
            ("setp(\"make\", #{})", "unknown_function"),
            ("event.aset", "unknown_field"),
            ("|| 1", "invalid_result"),
            ("loop { }", "limit.operations"),
        ] {
            let failure = failed(play(&format!("fn run(event) {{ {source} }}"), echo).0);
            assert_eq!(failure.failure.code, code, "{source}: {failure:?}");
        }
        let failure = failed(play("fn run(event) { setp(\"make\", #{}) }", echo).0);
        assert!(
            failure.failure.message.contains("did you mean `step`"),
            "{failure:?}"
        );
        assert_eq!(
            failed(play("fn other() { }", echo).0).failure.code,
            "missing_function"
        );
    }

    #[test]
    fn a_journal_of_ten_thousand_entries_replays_and_takes_no_more() {
        let source = "fn run(event) { on_failure(|| step(\"notify\", #{})); for i in 0..10001 { step(\"predict\", #{ i: i }); } }";
        let entries = (0..10_000_u32).map(|i| {
            let input = json!({ "i": i });
            Entry {
                position: Position::top(i + 2),
                kind: "predict".into(),
                input_digest: value::digest(&input),
                input,
                outcome: Some(CallOutcome::Ok(json!({"fps": 0.5}))),
                line: Some(1),
            }
        });
        let mut journal: Journal = entries.collect();
        let mut order = Vec::new();
        let calls = store(once(&script(source), &journal), &mut journal, &mut order);
        assert_eq!(calls[0].position().to_string(), "1.1");
        journal.answer(calls[0].position(), CallOutcome::Ok(Value::Null));
        let Progress::Ended { ending, .. } = once(&script(source), &journal) else {
            panic!("end expected");
        };
        assert_eq!(failed(ending).failure.code, "journal_full");
    }
}
