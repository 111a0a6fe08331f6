//! A server's plugins, as commands see them.

use std::collections::BTreeMap;
use std::time::Duration;

use ::plugins::manifest::Manifest;
use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::output::Progress;
use super::{indented, plain};
use crate::api::plugins::granted_as_asked;
use crate::client::{Client, ClientError};

/// From one look at a version that is compiled and checked to the next.
const LOOK: Duration = Duration::from_millis(250);

/// Which server, and who asks it.
#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// Where the server is.
    #[arg(
        long,
        env = "FOREWRIGHT_SERVER",
        default_value = "http://127.0.0.1:8600"
    )]
    pub(super) server: String,
    /// A token of a developer or operator.
    #[arg(long, env = "FOREWRIGHT_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

/// A version, as the server answers it; only what is shown here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Version {
    pub(in crate::cli) plugin: String,
    pub(in crate::cli) version: String,
    pub(super) world: String,
    pub(super) digest: String,
    pub(super) state: String,
    pub(super) percent: Option<i64>,
    pub(super) reason: Option<String>,
    pub(super) signer: Option<String>,
    pub(super) checks: Option<Score>,
    pub(super) health: Health,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Score {
    pub(super) passed: usize,
    pub(super) cases: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Health {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

/// One case of the conformance kit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) told: String,
    pub(super) hint: Option<String>,
}

impl Verdict {
    /// As lines below something else.
    pub(super) fn told(&self) -> String {
        let (name, told) = (&self.name, indented(&self.told, 4));
        let hint = self.hint.as_deref();
        let hint = hint.map_or(String::new(), |hint| {
            format!("\n    hint: {}", indented(hint, 4))
        });
        format!("\n  FAILED  {name}\n    {told}{hint}")
    }
}

#[derive(Debug, Deserialize)]
struct List {
    plugins: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Detail {
    verdicts: Vec<Verdict>,
}

/// A call that came to nothing.
#[derive(Debug, Deserialize)]
pub(super) struct FailedCall {
    pub(super) id: String,
    pub(super) purpose: String,
    pub(super) failure: Option<Failure>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) frames: Vec<Frame>,
    pub(super) hint: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Frame {
    pub(super) function: String,
}

#[derive(Debug, Deserialize)]
struct Calls {
    calls: Vec<FailedCall>,
}

impl Server {
    /// Ready to be asked.
    pub(super) fn open(&self) -> anyhow::Result<Plugins> {
        Ok(Plugins(Client::new(&self.server, self.token.clone())?))
    }
}

/// The server's plugins.
pub(in crate::cli) struct Plugins(Client);

impl Plugins {
    /// Those of a server that is spoken to already.
    pub(in crate::cli) fn of(client: &Client) -> Self {
        Self(client.clone())
    }

    /// Grants a plugin all it asks for, puts it onto the server unsigned, and lets it serve once it has passed its checks;
    /// for who owns the server, and the plugin.
    pub(in crate::cli) async fn put_to_work(
        &self,
        manifest: &Manifest,
        file: Vec<u8>,
    ) -> anyhow::Result<Version> {
        if !manifest.capabilities.named().is_empty() {
            self.grant(&manifest.name, granted_as_asked(manifest))
                .await?;
        }
        let uploaded = self.upload(file, true).await?;
        let version = self.examined(uploaded).await?;
        if version.state == "quarantined" {
            let reason = version.reason.clone().unwrap_or_default();
            let failed = self.failed_checks(&version).await?;
            let told: String = failed.iter().map(Verdict::told).collect();
            bail!("the server refused it: {}{told}", plain(&reason));
        }
        Ok(match version.state.as_str() {
            "active" => version,
            _ => self.promote(&version).await?,
        })
    }

    pub(super) async fn list(&self, plugin: Option<&str>) -> Result<Vec<Version>, ClientError> {
        // A plugin's name can stand in an address as it is.
        let path = match plugin {
            Some(plugin) => format!("/plugins?plugin={plugin}"),
            None => "/plugins".to_owned(),
        };
        Ok(self.0.get::<List>(&path).await?.plugins)
    }

    /// Grants a plugin these capabilities in place of those it has; its other settings stay.
    pub(super) async fn grant(&self, plugin: &str, granted: Value) -> Result<(), ClientError> {
        let path = format!("/plugins/{plugin}/settings");
        let mut settings: BTreeMap<String, Value> = self.0.get(&path).await?;
        settings.insert("granted".to_owned(), granted);
        let _: Value = self.0.put(&path, &json!(settings)).await?;
        Ok(())
    }

    pub(super) async fn upload(
        &self,
        file: Vec<u8>,
        unsigned: bool,
    ) -> Result<Version, ClientError> {
        let request = self
            .0
            .request(Method::POST, &format!("/plugins?unsigned={unsigned}"))
            .header("content-type", "application/wasm")
            // Python's components are large, and not every network is fast.
            .timeout(Duration::from_secs(600));
        self.0.json(request.body(file)).await
    }

    /// Waits until a version is compiled and checked.
    pub(super) async fn examined(&self, uploaded: Version) -> Result<Version, ClientError> {
        let mut progress = Progress::start(format!(
            "the server compiles and checks {} {}",
            uploaded.plugin, uploaded.version
        ));
        let mut now = uploaded;
        loop {
            let share = match now.state.as_str() {
                "uploaded" => 0.05,
                "compiling" => 0.2,
                "checking" => 0.7,
                _ => return Ok(now),
            };
            let _ = progress.tell(share);
            tokio::time::sleep(LOOK).await;
            now = self.0.get(&path_of(&now)).await?;
        }
    }

    pub(super) async fn promote(&self, version: &Version) -> Result<Version, ClientError> {
        self.moved(version, "promote").await
    }

    pub(super) async fn retire(&self, version: &Version) -> Result<Version, ClientError> {
        self.moved(version, "retire").await
    }

    async fn moved(&self, version: &Version, to: &str) -> Result<Version, ClientError> {
        let path = format!("{}/{to}", path_of(version));
        self.0.json(self.0.request(Method::POST, &path)).await
    }

    /// Cases of the conformance kit that a version failed.
    pub(super) async fn failed_checks(
        &self,
        version: &Version,
    ) -> Result<Vec<Verdict>, ClientError> {
        let detail: Detail = self.0.get(&path_of(version)).await?;
        let verdicts = detail.verdicts.into_iter();
        Ok(verdicts.filter(|verdict| !verdict.passed).collect())
    }

    /// The newest calls of a version that came to nothing, newest first.
    pub(super) async fn failed_calls(
        &self,
        version: &Version,
    ) -> Result<Vec<FailedCall>, ClientError> {
        let path = format!("{}/calls?failed=true&limit=20", path_of(version));
        Ok(self.0.get::<Calls>(&path).await?.calls)
    }

    /// Everything a call was asked and told.
    pub(super) async fn recording(&self, call: &str) -> Result<Vec<u8>, ClientError> {
        let path = format!("/plugin_calls/{call}/recording");
        self.0.get_bytes(&path).await
    }

    pub(super) async fn artifact(&self, digest: &str) -> Result<Vec<u8>, ClientError> {
        self.0.get_bytes(&format!("/artifacts/{digest}")).await
    }
}

fn path_of(version: &Version) -> String {
    // Of what a version is written with, only `+` means something else in a path.
    let named = version.version.replace('+', "%2B");
    format!("/plugins/{}/versions/{named}", version.plugin)
}
