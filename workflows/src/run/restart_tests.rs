//! Runs begun again: whatever the old run was told and wherever the new one begins, the two agree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{echo, failing, once, script};
use super::{
    Call, CallOutcome, Ending, Entry, Journal, Kept, Position, Progress, StepFailure, Told,
    take_over,
};
use crate::{model::Timestamp, script::Script};

/// Steps one after the other and beside each other, waits of every kind, and something to undo.
const MIXED: &str = r#"fn run(event) {
    on_failure(|| step("allocate", #{ undo: now() }));
    let part = start("make", #{ n: 1 });
    let other = start("predict", #{ luck: random() });
    let sum = 0;
    for n in 0..3 {
        try { sum += step("verify", #{ n: n }).n; } catch (e) { log(e.code); }
    }
    let first = wait_any([part, other, start_sleep("1h")]);
    sleep("1h");
    let all = wait_all([other, part]);
    approval("technician", #{ first: first.index }, "1d");
    try {
        step("swap", #{ n: all.len() });
    } catch (e) {
        start("schedule", #{ in_vain: true });
        log("nothing came of it");
        throw e;
    }
    sum
}"#;

/// What an old run was told, in the order it was asked, with the moments of a clock that goes on with each of them.
struct Old {
    order: Vec<Told>,
    journal: Journal,
    ending: Ending,
}

/// Plays a run to its end; of the open calls `choices` says which is answered next.
fn play(script: &Script, choices: &[usize], world: impl Fn(&Call) -> CallOutcome) -> Old {
    let (mut journal, mut order) = (Journal::default(), Vec::<Told>::new());
    let (mut open, mut clock) = (Vec::<Call>::new(), 0_i64);
    let keep = |journal: &mut Journal, order: &mut Vec<Told>, new: Vec<Entry>, at: i64| {
        for entry in new {
            let outcome = entry.outcome.as_ref();
            order.push(Told {
                position: entry.position.clone(),
                undo: entry.undo,
                answered: outcome.is_some_and(|outcome| !outcome.is_abandoned()),
                begun: !outcome.is_some_and(CallOutcome::is_never_begun),
                recorded_at: Timestamp(at),
                answered_at: entry.outcome.as_ref().map(|_| Timestamp(at)),
            });
            assert!(journal.insert(entry));
        }
    };
    for turn in 0..200 {
        clock += 1;
        match once(script, &journal) {
            progress @ (Progress::Diverged(_) | Progress::UsedUp { .. }) => panic!("{progress:?}"),
            Progress::Ended { new, ending } => {
                keep(&mut journal, &mut order, new, clock);
                return Old {
                    order,
                    journal,
                    ending,
                };
            }
            Progress::Suspended {
                new,
                calls,
                abandoned,
                ..
            } => {
                for position in &abandoned {
                    let called_off = CallOutcome::Err(StepFailure::abandoned(position));
                    assert!(journal.answer(position, called_off));
                    open.retain(|call| call.position() != position);
                    let told = order.iter_mut().find(|t| t.position == *position);
                    told.expect("it was asked").answered_at = Some(Timestamp(clock));
                }
                keep(&mut journal, &mut order, new, clock);
                open.extend(calls);
                let chosen = choices[turn % choices.len()] % open.len();
                let call = open.remove(chosen);
                clock += 1;
                assert!(journal.answer(call.position(), world(&call)));
                let told = order.iter_mut().find(|t| t.position == *call.position());
                let told = told.expect("it was asked");
                (told.answered, told.answered_at) = (true, Some(Timestamp(clock)));
            }
        }
    }
    panic!("the run never ended");
}

/// The journal the new run begins with.
fn taken_over(old: &Old, kept: &[Kept]) -> Journal {
    let entry = |kept: &Kept| {
        let mut entry = old.journal.get(&kept.position).expect("kept").clone();
        if kept.again {
            entry.outcome = None;
        }
        entry
    };
    kept.iter().map(entry).collect()
}

fn numbers(call: &Call) -> CallOutcome {
    match call {
        Call::Step { kind, .. } if kind == "verify" => CallOutcome::Ok(json!({ "n": 1 })),
        call => echo(call),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Wherever a run is begun again, its script asks for nothing else than it was told, and only what is kept is not
    /// asked again.
    #[test]
    fn a_restart_from_anywhere_agrees_with_what_was_told(
        choices in proptest::collection::vec(0_usize..4, 1..6),
        broken in proptest::option::of(0_usize..4),
    ) {
        let script = script(MIXED);
        let kinds = ["make", "predict", "verify", "swap"];
        let world = |call: &Call| match (call, broken) {
            (Call::Step { kind, position, .. }, Some(n)) if kind == kinds[n] => failing(kind, "broken", position),
            (call, _) => numbers(call),
        };
        let old = play(&script, &choices, world);
        let mut starts: Vec<Option<Position>> = vec![None];
        starts.extend(old.order.iter().filter(|t| !t.undo).map(|t| Some(t.position.clone())));
        for from in starts {
            let kept = take_over(&old.order, from.as_ref()).expect("a call of the script");
            let journal = taken_over(&old, &kept);
            prop_assert!(journal.iter().all(|e| !e.undo));
            let progress = once(&script, &journal);
            prop_assert!(!matches!(progress, Progress::Diverged(_)), "from {:?}: {:?}", from, progress);
            // Whatever is kept and answered comes to the same end as before, once the rest is answered as before.
            let asked: BTreeMap<&Position, &Entry> = journal.iter().map(|e| (&e.position, e)).collect();
            if let Progress::Suspended { new, .. } = &progress {
                prop_assert!(new.iter().all(|e| !asked.contains_key(&e.position)));
            }
            if from.is_none() && matches!(old.ending, Ending::Succeeded { .. }) {
                prop_assert_eq!(&progress, &Progress::Ended { new: Vec::new(), ending: old.ending.clone() });
            }
        }
    }
}

#[test]
fn what_undid_a_run_is_not_taken_over() {
    let script = script(MIXED);
    let world = |call: &Call| match call {
        Call::Step { kind, position, .. } if kind == "swap" => failing(kind, "broken", position),
        call => numbers(call),
    };
    let old = play(&script, &[0], world);
    assert!(old.order.iter().any(|t| t.undo));
    let at = old.order.iter().find(|t| {
        let entry = old.journal.get(&t.position).expect("told");
        entry.kind == "swap"
    });
    let kept = take_over(&old.order, Some(&at.expect("asked").position)).expect("a call");
    let Progress::Suspended { new, calls, .. } = once(&script, &taken_over(&old, &kept)) else {
        panic!("it asks for the swap again");
    };
    assert_eq!((new.len(), calls.len()), (1, 1));
    assert_eq!(new[0].input, json!({ "n": 2 }));
    assert!(matches!(old.ending, Ending::Failed(_)) && new[0].outcome.is_none());
    assert_ne!(new[0].input, Value::Null);
}
