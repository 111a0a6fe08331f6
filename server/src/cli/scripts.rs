//! Checking and testing scripts, whichever sort: `policy` and `workflow` share this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ::workflows::script::{
    Coverage, Finding, Limits, Script, ScriptError, Severity, TestResult, run_tests,
};
use anyhow::{Context, bail};
use serde::Serialize;

use super::output;

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
    tests: Vec<TestResult>,
    coverage: Option<Covered>,
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

/// Checks every script by `look` and prints what is wrong; tests among them need only compile.
pub fn check(
    paths: &[PathBuf],
    options: CheckOptions,
    look: impl Fn(&Script) -> Vec<Finding>,
) -> anyhow::Result<()> {
    let fails = |f: &Finding| options.deny_warnings || f.severity == Severity::Error;
    let mut scripts = Vec::new();
    for file in expand(paths)? {
        let findings = match compile(&file)? {
            Err(error) => vec![error.into()],
            Ok(_) if is_test(&file) => Vec::new(),
            Ok(script) => look(&script),
        };
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
        let tested = test_one(&file)?;
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
        let count = counted(count, "test");
        output::line(&format!("{count}, {failed} failed"))?;
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

fn test_one(file: &Path) -> anyhow::Result<Tested> {
    let tests_file = tests_of(file);
    if !tests_file.is_file() {
        bail!(
            "`{}` has no tests: there is no `{}`",
            file.display(),
            tests_file.display()
        );
    }
    let outcome = match (compile(file)?, compile(&tests_file)?) {
        (Ok(script), Ok(tests)) => run_tests(&script, &tests, &Limits::batch()),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    let file = file.to_owned();
    Ok(match outcome {
        Ok(report) => Tested {
            file,
            ok: report.passed(),
            error: None,
            tests: report.tests,
            coverage: Some(Covered::of(report.coverage)),
        },
        Err(error) => Tested {
            file,
            ok: false,
            error: Some(error),
            tests: Vec::new(),
            coverage: None,
        },
    })
}

fn show(tested: &Tested) -> anyhow::Result<()> {
    output::line(&tested.file.display().to_string())?;
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

/// The outer error is about the file, the inner one about the script, under the path as its name.
fn compile(path: &Path) -> anyhow::Result<Result<Script, ScriptError>> {
    let source = output::read_text("script", path)?;
    Ok(Script::compile(&path.display().to_string(), &source))
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
                let tested = test_one(&script).expect(folder);
                assert!(tested.ok, "{tested:?}");
            }
        }
        let error = expand(&[room.join("demo")]).expect_err("no scripts there");
        assert!(error.to_string().contains("has no scripts"), "{error}");
        let error = test_one(&room.join("policies/nothing.rhai")).expect_err("no file");
        assert!(error.to_string().contains("nothing_test.rhai"), "{error}");
    }
}
