//! The walk: every stage of the loop as a client of the REST API sees it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ::plugins::bundle;
use ::plugins::world::World;
use ::workflows::model::Origin;
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::collect::{self, Report, Stage};
use super::show::Show;
use super::source::Source;
use super::stand::Stand;
use super::{Demo, field};
use crate::cli::output;
use crate::cli::plugin::server::Plugins;
use crate::ingest::remote_write;
use crate::telemetry::Sample;

/// Samples of one remote-write request.
const BATCH: usize = 10_000;
/// How long a run may stand still before the demonstration gives up.
const PATIENCE: Duration = Duration::from_secs(600);
/// Everything modelled or learnt is the same whatever the seed of the machine.
const TRAINING_SEED: u64 = 0;

/// One demonstration.
pub(super) struct Demonstration<'a> {
    demo: &'a Demo,
    source: &'a Source,
    stand: &'a Stand,
    show: &'a Show,
    stages: Vec<Stage>,
}

impl<'a> Demonstration<'a> {
    /// One demonstration, about to begin.
    pub(super) fn new(
        demo: &'a Demo,
        source: &'a Source,
        stand: &'a Stand,
        show: &'a Show,
    ) -> Self {
        Self {
            demo,
            source,
            stand,
            show,
            stages: Vec::new(),
        }
    }

    /// Walks from telemetry to outcome; fails at the first stage that does not happen.
    pub(super) async fn walk(mut self) -> anyhow::Result<Report> {
        self.ingest().await.context("ingest")?;
        let (asset, training) = self.predict().await.context("predict")?;
        let run = self.decide(&asset).await.context("decide")?;
        let run = self.follow(&run).await?;
        collect::stages_of_run(&mut self.stages, &run, &training, self.source.origin)?;
        collect::files(self.demo, self.stand, &run, &mut self.stages).await?;
        Ok(Report::new(
            self.demo,
            self.source,
            self.stand,
            &asset,
            &run,
            self.stages,
        ))
    }

    /// The hall, then every sample the source has.
    async fn ingest(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let bar = self.show.stage("ingest", "the hall");
        let api = &self.stand.operator;
        let hall = &self.source.hall;
        for locality in &hall.localities {
            put(self.stand, "localities", &locality.id, locality).await?;
        }
        for part in &hall.parts {
            put(self.stand, "parts", &part.id, part).await?;
        }
        for asset in &self.source.assets {
            // What has been done to an asset already must not be undone by a demonstration that goes on.
            if !self.stand.resumed
                || api
                    .get::<Value>(&format!("/assets/{}", asset.id))
                    .await
                    .is_err()
            {
                put(self.stand, "assets", &asset.id, asset).await?;
            }
        }
        for technician in &hall.technicians {
            put(self.stand, "technicians", &technician.id, technician).await?;
        }
        let sorts = [
            &self.source.samples,
            &self.source.utilisation,
            &self.source.live,
        ];
        let total: usize = sorts.iter().map(|s| s.len()).sum();
        let mut sent = 0;
        for samples in sorts {
            for batch in samples.chunks(BATCH) {
                send(self.stand, batch).await?;
                sent += batch.len();
                bar.share(
                    sent as f64 / total as f64,
                    &format!("{sent} of {total} samples"),
                );
            }
        }
        for (asset, at) in &self.source.failures {
            let body =
                json!({ "asset": asset, "kind": "failed", "at": at, "note": "ran to failure" });
            api.post::<Value>("/outcomes", &body).await?;
        }
        let said = format!(
            "{total} samples of {} assets, {} of them failures of the past",
            self.source.assets.len(),
            self.source.failures.len()
        );
        bar.done(&said);
        let mut origin = BTreeMap::new();
        origin.insert("telemetry".to_owned(), self.source.origin);
        origin.insert("utilisation".to_owned(), Origin::Modelled);
        origin.insert("hall".to_owned(), Origin::Modelled);
        if !self.source.live.is_empty() {
            origin.insert("this_machine".to_owned(), Origin::Measured);
        }
        let live: BTreeMap<&str, f64> = self
            .source
            .live
            .iter()
            .map(|s| (&*s.metric, s.value))
            .collect();
        self.stages.push(Stage {
            stage: "ingest".into(),
            input: json!({
                "source": self.demo.source, "title": self.source.title,
                "samples": self.source.samples.len(), "utilisation_samples": self.source.utilisation.len(),
                "this_machine": live,
            }),
            output: json!({
                "assets": self.source.assets.len(), "failures": self.source.failures.len(),
                "stored": total, "last_sample": self.source.ends,
            }),
            seconds: begun.elapsed().as_secs_f64(),
            origin,
            artifacts: BTreeMap::new(),
        });
        Ok(())
    }

    /// Trains the failure model, scores the fleet, and picks the asset to see to.
    async fn predict(&mut self) -> anyhow::Result<(String, Value)> {
        let bar = self
            .show
            .stage("train", "learning from the failures of the past");
        let api = &self.stand.operator;
        let models: Value = api.get("/models").await?;
        let run = match models["models"].as_array().and_then(|all| all.first()) {
            Some(_) => None,
            None => {
                let body =
                    json!({ "kind": "failure", "asset_kind": "fan_tray", "seed": TRAINING_SEED });
                let key = "demo-training";
                Some(api.post_once::<Value>("/models", key, &body).await?)
            }
        };
        let training = match run {
            Some(started) => {
                let run = self.wait_for(field(&started, "run")?, |run| {
                    if let Some(step) = run["steps"].as_array().and_then(|s| s.last()) {
                        bar.share(
                            step["progress"].as_f64().unwrap_or(0.0),
                            "learning from the failures of the past",
                        );
                    }
                });
                run.await?
            }
            None => self.run_of("train_model").await?,
        };
        succeeded(&training)?;
        let evaluation = &training["steps"][0]["output"]["evaluation"];
        bar.done(&format!(
            "remaining life within {:.1} h (RMSE over folds, {} engines); Brier skill at 1 d {:.2}",
            evaluation["rmse_capped"].as_f64().unwrap_or(f64::NAN),
            evaluation["failed_units"],
            evaluation["horizons"][0]["reliability"]["skill"]
                .as_f64()
                .unwrap_or(f64::NAN),
        ));

        if let Some(predictor) = &self.demo.predictor {
            self.put_to_work(predictor, World::Predictor).await?;
        }
        if let Some(designer) = &self.demo.designer {
            self.put_to_work(designer, World::Designer).await?;
        }
        let bar = self.show.stage("score", "scoring the fleet");
        let scored: Value = api.post("/fleet/ticks", &json!({ "ask": false })).await?;
        collect::keep_heatmap(self.stand, &self.demo.out).await?;
        let asset = match &self.demo.asset {
            Some(asset) => asset.clone(),
            None => self.most_urgent().await?,
        };
        let prediction: Value = api
            .get(&format!("/assets/{asset}/prediction"))
            .await
            .with_context(|| format!("asset `{asset}` has no prediction"))?;
        bar.done(&format!(
            "{} assets; most urgent with critical dependents: {asset}, fails within 7 days with {:.1} % probability",
            scored["scored"],
            100.0 * prediction["fps"]["7d"].as_f64().unwrap_or(f64::NAN)
        ));
        Ok((asset, training))
    }

    /// Has a plugin checked, and makes it one that serves.
    async fn put_to_work(&self, path: &Path, world: World) -> anyhow::Result<()> {
        let checking = format!("checking the {}", world.name());
        let bar = self.show.stage("plugin", &checking);
        let file = output::read("plugin", path)?;
        let (_, manifest) =
            bundle::open(&file).with_context(|| format!("`{}` is no plugin", path.display()))?;
        if manifest.world != world {
            let (path, is) = (path.display(), manifest.world.name());
            bail!("`{path}` is a {is}, no {}", world.name());
        }
        let plugins = Plugins::of(&self.stand.operator);
        let version = plugins.put_to_work(&manifest, file).await?;
        bar.done(&format!("{} {} serves", version.plugin, version.version));
        Ok(())
    }

    /// The asset most likely to fail among those that others depend on.
    async fn most_urgent(&self) -> anyhow::Result<String> {
        let api = &self.stand.operator;
        let twin: Value = api.get("/twin").await?;
        let critical: Vec<&str> = twin["assets"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|a| a["critical_dependents"].as_u64() > Some(0))
            .filter_map(|a| a["id"].as_str())
            .collect();
        let predictions: Value = api.get("/predictions").await?;
        let urgency = |p: &&Value| {
            let life = p["remaining_life_hours"]["p50"]
                .as_f64()
                .unwrap_or(f64::INFINITY);
            (p["fps"]["1d"].as_f64().unwrap_or(0.0), -life)
        };
        let most = predictions["predictions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|p| p["asset"].as_str().is_some_and(|a| critical.contains(&a)))
            .max_by(|a, b| {
                let ((fps_a, life_a), (fps_b, life_b)) = (urgency(a), urgency(b));
                fps_a.total_cmp(&fps_b).then(life_a.total_cmp(&life_b))
            });
        let most = most.context("no asset with critical dependents was scored")?;
        Ok(field(most, "asset")?.to_owned())
    }

    /// Asks the policy about the asset; answers the run it starts.
    async fn decide(&mut self, asset: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        let bar = self.show.stage("decide", "asking the policy");
        let api = &self.stand.operator;
        let earlier: Value = api.get(&format!("/decisions?asset={asset}")).await?;
        let mut earlier = earlier["decisions"].as_array().into_iter().flatten();
        let started = earlier.rfind(|d| d["run"].is_string()).cloned();
        let decision = match started {
            Some(decision) => decision,
            None => {
                let ticked: Value = api
                    .post("/fleet/ticks", &json!({ "about": [asset] }))
                    .await?;
                let id = ticked["decisions"][0].as_str();
                let id = id.with_context(|| format!("the policy was not asked about `{asset}`"))?;
                api.get(&format!("/decisions/{id}")).await?
            }
        };
        let reason = field(&decision, "reason")?.to_owned();
        let Some(run) = decision["run"].as_str() else {
            bail!(
                "the policy decided to {} `{asset}`: {reason}",
                decision["decision"]["action"]
            );
        };
        bar.done(&format!(
            "{} — {reason}",
            decision["decision"]["workflow"].as_str().unwrap_or("start")
        ));
        self.stages.push(Stage {
            stage: "decide".into(),
            input: json!({ "asset": asset, "policy": decision["policy"], "revision": decision["revision"], "facts": decision["facts"] }),
            output: json!({ "decision": decision["decision"], "operations": decision["operations"] }),
            seconds: begun.elapsed().as_secs_f64(),
            origin: BTreeMap::from([
                ("fps".to_owned(), self.source.origin),
                ("utilisation".to_owned(), Origin::Modelled),
                ("dependents".to_owned(), Origin::Modelled),
            ]),
            artifacts: BTreeMap::new(),
        });
        Ok(run.to_owned())
    }

    /// Follows the run to its end, answering as the technician would.
    async fn follow(&self, id: &str) -> anyhow::Result<Value> {
        let mut track = self.show.track();
        let run = self.wait_for(id, |run| track.update(run)).await;
        track.finish();
        let run = run?;
        succeeded(&run)?;
        Ok(run)
    }

    async fn wait_for(&self, id: &str, mut seen: impl FnMut(&Value)) -> anyhow::Result<Value> {
        let api = &self.stand.operator;
        let mut moved = Instant::now();
        let mut last = Value::Null;
        loop {
            let run: Value = api.get(&format!("/runs/{id}")).await?;
            seen(&run);
            if run["ended_at"].is_string() {
                return Ok(run);
            }
            self.answer_approvals(id).await?;
            self.stand.sleep_away(&run)?;
            if run != last {
                moved = Instant::now();
                last = run;
            }
            if moved.elapsed() > PATIENCE {
                bail!(
                    "run {id} has not moved for {} s; it waits for {}",
                    PATIENCE.as_secs(),
                    last["waiting_for"]
                );
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    /// The technician says yes, which accepts the window.
    async fn answer_approvals(&self, run: &str) -> anyhow::Result<()> {
        let technician = &self.stand.technician;
        let open: Value = technician.get("/approvals?state=open").await?;
        let asked = open["approvals"].as_array().into_iter().flatten();
        for approval in asked.filter(|a| a["run"] == run) {
            let path = format!("/approvals/{}/answers", field(approval, "id")?);
            let body =
                json!({ "answer": true, "comment": "accepted by the demonstration's technician" });
            technician.post::<Value>(&path, &body).await?;
        }
        Ok(())
    }

    /// The newest run of a workflow.
    async fn run_of(&self, workflow: &str) -> anyhow::Result<Value> {
        let runs: Value = self.stand.operator.get("/runs").await?;
        let found = runs["runs"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|r| r["workflow"] == workflow);
        let found = found.with_context(|| format!("no run of `{workflow}`"))?;
        self.wait_for(field(found, "id")?, |_| {}).await
    }
}

/// Refuses a run that ended in any other way.
fn succeeded(run: &Value) -> anyhow::Result<()> {
    if run["state"] == "succeeded" {
        return Ok(());
    }
    let [id, workflow, state] =
        ["id", "workflow", "state"].map(|name| run[name].as_str().unwrap_or("?"));
    let why = run["failure"]["message"]
        .as_str()
        .unwrap_or("no reason was recorded");
    bail!("run {id} of `{workflow}` {state}: {why}")
}

async fn put(
    stand: &Stand,
    plural: &str,
    id: &str,
    body: &impl serde::Serialize,
) -> anyhow::Result<()> {
    let body = serde_json::to_value(body)?;
    let path = format!("/{plural}/{id}");
    let put = stand.operator.put::<Value>(&path, &body).await;
    put.with_context(|| format!("failed to put `{path}`"))
        .map(drop)
}

async fn send(stand: &Stand, samples: &[Sample]) -> anyhow::Result<()> {
    let request = stand.operator.request(Method::POST, "/telemetry/write");
    let request = request
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .body(remote_write::encode(samples));
    stand
        .operator
        .bytes(request)
        .await
        .context("failed to send samples")?;
    Ok(())
}
