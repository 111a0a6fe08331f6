//! `forewright demo`: the whole loop once, on real input, through the published REST API like any client.
//!
//! The demo is a client: it starts a server and a cell in this process and then only speaks HTTP. Everything it does
//! can be done again, so a demo that was killed goes on where it stood when it is started with the same arguments.

mod collect;
mod plan;
mod show;
mod source;
mod stand;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::cell::DefectArgument;
use super::output;
use plan::Demonstration;
use show::Show;
use source::Source;
use stand::Stand;

/// The whole loop once, on real input, from telemetry to a maintenance window.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Where telemetry comes from: `host`, `cmapss:DIR` or `csv:FILE?time=COL&…`.
    #[arg(long, value_name = "SPEC", default_value = "host")]
    source: String,
    /// Where the results go.
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// Seed of the simulated machine: noise, pose, defect.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What goes wrong with the first build.
    #[arg(long, value_enum, default_value_t = DefectArgument::Bump)]
    defect: DefectArgument,
    /// The asset to see to; the most urgent one with critical dependents if not said.
    #[arg(long, value_name = "ID")]
    asset: Option<String>,
    /// A plugin that scores the fleet in the model's place.
    #[arg(long, value_name = "FILE")]
    predictor: Option<PathBuf>,
    /// A plugin that proposes parts, which are made where they hold.
    #[arg(long, value_name = "FILE")]
    designer: Option<PathBuf>,
    /// Leave the server and its dashboard running afterwards.
    #[arg(long)]
    keep: bool,
    /// Print the report on stdout and nothing else there.
    #[arg(long)]
    json: bool,
}

impl Demo {
    /// Walks the loop; ends well only if every stage really happened.
    pub fn run(self, config: Option<PathBuf>) -> anyhow::Result<()> {
        super::block_on(self.walk(config))
    }

    async fn walk(self, config: Option<PathBuf>) -> anyhow::Result<()> {
        let show = Show::new();
        let source = Source::read(&self.source).await?;
        let stand = Stand::set_up(&self, config, &source).await?;
        show.title(&self, &source, &stand);
        let report = Demonstration::new(&self, &source, &stand, &show)
            .walk()
            .await;
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                stand.take_down().await?;
                return Err(error.context("the loop did not close"));
            }
        };
        collect::write_report(&self.out, &report)?;
        // Whether anybody reads it or not, the stand is taken down.
        let shown = match self.json {
            true => output::json(&report),
            false => show.summary(&self.out, &report),
        };
        if self.keep {
            // However this ends, the loop has closed.
            stand.mark_finished()?;
            show.kept(&stand);
            tokio::signal::ctrl_c()
                .await
                .context("failed to wait for ctrl-c")?;
        }
        stand.finish().await?;
        shown
    }

    /// What makes two demonstrations the same one.
    fn identity(&self) -> serde_json::Value {
        serde_json::json!({
            "source": self.source, "seed": self.seed, "defect": self.defect.to_string(),
            "asset": self.asset, "predictor": self.predictor, "designer": self.designer,
        })
    }
}

/// Refuses an answer that lacks what comes next.
fn field<'a>(value: &'a serde_json::Value, name: &str) -> anyhow::Result<&'a str> {
    match value[name].as_str() {
        Some(text) => Ok(text),
        None => bail!("the server's answer has no `{name}`: {value}"),
    }
}
