//! The closed stub of WASI: what a toolchain cannot leave out is there, and leads nowhere.

use plugins::contract;
use plugins::failure::Code;
use plugins::grants::Grants;
use plugins::limits::Limits;
use plugins::log::Level;
use plugins::shape::read;
use plugins::world::World;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::world::{TIMED, failure, module, run, told};

/// As much of WASI as these guests import, as the real packages spell it.
const WIT: [&str; 4] = [
    "package wasi:io@0.2.3;
    interface error { resource error { to-debug-string: func() -> string; } }
    interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
        resource output-stream { write: func(contents: list<u8>) -> result<_, stream-error>; }
    }",
    "package wasi:cli@0.2.3;
    interface environment { get-environment: func() -> list<tuple<string, string>>; }
    interface exit { exit: func(status: result); }
    interface stdin { use wasi:io/streams@0.2.3.{input-stream}; get-stdin: func() -> input-stream; }
    interface stderr { use wasi:io/streams@0.2.3.{output-stream}; get-stderr: func() -> output-stream; }",
    "package wasi:clocks@0.2.3;
    interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }",
    "package wasi:random@0.2.3;
    interface random { get-random-u64: func() -> u64; }",
];
const WORLD: &str = "package test:guest;
    world guest {
        include forewright:plugin/action@1.0.0;
        import wasi:cli/environment@0.2.3;
        import wasi:cli/exit@0.2.3;
        import wasi:cli/stdin@0.2.3;
        import wasi:cli/stderr@0.2.3;
        import wasi:clocks/wall-clock@0.2.3;
        import wasi:random/random@0.2.3;
        import wasi:sockets/instance-network@0.2.3;
    }";
const SOCKETS: &str = "package wasi:sockets@0.2.3;
    interface network { resource network; }
    interface instance-network { use network.{network}; instance-network: func() -> network; }";

const IMPORTS: &str = r#"
  (import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))
  (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
  (import "wasi:io/streams@0.2.3" "[method]input-stream.read" (func $read (param i32 i64 i32)))
  (import "wasi:cli/stderr@0.2.3" "get-stderr" (func $stderr (result i32)))
  (import "wasi:io/streams@0.2.3" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
  (import "wasi:clocks/wall-clock@0.2.3" "now" (func $now (param i32)))
  (import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))
  (import "wasi:sockets/instance-network@0.2.3" "instance-network" (func $network (result i32)))"#;

/// Answers the number, in decimal digits.
const NUMBER: &str = r#"
  (func $number (param $n i64) (result i32)
    (local $at i32)
    (local.set $at (i32.const 600))
    (loop $l
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.wrap_i64 (i64.add (i64.const 48) (i64.rem_u (local.get $n) (i64.const 10)))))
      (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
      (br_if $l (i64.ne (local.get $n) (i64.const 0))))
    (call $ok (local.get $at) (i32.sub (i32.const 600) (local.get $at))))"#;

fn guest(body: &str, run: &str) -> plugins::engine::Plugin {
    let (mut resolve, _) = contract::resolve(World::Action, &[]);
    for package in WIT.iter().chain([&SOCKETS]) {
        resolve.push_source("wasi.wit", package).unwrap();
    }
    let package = resolve.push_source("guest.wit", WORLD).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = module(IMPORTS, &format!("{NUMBER}{body}"), run);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .unwrap()
        .encode()
        .unwrap();
    let wasi = read(&component)
        .unwrap()
        .imports
        .iter()
        .filter(|name| name.starts_with("wasi:"))
        .count();
    assert!(wasi >= 7);
    TIMED
        .prepare(
            &component,
            World::Action,
            Grants::default(),
            &Limits::default(),
        )
        .unwrap()
}

#[test]
fn standard_error_goes_to_the_log_by_lines() {
    let body = r#"(data (i32.const 64) "first\nhalf ")(data (i32.const 80) "a line\n\nlast")"#;
    let run_body = "(local $stream i32)
        (local.set $stream (call $stderr))
        (call $write (local.get $stream) (i32.const 64) (i32.const 11) (i32.const 2048))
        (call $write (local.get $stream) (i32.const 80) (i32.const 12) (i32.const 2048))
        (call $number (i64.extend_i32_u (i32.load8_u (i32.const 2048))))";
    let outcome = run(&guest(body, run_body), "1");
    assert_eq!(told(&outcome), "0", "written");
    let lines: Vec<(Level, &str)> = outcome
        .log
        .lines()
        .map(|line| (line.level, line.message.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (Level::Error, "first"),
            (Level::Error, "half a line"),
            (Level::Error, "last")
        ]
    );
}

#[test]
fn there_is_no_environment_and_no_input() {
    let environment = "(call $environment (i32.const 2048)) (call $number (i64.extend_i32_u (i32.load (i32.const 2052))))";
    assert_eq!(told(&run(&guest("", environment), "1")), "0");
    // `err(closed)`: 1, and the second variant.
    let input = "(call $read (call $stdin) (i64.const 10) (i32.const 2048))
        (call $number (i64.extend_i32_u (i32.add
            (i32.mul (i32.const 10) (i32.load8_u (i32.const 2048))) (i32.load8_u (i32.const 2052)))))";
    assert_eq!(told(&run(&guest("", input), "1")), "11");
}

#[test]
fn the_clock_stands_at_the_call_and_randomness_starts_from_its_seed() {
    let now = "(call $now (i32.const 2048)) (call $number (i64.load (i32.const 2048)))";
    assert_eq!(told(&run(&guest("", now), "1")), "1700000000");
    let random = guest(
        "",
        "(call $number (i64.xor (call $random) (i64.rotl (call $random) (i64.const 1))))",
    );
    assert_eq!(told(&run(&random, "1")), told(&run(&random, "1")));
    assert_ne!(told(&run(&random, "1")), "0");
}

#[test]
fn everything_else_stops_the_guest_by_name() {
    let failed = failure(&run(&guest("", "(drop (call $network)) unreachable"), "1"));
    assert_eq!(failed.code, Code::Absent);
    assert!(
        failed
            .message
            .contains("`wasi:sockets/instance-network#instance-network`"),
        "{}",
        failed.message
    );
    let failed = failure(&run(
        &guest("", "(call $exit (i32.const 1)) unreachable"),
        "1",
    ));
    assert_eq!(
        (failed.code, failed.message.as_str()),
        (Code::Trap, "it exited")
    );
}
