//! Every limit, each hit by a guest that breaks it; and that nobody else notices.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::world::{
    COUNTED, Memory, TIMED, action, bound, context, everything, failure, plain, request, run, told,
};
use plugins::engine::{Pace, Plugin, Runtime};
use plugins::failure::{Code, Failure};
use plugins::grants::{Capabilities, Grants};
use plugins::lifecycle::Blame;
use plugins::limits::Limits;
use plugins::world::World;

const LOG: &str =
    r#"(import "forewright:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
const PROGRESS: &str = r#"(import "forewright:plugin/host@1.0.0" "progress" (func $progress (param f64 i32 i32) (result i32)))"#;
const ECHO: &str = "(call $ok (local.get $in) (local.get $in_len))";

fn short() -> Limits {
    Limits {
        deadline_ms: 50,
        ..Limits::default()
    }
}

#[test]
fn a_guest_answers() {
    let outcome = run(&plain("", ECHO, &Limits::default()), "{\"x\": [1, 2]}");
    assert_eq!(told(&outcome), "{\"x\": [1, 2]}");
    assert_eq!(outcome.used.memory_bytes, 2 * 65_536);
    assert_eq!((outcome.used.fuel, outcome.used.host_calls), (None, 0));
}

#[test]
fn a_loop_ends_at_its_deadline() {
    let failure = failure(&run(
        &plain("", "(loop $l (br $l)) unreachable", &short()),
        "1",
    ));
    assert_eq!(failure.code, Code::Timeout);
    let limit = failure.limit.unwrap();
    assert_eq!((limit.name.as_str(), limit.allowed), ("deadline-ms", 50));
    assert!(
        failure.frames.iter().any(|frame| frame.function == "run"),
        "{:?}",
        failure.frames
    );
}

#[test]
fn a_loop_of_calls_to_the_host_ends_at_its_deadline() {
    let flood = "(loop $l (call $log (i32.const 2) (i32.const 0) (i32.const 64) (i32.const 0) (i32.const 0)) (br $l)) unreachable";
    let limits = Limits {
        log_kib: 1,
        ..short()
    };
    let plugin = bound(&TIMED, LOG, "", flood, &Capabilities::default(), &limits);
    let outcome = run(&plugin, "1");
    assert_eq!(failure(&outcome).code, Code::Timeout);
    assert!(outcome.log.left_out > 100, "{}", outcome.log.left_out);
    let bytes: usize = outcome.log.lines().map(|line| line.message.len()).sum();
    assert!(bytes <= 1_024, "{bytes}");
}

#[test]
fn time_inside_the_host_counts() {
    let import = r#"(import "forewright:plugin/http@1.0.0" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 f64 i32)))"#;
    let data = r#"(data (i32.const 64) "GEThttps://a.example/")"#;
    let send = "(call $send (i32.const 64) (i32.const 3) (i32.const 67) (i32.const 18) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 0) (i32.const 2048)) (call $ok (i32.const 64) (i32.const 0))";
    let plugin = bound(&TIMED, import, data, send, &everything(), &short());
    let doors = Memory {
        takes: Duration::from_millis(80),
        ..Memory::default()
    };
    let outcome = plugin.call(&request("1"), &context(), Arc::new(doors));
    assert_eq!(failure(&outcome).code, Code::Timeout);
}

#[test]
fn memory_has_an_end_and_the_guest_is_told() {
    // Grows until it cannot, and then gives up like an allocator.
    let bomb = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $out_of_memory) unreachable";
    let outcome = run(
        &plain(
            "",
            bomb,
            &Limits {
                memory_mib: 8,
                ..Limits::default()
            },
        ),
        "1",
    );
    let failed = failure(&outcome);
    assert_eq!(failed.code, Code::Memory);
    let limit = failed.limit.as_ref().unwrap();
    assert_eq!((limit.name.as_str(), limit.allowed), ("memory-mib", 8));
    assert!(limit.asked > Some(8));
    assert!(outcome.used.memory_bytes <= 8 << 20);
    assert_eq!(failed.frames[0].function, "out_of_memory");
    // One that can do with what it has answers.
    let modest =
        "(drop (memory.grow (i32.const 65535))) (call $ok (local.get $in) (local.get $in_len))";
    assert_eq!(told(&run(&plain("", modest, &Limits::default()), "1")), "1");
}

#[test]
fn memory_to_begin_with_is_held_to_the_limit_too() {
    let plugin = plain(
        "(memory $second 200)",
        ECHO,
        &Limits {
            memory_mib: 1,
            ..Limits::default()
        },
    );
    assert_eq!(failure(&run(&plugin, "1")).code, Code::Memory);
}

#[test]
fn tables_have_an_end() {
    let table = "(table $t 1 funcref)";
    let bomb = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 40000)) (i32.const -1)) (then unreachable)) (call $ok (local.get $in) (local.get $in_len))";
    let failed = failure(&run(&plain(table, bomb, &Limits::default()), "1"));
    assert_eq!(failed.code, Code::Tables);
    assert_eq!(failed.limit.unwrap().allowed, 20_000);
    let wide = Limits {
        table_elements: 50_000,
        ..Limits::default()
    };
    assert_eq!(told(&run(&plain(table, bomb, &wide), "1")), "1");
}

#[test]
fn recursion_has_an_end() {
    let deep =
        "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let failed = failure(&run(
        &plain(
            deep,
            "(call $ok (call $deep (i32.const 0)) (i32.const 0))",
            &Limits::default(),
        ),
        "1",
    ));
    assert_eq!(failed.code, Code::Trap);
    assert!(failed.message.contains("stack"), "{}", failed.message);
}

#[test]
fn answers_have_an_end() {
    let long =
        "(drop (memory.grow (i32.const 32))) (call $ok (i32.const 65536) (i32.const 2000000))";
    let failed = failure(&run(
        &plain(
            "",
            long,
            &Limits {
                answer_mib: 1,
                ..Limits::default()
            },
        ),
        "1",
    ));
    assert_eq!(failed.code, Code::AnswerTooLarge);
    assert_eq!(failed.limit.unwrap().name, "answer-mib");
}

#[test]
fn readers_and_writers_have_an_end() {
    let import = r#"(import "forewright:plugin/artifacts@1.0.0" "create" (func $create (param i32 i32 i32 i32 i32)))"#;
    let data = r#"(data (i32.const 64) "atext/plain")"#;
    let bomb = "(loop $l (call $create (i32.const 64) (i32.const 1) (i32.const 65) (i32.const 10) (i32.const 2048))
        (br_if $l (i32.eqz (i32.load8_u (i32.const 2048))))) (call $err (i32.const 3) (i32.const 64) (i32.const 1))";
    let plugin = bound(
        &TIMED,
        import,
        data,
        bomb,
        &everything(),
        &Limits::default(),
    );
    let failed = failure(&run(&plugin, "1"));
    assert_eq!(failed.code, Code::Handles, "{failed}");
    assert_eq!(failed.limit.unwrap().allowed, 64);
}

#[test]
fn instructions_are_counted_the_same_each_time() {
    let limits = Limits {
        fuel_millions: 1,
        deadline_ms: 60_000,
        ..Limits::default()
    };
    let none = Capabilities::default();
    let endless = bound(
        &COUNTED,
        "",
        "",
        "(loop $l (br $l)) unreachable",
        &none,
        &limits,
    );
    let failed = failure(&run(&endless, "1"));
    assert_eq!(failed.code, Code::OutOfFuel);
    assert_eq!(failed.limit.unwrap().name, "fuel-millions");
    let echo = bound(&COUNTED, "", "", ECHO, &none, &limits);
    let fuel = run(&echo, "[1]").used.fuel.unwrap();
    assert!(fuel > 0);
    assert_eq!(run(&echo, "[1]").used.fuel, Some(fuel));
}

#[test]
fn a_cancelled_guest_that_looks_ends_by_itself() {
    let polite = "(loop $l (br_if $l (i32.eqz (call $progress (f64.const 0.5) (i32.const 0) (i32.const 0)))))
        (call $err (i32.const 2) (i32.const 0) (i32.const 0))";
    let plugin = bound(
        &TIMED,
        PROGRESS,
        "",
        polite,
        &Capabilities::default(),
        &Limits::default(),
    );
    let doors = Memory::default();
    doors.cancelled.store(true, Ordering::Relaxed);
    let outcome = plugin.call(&request("1"), &context(), Arc::new(doors));
    assert_eq!(
        failure(&outcome).code,
        Code::Unsupported,
        "what it says itself"
    );
}

#[test]
fn a_cancelled_guest_that_does_not_look_is_stopped() {
    let limits = Limits {
        deadline_ms: 60_000,
        ..Limits::default()
    };
    let plugin = plain("", "(loop $l (br $l)) unreachable", &limits);
    let doors = Memory::default();
    doors.cancelled.store(true, Ordering::Relaxed);
    let outcome = plugin.call(&request("1"), &context(), Arc::new(doors));
    let failed = failure(&outcome);
    assert_eq!(
        (failed.code, failed.code.blame()),
        (Code::Cancelled, Blame::Unknown)
    );
}

#[test]
fn a_panic_is_told_with_names_and_the_last_lines() {
    let body = r#"(data (i32.const 64) "the bearing is upside down")
        (func $inner (call $log (i32.const 4) (i32.const 64) (i32.const 26) (i32.const 0) (i32.const 0)) unreachable)
        (func $outer (call $inner))"#;
    let plugin = bound(
        &TIMED,
        LOG,
        body,
        "(call $outer) unreachable",
        &Capabilities::default(),
        &Limits::default(),
    );
    let failed = failure(&run(&plugin, "1"));
    assert_eq!((failed.code, failed.function.as_str()), (Code::Trap, "run"));
    let names: Vec<&str> = failed
        .frames
        .iter()
        .map(|frame| frame.function.as_str())
        .collect();
    assert_eq!(names, ["inner", "outer", "run"]);
    assert!(
        failed
            .to_string()
            .contains("log: error the bearing is upside down"),
        "{failed}"
    );
}

#[test]
fn a_thousand_crashes_harm_nobody() {
    let crash = plain("", "unreachable", &Limits::default());
    let echo = plain("", ECHO, &Limits::default());
    for n in 0..1_000 {
        assert_eq!(failure(&run(&crash, "1")).code, Code::Trap);
        if n % 100 == 0 {
            assert_eq!(told(&run(&echo, "[]")), "[]");
        }
    }
}

#[test]
fn calls_beyond_all_places_are_told_so() {
    let limits = Limits {
        deadline_ms: 2_000,
        concurrency: 16,
        ..Limits::default()
    };
    let none = Capabilities::default();
    // Its own: other tests want places too.
    let runtime = Runtime::new(Pace::Timed).unwrap();
    let endless = "(loop $l (br $l)) unreachable";
    let slow: Vec<Plugin> = (0..5)
        .map(|_| bound(&runtime, "", "", endless, &none, &limits))
        .collect();
    let codes: Vec<Code> = std::thread::scope(|scope| {
        let call = |n: usize| {
            scope.spawn({
                let slow = &slow;
                move || failure(&run(&slow[n % 5], "1")).code
            })
        };
        let calls: Vec<_> = (0..80).map(call).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let busy = codes.iter().filter(|&&code| code == Code::Busy).count();
    let stopped = codes.iter().filter(|&&code| code == Code::Timeout).count();
    assert_eq!(busy + stopped, 80, "{codes:?}");
    assert!(busy > 0, "there are 64 places");
    assert!(Code::Busy.retryable());
}

#[test]
fn a_plugin_has_so_many_calls_at_once_and_no_more() {
    let limits = Limits {
        deadline_ms: 3_000,
        concurrency: 3,
        ..Limits::default()
    };
    let slow = plain("", "(loop $l (br $l)) unreachable", &limits);
    let codes: Vec<Failure> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| failure(&run(&slow, "1"))))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let busy: Vec<&Failure> = codes.iter().filter(|one| one.code == Code::Busy).collect();
    assert_eq!(codes.len() - busy.len(), 3, "{codes:?}");
    assert_eq!(busy[0].limit.as_ref().unwrap().name, "concurrency");
    assert_eq!(busy[0].code.blame(), Blame::Unknown);
    assert_eq!(
        failure(&run(&slow, "1")).code,
        Code::Timeout,
        "all turns were given back"
    );
}

#[test]
fn all_guests_share_what_memory_there_is() {
    let runtime = Runtime::new(Pace::Timed).unwrap().with_memory_mib(8);
    let none = Capabilities::default();
    let grows = "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable)) (call $ok (local.get $in) (local.get $in_len))";
    let modest = bound(&runtime, "", "", grows, &none, &Limits::default());
    for _ in 0..10 {
        assert_eq!(
            told(&run(&modest, "1")),
            "1",
            "what a call had is given back"
        );
    }
    let greedy = bound(
        &runtime,
        "",
        "",
        &grows.replace("100", "200"),
        &none,
        &Limits::default(),
    );
    let failed = failure(&run(&greedy, "1"));
    assert_eq!(
        (failed.code, failed.code.blame()),
        (Code::Busy, Blame::Unknown),
        "{failed}"
    );
    assert_eq!(failed.limit.unwrap().allowed, 8);
}

#[test]
fn a_component_is_made_of_few_memories() {
    let memories = "(memory $a 1) (memory $b 1)";
    let component = action("", memories, ECHO, &Capabilities::default());
    let error = TIMED.prepare(
        &component,
        World::Action,
        Grants::default(),
        &Limits::default(),
    );
    assert!(error.is_err(), "three memories are more than a place has");
}

#[test]
fn a_start_function_has_the_limits_of_its_call() {
    let body = "(func $forever (loop $l (br $l))) (start $forever)";
    assert_eq!(
        failure(&run(&plain(body, ECHO, &short()), "1")).code,
        Code::Timeout
    );
}

#[test]
fn a_flood_of_fields_takes_neither_time_nor_memory() {
    // 300,000 empty fields in one line, of which 32 are kept.
    let flood = "(drop (memory.grow (i32.const 100)))
        (call $log (i32.const 2) (i32.const 0) (i32.const 3) (i32.const 65536) (i32.const 300000))
        (call $ok (local.get $in) (local.get $in_len))";
    let plugin = bound(
        &TIMED,
        LOG,
        "",
        flood,
        &Capabilities::default(),
        &Limits::default(),
    );
    let outcome = run(&plugin, "1");
    assert_eq!(told(&outcome), "1");
    assert_eq!(outcome.log.lines().next().unwrap().fields.len(), 32);
}
