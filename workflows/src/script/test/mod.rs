//! Runs `*_test.rhai`: every `fn test_…()` on its own, and every `fn case_…(row)` once per row of its table, against the
//! script they test.
//!
//! A table is what `fn cases_…()` gives: an array of rows, or a map of them by name. A row that is a map may say its
//! name itself, in `name`.

mod asserts;
mod coverage;
mod policy;
#[cfg(test)]
mod production_tests;
mod workflow;

use std::{collections::BTreeSet, sync::Arc};

use rhai::{AST, Array, Dynamic, Engine, EvalAltResult, Map, Scope};
use serde::{Deserialize, Serialize};

use super::{
    Finding, Limits, Script, ScriptError, Severity, StopFlag, limited_engine, on_big_stack,
};
use crate::script::check::{place_of_function, test_name_findings};
use coverage::Cover;
pub(super) use coverage::Watching;
pub use coverage::{Coverage, UncoveredBranch};

/// Rows one table may have.
const MAX_ROWS: usize = 1_000;

/// What became of the tests of one script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// The test script.
    pub script: String,
    /// Its tests, in order of line, and the rows of tables in order of the table.
    pub tests: Vec<TestResult>,
    /// How much of the script they ran.
    pub coverage: Coverage,
    /// What is wrong with how they are written, or probably is; with an error among it none is run.
    pub findings: Vec<Finding>,
}

impl TestReport {
    /// Whether there are tests and all of them pass.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error().is_none()
            && !self.tests.is_empty()
            && self.tests.iter().all(|t| t.failure.is_none())
    }

    /// Why none of the tests was run, if one was not.
    #[must_use]
    pub fn error(&self) -> Option<&ScriptError> {
        let mut errors = self
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error);
        errors.next().map(|finding| &finding.error)
    }
}

/// What became of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Its name, e.g. `test_a_healthy_asset_is_monitored` or `case_the_threshold[just above]`.
    pub name: String,
    /// Line of its function.
    pub line: u32,
    /// Operations of the longest decision it asked for, or of the longest replay it caused; its own if there is neither.
    pub operations: u64,
    /// Why it failed, with the line.
    pub failure: Option<ScriptError>,
}

/// Runs every function of `tests` whose name begins with `test_` and that takes nothing, and every one whose name
/// begins with `case_` and that takes a row.
///
/// What they ask for has the limits a server gives it, one decision those of [`Limits::decision`] and one replay those
/// of [`Limits::workflow`]; their own code has those of [`Limits::test`]. All of it ends when `stop` is raised.
///
/// # Errors
///
/// Never for a failing test, which is in the report; only when the engine itself breaks.
pub fn run_tests(
    subject: &Script,
    tests: &Script,
    stop: Option<StopFlag>,
) -> Result<TestReport, ScriptError> {
    on_big_stack(|| Suite::new(subject, tests, stop).run())
        .map_err(|panic| ScriptError::internal(tests.name(), &panic.to_string()))
}

/// Gives an engine the functions a test can call, so that they can be looked up on it; none of them is to be called.
pub(super) fn register_for_checks(engine: &mut Engine) {
    asserts::register_asserts(engine);
    workflow::register_for_checks(engine);
}

/// The tests of a script, and what they have covered so far.
struct Suite<'a> {
    subject: &'a Script,
    tests: &'a Script,
    /// The functions of both, but for `decide`, which is asked on an engine of its own.
    both: AST,
    stop: Option<StopFlag>,
    cover: Arc<Cover>,
}

/// One thing to run.
struct Case {
    name: String,
    line: u32,
    function: String,
    row: Option<Dynamic>,
}

impl<'a> Suite<'a> {
    fn new(subject: &'a Script, tests: &'a Script, stop: Option<StopFlag>) -> Self {
        let mut both = subject.ast().clone();
        both.retain_functions(|_, _, name, takes| (name, takes) != ("decide", 1));
        Self {
            subject,
            tests,
            both: both.merge(tests.ast()),
            cover: Cover::of(subject, stop.clone()),
            stop,
        }
    }

    /// These limits, ending when the tests are to.
    fn within(&self, mut limits: Limits) -> Limits {
        limits.stop.clone_from(&self.stop);
        limits
    }

    fn run(&self) -> TestReport {
        let mut report = TestReport {
            script: self.tests.name().to_owned(),
            tests: Vec::new(),
            coverage: self.cover.coverage(),
            findings: test_name_findings(self.subject, self.tests),
        };
        if report.error().is_none() {
            report.tests = self.results();
            report.coverage = self.cover.coverage();
        }
        report
    }

    fn results(&self) -> Vec<TestResult> {
        let mut found: Vec<(u32, String, usize)> = self
            .tests
            .ast()
            .iter_functions()
            .filter(|f| match f.params.len() {
                0 => f.name.starts_with("test_"),
                1 => f.name.starts_with("case_"),
                _ => false,
            })
            .map(|f| {
                (
                    line_of(self.tests, f.name),
                    f.name.to_owned(),
                    f.params.len(),
                )
            })
            .collect();
        found.sort();
        let mut results = Vec::new();
        for (line, function, parameters) in found {
            match self.cases(line, &function, parameters) {
                Ok(cases) => results.extend(cases.into_iter().map(|case| self.result(case))),
                Err(failure) => results.push(TestResult {
                    name: function,
                    line,
                    operations: 0,
                    failure: Some(failure),
                }),
            }
        }
        results
    }

    fn cases(
        &self,
        line: u32,
        function: &str,
        parameters: usize,
    ) -> Result<Vec<Case>, ScriptError> {
        let case = |name, row| Case {
            name,
            line,
            function: function.to_owned(),
            row,
        };
        if parameters == 0 {
            return Ok(vec![case(function.to_owned(), None)]);
        }
        let rows = self.rows(line, function)?;
        let named = rows
            .into_iter()
            .map(|(row, value)| (format!("{function}[{row}]"), value));
        Ok(named.map(|(name, row)| case(name, Some(row))).collect())
    }

    /// The rows of a table by their names.
    fn rows(&self, line: u32, function: &str) -> Result<Vec<(String, Dynamic)>, ScriptError> {
        let table = function.replacen("case_", "cases_", 1);
        let broken = |what: String| {
            let at = rhai::Position::new(u16::try_from(line).unwrap_or(u16::MAX), 1);
            ScriptError::at(self.tests.name(), "table", what, at)
        };
        let (given, _) = self.call(&table, Vec::new());
        let given = given?;
        let rows: Vec<(String, Dynamic)> = if let Some(rows) = given.read_lock::<Map>() {
            rows.iter()
                .map(|(name, row)| (name.to_string(), row.clone()))
                .collect()
        } else if let Some(rows) = given.read_lock::<Array>() {
            rows.iter()
                .enumerate()
                .map(|(at, row)| (row_name(at, row), row.clone()))
                .collect()
        } else {
            return Err(broken(format!("`{table}` gives no array or map of rows")));
        };
        let mut names = BTreeSet::new();
        if let Some((twice, _)) = rows.iter().find(|(name, _)| !names.insert(name.clone())) {
            return Err(broken(format!("`{table}` has two rows named `{twice}`")));
        }
        if rows.is_empty() || rows.len() > MAX_ROWS {
            let what = format!("`{table}` has {} rows, not 1 to {MAX_ROWS}", rows.len());
            return Err(broken(what));
        }
        Ok(rows)
    }

    fn result(&self, case: Case) -> TestResult {
        let (outcome, operations) = self.call(&case.function, case.row.into_iter().collect());
        TestResult {
            name: case.name,
            line: case.line,
            operations,
            failure: outcome.err(),
        }
    }

    /// Calls a function of the tests on an engine of its own.
    fn call(&self, function: &str, args: Vec<Dynamic>) -> (Result<Dynamic, ScriptError>, u64) {
        let mut engine: Engine = limited_engine(&self.within(Limits::test()));
        asserts::register_asserts(&mut engine);
        let decisions = policy::register(&mut engine, self);
        let replays = workflow::register(&mut engine, self);
        let watching = self.cover.watching();
        watching.watch(&mut engine);
        let given = engine.call_fn::<Dynamic>(&mut Scope::new(), &self.both, function, args);
        let operations = watching.end(given.is_err());
        let longest = decisions.longest().max(replays.longest());
        let given = given.map_err(|error| match decisions.stopped() {
            Some(stopped) if error.is_system_exception() => stopped,
            _ => self.place(&error),
        });
        // Whatever the test held against the run, why that failed says more.
        let given = given.map_err(|mut error| {
            if let Some(why) = replays.failed() {
                error.message = format!("{}; {why}", error.message);
            }
            error
        });
        (given, if longest > 0 { longest } else { operations })
    }

    /// An error where it happened: in the tests, or in what they test.
    fn place(&self, error: &EvalAltResult) -> ScriptError {
        let mut place = error;
        let mut of = self.tests;
        while let EvalAltResult::ErrorInFunctionCall(function, _, inner, _) = place {
            let here = |s: &Script| s.ast().iter_functions().any(|f| f.name == function);
            of = if here(self.tests) {
                self.tests
            } else {
                self.subject
            };
            place = inner;
        }
        ScriptError::from_eval(of, error)
    }
}

/// What a row calls itself, or its number.
fn row_name(at: usize, row: &Dynamic) -> String {
    let named = row.read_lock::<Map>();
    let name = named.and_then(|row| row.get("name").and_then(|n| n.clone().into_string().ok()));
    name.unwrap_or_else(|| (at + 1).to_string())
}

fn line_of(script: &Script, function: &str) -> u32 {
    let line = place_of_function(script, function).line();
    line.and_then(|line| u32::try_from(line).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(source: &str, tests: &str) -> TestReport {
        let script = Script::compile("s", source).expect("compiles");
        let tests = Script::compile("s_test", tests).expect("compiles");
        run_tests(&script, &tests, None).expect("tests run")
    }

    fn told(report: &TestReport) -> Vec<String> {
        let tests = report.tests.iter();
        tests
            .map(|t| match &t.failure {
                None => format!("{} ok", t.name),
                Some(failure) => format!("{} {failure}", t.name),
            })
            .collect()
    }

    const RULE: &str = r#"const LIMIT = 3;
fn decide(facts) {
    if facts.n > global::LIMIT {
        return "many";
    }
    for i in 0..facts.n { touch(i); }
    switch facts.n {
        0 => "none",
        1 => "one",
        _ => if facts.odd { "odd" } else { "few" }
    }
}
fn touch(i) {
    let seen = [1].map(|x| x + i);
    seen
}"#;

    #[test]
    fn every_row_of_a_table_is_a_test_of_its_own() {
        let tests = r#"
fn cases_number() { [#{ name: "many", n: 4 }, #{ n: 0, says: "none" }, #{ name: "wrong", n: 1, says: "two" }] }
fn case_number(row) { assert_eq(decide(#{ n: row.n, odd: false }), row.get("says") ?? "many"); }
fn cases_by_name() { #{ a: 2, b: 3 } }
fn case_by_name(n) { assert_eq(decide(#{ n: n, odd: false }), "few"); }
fn cases_twice() { [#{ name: "x" }, #{ name: "x" }] }
fn case_twice(row) { }
fn cases_none() { [] }
fn case_none(row) { }
fn cases_odd() { 7 }
fn case_odd(row) { }
fn helper(row) { }
fn test_alone() { }"#;
        let report = report(RULE, tests);
        assert_eq!(
            told(&report),
            [
                "case_number[many] ok",
                "case_number[2] ok",
                "case_number[wrong] s_test:3:23: one is not two",
                "case_by_name[a] ok",
                "case_by_name[b] ok",
                "case_twice s_test:7:1: `cases_twice` has two rows named `x`",
                "case_none s_test:9:1: `cases_none` has 0 rows, not 1 to 1000",
                "case_odd s_test:11:1: `cases_odd` gives no array or map of rows",
                "test_alone ok"
            ]
        );
        assert_eq!(report.tests[1].line, 3);
        assert!(report.tests[0].operations > 10);
        assert!(
            report.tests[4].operations > report.tests[3].operations,
            "one more to touch"
        );
    }

    #[test]
    fn what_no_test_ran_is_told_by_line_and_branch() {
        let covered = |tests: &str| report(RULE, tests).coverage;
        let none = covered("fn test_a() { }");
        assert_eq!((none.lines, none.lines_run, none.branches_taken), (9, 0, 0));
        assert_eq!(none.uncovered_lines, [3, 4, 6, 7, 8, 9, 10, 14, 15]);

        let many = covered("fn test_a() { decide(#{ n: 4 }); }");
        assert_eq!(many.uncovered_lines, [6, 7, 8, 9, 10, 14, 15]);
        let ways = |c: &Coverage| -> Vec<(u32, String)> {
            let ways = c.uncovered_branches.iter();
            ways.map(|b| (b.line, b.way.clone())).collect()
        };
        assert_eq!(ways(&many)[0], (3, "else".to_owned()));
        assert!(!ways(&many).contains(&(3, "then".to_owned())));

        let most = covered("fn test_a() { for n in [0, 2, 4] { decide(#{ n: n, odd: true }); } }");
        assert_eq!(most.uncovered_lines, [9]);
        assert_eq!(
            ways(&most),
            [(7, "case".to_owned()), (10, "else".to_owned())]
        );
        let all = "fn test_a() { for n in 0..5 { for odd in [true, false] { decide(#{ n: n, odd: odd }); } } }";
        let all = covered(all);
        assert_eq!(
            (all.lines_percent(), all.branches_percent()),
            (100.0, 100.0)
        );
        assert_eq!(
            (all.uncovered_lines.len(), all.uncovered_branches.len()),
            (0, 0)
        );
    }

    const FLOW: &str = r#"fn run(event) {
    let slow = start("slow", #{}, #{ timeout: "2h" });
    sleep("1h");
    let after_sleep = now();
    let said = ();
    try { said = wait(slow).said; } catch (e) { said = e.code; }
    let heard = "";
    try { wait_event("done", "k", "3h"); heard = "yes"; } catch (e) { heard = e.code; }
    #{ after_sleep: after_sleep, said: said, heard: heard, ended: now() }
}"#;

    #[test]
    fn a_test_of_a_workflow_has_a_clock_of_its_own() {
        let tests = r#"
fn event() { #{ at: "2026-01-01T00:00:00Z" } }
fn test_in_time() {
    on_step("slow", |input| { takes("90m"); #{ said: "ok" } });
    on_event(|name, key| { takes("30m"); #{} });
    let o = run_workflow(event());
    assert_eq(o.result, #{
        after_sleep: "2026-01-01T01:00:00.000Z", said: "ok", heard: "yes", ended: "2026-01-01T02:00:00.000Z"
    });
    assert_eq(o.ended_at, "2026-01-01T02:00:00.000Z");
}
fn test_too_late() {
    on_step("slow", |input| { takes("5h"); #{ said: "ok" } });
    on_event(|name, key| { takes("3h1m"); #{} });
    let o = run_workflow(event());
    assert_eq([o.result.said, o.result.heard], ["timeout", "timeout"]);
    assert_eq(o.result.ended, "2026-01-01T05:00:00.000Z");
}
fn test_never() {
    on_step("slow", |input| never());
    on_event(|name, key| never());
    let o = run_workflow(event());
    assert_eq([o.result.said, o.result.heard], ["timeout", "timeout"]);
    assert_eq(o.result.ended, "2026-01-01T05:00:00.000Z");
}
fn test_thrown_like_a_timeout() {
    on_step("slow", |input| #{ said: "ok" });
    on_event(|name, key| { throw #{ code: "timeout", message: "late" }; });
    let o = run_workflow(event());
    assert_eq([o.result.said, o.result.ended], ["ok", "2026-01-01T04:00:00.000Z"]);
}"#;
        let report = report(FLOW, tests);
        assert_eq!(
            told(&report),
            [
                "test_in_time ok",
                "test_too_late ok",
                "test_never ok",
                "test_thrown_like_a_timeout ok"
            ]
        );
        assert_eq!(report.coverage.lines_percent(), 100.0);
        assert!(report.tests.iter().all(|t| t.operations > 10));
        let stuck = "fn run(event) { step(\"x\", #{}) }";
        let test = "fn test_a() { on_step(\"x\", |i| never()); run_workflow(#{}); }";
        let failure = super::tests::report(stuck, test)
            .tests
            .remove(0)
            .failure
            .expect("stuck");
        assert!(failure.message.contains("never comes"), "{failure}");
    }
}
