//! `forewright plugin install`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::super::output;
use super::plain;
use super::project::Opened;
use super::server::{Plugins, Server, Version};
use crate::api::plugins::granted_as_asked;

/// Put a plugin onto a server, which compiles and checks it; it serves nobody before somebody lets it.
#[derive(Debug, Args)]
#[command(after_help = super::HELP)]
pub struct Install {
    /// A plugin, or the folder of a project, which is built first.
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    server: Server,
    /// Grant all that it asks for; takes an operator.
    #[arg(long)]
    grant: bool,
    /// Take it though nobody on the key ring vouches for it; takes an operator.
    #[arg(long)]
    unsigned: bool,
    /// Let it serve if it passes, in place of the version that does; takes an operator.
    #[arg(long)]
    promote: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Install {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let opened = Opened::new(&self.path)?;
        let server = self.server.open()?;
        super::super::block_on(async {
            let asked = &opened.manifest.capabilities;
            if self.grant && !asked.named().is_empty() {
                let granted = granted_as_asked(&opened.manifest);
                server.grant(&opened.manifest.name, granted).await?;
                for capability in asked.named() {
                    let means = asked.sentence(capability).unwrap_or_default();
                    output::note(&format!("granted: {}", plain(&means)));
                }
            }
            let uploaded = server.upload(opened.file.clone(), self.unsigned).await?;
            let mut version = server.examined(uploaded).await?;
            if version.state == "quarantined" {
                return refused(&server, &version, self.json).await;
            }
            if self.promote && version.state != "active" {
                version = server.promote(&version).await?;
            }
            tell(&version, self.json)
        })
    }
}

fn tell(version: &Version, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(version);
    }
    let Version {
        plugin,
        version: number,
        state,
        digest,
        ..
    } = version;
    let checks = version.checks.as_ref();
    let passed = checks.map_or(String::new(), |checks| {
        format!(", {} of {} checks passed", checks.passed, checks.cases)
    });
    output::line(&format!("{plugin} {number} is {state}{passed} ({digest})"))?;
    if state == "shadow" {
        output::note("it is compared with what serves; `--promote` lets it serve");
    }
    Ok(())
}

async fn refused(server: &Plugins, version: &Version, json: bool) -> anyhow::Result<()> {
    if json {
        output::json(version)?;
    } else {
        for verdict in server.failed_checks(version).await? {
            output::line(verdict.told().trim_start_matches('\n'))?;
        }
    }
    let why = version.reason.as_deref().unwrap_or("it is in quarantine");
    bail!("the server refused it: {}", plain(why))
}
