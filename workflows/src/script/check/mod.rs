//! Looks a script over before it runs.
//!
//! One file per family of rules: names and arguments (`functions`), types (`types`, `operators`), facts (`facts`),
//! decisions (`decision`), steps (`steps`), guards (`guards`). `body` walks the statements and says what cannot be
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
mod operators;
mod steps;
#[cfg(test)]
mod tests;
mod types;
mod walk;

pub use finding::{Finding, Severity};
pub use steps::StepInput;

use super::{Script, ScriptError, on_big_stack};

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
