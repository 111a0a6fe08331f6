//! A guest that calls the host with whatever it is told to: numbers, pointers and lengths of its own choosing.
//!
//! Its input is a list of calls, 80 hexadecimal digits each: which function, then the arguments. The guest hands them on as
//! they are, so that lists reach beyond its memory, texts are no UTF-8 and handles are none.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use plugins::call::{Context, Request};
use plugins::cases::Desk;
use plugins::componentize::componentize;
use plugins::engine::{Pace, Plugin, Runtime};
use plugins::grants::{Artifacts, Capabilities, Grants, Http, State, Telemetry};
use plugins::limits::Limits;
use plugins::world::World;

/// One call: which function, and seven numbers to take its arguments from.
type Call = (u8, [u32; 6], f64);

/// The guest reads records of 40 bytes from its memory, where the input's hexadecimal digits were decoded to.
const GUEST: &str = r#"(module
  (import "forewright:plugin/host@1.0.0" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "forewright:plugin/host@1.0.0" "progress" (func $progress (param f64 i32 i32) (result i32)))
  (import "forewright:plugin/host@1.0.0" "config" (func $config (param i32)))
  (import "forewright:plugin/state@1.0.0" "get" (func $get (param i32 i32 i32)))
  (import "forewright:plugin/state@1.0.0" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))
  (import "forewright:plugin/state@1.0.0" "remove" (func $remove (param i32 i32 i32)))
  (import "forewright:plugin/telemetry@1.0.0" "query"
    (func $query (param i32 i32 i32 i32 f64 f64 i32 i32)))
  (import "forewright:plugin/http@1.0.0" "send"
    (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 f64 i32)))
  (import "forewright:plugin/artifacts@1.0.0" "create" (func $create (param i32 i32 i32 i32 i32)))
  (import "forewright:plugin/artifacts@1.0.0" "[method]writer.append"
    (func $append (param i32 i32 i32 i32)))
  (import "forewright:plugin/artifacts@1.0.0" "[static]writer.finish" (func $finish (param i32 i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 3))))
  (func $digit (param $at i32) (result i32)
    (local $c i32)
    (local.set $c (i32.load8_u (local.get $at)))
    (select (i32.sub (local.get $c) (i32.const 87)) (i32.sub (local.get $c) (i32.const 48))
      (i32.gt_u (local.get $c) (i32.const 57))))
  (func $word (param $n i32) (result i32)
    (i32.load (i32.add (i32.const 4) (i32.mul (local.get $n) (i32.const 4)))))
  (func $one
    (local $what i32)
    (local.set $what (i32.load8_u (i32.const 0)))
    (if (i32.eq (local.get $what) (i32.const 0)) (then (call $log
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2))
      (call $word (i32.const 3)) (call $word (i32.const 4)))))
    (if (i32.eq (local.get $what) (i32.const 1)) (then (drop (call $progress
      (f64.load (i32.const 32)) (call $word (i32.const 0)) (call $word (i32.const 1))))))
    (if (i32.eq (local.get $what) (i32.const 2)) (then (call $config (call $word (i32.const 0)))))
    (if (i32.eq (local.get $what) (i32.const 3)) (then (call $get
      (call $word (i32.const 0)) (call $word (i32.const 1)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 4)) (then (call $set
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2))
      (call $word (i32.const 3)) (call $word (i32.const 4)) (call $word (i32.const 5)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 5)) (then (call $remove
      (call $word (i32.const 0)) (call $word (i32.const 1)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 6)) (then (call $query
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2))
      (call $word (i32.const 3)) (f64.load (i32.const 32)) (f64.load (i32.const 8))
      (call $word (i32.const 4)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 7)) (then (call $send
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2))
      (call $word (i32.const 3)) (call $word (i32.const 4)) (call $word (i32.const 5))
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2))
      (f64.load (i32.const 32)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 8)) (then (call $create
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2))
      (call $word (i32.const 3)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 9)) (then (call $append
      (call $word (i32.const 0)) (call $word (i32.const 1)) (call $word (i32.const 2)) (i32.const 1024))))
    (if (i32.eq (local.get $what) (i32.const 10)) (then (call $finish
      (call $word (i32.const 0)) (i32.const 1024)))))
  (func (export "forewright:plugin/act@1.0.0#run")
    (param $in i32) (param $length i32) (param i32 i32) (result i32)
    (local $at i32) (local $n i32)
    (local.set $at (local.get $in))
    (block $done
      (loop $next
        (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const 80))
          (i32.add (local.get $in) (local.get $length))))
        (local.set $n (i32.const 0))
        (loop $decode
          (i32.store8 (local.get $n) (i32.add
            (i32.mul (call $digit (local.get $at)) (i32.const 16))
            (call $digit (i32.add (local.get $at) (i32.const 1)))))
          (local.set $at (i32.add (local.get $at) (i32.const 2)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $decode (i32.lt_u (local.get $n) (i32.const 40))))
        (call $one)
        (br $next)))
    (i32.store8 (i32.const 2048) (i32.const 0))
    (i32.store (i32.const 2056) (i32.const 0))
    (i32.store (i32.const 2060) (i32.const 0))
    (i32.const 2048)))"#;

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| {
    let asked = Capabilities {
        artifacts: Some(Artifacts {
            media: vec!["*".to_owned()],
            write_mib: 1,
        }),
        telemetry: Some(Telemetry {
            metrics: vec!["*".to_owned()],
        }),
        state: Some(State { kib: 4 }),
        http: Some(Http {
            origins: vec!["https://example.com".to_owned()],
            response_kib: 4,
        }),
    };
    let module = wat::parse_str(GUEST).expect("the guest is text");
    let component = componentize(&module, World::Action, &asked.named()).expect("a component");
    let runtime = Runtime::new(Pace::Timed).expect("an engine");
    let limits = Limits {
        deadline_ms: 200,
        ..Limits::default()
    };
    runtime
        .prepare(&component, World::Action, Grants::all(&asked), &limits)
        .expect("a plugin")
});

fuzz_target!(|calls: Vec<Call>| {
    let mut input = String::new();
    for (function, words, real) in calls.iter().take(64) {
        let mut record = vec![function % 11, 0, 0, 0];
        // Small numbers reach more than great ones: most pointers lie within the memory.
        for (n, word) in words.iter().enumerate() {
            let word = if n % 2 == 0 {
                word % 70_000
            } else {
                word % 4_096
            };
            record.extend_from_slice(&word.to_le_bytes());
        }
        record.extend_from_slice(&[0; 4]);
        record.extend_from_slice(&real.to_le_bytes());
        input.extend(record.iter().map(|byte| format!("{byte:02x}")));
    }
    let request = Request::Act {
        input,
        key: "fuzz".to_owned(),
    };
    let context = Context {
        config: "{}".to_owned(),
        now_ms: 1_767_225_600_000.0,
        seed: 7,
    };
    // However it ends, it ends, and within its time.
    let outcome = PLUGIN.call(&request, &context, Arc::new(Desk::default()));
    assert!(outcome.used.wall_ms < 5_000.0, "{outcome:?}");
});
