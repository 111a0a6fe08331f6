//! `forewright workflow`: check and test workflows.

use std::path::PathBuf;

use ::workflows::script::check_workflow;
use ::workflows::steps;
use clap::{Args, Subcommand};

use super::scripts;

/// Check and test workflows.
#[derive(Debug, Subcommand)]
pub enum Workflow {
    /// Look workflows over: names, kinds of step, numbers of arguments.
    Check(Check),
    /// Run the tests beside workflows.
    Test(Test),
}

/// Look workflows over without running them.
#[derive(Debug, Args)]
pub struct Check {
    /// Workflows, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Run the tests beside workflows: those of `make.rhai` are in `make_test.rhai`.
#[derive(Debug, Args)]
pub struct Test {
    /// Workflows, their tests, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Workflow {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => {
                let registry = steps::registry();
                let kinds: Vec<&str> = registry.kinds().map(|(kind, _)| kind).collect();
                scripts::check(&check.paths, check.json, |script| {
                    check_workflow(script, &kinds)
                })
            }
            Self::Test(test) => scripts::test(&test.paths, test.json),
        }
    }
}
