//! Looks a script over before it runs.
//!
//! One file per family of rules: names and arguments (`functions`), types (`types`, `operators`), facts (`facts`),
//! decisions (`decision`), steps (`steps`), guards (`guards`), tests (`test_names`). `body` walks the statements and says what cannot be
//! reached, is not used, or answers nothing; `walk` goes from function to function.
//!
//! Only what is certain is an error: a value whose type is not known raises none. What is likely a mistake, and works,
//! is a warning.

mod body;
mod decision;
mod expr;
mod facts;
mod finding;
mod functions;
mod guards;
#[cfg(test)]
mod names_tests;
mod operators;
mod steps;
mod test_names;
#[cfg(test)]
mod tests;
mod types;
mod walk;

pub use finding::{Finding, Severity};
pub use steps::StepInput;

use finding::Findings;
pub(super) use test_names::place as place_of_function;

use super::{Script, ScriptError, on_big_stack};
use crate::steps::registry;

/// What is wrong with a policy, or probably is, in order of place.
///
/// An empty list means nothing was found; it does not mean the script is right.
#[must_use]
pub fn policy_findings(script: &Script) -> Vec<Finding> {
    on_big_stack(|| walk::policy(script)).unwrap_or_else(|panic| finding::broken(script, &panic))
}

/// What is wrong with a workflow, or probably is; kinds of step are looked at where `steps` lists them.
#[must_use]
pub fn workflow_findings(script: &Script, steps: &[StepInput]) -> Vec<Finding> {
    on_big_stack(|| walk::workflow(script, steps))
        .unwrap_or_else(|panic| finding::broken(script, &panic))
}

/// What is wrong with the text of a policy, or probably is; a name that is unknown hides nothing else that is wrong.
#[must_use]
pub fn look_over_policy(name: &str, source: &str) -> Vec<Finding> {
    look_over(name, source, policy_findings)
}

/// What is wrong with the text of a workflow, or probably is.
#[must_use]
pub fn look_over_workflow(name: &str, source: &str, steps: &[StepInput]) -> Vec<Finding> {
    look_over(name, source, |script| workflow_findings(script, steps))
}

/// An unknown variable ends the compiler at the first of them, so there the script is read again without minding any,
/// and each is told by the walk.
fn look_over(name: &str, source: &str, look: impl Fn(&Script) -> Vec<Finding>) -> Vec<Finding> {
    let error = match Script::compile(name, source) {
        Ok(script) => return look(&script),
        Err(error) => error,
    };
    let lenient = match error.code.as_str() {
        "unknown_variable" => Script::compile_leniently(name, source),
        _ => return vec![error.into()],
    };
    let mut found = lenient.map(|script| look(&script)).unwrap_or_default();
    let told = |f: &Finding| (f.error.line, f.error.column) == (error.line, error.column);
    if !found.iter().any(told) {
        found.insert(0, error.into());
    }
    found
}

/// What is wrong with the tests of a script, or probably is: what they call, what their names say, and which steps of
/// `steps` they answer for.
#[must_use]
pub fn test_findings(subject: &Script, tests: &Script, steps: &[StepInput]) -> Vec<Finding> {
    on_big_stack(|| walk::tests(subject, tests, steps))
        .unwrap_or_else(|panic| finding::broken(tests, &panic))
}

/// Those of them that decide which tests run, and of what; the kinds of step are those of the shipped registry.
pub(super) fn test_name_findings(subject: &Script, tests: &Script) -> Vec<Finding> {
    let registry = registry();
    let kinds: Vec<&str> = registry.kinds().map(|(kind, _)| kind).collect();
    let mut findings = Findings::default();
    test_names::check(subject, tests, &kinds, &mut findings);
    findings.finish(tests)
}

/// The workflows a policy starts that are none of `known`.
#[must_use]
pub fn workflow_name_findings(policy: &Script, known: &[&str]) -> Vec<Finding> {
    let mut findings = Findings::default();
    decision::check_workflows(&policy.as_written(), known, &mut findings);
    findings.finish(policy)
}

/// The errors among the findings of a policy: with any it is not taken.
#[must_use]
pub fn check_policy(script: &Script) -> Vec<ScriptError> {
    finding::errors(policy_findings(script))
}

/// The errors among the findings of a workflow whose steps are of these kinds.
#[must_use]
pub fn check_workflow(script: &Script, kinds: &[&str]) -> Vec<ScriptError> {
    let steps: Vec<StepInput> = kinds.iter().map(|kind| StepInput::of_kind(kind)).collect();
    finding::errors(workflow_findings(script, &steps))
}
