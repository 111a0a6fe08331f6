//! The command line: one file per command. Exit codes: 0 done, 1 refused or failed with a reason, 2 wrong usage.

pub mod agent;
pub mod cad;
pub mod cell;
pub mod convergence;
pub mod demo;
pub mod migrate;
pub mod openapi;
pub mod output;
pub mod plugin;
pub mod policy;
pub mod predict;
pub mod replay;
pub mod scripts;
pub mod serve;
pub mod up;
pub mod work;
pub mod workflow;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// How long a command waits at its end for threads that are still at work.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);

/// Foresees failing hardware and makes the replacement.
#[derive(Debug, Parser)]
#[command(name = "forewright", version, about)]
pub struct Arguments {
    /// Settings file; `forewright.toml` of this folder if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole loop once, on real input, from telemetry to a maintenance window.
    Demo(demo::Demo),
    /// Server, workers and dashboard in one process, on SQLite.
    Up(up::Up),
    /// The server alone, over `DATABASE_URL`.
    Serve(serve::Serve),
    /// Workers alone, over `DATABASE_URL`.
    Work(work::Work),
    /// This host's telemetry into a server.
    Agent(agent::Agent),
    /// The reference cell.
    Cell(cell::Cell),
    /// The part tools, without a server.
    #[command(subcommand)]
    Cad(cad::Cad),
    /// The numbers, without a server.
    #[command(subcommand)]
    Predict(predict::Predict),
    /// Check and test policies.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Check and test workflows.
    #[command(subcommand)]
    Workflow(workflow::Workflow),
    /// Build, check, test and sign plugins.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Bring the database to the newest schema.
    Migrate(migrate::Migrate),
    /// Print the REST API's document.
    Openapi(openapi::Openapi),
    /// What the server starts to compile a plugin.
    #[command(hide = true)]
    CompileWorker {
        /// Pace, seconds, MiB, the component's file, the code's.
        #[arg(trailing_var_arg = true)]
        arguments: Vec<OsString>,
    },
}

/// Runs a command and tells how it went.
pub fn run(arguments: Arguments) -> ExitCode {
    let quiet = matches!(arguments.command, Command::Demo(_) | Command::Cad(_));
    log_to_stderr(if quiet { "warn" } else { "info" });
    let config = arguments.config;
    let result = match arguments.command {
        Command::Demo(command) => command.run(config),
        Command::Up(command) => command.run(config.as_deref()),
        Command::Serve(command) => command.run(config.as_deref()),
        Command::Work(command) => command.run(config.as_deref()),
        Command::Agent(command) => command.run(),
        Command::Cell(command) => command.run(),
        Command::Cad(command) => command.run(),
        Command::Predict(command) => command.run(),
        Command::Policy(command) => command.run(),
        Command::Workflow(command) => command.run(),
        Command::Plugin(command) => command.run(),
        Command::Migrate(command) => command.run(config.as_deref()),
        Command::Openapi(command) => command.run(),
        Command::CompileWorker { arguments } => {
            std::process::exit(::plugins::compile::work(&arguments))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::ClosedEarly>() => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("forewright: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A runtime for commands that wait.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // What only computes, such as the check of a plugin, is begun anew by whoever comes next.
    runtime.shutdown_timeout(LONGEST_GOODBYE);
    done
}

fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("FOREWRIGHT_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},sqlx=warn,sea_orm_migration=warn")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would tell of a closed standard error there, and die of it.
        .log_internal_errors(false)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_of_scripts_says_what_a_test_is_and_where_more_is() {
        for (path, docs) in [
            (&["policy"][..], "docs/POLICIES.md"),
            (&["policy", "check"], "docs/POLICIES.md"),
            (&["policy", "test"], "docs/POLICIES.md"),
            (&["policy", "replay"], "docs/POLICIES.md"),
            (&["workflow"], "docs/WORKFLOWS.md"),
            (&["workflow", "check"], "docs/WORKFLOWS.md"),
            (&["workflow", "test"], "docs/WORKFLOWS.md"),
        ] {
            let mut command = Arguments::command();
            let mut at = &mut command;
            for name in path {
                at = at.find_subcommand_mut(name).expect(name);
            }
            let help = at.render_long_help().to_string();
            for wanted in [docs, "test_", "case_", "Exit code"] {
                assert!(help.contains(wanted), "{path:?} lacks {wanted}\n{help}");
            }
        }
    }
}
