//! What editors show to the authors of scripts: functions, facts and actions as a `.d.rhai` text.

use super::{Limits, limited_engine};

/// Everything a policy can use.
#[must_use]
pub fn policy_definitions() -> String {
    format!("{POLICY}\n{}", packages())
}

/// Everything a workflow can use.
#[must_use]
pub fn workflow_definitions() -> String {
    format!("{WORKFLOW}\n{}", packages())
}

fn packages() -> String {
    limited_engine(&Limits::batch())
        .definitions()
        .with_headers(false)
        .include_standard_packages(true)
        .single_file()
}

const POLICY: &str = include_str!("policy.d.rhai");
const WORKFLOW: &str = include_str!("workflow.d.rhai");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{action_names, fact_names},
        run,
    };

    #[test]
    fn the_copies_for_editors_are_not_stale() {
        for (copy, now, command) in [
            (
                "policy",
                policy_definitions(),
                "forewright policy definitions",
            ),
            (
                "workflow",
                workflow_definitions(),
                "forewright workflow definitions",
            ),
        ] {
            let file = format!("../editors/vscode/data/{copy}.d.rhai");
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(
                kept.trim_end(),
                now.trim_end(),
                "write `{file}` anew: {command} > it"
            );
        }
    }

    #[test]
    fn every_fact_action_and_function_is_described() {
        let policy = policy_definitions();
        for name in fact_names()
            .iter()
            .map(String::as_str)
            .chain(action_names())
        {
            assert!(policy.contains(&format!("`{name}`")), "{name}");
        }
        let workflow = workflow_definitions();
        for (name, arities) in run::FUNCTIONS {
            let described = workflow.matches(&format!("fn {name}(")).count();
            assert!(described >= arities.len(), "{name}");
        }
        assert!(
            workflow.contains("fn starts_with("),
            "packages are described"
        );
    }
}
