//! `forewright plugin new`.

use std::fs;
use std::path::{Path, PathBuf};

use ::plugins::manifest::Manifest;
use ::plugins::project::{self as template, File, Language};
use ::plugins::world::World;
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::super::output;
use super::project;

/// Begin a project: a folder that builds and passes its tests.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct New {
    /// The plugin's name: a-z, 0-9 and `-`.
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is written in: rust, c, zig, assemblyscript, js, python.
    #[arg(short, long, value_name = "LANGUAGE")]
    lang: Language,
    /// What it is for: predictor, detector, designer, verifier, scheduler, action.
    #[arg(short, long, value_name = "WORLD")]
    world: World,
    /// Where it goes; the folder must be empty, if it is there [default: NAME]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    folder: PathBuf,
    files: Vec<String>,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let folder = self.folder.unwrap_or_else(|| PathBuf::from(&self.name));
        let files = template::new(&self.name, self.world, self.lang);
        let manifest = manifest(&files)?;
        check_empty(&folder)?;
        project::write(&folder, &files)?;
        // An editor knows the contract's names before the first build.
        project::write(&folder, &template::bindings(&manifest))?;
        if self.json {
            let files = files.into_iter().map(|file| file.path).collect();
            return output::json(&Document { folder, files });
        }
        let shown = folder.display();
        output::line(&format!(
            "a {} in {} is in `{shown}`; next:",
            self.world, self.lang
        ))?;
        output::line(&format!("  cd {shown}"))?;
        output::line("  forewright plugin test")
    }
}

/// A name that no manifest may have is refused here, before anything is written.
fn manifest(files: &[File]) -> anyhow::Result<Manifest> {
    let file = files.iter().find(|file| file.path == project::MANIFEST);
    let text = std::str::from_utf8(&file.context("a project has a manifest")?.bytes)?;
    Ok(text.parse()?)
}

fn check_empty(folder: &Path) -> anyhow::Result<()> {
    let Ok(mut entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    if entries.next().is_some() {
        bail!("`{}` is not empty; nothing was written", folder.display());
    }
    Ok(())
}
