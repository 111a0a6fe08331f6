//! `forewright plugin list`.

use clap::Args;
use serde::Serialize;

use super::super::{block_on, output};
use super::server::{Server, Version};

/// Show a server's plugins, where each stands and how its calls went.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct List {
    /// Only versions of this one.
    #[arg(value_name = "NAME")]
    plugin: Option<String>,
    #[command(flatten)]
    server: Server,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    plugins: Vec<Version>,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let server = self.server.open()?;
        let plugins = block_on(async { Ok(server.list(self.plugin.as_deref()).await?) })?;
        if self.json {
            return output::json(&Document { plugins });
        }
        if plugins.is_empty() {
            output::note("no plugins; `forewright plugin install` puts one there");
            return Ok(());
        }
        let head = [
            "plugin", "version", "world", "state", "checks", "calls", "failed", "signer",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(plugins.iter().map(row));
        output::table(&rows)?;
        for version in &plugins {
            if let Some(reason) = &version.reason {
                let reason = super::indented(reason, 2);
                output::note(&format!("{} {}: {reason}", version.plugin, version.version));
            }
        }
        Ok(())
    }
}

fn row(version: &Version) -> Vec<String> {
    let state = match version.percent {
        Some(percent) => format!("{} {percent} %", version.state),
        None => version.state.clone(),
    };
    let checks = version.checks.as_ref();
    vec![
        version.plugin.clone(),
        version.version.clone(),
        version.world.clone(),
        state,
        checks.map_or("-".to_owned(), |checks| {
            format!("{}/{}", checks.passed, checks.cases)
        }),
        version.health.calls.to_string(),
        version.health.failures.to_string(),
        version.signer.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
