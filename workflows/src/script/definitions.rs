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
