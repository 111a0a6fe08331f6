//! Runs whose script meets a limit: what it did until then is undone, the same on every replay.

use serde_json::Value;

use super::tests::{NOW, echo, failing, script};
use super::{
    Call, CallOutcome, Ending, Entry, Journal, Progress, ReplayContext, RunFailure, StepFailure,
    replay,
};
use crate::script::{Limits, Script, StopFlag, StopReason};

/// A flag that is raised from the beginning stops a script where it does more than a few operations between two calls.
fn raised(reason: StopReason) -> StopFlag {
    let stop = StopFlag::default();
    stop.raise(reason);
    stop
}

fn replayed(
    script: &Script,
    journal: &Journal,
    stop: Option<StopReason>,
    cancelled: bool,
) -> Progress {
    let limits = Limits {
        stop: stop.map(raised),
        ..Limits::workflow()
    };
    let ctx = ReplayContext {
        run: "r1",
        now: NOW,
        seed: 7,
        cancelled,
        limits: &limits,
    };
    let first = replay(script, &Value::Null, journal, &ctx);
    assert_eq!(first, replay(script, &Value::Null, journal, &ctx));
    first
}

/// What became of a run.
struct Played {
    failure: RunFailure,
    entries: Vec<Entry>,
    /// How often it used up its time.
    stops: usize,
}

impl Played {
    /// Where the calls stand, in the order they were made; `!` where it was stopped.
    fn positions(&self) -> String {
        let mark = |e: &Entry| if e.stop().is_some() { "!" } else { "" };
        let told = (self.entries.iter()).map(|e| format!("{}{}", e.position, mark(e)));
        told.collect::<Vec<_>>().join(" ")
    }
}

/// Plays a run as a server would whose clock stops each replay that does not get from call to call at once, unless it
/// was stopped just before: then it is replayed by a machine that is quick enough for everything but a loop without end.
fn play(source: &str, world: impl Fn(&Call) -> CallOutcome) -> Played {
    let script = script(source);
    let (mut journal, mut entries, mut stops) = (Journal::default(), Vec::new(), 0);
    let mut stop = Some(StopReason::UsedUp);
    for _ in 0..200 {
        let (new, calls) = match replayed(&script, &journal, stop, false) {
            Progress::Ended { new, ending } => {
                entries.extend(new);
                let Ending::Failed(failure) = ending else {
                    panic!("failure expected, not {ending:?}");
                };
                return Played {
                    failure,
                    entries,
                    stops,
                };
            }
            Progress::UsedUp { new, calls, .. } => {
                stops += 1;
                (new, calls)
            }
            Progress::Suspended { new, calls, .. } => (new, calls),
            Progress::Diverged(divergence) => panic!("diverged: {divergence:?}"),
        };
        for entry in new {
            entries.push(entry.clone());
            assert!(journal.insert(entry), "inserted twice");
        }
        for call in calls {
            journal.answer(call.position(), world(&call));
        }
        stop = Some(StopReason::UsedUp);
    }
    panic!("the run never ended");
}

#[test]
fn what_a_script_did_before_its_time_was_used_up_is_undone() {
    let source = r#"fn run(event) {
        on_failure(|| step("allocate", #{ undo: 1 }));
        let made = step("make", #{ n: 1 });
        on_failure(|| { step("allocate", #{ undo: made.input.n }); step("notify", now()); });
        log("begun at " + now());
        on_failure(|| { let last = random(); step("notify", last); });
        loop { let turn = 1; }
        on_failure(|| step("never", ()));
    }"#;
    let played = play(source, echo);
    assert_eq!(played.stops, 1);
    assert_eq!(
        played.positions(),
        "2 4 5 7! 6.1 6.2 3.1 3.2 3.3 1.1",
        "the closures run in reverse order"
    );
    assert_eq!(played.failure.failure.code, "limit.deadline");
    assert!(!played.failure.failure.retryable);
    assert_eq!(played.failure.not_undone, []);
    assert!(played.entries.iter().skip(3).all(|e| e.undo));
}

#[test]
fn a_script_that_is_stopped_in_the_middle_of_its_journal_is_undone_from_its_end() {
    // The loop is short enough for a machine that is quick, which played the run up to its sleep.
    let source = r#"fn run(event) {
        on_failure(|| step("allocate", #{ undo: 1 }));
        step("make", #{ n: 1 });
        for n in 0..1_000 { let turn = n; }
        step("make", #{ n: 2 });
        on_failure(|| step("allocate", #{ undo: 2 }));
        sleep("1h");
        step("never", ());
    }"#;
    let script = script(source);
    // It may still sleep when it is stopped, and be cancelled then.
    for (asleep, cancelled) in [(false, false), (true, false), (true, true)] {
        stopped_and_undone(&script, asleep, cancelled);
    }
}

fn stopped_and_undone(script: &Script, asleep: bool, cancelled: bool) {
    let mut journal = Journal::default();
    for call in 0..3 {
        let Progress::Suspended { new, calls, .. } = replayed(script, &journal, None, false) else {
            panic!("suspension expected");
        };
        new.into_iter()
            .for_each(|entry| assert!(journal.insert(entry)));
        let answered = |call: &Call| journal.answer(call.position(), echo(call));
        assert!((call == 2 && asleep) || calls.iter().all(answered));
    }
    let Progress::UsedUp { new, calls, .. } =
        replayed(script, &journal, Some(StopReason::UsedUp), false)
    else {
        panic!("a stop expected");
    };
    assert_eq!(
        (new[0].position.to_string().as_str(), calls.len()),
        ("6", 0)
    );
    new.into_iter()
        .for_each(|entry| assert!(journal.insert(entry)));
    for undone in ["4.1", "1.1"] {
        let progress = replayed(script, &journal, None, cancelled);
        let Progress::Suspended {
            new,
            calls,
            abandoned,
            ..
        } = progress
        else {
            panic!("suspension expected, not {progress:?}");
        };
        for position in &abandoned {
            assert!(asleep && undone == "4.1", "{position}");
            let called_off = CallOutcome::Err(StepFailure::abandoned(position));
            journal.answer(position, called_off);
        }
        assert_eq!(calls[0].position().to_string(), undone);
        new.into_iter()
            .for_each(|entry| assert!(journal.insert(entry)));
        journal.answer(calls[0].position(), echo(&calls[0]));
    }
    let ended = replayed(script, &journal, None, true);
    let Progress::Ended {
        ending: Ending::Failed(failure),
        ..
    } = ended
    else {
        panic!("it had failed before it was cancelled: {ended:?}");
    };
    assert_eq!(failure.failure.code, "limit.deadline");
}

#[test]
fn a_closure_that_uses_up_its_time_does_not_keep_the_others_from_running() {
    let source = r#"fn run(event) {
        on_failure(|| step("allocate", #{ undo: 1 }));
        on_failure(|| { step("notify", 1); loop { } });
        on_failure(|| { loop { } });
        on_failure(|| step("allocate", #{ undo: 4 }));
        fail("enough");
    }"#;
    let broken = |call: &Call| match call {
        Call::Step { kind, .. } if kind == "notify" => echo(call),
        call => failing("allocate", "gone", call.position()),
    };
    let played = play(source, broken);
    assert_eq!(
        (played.failure.failure.code.as_str(), played.stops),
        ("failed", 2)
    );
    assert_eq!(played.positions(), "4.1 3.1! 2.1 2.2! 1.1");
    let codes = played.failure.not_undone.iter().map(|f| f.code.as_str());
    assert_eq!(
        codes.collect::<Vec<_>>(),
        ["gone", "limit.deadline", "limit.deadline", "gone"]
    );
}

#[test]
fn a_run_that_never_has_time_enough_is_given_up() {
    let source = r#"fn run(event) {
        for n in 0..20 { on_failure(|| { loop { } }); }
        fail("enough");
    }"#;
    let played = play(source, echo);
    assert_eq!(played.stops, 8);
    let not_undone = &played.failure.not_undone;
    assert_eq!(not_undone.len(), 20);
    assert!(not_undone.iter().all(|f| f.code == "limit.deadline"));
    assert_eq!(not_undone[19].position, "1".parse().ok());
}

#[test]
fn without_anything_to_undo_the_run_ends_where_its_time_was_used_up() {
    let played = play("fn run(event) { log(\"begun\"); loop { } }", echo);
    assert_eq!((played.positions().as_str(), played.stops), ("1", 0));
    assert_eq!(played.failure.failure.code, "limit.deadline");
}

#[test]
fn a_replay_that_is_given_up_leaves_nothing() {
    let script = script("fn run(event) { on_failure(|| step(\"allocate\", 1)); log(1); loop { } }");
    let progress = replayed(
        &script,
        &Journal::default(),
        Some(StopReason::GivenUp),
        false,
    );
    let Progress::Ended {
        new,
        ending: Ending::Failed(failure),
    } = progress
    else {
        panic!("an end expected, not {progress:?}");
    };
    assert_eq!(new, []);
    assert!(failure.failure.retryable, "{failure:?}");
}

#[test]
fn a_script_that_only_says_its_time_was_up_is_undone() {
    let source = r#"fn run(event) {
        on_failure(|| step("allocate", 1));
        throw #{ code: "limit.deadline", retryable: true };
    }"#;
    let played = play(source, echo);
    assert_eq!((played.positions().as_str(), played.stops), ("1.1", 0));
}

#[test]
fn every_other_limit_has_the_run_undone_in_the_same_replay() {
    for (body, code) in [
        ("loop { }", "limit.operations"),
        ("deep(0)", "limit.depth"),
        ("let s = \"x\"; loop { s += s; }", "limit.size"),
        ("let a = []; loop { a = [a, a]; }", "limit.size"),
        ("for n in 0..20_000 { log(n); }", "journal_full"),
    ] {
        let source = format!(
            r#"fn deep(n) {{ deep(n + 1) }}
            fn run(event) {{
                on_failure(|| step("allocate", 1));
                let made = step("make", #{{ n: 3 }});
                on_failure(|| {{ for n in 0..made.input.n {{ step("allocate", n); }} }});
                {body}
            }}"#
        );
        let script = script(&source);
        let mut journal = Journal::default();
        let mut undone = Vec::new();
        let failure = loop {
            match replayed(&script, &journal, None, false) {
                Progress::Suspended { new, calls, .. } => {
                    new.into_iter()
                        .for_each(|entry| assert!(journal.insert(entry)));
                    for call in &calls {
                        undone.push(call.position().to_string());
                        journal.answer(call.position(), echo(call));
                    }
                }
                Progress::Ended {
                    ending: Ending::Failed(failure),
                    ..
                } => break failure,
                progress => panic!("{body}: {progress:?}"),
            }
        };
        assert_eq!(failure.failure.code, code, "{body}");
        assert_eq!(undone, ["2", "3.1", "3.2", "3.3", "1.1"], "{body}");
        assert_eq!(failure.not_undone, Vec::<StepFailure>::new(), "{body}");
    }
}
