//! Cancelled runs: the script goes no further, and what it did is undone, the same on every replay.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{NOW, echo, failing, script, succeeded};
use super::{
    Call, CallOutcome, Ending, Entry, Journal, Progress, ReplayContext, RunFailure, StepFailure,
    replay,
};
use crate::script::{Limits, Script};

/// Nested failures are caught, so that only what cannot be caught comes through.
const RELIEF: &str = r#"
    fn relieve(asset) {
        on_failure(|| { step("allocate", #{ undo: "relief" }); step("notify", #{ of: "relief" }); });
        step("allocate", #{ asset: asset })
    }
    fn run(event) {
        log("begun");
        let relief = relieve("a1");
        let part = start("make", #{ part: 1 });
        on_failure(|| step("allocate", #{ undo: "part" }));
        try { step("verify", #{}); } catch (e) { log("caught " + e.code); }
        try { sleep("2h"); } catch (e) { step("notify", #{ caught: e.code }); }
        try { wait_all([part, start("schedule", #{})]); } catch (e) { step("notify", #{ caught: e.code }); }
        try { approval("technician", #{}, "24h"); } catch (e) { step("notify", #{ caught: e.code }); }
        random()
    }"#;

fn cancelled_once(script: &Script, journal: &Journal, cancelled: bool) -> Progress {
    let limits = Limits::workflow();
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

/// What became of a run that was cancelled after some answers.
struct Played {
    ending: Ending,
    journal: Journal,
    /// Calls made after the cancel, in order.
    undone: Vec<Entry>,
}

/// Plays a run as a server would. It is cancelled when it waits after `answers` answers; or, where `early`, together
/// with the last of them. Calls are answered one at a time, last call first where `backwards`.
fn play(
    source: &str,
    (answers, early): (usize, bool),
    backwards: bool,
    world: fn(&Call) -> CallOutcome,
) -> Played {
    let script = script(source);
    let mut journal = Journal::default();
    let (mut open, mut undone) = (Vec::new(), Vec::new());
    let mut given = 0;
    let mut cancelled = early && answers == 0;
    for _ in 0..200 {
        match cancelled_once(&script, &journal, cancelled) {
            Progress::Ended { new, ending } => {
                new.into_iter().for_each(|entry| {
                    journal.insert(entry);
                });
                return Played {
                    ending,
                    journal,
                    undone,
                };
            }
            progress @ (Progress::Diverged(_) | Progress::UsedUp { .. }) => panic!("{progress:?}"),
            Progress::Suspended {
                new,
                calls,
                waiting_for,
                abandoned,
            } => {
                for position in &abandoned {
                    let gone = StepFailure::abandoned(position);
                    assert!(journal.answer(position, CallOutcome::Err(gone)));
                    open.retain(|call: &Call| call.position() != position);
                    assert!(waiting_for.iter().all(|w| w.position != *position));
                }
                for entry in new {
                    if cancelled {
                        undone.push(entry.clone());
                    }
                    assert!(journal.insert(entry), "asked twice");
                }
                open.extend(calls);
                if given >= answers && !cancelled {
                    cancelled = true;
                    continue;
                }
                assert!(!open.is_empty(), "it waits for nothing");
                let call = match backwards {
                    true => open.pop().expect("one"),
                    false => open.remove(0),
                };
                assert!(journal.answer(call.position(), world(&call)));
                given += 1;
                cancelled |= early && given >= answers;
            }
        }
    }
    panic!("the run never ended");
}

fn cancelled(ending: Ending) -> RunFailure {
    match ending {
        Ending::Cancelled(failure) => failure,
        ending => panic!("cancelled expected, not {ending:?}"),
    }
}

fn undo_steps(played: &Played) -> Vec<Value> {
    let steps = played.undone.iter().filter(|e| e.kind == "allocate");
    steps.map(|e| e.input["undo"].clone()).collect()
}

#[test]
fn a_cancelled_run_is_undone_in_reverse_order_and_asks_nothing_else() {
    // The log, the relief, then `make` and `verify` are open.
    let played = play(RELIEF, (1, false), false, echo);
    assert_eq!(undo_steps(&played), [json!("part"), json!("relief")]);
    assert_eq!(played.undone.len(), 3, "with the notice of the relief");
    let abandoned = played
        .journal
        .iter()
        .filter(|e| e.outcome.as_ref().is_some_and(CallOutcome::is_abandoned));
    let kinds: Vec<&str> = abandoned.map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["make", "verify"]);
    let failure = cancelled(played.ending);
    assert_eq!(failure.failure.code, "cancelled");
    assert_eq!(failure.not_undone, []);
}

#[test]
fn what_could_not_be_undone_is_told() {
    let world = |call: &Call| match call {
        Call::Step {
            input, position, ..
        } if input["undo"] == "part" => failing("allocate", "gone", position),
        call => echo(call),
    };
    let played = play(RELIEF, (1, false), false, world);
    assert_eq!(undo_steps(&played), [json!("part"), json!("relief")]);
    let failure = cancelled(played.ending);
    let codes: Vec<&str> = failure.not_undone.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["gone"]);
}

#[test]
fn a_run_cancelled_before_it_did_anything_ends_at_once() {
    let played = play(RELIEF, (0, true), false, echo);
    assert_eq!(cancelled(played.ending).not_undone, []);
    assert!(played.journal.is_empty());
}

#[test]
fn a_run_that_needs_nothing_more_ends_as_it_would_have() {
    let source = "fn run(event) { on_failure(|| step(\"notify\", #{})); step(\"make\", #{}); 1 }";
    let played = play(source, (1, true), false, echo);
    assert_eq!(succeeded(played.ending), json!(1));
}

#[test]
fn a_cancel_does_not_stop_the_undoing_of_a_failed_run() {
    let source = r#"fn run(event) {
        on_failure(|| { step("allocate", #{ undo: 1 }); step("allocate", #{ undo: 2 }); });
        start("predict", #{});
        step("make", #{});
    }"#;
    let world = |call: &Call| match call {
        Call::Step { kind, position, .. } if kind == "make" => failing("make", "broken", position),
        call => echo(call),
    };
    // Cancelled after `make` failed and the first undoing step was asked for.
    let played = play(source, (2, false), true, world);
    let Ending::Failed(failure) = played.ending else {
        panic!("it had failed before it was cancelled");
    };
    assert_eq!(failure.failure.code, "broken");
    let undone = played.journal.iter().filter(|e| e.kind == "allocate");
    assert_eq!(undone.count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Cancelled whenever, answered in whatever order: it never diverges, each closure runs at most once, in
    /// reverse order, and the script is asked nothing after the cancel.
    #[test]
    fn a_cancel_at_any_moment_undoes_each_thing_at_most_once(answers in 0_usize..9, early: bool, backwards: bool, fails: bool) {
        let world: fn(&Call) -> CallOutcome = match fails {
            true => |call| match call {
                Call::Step { kind, position, .. } if kind == "verify" || kind == "notify" =>
                    failing(kind, "timeout", position),
                call => echo(call),
            },
            false => echo,
        };
        let played = play(RELIEF, (answers, early), backwards, world);
        let undone = undo_steps(&played);
        prop_assert!(
            [vec![], vec![json!("relief")], vec![json!("part"), json!("relief")]].contains(&undone),
            "{:?}", undone
        );
        prop_assert!(played.undone.iter().all(|e| e.position.to_string().contains('.')));
        prop_assert!(played.journal.iter().all(|e| e.input["caught"].is_null()));
        if let Ending::Succeeded { .. } = played.ending {
            prop_assert!(undone.is_empty());
        }
    }
}
