//! The conformance kit tells good guests from bad ones.

use plugins::check::{Report, Verdict, run};
use plugins::componentize::componentize;
use plugins::grants::{Capabilities, Grants};
use plugins::limits::Limits;
use plugins::manifest::Manifest;
use plugins::world::World;

use crate::world::{COUNTED, TIMED, action, everything, guest};
use crate::worlds::dummy;

fn manifest(world: World) -> Manifest {
    let more = match world {
        World::Predictor => "[predictor]\nstep-ms = 3600000\n",
        World::Action => "[action]\ninput = {}\noutput = {}\n",
        _ => "",
    };
    let text = format!(
        "name = \"a\"\nversion = \"1.0.0\"\nworld = \"{world}\"\ninterface = \"forewright:plugin@1\"\n{more}"
    );
    text.parse().unwrap()
}

fn report(component: &[u8], world: World, asked: &Capabilities) -> Report {
    let [timed, counted] = [&TIMED, &COUNTED].map(|runtime| {
        runtime
            .prepare(component, world, Grants::all(asked), &Limits::default())
            .unwrap()
    });
    let mut heard = 0;
    let mut told = |_: &Verdict, all| {
        heard += 1;
        assert!(heard <= all);
        true
    };
    let report = run(&timed, &counted, &manifest(world), &mut told);
    assert_eq!(heard, report.verdicts.len());
    report
}

fn failed(report: &Report) -> Vec<&str> {
    let failed = report.verdicts.iter().filter(|verdict| !verdict.passed);
    failed.map(|verdict| verdict.name.as_str()).collect()
}

/// A guest of any world that says `unsupported` to everything.
fn declines(world: World) -> Vec<u8> {
    let function = match world {
        World::Predictor => "predict#predict",
        World::Detector => "detect#detect",
        World::Designer => "design#generate",
        World::Verifier => "verify#inspect",
        World::Scheduler => "schedule#arrange",
        World::Action => "act#run",
    };
    let parameters = match world {
        World::Action => "(param i32 i32 i32 i32)",
        World::Detector => "(param i32 i32 i32 i32 i32 i32 i32 i32 f64)",
        World::Predictor => "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)",
        World::Scheduler => "(param i32 i32 i32 i32 i32 i32)",
        World::Verifier => "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 f64)",
        // More than sixteen: they come in memory.
        World::Designer => "(param i32)",
    };
    guest(
        world,
        function,
        "",
        parameters,
        "(call $err (i32.const 2) (i32.const 0) (i32.const 0))",
    )
}

#[test]
fn every_world_has_thirty_cases_and_more_and_who_declines_passes_them() {
    for world in World::ALL {
        let report = report(&declines(world), world, &Capabilities::default());
        assert!(report.all_passed(), "{world}: {:?}", failed(&report));
        assert!(
            report.verdicts.len() >= 40,
            "{world}: {}",
            report.verdicts.len()
        );
    }
}

#[test]
fn who_traps_fails_every_case() {
    for world in World::ALL {
        let component = componentize(&dummy(world, &[]), world, &[]).unwrap();
        let report = report(&component, world, &Capabilities::default());
        let passed = report.verdicts.iter().filter(|one| one.passed);
        // Those that only compare have nothing to tell apart; who is quicker than the clock, chance decides.
        let passed = passed
            .map(|one| one.name.as_str())
            .filter(|name| *name != "little time");
        let passed: Vec<&str> = passed.collect();
        assert_eq!(
            passed,
            ["the same twice", "several at once", "counted"],
            "{world}"
        );
        assert!(
            report.verdicts.len() >= 40,
            "{world}: {}",
            report.verdicts.len()
        );
    }
}

#[test]
fn what_is_wrong_is_told_by_name() {
    // Answers whatever it is given.
    let none = Capabilities::default();
    let echo = "(call $ok (local.get $in) (local.get $in_len))";
    let parrot = report(&action("", "", echo, &none), World::Action, &none);
    let expected = [
        "input: nothing at all",
        "input: white space",
        "input: a number beyond all",
        "input: no JSON",
        "input: cut off",
        "input: two documents",
        "input: a comment",
        "input: an escape that is none",
        "input: deep",
        "input: deep and cut off",
    ];
    for name in expected {
        assert!(
            failed(&parrot).contains(&name),
            "{name}: {:?}",
            failed(&parrot)
        );
    }
    assert!(!failed(&parrot).contains(&"input: an empty object"));
    // Loops once it is cancelled.
    let progress = r#"(import "forewright:plugin/host@1.0.0" "progress" (func $progress (param f64 i32 i32) (result i32)))"#;
    let stubborn = format!(
        "(loop $l (br_if $l (call $progress (f64.const 0) (i32.const 0) (i32.const 0)))) {NULL}"
    );
    let stubborn = report(
        &action(progress, "", &stubborn, &none),
        World::Action,
        &none,
    );
    assert_eq!(failed(&stubborn), ["cancelled from the start"]);
    // Takes a refused capability for an answer.
    let get = r#"(import "forewright:plugin/state@1.0.0" "get" (func $get (param i32 i32 i32)))"#;
    let body = r#"(data (i32.const 64) "k")"#;
    let careless = format!(
        "(call $get (i32.const 64) (i32.const 1) (i32.const 2048))
         (if (i32.eq (i32.load8_u (i32.const 2052)) (i32.const 5)) (then unreachable)) {NULL}"
    );
    let careless = report(
        &action(get, body, &careless, &everything()),
        World::Action,
        &everything(),
    );
    assert_eq!(failed(&careless), ["out of reach"]);
    let verdict = careless.verdicts.iter().find(|one| !one.passed).unwrap();
    assert!(verdict.told.contains("unreachable"), "{}", verdict.told);
}

const NULL: &str =
    "(i32.store (i32.const 96) (i32.const 0x6c6c756e)) (call $ok (i32.const 96) (i32.const 4))";
