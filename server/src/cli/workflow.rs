//! `forewright workflow`: check and test workflows.

use std::path::PathBuf;

use ::workflows::script::{StepInput, look_over_workflow, workflow_definitions};
use ::workflows::steps;
use clap::{Args, Subcommand};

use super::{output, scripts};

/// Check and test workflows.
#[derive(Debug, Subcommand)]
#[command(after_help = scripts::WORKFLOW_HELP)]
pub enum Workflow {
    /// Look workflows over: names, arguments, types, kinds of step and their fields, what is never reached or used.
    Check(Check),
    /// Run the tests beside workflows.
    Test(Test),
    /// Print everything a script can use, as a `.d.rhai` text for editors.
    Definitions,
}

/// Look workflows over without running them.
#[derive(Debug, Args)]
#[command(after_help = scripts::WORKFLOW_HELP)]
pub struct Check {
    /// Workflows, their tests, or folders of workflows.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: scripts::CheckOptions,
}

/// Run the tests beside workflows: those of `make.rhai` are in `make_test.rhai`.
#[derive(Debug, Args)]
#[command(after_help = scripts::WORKFLOW_HELP)]
pub struct Test {
    /// Workflows, their tests, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: scripts::TestOptions,
}

impl Workflow {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => {
                let kinds = StepInput::all(&steps::registry());
                scripts::check(&check.paths, check.options, |name, source| {
                    look_over_workflow(name, source, &kinds)
                })
            }
            Self::Test(test) => scripts::test(&test.paths, test.options),
            Self::Definitions => output::line(workflow_definitions().trim_end()),
        }
    }
}
