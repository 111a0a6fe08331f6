//! `forewright plugin replay`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::plugins::bundle;
use ::plugins::cases::{Desk, differences};
use ::plugins::engine::Pace;
use ::plugins::recording::{self, Recording, Replay as Replayed};
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::super::{block_on, output};
use super::project::Opened;
use super::server::Server;
use super::{indented, plain};

/// Run a recorded call again, with the same plugin or another version of it.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Replay {
    /// What `plugin call --record` kept, or a call of a server by its id.
    #[arg(value_name = "RECORDING|CALL")]
    recording: String,
    /// A plugin, or the folder of a project, which is built first; of a server's call the plugin that was called, if not
    /// said.
    #[arg(value_name = "FILE|DIR")]
    path: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// A folder with the artifacts that the call read, under any names.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    /// Whether every bit is the same.
    same: bool,
    /// Whether it is the plugin that was recorded.
    same_plugin: bool,
    /// Where the plugin asked for something else than it had.
    diverged: Option<String>,
    /// In what its answer differs.
    differs: Vec<String>,
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = Path::new(&self.recording);
        let server = match file.is_file() {
            true => None,
            false => Some(self.server.open()?),
        };
        let bytes = match &server {
            None => output::read("recording", file)?,
            Some(server) => block_on(async { Ok(server.recording(&self.recording).await?) })?,
        };
        let recording =
            Recording::from_bytes(&bytes).with_context(|| format!("`{}`", self.recording))?;
        let opened = match (&self.path, &server) {
            (Some(path), _) => Opened::new(path)?,
            (None, Some(server)) => {
                let called = server.artifact(&recording.plugin);
                Opened::of_bytes(&block_on(async { Ok(called.await?) })?)?
            }
            (None, None) => bail!("say which plugin is to run the call again: FILE|DIR"),
        };
        let world = recording.request.world();
        if opened.manifest.world != world {
            bail!("the call was one of a {world}; {} is none", opened.title());
        }
        let mut desk = self
            .artifacts
            .as_deref()
            .map_or(Ok(Desk::default()), desk)?;
        if let Some(server) = &server {
            for digest in recording.reads() {
                let read = server.artifact(digest);
                desk.keep(block_on(async { Ok(read.await?) })?);
            }
        }
        let missing = recording
            .reads()
            .into_iter()
            .find(|digest| !desk.has(digest));
        if let Some(digest) = missing {
            bail!("the call read the artifact {digest}; name its folder with `--artifacts`");
        }
        let plugin = opened.prepare(Pace::Counted)?;
        let replayed = recording::replay(&plugin, &recording, Arc::new(desk));
        let document = Document {
            same: replayed.same,
            same_plugin: recording.plugin == bundle::digest(&opened.file),
            diverged: replayed.diverged.as_ref().map(ToString::to_string),
            differs: changed(&recording, &replayed),
        };
        if self.json {
            output::json(&document)?;
        } else {
            show(&document)?;
        }
        if !document.same {
            bail!("the call does not end as it was recorded");
        }
        Ok(())
    }
}

/// Everything in a folder, by its digest.
fn desk(folder: &Path) -> anyhow::Result<Desk> {
    let unreadable = || format!("failed to read folder `{}`", folder.display());
    let mut desk = Desk::default();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_file() {
            desk.keep(output::read("artifact", &path)?);
        }
    }
    Ok(desk)
}

fn changed(recording: &Recording, replayed: &Replayed) -> Vec<String> {
    let mut differs = answers(recording, replayed);
    if recording.outcome.state != replayed.outcome.state {
        differs.push("it would remember something else".to_owned());
    }
    if differs.is_empty() && !replayed.same && replayed.diverged.is_none() {
        differs.push("the answers say the same, in other bits".to_owned());
    }
    differs
}

fn answers(recording: &Recording, replayed: &Replayed) -> Vec<String> {
    match (&recording.outcome.result, &replayed.outcome.result) {
        (Ok(before), Ok(now)) => differences(before, now),
        (Ok(_), Err(failure)) => vec![format!("it answered before, and failed now: {failure}")],
        (Err(failure), Ok(_)) => vec![format!("it failed before, and answered now: {failure}")],
        (Err(before), Err(now)) if before.code != now.code => {
            vec![format!("it failed otherwise: {now}\nbefore: {before}")]
        }
        (Err(_), Err(_)) => Vec::new(),
    }
}

fn show(document: &Document) -> anyhow::Result<()> {
    if !document.same_plugin {
        output::line("another plugin than the one that was recorded")?;
    }
    if document.same {
        return output::line("the same, bit for bit");
    }
    if let Some(diverged) = &document.diverged {
        output::line(&plain(diverged))?;
    }
    for line in &document.differs {
        output::line(&format!("  {}", indented(line, 2)))?;
    }
    Ok(())
}
