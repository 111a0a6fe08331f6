//! `forewright plugin check`.

use std::path::PathBuf;
use std::sync::Arc;

use ::plugins::check::{self, Verdict};
use ::plugins::engine::Pace;
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::super::output::{self, Progress};
use super::indented;
use super::project::Opened;

/// Ask a plugin what every plugin is asked sooner or later, and say how it did.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Check {
    /// A plugin, or the folder of a project, which is built first.
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    ok: bool,
    file: &'a PathBuf,
    name: &'a str,
    version: String,
    world: &'a str,
    passed: usize,
    cases: usize,
    verdicts: &'a [Verdict],
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::new(&self.path)?;
        let mut progress = Progress::start(format!("checking {}", opened.title()));
        // What the kit asks is what the contract lets anybody ask, whatever fits the plugin's own schemas.
        let any = Arc::default();
        let timed = opened.prepare(Pace::Timed)?.held_to(&any);
        let counted = opened.prepare(Pace::Counted)?.held_to(&any);
        let mut heard = 0;
        let report = check::run(&timed, &counted, &opened.manifest, &mut |_, all| {
            heard += 1;
            progress.tell(f64::from(heard) / all as f64).is_continue()
        });
        drop(progress);
        let (passed, cases) = (report.passed(), report.verdicts.len());
        if self.json {
            output::json(&Document {
                ok: report.all_passed(),
                file: &opened.path,
                name: &opened.manifest.name,
                version: opened.manifest.version.to_string(),
                world: opened.manifest.world.name(),
                passed,
                cases,
                verdicts: &report.verdicts,
            })?;
        } else {
            output::line(&opened.title())?;
            for verdict in &report.verdicts {
                show(verdict)?;
            }
            output::line(&format!("{passed} of {cases} cases passed"))?;
        }
        if !report.all_passed() {
            bail!("{} of {cases} cases failed", cases - passed);
        }
        Ok(())
    }
}

fn show(verdict: &Verdict) -> anyhow::Result<()> {
    let how = if verdict.passed { "ok    " } else { "FAILED" };
    let name = &verdict.name;
    let (wall, mib) = (verdict.wall_ms, verdict.memory_bytes as f64 / 1048576.0);
    output::line(&format!("  {how}  {name} ({wall:.1} ms, {mib:.1} MiB)"))?;
    if verdict.passed {
        return Ok(());
    }
    let told = indented(&verdict.told, 10);
    output::line(&format!("          {}: {told}", verdict.about))?;
    match &verdict.hint {
        Some(hint) => output::line(&format!("          hint: {}", indented(hint, 10))),
        None => Ok(()),
    }
}
