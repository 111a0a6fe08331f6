//! `forewright plugin test`.

use std::path::{Path, PathBuf};

use ::plugins::cases::{self, Case, Tried};
use ::plugins::engine::Pace;
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::super::output::{self, Progress};
use super::indented;
use super::project::{self, Opened};

/// Run the author's own cases: the files that `[tests]` of plugin.toml names.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Test {
    /// The folder of a project, which is built first.
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    ok: bool,
    file: &'a Path,
    passed: usize,
    cases: &'a [Tried],
}

impl Test {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::new(&self.folder)?;
        let Some(folder) = &opened.folder else {
            bail!("`{}` is no folder of a project", self.folder.display());
        };
        let Some(tests) = &opened.manifest.tests else {
            bail!("the manifest names no cases; add\n\n  [tests]\n  cases = \"tests/*.toml\"");
        };
        let files = files(folder, &tests.cases)?;
        let mut progress = Progress::start(format!("testing {}", opened.title()));
        let plugin = opened.prepare(Pace::Timed)?;
        let mut all = Vec::new();
        for file in &files {
            // One that cannot be read leaves those after it their turn.
            all.push(match read(folder, file) {
                Ok(case) => case.run(&plugin),
                Err(why) => Tried::broken(file, format!("{why:#}")),
            });
            let _ = progress.tell(all.len() as f64 / files.len() as f64);
        }
        drop(progress);
        let passed = all.iter().filter(|tried| tried.passed).count();
        if self.json {
            output::json(&Document {
                ok: passed == all.len(),
                file: &opened.path,
                passed,
                cases: &all,
            })?;
        } else {
            output::line(&opened.title())?;
            for tried in &all {
                show(tried)?;
            }
            output::line(&format!("{passed} of {} cases passed", all.len()))?;
        }
        if passed < all.len() {
            bail!("{} of {} cases failed", all.len() - passed, all.len());
        }
        Ok(())
    }
}

fn show(tried: &Tried) -> anyhow::Result<()> {
    let how = if tried.passed { "ok    " } else { "FAILED" };
    let (name, wall) = (&tried.name, tried.wall_ms);
    output::line(&format!("  {how}  {name} ({wall:.1} ms)"))?;
    if tried.passed {
        return Ok(());
    }
    for line in &tried.differs {
        output::line(&format!("          {}", indented(line, 10)))?;
    }
    for line in &tried.log {
        output::line(&format!("          log: {}", indented(line, 10)))?;
    }
    Ok(())
}

/// A case of a project; the files it names lie beside it.
pub(super) fn read(folder: &Path, file: &str) -> anyhow::Result<Case> {
    let path = folder.join(file);
    let text = output::read_text("case", &path)?;
    let beside = path.parent().unwrap_or(folder);
    let mut read = |name: &str| std::fs::read(beside.join(name));
    Case::parse(file, &text, &mut read).with_context(|| format!("case `{}`", path.display()))
}

/// The files of a project that its manifest names, sorted.
fn files(folder: &Path, glob: &str) -> anyhow::Result<Vec<String>> {
    let (within, _) = glob.rsplit_once('/').unwrap_or((".", glob));
    if within.contains('*') {
        bail!("`{glob}` of the manifest: `*` may stand in a file's name, not in a folder's");
    }
    let listed = folder.join(within);
    let unreadable = || format!("failed to read folder `{}`", listed.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&listed).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let name = name.to_string_lossy();
        let file = match within {
            "." => name.into_owned(),
            within => format!("{within}/{name}"),
        };
        let other = file == project::MANIFEST || !folder.join(&file).is_file();
        if cases::is_case(glob, &file) && !other {
            files.push(file);
        }
    }
    if files.is_empty() {
        bail!("no file of `{}` fits `{glob}`", folder.display());
    }
    files.sort();
    Ok(files)
}
