//! What passes a test passes on a server: the limits and the failures of a test are those of a server.

use super::{TestReport, TestResult, run_tests};
use crate::script::{Limits, Script, StopFlag, StopReason};

fn report_until(stop: Option<StopFlag>, source: &str, tests: &str) -> TestReport {
    let script = Script::compile("s", source).expect("compiles");
    let tests = Script::compile("s_test", tests).expect("compiles");
    run_tests(&script, &tests, stop).expect("tests run")
}

fn only(source: &str, tests: &str) -> TestResult {
    report_until(None, source, tests).tests.remove(0)
}

/// The code of the failure of the only test, and the script it is in.
fn failure(source: &str, tests: &str) -> Option<(String, String)> {
    let failure = only(source, tests).failure?;
    Some((failure.code, failure.script))
}

fn stopped_by(limit: &str) -> Option<(String, String)> {
    Some((limit.to_owned(), "s".to_owned()))
}

const COUNTS: &str = "fn decide(facts) { let n = 0; while n < facts.n { n += 1; } n }";

#[test]
fn a_decision_of_a_test_has_the_limits_of_a_decision() {
    let many = only(COUNTS, "fn test_a() { decide(#{ n: 200_000 }); }");
    assert!(many.operations >= Limits::decision().operations);
    for caught in [
        "decide(#{ n: 200_000 });",
        "try { decide(#{ n: 200_000 }); } catch { }",
        "[200_000].map(|n| decide(#{ n: n }));",
    ] {
        let tests = format!("fn test_a() {{ {caught} }}");
        assert_eq!(
            failure(COUNTS, &tests),
            stopped_by("limit.operations"),
            "{caught}"
        );
    }
    let deep =
        "fn decide(facts) { down(facts.n) } fn down(n) { if n == 0 { 0 } else { down(n - 1) } }";
    let tests = "fn test_a() { decide(#{ n: 40 }); }";
    assert_eq!(failure(deep, tests), stopped_by("limit.depth"));
    let long = "fn decide(facts) { let s = \"x\"; while s.len() < facts.n { s += s; } s }";
    let tests = "fn test_a() { decide(#{ n: 100_000 }); }";
    assert_eq!(failure(long, tests), stopped_by("limit.size"));
}

#[test]
fn every_decision_of_a_test_has_a_budget_of_its_own() {
    let tests = "fn test_a() { for i in 0..4 { assert_eq(decide(#{ n: 15_000 }), 15_000); } }";
    let result = only(COUNTS, tests);
    assert_eq!(result.failure, None);
    let budget = Limits::decision().operations;
    assert!((budget / 4..budget).contains(&result.operations));
}

#[test]
fn a_workflow_under_test_has_room_for_what_steps_answer_on_a_server() {
    let source = "fn run(event) { let said = step(\"x\", #{}).said; said + said.sub_string(0, 1) }";
    let tests = "fn test_a() {
    on_step(\"x\", |input| { let s = \"x\"; while s.len() < 131_072 { s += s; } #{ said: s } });
    assert_eq(run_workflow(#{}).result.len(), 131_073);
}";
    assert_eq!(failure(source, tests), None);
    let too_long = "fn run(event) { let s = \"x\"; loop { s += s; } }";
    let tests = "fn test_a() { assert_eq(run_workflow(#{}).failure.code, \"limit.size\"); }";
    assert_eq!(failure(too_long, tests), None);
}

#[test]
fn a_time_out_may_be_retried_in_a_test_as_on_a_server() {
    let source = "fn run(event) {
    try { step(\"x\", #{}, #{ timeout: \"1h\" }); } catch (e) { return e.retryable; }
}";
    for answer in ["never()", "throw #{ code: \"timeout\", message: \"late\" }"] {
        let tests = format!(
            "fn test_a() {{ on_step(\"x\", |i| {{ {answer} }}); assert(run_workflow(#{{}}).result); }}"
        );
        assert_eq!(failure(source, &tests), None, "{answer}");
    }
}

#[test]
fn a_run_that_failed_says_why_where_a_test_wanted_it_to_succeed() {
    let source = "fn run(event) {\n    step(\"make\", #{});\n}";
    let tests = "fn test_a() {
    on_step(\"make\", |i| { throw #{ code: \"no_cell\", message: \"no cell can\" } });
    assert_eq(run_workflow(#{}).state, \"succeeded\");
}";
    let failure = only(source, tests).failure.expect("the run fails");
    let wanted = "s_test:3:5: failed is not succeeded; the run failed in line 2: make failed: no cell can (no_cell)";
    assert_eq!(failure.to_string(), wanted);
}

#[test]
fn tests_end_when_their_time_is_over() {
    let stop = StopFlag::default();
    stop.raise(StopReason::GivenUp);
    let tests = "fn test_a() { loop { } } fn test_b() { decide(#{ n: 30_000 }); }";
    for result in report_until(Some(stop), COUNTS, tests).tests {
        let code = result.failure.map(|failure| failure.code);
        assert_eq!(code.as_deref(), Some("limit.deadline"), "{}", result.name);
    }
}
