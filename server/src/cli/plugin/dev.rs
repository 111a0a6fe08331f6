//! `forewright plugin dev`: every change of a project is soon in a running server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;

use super::super::{block_on, output};
use super::project::{self, MANIFEST};
use super::server::{Failure, Plugins, Server, Version};
use super::{indented, plain};

/// From one look at the project to the next.
const LOOK: Duration = Duration::from_millis(500);
/// Folders that builds fill.
const NOT_SOURCES: [&str; 5] = ["target", "node_modules", "bindings", "wit", "zig-out"];
/// The most files of a project that are looked at.
const MOST_FILES: usize = 10_000;

/// Watch a project: build each change, put it onto a server as a version of its own, and let it serve; tell its failures.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Dev {
    /// The folder with plugin.toml.
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    #[command(flatten)]
    server: Server,
    /// Build and put it there once, then end.
    #[arg(long)]
    once: bool,
}

/// What a project's sources looked like.
type Seen = BTreeMap<PathBuf, SystemTime>;

impl Dev {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let server = self.server.open()?;
        block_on(async {
            let (mut seen, mut serving) = (Seen::new(), None);
            let mut told = BTreeSet::new();
            loop {
                let now = sources(&self.folder)?;
                if now != seen {
                    match put(&self.folder, &server, serving.as_ref()).await {
                        Ok(version) => serving = Some(version),
                        Err(error) if self.once => return Err(error),
                        Err(error) => output::note(&format!("{error:#}\nwaiting for a change")),
                    }
                    // What the build wrote is no change of its author's.
                    seen = sources(&self.folder)?;
                }
                if self.once {
                    return Ok(());
                }
                if let Some(version) = &serving {
                    tell_failures(&server, version, &mut told).await;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    }
}

/// Builds a project and lets it serve, in place of the version before it.
async fn put(folder: &Path, server: &Plugins, before: Option<&Version>) -> anyhow::Result<Version> {
    let (manifest, file) = project::build_as(folder, |version| {
        let stamp = stamp(folder)?;
        let mut own = version.clone();
        own.pre = format!("dev.{stamp}").parse()?;
        Ok(own)
    })?;
    let version = server.put_to_work(&manifest, file).await?;
    output::line(&format!("{} {} serves", version.plugin, version.version))?;
    if let Some(before) = before.filter(|before| before.version != version.version) {
        server.retire(before).await?;
    }
    Ok(version)
}

/// A number that rises with the newest source, so that the same sources are the same version.
fn stamp(folder: &Path) -> anyhow::Result<u128> {
    let newest = sources(folder)?.into_values().max();
    let since = newest.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(since.unwrap_or_default().as_millis())
}

fn sources(folder: &Path) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = || format!("failed to read folder `{}`", folder.display());
        for entry in fs::read_dir(&folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // A file may go while we look.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() {
                if !name.starts_with('.') && !NOT_SOURCES.contains(&&*name) {
                    folders.push(path);
                }
            } else if name == MANIFEST || !(name.ends_with(".wasm") || name.ends_with(".lock")) {
                seen.insert(path, about.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            }
            if seen.len() == MOST_FILES {
                anyhow::bail!("`{}` has more than {MOST_FILES} files", folder.display());
            }
        }
    }
    Ok(seen)
}

/// Tells each call once that came to nothing; a server that does not answer now is asked again.
async fn tell_failures(server: &Plugins, version: &Version, told: &mut BTreeSet<String>) {
    let Ok(calls) = server.failed_calls(version).await else {
        return;
    };
    for call in calls.into_iter().rev() {
        let Some(failure) = call.failure.filter(|_| told.insert(call.id.clone())) else {
            continue;
        };
        output::note(&shown(&call.purpose, &failure));
        output::note(&format!("  again: forewright plugin replay {} .", call.id));
    }
}

fn shown(purpose: &str, failure: &Failure) -> String {
    let frames = failure.frames.iter();
    let frames: String = frames
        .map(|frame| format!("\n  in {}", plain(&frame.function)))
        .collect();
    let hint = failure.hint.as_deref();
    let hint = hint.map_or(String::new(), |hint| {
        format!("\n  hint: {}", indented(hint, 2))
    });
    let message = indented(&failure.message, 2);
    format!("{purpose}: {}: {message}{frames}{hint}", failure.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_makes_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for path in [
            "plugin.toml",
            "src/lib.rs",
            "target/a.rs",
            "wit/a.wit",
            "a-1.0.0.wasm",
            "Cargo.lock",
            ".git/HEAD",
        ] {
            write(path);
        }
        let seen = sources(folder.path()).unwrap();
        let names: Vec<_> = seen.keys().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["plugin.toml", "lib.rs"]);
        assert!(stamp(folder.path()).unwrap() > 0);
    }
}
