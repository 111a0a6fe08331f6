//! `forewright policy`: check and test policies.

use std::path::PathBuf;

use ::workflows::script::{look_over_policy, policy_definitions};
use clap::{Args, Subcommand};

use super::{output, replay, scripts};

/// Check and test policies.
#[derive(Debug, Subcommand)]
#[command(after_help = scripts::POLICY_HELP)]
pub enum Policy {
    /// Look policies over: names, arguments, types, facts, decisions, what is never reached or used.
    Check(Check),
    /// Run the tests beside policies.
    Test(Test),
    /// Print everything a script can use, as a `.d.rhai` text for editors.
    Definitions,
    /// Ask a draft about the decisions a server has recorded.
    Replay(replay::Replay),
}

/// Look policies over without running them.
#[derive(Debug, Args)]
#[command(after_help = scripts::POLICY_HELP)]
pub struct Check {
    /// Policies, their tests, or folders of policies.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: scripts::CheckOptions,
}

/// Run the tests beside policies: those of `rule.rhai` are in `rule_test.rhai`.
#[derive(Debug, Args)]
#[command(after_help = scripts::POLICY_HELP)]
pub struct Test {
    /// Policies, their tests, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: scripts::TestOptions,
}

impl Policy {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => scripts::check(&check.paths, check.options, look_over_policy),
            Self::Test(test) => scripts::test(&test.paths, test.options),
            Self::Definitions => output::line(policy_definitions().trim_end()),
            Self::Replay(replay) => replay.run(),
        }
    }
}
