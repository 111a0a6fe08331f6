//! Checking and testing scripts, whichever sort: `policy` and `workflow` share this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ::workflows::script::{
    Coverage, Finding, Script, ScriptError, Severity, StepInput, TestReport, TestResult, run_tests,
    test_findings,
};
use ::workflows::steps;
use anyhow::{Context, bail};
use serde::Serialize;

use super::output;

/// What the help of `policy` and of its commands ends with.
pub const POLICY_HELP: &str = "\
The tests of rule.rhai lie beside it in rule_test.rhai:

  fn test_an_asset_nothing_is_known_of_is_watched() {
      assert_eq(decide(example_facts()).action, \"monitor\");
  }
  fn cases_risk() { [#{ risk: 0.1, action: \"monitor\" }, #{ risk: 0.4, action: \"start\" }] }
  fn case_risk(row) {
      let facts = example_facts();
      facts.fps[\"7d\"] = row.risk;
      assert_eq(decide(facts).action, row.action);
  }

Every `fn test_…()` is run, and every `fn case_…(row)` once for each row that `fn cases_…()` gives.
Everything a policy and its tests can use: docs/POLICIES.md, and `forewright policy definitions`.
Exit code: 0 where all is well, 1 where anything is wrong, 2 for arguments that cannot be read.";

/// What the help of `policy replay` ends with.
pub const REPLAY_HELP: &str = "\
  forewright policy replay rule.rhai --from 2026-01-01 --to 2026-02-01

What it shows: docs/POLICIES.md. Run the draft's own tests (`fn test_…()`, `fn case_…(row)`) with `policy test`.
Exit code: 0 where decisions were asked about again, 1 where there are none or anything is wrong.";

/// What the help of `workflow` and of its commands ends with.
pub const WORKFLOW_HELP: &str = "\
The tests of make.rhai lie beside it in make_test.rhai, and say what the world answers:

  fn test_a_part_is_made() {
      on_step(\"make\", |input| { takes(\"2h\"); #{ id: \"b1\" } });
      let outcome = run_workflow(#{ at: \"2026-01-01T00:00:00Z\" });
      assert_eq(outcome.state, \"succeeded\");
  }

Every `fn test_…()` is run, and every `fn case_…(row)` once for each row that `fn cases_…()` gives.
Everything a workflow and its tests can use: docs/WORKFLOWS.md, and `forewright workflow definitions`.
Exit code: 0 where all is well, 1 where anything is wrong, 2 for arguments that cannot be read.";

/// What the tests of `name.rhai` are called after: `name_test.rhai`.
const TEST_SUFFIX: &str = "_test.rhai";

#[derive(Debug, Serialize)]
struct CheckDocument {
    ok: bool,
    scripts: Vec<Checked>,
}

#[derive(Debug, Serialize)]
struct Checked {
    file: PathBuf,
    ok: bool,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct TestDocument {
    ok: bool,
    scripts: Vec<Tested>,
}

#[derive(Debug, Serialize)]
struct Tested {
    file: PathBuf,
    ok: bool,
    /// Why the tests could not run at all.
    error: Option<ScriptError>,
    /// What is wrong with how they are written, or probably is.
    findings: Vec<Finding>,
    tests: Vec<TestResult>,
    coverage: Option<Covered>,
}

impl Tested {
    fn of(file: &Path, report: TestReport) -> Self {
        Self {
            file: file.to_owned(),
            ok: report.passed(),
            error: report.error().cloned(),
            findings: report.findings,
            tests: report.tests,
            coverage: Some(Covered::of(report.coverage)),
        }
    }

    fn unusable(file: &Path, error: ScriptError) -> Self {
        Self {
            file: file.to_owned(),
            ok: false,
            error: Some(error),
            findings: Vec::new(),
            tests: Vec::new(),
            coverage: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Covered {
    lines_percent: f64,
    branches_percent: f64,
    #[serde(flatten)]
    coverage: Coverage,
}

impl Covered {
    fn of(coverage: Coverage) -> Self {
        Self {
            lines_percent: coverage.lines_percent(),
            branches_percent: coverage.branches_percent(),
            coverage,
        }
    }

    /// The lower of lines and branches, per cent.
    const fn lowest(&self) -> f64 {
        self.lines_percent.min(self.branches_percent)
    }
}

/// How a check goes about it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CheckOptions {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

/// Checks every script by `look`, and tests against the script they test, and prints what is wrong.
pub fn check(
    paths: &[PathBuf],
    options: CheckOptions,
    look: impl Fn(&str, &str) -> Vec<Finding>,
) -> anyhow::Result<()> {
    let fails = |f: &Finding| options.deny_warnings || f.severity == Severity::Error;
    let mut scripts = Vec::new();
    for file in expand(paths)? {
        let findings = check_one(&file, &look);
        let ok = !findings.iter().any(fails);
        scripts.push(Checked { file, ok, findings });
    }
    let broken = scripts.iter().filter(|script| !script.ok).count();
    let count = scripts.len();
    let ok = broken == 0;
    if options.json {
        output::json(&CheckDocument { ok, scripts })?;
    } else {
        for script in &scripts {
            for finding in &script.findings {
                output::line(&finding.to_string())?;
            }
            if script.ok {
                output::line(&format!("{}: ok", script.file.display()))?;
            }
        }
    }
    if !ok {
        bail!("{broken} of {} failed the check", counted(count, "script"));
    }
    Ok(())
}

fn check_one(file: &Path, look: impl Fn(&str, &str) -> Vec<Finding>) -> Vec<Finding> {
    let found = if is_test(file) {
        check_tests(file)
    } else {
        read(file).map(|source| look(&file.display().to_string(), &source))
    };
    found.unwrap_or_else(|error| vec![error.into()])
}

fn check_tests(file: &Path) -> Result<Vec<Finding>, ScriptError> {
    let script = subject(file);
    if !script.is_file() {
        let message = format!("there is no `{}` these could be tests of", script.display());
        return Err(fault(file, "no_script", message));
    }
    let (script, tests) = (compile(&script)?, compile(file)?);
    let kinds = StepInput::all(&steps::registry());
    Ok(test_findings(&script, &tests, &kinds))
}

/// How tests are run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct TestOptions {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Fail where tests run a smaller share of the lines or of the branches of a script, per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    min_coverage: f64,
}

/// Runs the tests beside every script and prints what became of each.
pub fn test(paths: &[PathBuf], options: TestOptions) -> anyhow::Result<()> {
    let subjects: BTreeSet<PathBuf> = expand(paths)?.iter().map(|file| subject(file)).collect();
    let mut scripts = Vec::new();
    for file in subjects {
        let tested = test_one(&file);
        if !options.json {
            show(&tested)?;
        }
        scripts.push(tested);
    }
    let count: usize = scripts.iter().map(|script| script.tests.len()).sum();
    let tests = scripts.iter().flat_map(|script| &script.tests);
    let failed = tests.filter(|test| test.failure.is_some()).count();
    let unusable = scripts.iter().filter(|s| !s.ok && s.tests.is_empty());
    let unusable = unusable.count();
    let little = scripts.iter().filter_map(|script| script.coverage.as_ref());
    let little = little.filter(|c| c.lowest() < options.min_coverage).count();
    let ok = scripts.iter().all(|script| script.ok) && little == 0;
    if options.json {
        output::json(&TestDocument { ok, scripts })?;
    } else {
        output::line(&summary(count, failed, unusable))?;
    }
    if unusable > 0 {
        bail!("{} could not be tested", counted(unusable, "script"));
    }
    if failed > 0 {
        bail!("{failed} of {} failed", counted(count, "test"));
    }
    if little > 0 {
        let least = options.min_coverage;
        bail!("{} covered less than {least} %", counted(little, "script"));
    }
    Ok(())
}

fn summary(count: usize, failed: usize, unusable: usize) -> String {
    let unusable = match unusable {
        0 => String::new(),
        unusable => format!("; {} could not be tested", counted(unusable, "script")),
    };
    format!("{}, {failed} failed{unusable}", counted(count, "test"))
}

fn test_one(file: &Path) -> Tested {
    match report(file) {
        Ok(report) => Tested::of(file, report),
        Err(error) => Tested::unusable(file, error),
    }
}

fn report(file: &Path) -> Result<TestReport, ScriptError> {
    let script = compile(file)?;
    let tests = tests_of(file);
    if !tests.is_file() {
        let message = format!("it has no tests: there is no `{}`", tests.display());
        return Err(fault(file, "no_tests", message));
    }
    run_tests(&script, &compile(&tests)?, None)
}

fn show(tested: &Tested) -> anyhow::Result<()> {
    output::line(&tested.file.display().to_string())?;
    for finding in &tested.findings {
        let how = match finding.severity {
            Severity::Error => "FAILED ",
            Severity::Warning => "       ",
        };
        output::line(&format!("  {how} {finding}"))?;
    }
    if !tested.findings.is_empty() && tested.error.is_some() {
        return Ok(());
    }
    if let Some(error) = &tested.error {
        return output::line(&format!("  FAILED  {error}"));
    }
    if tested.tests.is_empty() {
        return output::line("  FAILED  its tests have no `fn test_…()`");
    }
    for test in &tested.tests {
        output::line(&match &test.failure {
            None => format!("  ok      {} ({} operations)", test.name, test.operations),
            Some(failure) => format!("  FAILED  {}\n          {failure}", test.name),
        })?;
    }
    tested.coverage.as_ref().map_or(Ok(()), show_coverage)
}

fn show_coverage(covered: &Covered) -> anyhow::Result<()> {
    let Coverage {
        lines,
        lines_run,
        branches,
        branches_taken,
        uncovered_lines,
        uncovered_branches,
    } = &covered.coverage;
    let (of_lines, of_branches) = (covered.lines_percent, covered.branches_percent);
    output::line(&format!(
        "  covered {of_lines:.1} % of lines ({lines_run} of {lines}), \
         {of_branches:.1} % of branches ({branches_taken} of {branches})"
    ))?;
    if !uncovered_lines.is_empty() {
        let lines: Vec<String> = uncovered_lines.iter().map(ToString::to_string).collect();
        output::line(&format!("          no test runs line {}", lines.join(", ")))?;
    }
    for branch in uncovered_branches {
        let (line, column, way) = (branch.line, branch.column, &branch.way);
        output::line(&format!(
            "          no test takes `{way}` at {line}:{column}"
        ))?;
    }
    Ok(())
}

/// The files given, and the scripts of the folders given without their tests.
fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = || format!("failed to read folder `{}`", path.display());
        let before = files.len();
        for entry in std::fs::read_dir(path).with_context(unreadable)? {
            let file = entry.with_context(unreadable)?.path();
            if file.extension().is_some_and(|suffix| suffix == "rhai") && !is_test(&file) {
                files.push(file);
            }
        }
        if files.len() == before {
            bail!("folder `{}` has no scripts (*.rhai)", path.display());
        }
        files[before..].sort();
    }
    Ok(files)
}

/// A script under its path as its name.
fn compile(path: &Path) -> Result<Script, ScriptError> {
    Script::compile(&path.display().to_string(), &read(path)?)
}

fn read(path: &Path) -> Result<String, ScriptError> {
    output::read_text("script", path)
        .map_err(|error| fault(path, "unreadable", format!("{error:#}")))
}

/// What is wrong with a file as a whole.
fn fault(file: &Path, code: &str, message: String) -> ScriptError {
    ScriptError {
        code: code.to_owned(),
        message,
        script: file.display().to_string(),
        line: None,
        column: None,
        nearest: None,
    }
}

fn is_test(path: &Path) -> bool {
    name(path).ends_with(TEST_SUFFIX)
}

/// The script a file is about: that of a test, else itself.
fn subject(path: &Path) -> PathBuf {
    match name(path).strip_suffix(TEST_SUFFIX) {
        Some(stem) => path.with_file_name(format!("{stem}.rhai")),
        None => path.to_owned(),
    }
}

fn tests_of(script: &Path) -> PathBuf {
    let name = name(script);
    let stem = name.strip_suffix(".rhai").unwrap_or(&name);
    script.with_file_name(format!("{stem}{TEST_SUFFIX}"))
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_and_its_tests_find_each_other() {
        let script = Path::new("a/rule.rhai");
        let tests = Path::new("a/rule_test.rhai");
        assert_eq!(tests_of(script), tests);
        assert_eq!(subject(tests), script);
        assert_eq!(subject(script), script);
        assert!(is_test(tests) && !is_test(script));
    }

    #[test]
    fn shipped_folders_pass_and_an_empty_one_is_refused() {
        let room = Path::new("../workflows");
        for folder in ["policies", "library"] {
            for script in expand(&[room.join(folder)]).expect(folder) {
                let tested = test_one(&script);
                assert!(tested.ok, "{tested:?}");
            }
        }
        let error = expand(&[room.join("demo")]).expect_err("no scripts there");
        assert!(error.to_string().contains("has no scripts"), "{error}");
        let error = test_one(&room.join("policies/nothing.rhai")).error;
        assert_eq!(error.map(|e| e.code).as_deref(), Some("unreadable"));
    }

    /// A folder of scripts for one test.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    const RULE: &str = "fn decide(facts) { #{ action: \"monitor\", reason: \"fine\" } }";

    #[test]
    fn a_script_without_tests_leaves_those_after_it_their_turn() {
        let tests = "fn test_a() { decide(example_facts()); }";
        let folder = folder(&[("a.rhai", RULE), ("b.rhai", RULE), ("b_test.rhai", tests)]);
        let tested: Vec<Tested> = expand(&[folder.path().to_owned()])
            .expect("scripts")
            .iter()
            .map(|file| test_one(file))
            .collect();
        let error = tested[0].error.as_ref().expect("no tests");
        assert!(error.message.contains("a_test.rhai"), "{error}");
        assert!(tested[1].ok);
        assert_eq!(
            summary(1, 0, 1),
            "1 test, 0 failed; 1 script could not be tested"
        );
    }

    #[test]
    fn tests_are_checked_against_the_script_they_test() {
        let tests = "fn test_a() { asert_eq(decide(1, 2), 1); }\nfn test_b(row) { on_step(\"notfy\", |i| i); }";
        let folder = folder(&[
            ("a.rhai", RULE),
            ("a_test.rhai", tests),
            ("b_test.rhai", ""),
        ]);
        let none = |_: &str, _: &str| Vec::new();
        let found = check_one(&folder.path().join("a_test.rhai"), none);
        let codes: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|f| (f.error.code.as_str(), f.error.nearest.as_deref()))
            .collect();
        assert_eq!(
            codes,
            [
                ("unknown_function", Some("assert_eq")),
                ("wrong_arguments", None),
                ("test_signature", None),
                ("unknown_kind", Some("notify"))
            ]
        );
        let alone = check_one(&folder.path().join("b_test.rhai"), none);
        assert_eq!(alone[0].error.code, "no_script");
    }
}
