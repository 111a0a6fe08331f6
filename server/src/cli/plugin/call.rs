//! `forewright plugin call`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::plugins::call::{Answer, KeyUse, Outcome, Used};
use ::plugins::cases::Case;
use ::plugins::engine::Pace;
use ::plugins::failure::Failure;
use ::plugins::grants::Grants;
use ::plugins::log::Line;
use ::plugins::recording::{Recorder, Recording, Told};
use ::plugins::{bundle, contract};
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::super::output;
use super::project::Opened;
use super::{plain, test};

/// The most that a recording holds, in bytes.
const MOST_BYTES: usize = 256 << 20;

/// Ask a plugin what one case asks, and show its answer; what the case expects is left out.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Call {
    /// A plugin, or the folder of a project, which is built first.
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// The case.
    #[arg(value_name = "CASE.toml")]
    case: PathBuf,
    /// Keep everything the plugin was asked and told here, for `plugin replay`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep the artifacts it made in this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON document, with what the call used.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    ok: bool,
    answer: Option<&'a Answer>,
    failure: Option<&'a Failure>,
    log: Vec<&'a Line>,
    used: &'a Used,
    /// What it would remember.
    state: &'a [KeyUse],
}

impl Call {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::new(&self.path)?;
        let folder = self.case.parent().unwrap_or(Path::new("."));
        let file = self.case.file_name().unwrap_or_default().to_string_lossy();
        let case = test::read(folder, &file)?;
        if let Some(why) = case.misfit(opened.manifest.world) {
            bail!("{why}");
        }
        let plugin = opened.prepare(Pace::Timed)?;
        let desk = Arc::new(case.desk.clone());
        let outcome = match &self.record {
            None => plugin.call(&case.request, &case.context, desk),
            Some(path) => {
                let recorder = Arc::new(Recorder::new(desk, MOST_BYTES));
                let outcome = plugin.call(&case.request, &case.context, recorder.clone());
                // One that is told more than a recording holds was stopped there, and says so.
                if let Some(told) = recorder.take() {
                    let recording = recording(&opened, &case, told, &outcome);
                    output::write(path, &recording.to_bytes())?;
                }
                outcome
            }
        };
        if let Some(folder) = &self.out {
            keep(folder, &case)?;
        }
        if self.json {
            output::json(&Document {
                ok: outcome.result.is_ok(),
                answer: outcome.result.as_ref().ok(),
                failure: outcome.result.as_ref().err().map(|failure| &**failure),
                log: outcome.log.lines().collect(),
                used: &outcome.used,
                state: &outcome.state,
            })?;
        } else {
            show(&outcome)?;
        }
        match &outcome.result {
            Ok(_) => Ok(()),
            Err(failure) => bail!("{}: {}", failure.code.name(), plain(&failure.to_string())),
        }
    }
}

/// Keeps what a guest made. The host has seen to it that a name is a file's; what is there already stays.
fn keep(folder: &Path, case: &Case) -> anyhow::Result<()> {
    output::make_folder(folder)?;
    for made in case.desk.made() {
        let path = folder.join(&made.artifact.name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&made.bytes));
        written.with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}

fn recording(opened: &Opened, case: &Case, told: Vec<Told>, outcome: &Outcome) -> Recording {
    Recording {
        plugin: bundle::digest(&opened.file),
        contract: contract::VERSION.to_owned(),
        pace: Pace::Timed,
        request: case.request.clone(),
        context: case.context.clone(),
        limits: opened.manifest.limits.clone(),
        grants: Grants::all(&opened.manifest.capabilities),
        told,
        outcome: outcome.clone(),
    }
}

fn show(outcome: &Outcome) -> anyhow::Result<()> {
    let used = &outcome.used;
    let mib = used.memory_bytes as f64 / 1048576.0;
    output::note(&format!("{:.1} ms, {mib:.1} MiB", used.wall_ms));
    let Ok(answer) = &outcome.result else {
        // A failure is told with the last lines of the log.
        return Ok(());
    };
    for line in outcome.log.lines() {
        output::note(&format!("log: {}", plain(&line.to_string())));
    }
    match answer {
        // What an action answers is JSON already.
        Answer::Act(text) => output::line(&plain(text)),
        answer => output::json(answer),
    }
}
