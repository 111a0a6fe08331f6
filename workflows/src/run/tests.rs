//! Replays, from the first call to the end of the journal.

use serde_json::{Value, json};

use super::{
    Call, CallOutcome, Ending, Entry, Journal, Position, Progress, ReplayContext, RunFailure,
    StepFailure, replay,
};
use crate::{
    model::Timestamp,
    script::{Limits, Script, value},
};

pub(super) const NOW: Timestamp = Timestamp(1_766_368_800_000);

pub(super) fn script(source: &str) -> Script {
    Script::compile("t", source).expect("compiles")
}

pub(super) fn once(script: &Script, journal: &Journal) -> Progress {
    let limits = Limits::workflow();
    let ctx = ReplayContext {
        run: "r1",
        now: NOW,
        seed: 7,
        cancelled: false,
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
pub(super) fn store(
    progress: Progress,
    journal: &mut Journal,
    order: &mut Vec<Entry>,
) -> Vec<Call> {
    let Progress::Suspended {
        new,
        calls,
        waiting_for,
        ..
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
pub(super) fn play(
    source: &str,
    mut world: impl FnMut(&Call) -> CallOutcome,
) -> (Ending, Vec<Entry>) {
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

pub(super) fn echo(call: &Call) -> CallOutcome {
    match call {
        Call::Step { input, kind, .. } => CallOutcome::Ok(json!({"kind": kind, "input": input})),
        Call::Approval { .. } => CallOutcome::Ok(json!({"answer": true, "by": "ada"})),
        _ => CallOutcome::Ok(Value::Null),
    }
}

pub(super) fn failing(kind: &str, code: &str, position: &Position) -> CallOutcome {
    CallOutcome::Err(StepFailure {
        kind: kind.into(),
        code: code.into(),
        message: "it did not work".into(),
        retryable: false,
        position: Some(position.clone()),
    })
}

pub(super) fn succeeded(ending: Ending) -> Value {
    match ending {
        Ending::Succeeded { result } => result,
        ending => panic!("success expected, not {ending:?}"),
    }
}

pub(super) fn failed(ending: Ending) -> RunFailure {
    match ending {
        Ending::Failed(failure) => failure,
        ending => panic!("failure expected, not {ending:?}"),
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
        Call::Step { kind, position, .. } if kind == "verify" => failing(kind, "timeout", position),
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
        let Progress::Suspended { calls, .. } = once(&script(&source), &Journal::default()) else {
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
    let before = "fn run(event) {\n  step(\"predict\", #{ asset: 1 });\n  step(\"make\", #{});\n}";
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
        Call::Step { kind, position, .. } if kind == "make" => failing("make", "broken", position),
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
fn what_a_failed_run_has_open_is_called_off_before_it_is_undone() {
    let script = script(
        r#"fn run(event) {
        on_failure(|| step("allocate", #{ undo: true }));
        let part = start("make", #{});
        try { step("verify", #{}); } catch (e) { start("schedule", #{}); fail("it does not fit"); }
        wait(part);
    }"#,
    );
    let (mut journal, mut order) = (Journal::default(), Vec::new());
    let calls = store(once(&script, &journal), &mut journal, &mut order);
    assert_eq!(calls.len(), 2);
    let (make, verify) = (calls[0].position().clone(), calls[1].position().clone());
    journal.answer(&verify, failing("verify", "bent", &verify));
    let progress = once(&script, &journal);
    let Progress::Suspended {
        new,
        calls,
        abandoned,
        waiting_for,
    } = &progress
    else {
        panic!("suspension expected, not {progress:?}");
    };
    // The build at work is called off, the appointment is never asked for.
    assert_eq!(abandoned.as_slice(), std::slice::from_ref(&make));
    assert_eq!((new[0].kind.as_str(), new.len()), ("schedule", 2));
    assert!(
        new[0]
            .outcome
            .as_ref()
            .is_some_and(CallOutcome::is_never_begun)
    );
    let undoes = Position::top(1).child(1);
    assert_eq!(
        calls.iter().map(Call::position).collect::<Vec<_>>(),
        [&undoes]
    );
    assert_eq!(waiting_for.len(), 1);
    journal.answer(&make, CallOutcome::Err(StepFailure::abandoned(&make)));
    store(progress, &mut journal, &mut order);
    journal.answer(&undoes, CallOutcome::Ok(Value::Null));
    let Progress::Ended { ending, .. } = once(&script, &journal) else {
        panic!("nothing is left to wait for");
    };
    let failure = failed(ending);
    assert_eq!(
        (failure.failure.message.as_str(), failure.not_undone.len()),
        ("it does not fit", 0)
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
    let source =
        "fn run(event) { let t = now(); let r = random(); sleep(\"1d\"); [t, r, now(), random()] }";
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
            undo: false,
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

#[test]
fn a_run_that_continues_as_new_ends_with_the_event_and_undoes_nothing() {
    let source = r#"fn run(event) {
        on_failure(|| step("allocate", #{ undo: true }));
        start("notify", #{ round: 1 });
        try { continue_as_new(#{ round: 2 }); } catch (e) { step("make", #{}); }
        step("make", #{});
    }"#;
    let (ending, entries) = play(source, echo);
    let event = json!({ "round": 2 });
    assert_eq!(ending, Ending::Continued { event });
    let kinds: Vec<&str> = entries.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["notify"],
        "it waits for what it started, and no more"
    );
    let world = |call: &Call| failing("notify", "unreachable", call.position());
    let undone = |call: &Call| match call {
        Call::Step { kind, .. } if kind == "notify" => world(call),
        call => echo(call),
    };
    let (ending, entries) = play(source, undone);
    assert_eq!(failed(ending).failure.code, "unreachable");
    assert_eq!(
        entries.len(),
        2,
        "a run that fails is undone, whatever it was about to do"
    );
}

#[test]
fn a_loop_that_does_nothing_is_stopped() {
    let source = "fn run(event) {\n  on_failure(|| 1);\n  continue_as_new(#{});\n}";
    let failure = failed(play(source, echo).0);
    assert_eq!(
        (failure.failure.code.as_str(), failure.line),
        ("idle_loop", Some(3))
    );
}

#[test]
fn timers_and_events_are_waited_for_beside_steps() {
    let source = r#"fn run(event) {
        let handles = [start("make", #{}), start_sleep("2h"), start_event("plate", "c1", "1d")];
        let first = wait_any(handles);
        [first.index, first.output, wait_any([handles[0], handles[1]]).index]
    }"#;
    let script = script(source);
    for answered in 0..3 {
        let (mut journal, mut order) = (Journal::default(), Vec::new());
        let calls = store(once(&script, &journal), &mut journal, &mut order);
        assert!(matches!(&calls[1], Call::Sleep { until, .. } if *until == NOW.plus_ms(7_200_000)));
        assert!(
            matches!(&calls[2], Call::WaitEvent { name, key, .. } if name == "plate" && key == "c1")
        );
        journal.answer(calls[answered].position(), CallOutcome::Ok(json!("told")));
        if answered == 2 {
            // The event came first, and is not among those waited for next.
            store(once(&script, &journal), &mut journal, &mut order);
            journal.answer(calls[1].position(), CallOutcome::Ok(Value::Null));
        }
        let Progress::Ended { ending, .. } = once(&script, &journal) else {
            panic!("a sleep nobody waits for does not keep a run from ending");
        };
        let next = if answered == 0 { 0 } else { 1 };
        assert_eq!(succeeded(ending), json!([answered, "told", next]));
    }
}

#[test]
fn a_workflow_that_asks_for_a_million_steps_is_stopped_by_its_journal() {
    let source = "fn run(event) {\n  for i in 0..1_000_000 { start(\"predict\", #{ i: i }); }\n}";
    let Progress::Ended { new, ending } = once(&script(source), &Journal::default()) else {
        panic!("end expected");
    };
    let failure = failed(ending);
    assert_eq!(
        (failure.failure.code.as_str(), failure.line),
        ("journal_full", Some(2))
    );
    assert!(
        failure.failure.message.contains("continue_as_new"),
        "{failure:?}"
    );
    let [first] = new.as_slice() else {
        panic!("nobody is asked for any of them: {} entries", new.len());
    };
    assert!(
        first
            .outcome
            .as_ref()
            .is_some_and(CallOutcome::is_never_begun)
    );
}
