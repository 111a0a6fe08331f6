//! `forewright policy`: check and test policies.

use std::path::PathBuf;

use ::workflows::script::check_policy;
use clap::{Args, Subcommand};

use super::scripts;

/// Check and test policies.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Look policies over: names, facts, actions and their fields, numbers of arguments.
    Check(Check),
    /// Run the tests beside policies.
    Test(Test),
}

/// Look policies over without running them.
#[derive(Debug, Args)]
pub struct Check {
    /// Policies, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Run the tests beside policies: those of `rule.rhai` are in `rule_test.rhai`.
#[derive(Debug, Args)]
pub struct Test {
    /// Policies, their tests, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Policy {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => scripts::check(&check.paths, check.json, check_policy),
            Self::Test(test) => scripts::test(&test.paths, test.json),
        }
    }
}
