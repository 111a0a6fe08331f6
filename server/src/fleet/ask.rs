//! Asks the serving policy about assets, most urgent first, and starts the runs it decides on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};
use workflows::allocate;
use workflows::model::{AssetState, Prediction, Twin};
use workflows::policy::{Decision, Facts, RedundancyFacts, RemainingLifeFacts, decide};
use workflows::script::{Limits, Script};
use workflows::twin::Graph;

use crate::app::App;
use crate::store::decisions::decision;
use crate::store::runs::{NewRun, run};
use crate::store::{self, Page, scripts::Revision, scripts::Scripts};

/// What the facts about an asset are drawn from.
struct Known {
    twin: Twin,
    utilisation: BTreeMap<String, f64>,
    failure_risk: BTreeMap<String, f64>,
    open_runs: Vec<run::Model>,
    cooling: BTreeSet<String>,
}

/// Asks about each asset; answers the decisions' ids.
pub(super) async fn ask_policy(
    app: &App,
    predictions: &[Prediction],
) -> anyhow::Result<Vec<String>> {
    let mut urgent: Vec<&Prediction> = predictions.iter().collect();
    urgent.sort_by(|a, b| {
        risk(b)
            .total_cmp(&risk(a))
            .then_with(|| a.asset.cmp(&b.asset))
    });
    if urgent.is_empty() {
        return Ok(Vec::new());
    }
    let name = &app.config.fleet.policy;
    let revision = Scripts::Policies.active(&app.db.read, name).await?;
    let script = Script::compile(name, &revision.source)
        .with_context(|| format!("failed to compile policy `{name}`"))?;
    let mut known = Known::load(app, &urgent).await?;
    let mut decisions = Vec::new();
    for prediction in urgent {
        let facts = known.facts(prediction)?;
        let begun = Instant::now();
        let script = script.clone();
        let asked = facts.clone();
        let decided =
            tokio::task::spawn_blocking(move || decide(&script, &asked, &Limits::decision()))
                .await
                .context("a policy panicked")?;
        let decided = match decided {
            Ok(decided) => decided,
            Err(error) => {
                tracing::error!(policy = name, asset.id = %prediction.asset,
                    "policy `{name}` failed on asset `{}`: {error}", prediction.asset);
                continue;
            }
        };
        let row = decision::Model {
            id: store::new_id(app.now_ms()),
            asset: prediction.asset.clone(),
            policy: name.clone(),
            revision: revision.digest.clone(),
            facts: serde_json::to_string(&facts)?,
            verdict: serde_json::to_string(&decided.decision)?,
            reason: decided.decision.reason().to_owned(),
            operations: i64::try_from(decided.operations).unwrap_or(i64::MAX),
            duration_us: i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX),
            run_id: None,
            at: prediction.at.0,
        };
        decisions.push(row.id.clone());
        if let Some(run) = carry_out(app, row, &decided.decision, prediction, &revision).await? {
            known.open_runs.push(run);
        }
    }
    Ok(decisions)
}

/// One transaction: the decision, and the run it starts.
async fn carry_out(
    app: &App,
    row: decision::Model,
    decision: &Decision,
    prediction: &Prediction,
    policy: &Revision,
) -> anyhow::Result<Option<run::Model>> {
    let tx = store::begin(&app.db.write).await?;
    let id = row.id.clone();
    store::decisions::insert(&tx, row).await?;
    let mut started = None;
    if let Some(workflow) = decision.workflow() {
        let revision = Scripts::Workflows.active(&tx, workflow).await?;
        let mut event = json!({ "asset": prediction.asset, "at": prediction.at, "decision": id });
        if let Decision::Start { event: more, .. } = decision {
            for (name, value) in more {
                event[name] = value.clone();
            }
        }
        let new = NewRun {
            workflow,
            revision: &revision.digest,
            event: &event,
            seed: Some(app.config.fleet.seed),
            decision: Some(&id),
            actor: &format!("policy {}", policy.name),
        };
        let run = store::runs::create(&tx, app.now_ms(), &new).await?;
        store::decisions::set_run(&tx, &id, &run.id).await?;
        started = Some(run);
    }
    tx.commit().await?;
    Ok(started)
}

fn risk(prediction: &Prediction) -> f64 {
    let fps = prediction.fps.as_ref().and_then(|f| f.by_horizon.get("7d"));
    fps.copied().unwrap_or(0.0)
}

impl Known {
    async fn load(app: &App, predictions: &[&Prediction]) -> anyhow::Result<Self> {
        let twin = store::assets::twin(&app.db.read).await?;
        let latest = app.telemetry.latest("utilisation").await?;
        let mut open_runs = store::runs::list(&app.db.read, Some("running"), Page::ALL).await?;
        open_runs.extend(store::runs::list(&app.db.read, Some("waiting"), Page::ALL).await?);
        let quiet_ms = app.config.policy.cooldown_hours * 3_600_000.0;
        let since = app.now_ms() - quiet_ms as i64;
        let mut cooling = BTreeSet::new();
        for prediction in predictions {
            let last = store::decisions::latest(&app.db.read, &prediction.asset).await?;
            if last.is_some_and(|d| d.run_id.is_some() && d.at > since) {
                cooling.insert(prediction.asset.clone());
            }
        }
        Ok(Self {
            twin,
            utilisation: latest
                .into_iter()
                .map(|(asset, (_, value))| (asset, value))
                .collect(),
            failure_risk: predictions
                .iter()
                .map(|p| (p.asset.clone(), risk(p)))
                .collect(),
            open_runs,
            cooling,
        })
    }

    fn facts(&self, prediction: &Prediction) -> anyhow::Result<Facts> {
        let asset = self.twin.assets.get(&prediction.asset);
        let asset = asset.with_context(|| format!("no asset `{}`", prediction.asset))?;
        let graph = Graph::new(&self.twin);
        let mut facts = Facts::about(&asset.id, &asset.kind, prediction.at);
        facts.locality.clone_from(&asset.locality);
        facts.state = asset.state;
        if let Some(fps) = &prediction.fps {
            facts.fps.clone_from(&fps.by_horizon);
            facts.fps_reasons = fps
                .reasons
                .iter()
                .map(|r| format!("{} {}", r.metric, r.feature))
                .collect();
            let life = &fps.remaining_life_hours;
            facts.remaining_life_hours = Some(RemainingLifeFacts {
                p05: life.p05,
                p50: life.p50,
                p95: life.p95,
            });
        }
        facts.anomaly = prediction.anomaly.as_ref().map(|a| a.score);
        facts.utilisation = self.utilisation.get(&asset.id).copied();
        facts.spare_capacity = self.spare_capacity(asset);
        facts.dependents = u32::try_from(graph.dependents(&asset.id).len())?;
        facts.critical_dependents = u32::try_from(graph.critical_dependents(&asset.id).len())?;
        facts.redundancy = self.redundancy(asset);
        let state = allocate::State {
            twin: self.twin.clone(),
            failure_risk: self.failure_risk.clone(),
            utilisation: self.utilisation.clone(),
        };
        facts.stand_in_possible = !allocate::places(&state, asset, 0.0).is_empty();
        facts.stand_in_operational = asset.state == AssetState::StoodIn;
        facts.part.clone_from(&asset.part);
        facts.failure_mode.clone_from(&asset.failure_mode);
        facts.outage_cost_per_hour = asset.outage_cost_per_hour;
        facts.open_run = self.open_run(&asset.id);
        facts.cooling_down = self.cooling.contains(&asset.id);
        Ok(facts)
    }

    /// The share of its kind's capacity in its locality that is not in use.
    fn spare_capacity(&self, asset: &workflows::model::Asset) -> Option<f64> {
        let alike = self.twin.assets.values().filter(|other| {
            other.kind == asset.kind
                && other.locality == asset.locality
                && matches!(other.state, AssetState::InService | AssetState::StoodIn)
        });
        let used: Vec<f64> = alike
            .filter_map(|a| self.utilisation.get(&a.id).copied())
            .collect();
        (!used.is_empty()).then(|| 1.0 - used.iter().sum::<f64>() / used.len() as f64)
    }

    fn redundancy(&self, asset: &workflows::model::Asset) -> Option<RedundancyFacts> {
        let own = asset.redundancy.as_ref()?;
        let serving = self.twin.assets.values().filter(|other| {
            other
                .redundancy
                .as_ref()
                .is_some_and(|r| r.group == own.group)
                && matches!(other.state, AssetState::InService | AssetState::StoodIn)
        });
        let serving = u32::try_from(serving.count()).unwrap_or(u32::MAX);
        Some(RedundancyFacts {
            group: own.group.clone(),
            serving,
            needed: own.needed,
        })
    }

    fn open_run(&self, asset: &str) -> Option<String> {
        let about = |run: &&run::Model| {
            let event: Value = serde_json::from_str(&run.event).unwrap_or_default();
            event["asset"] == asset
        };
        self.open_runs.iter().find(about).map(|run| run.id.clone())
    }
}
