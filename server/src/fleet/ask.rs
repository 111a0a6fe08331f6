//! Asks the serving policy about assets, most urgent first, and starts the runs it decides on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use workflows::allocate;
use workflows::model::{AssetState, Prediction, Twin};
use workflows::policy::{Decision, Facts, RedundancyFacts, RemainingLifeFacts, decide};
use workflows::script::{Limits, Script};
use workflows::twin::Graph;

use crate::app::App;
use crate::store::decisions::decision;
use crate::store::runs::NewRun;
use crate::store::{self, StoreError, scripts::Revision, scripts::Scripts};

/// What the facts about an asset are drawn from.
struct Known {
    twin: Twin,
    utilisation: BTreeMap<String, f64>,
    failure_risk: BTreeMap<String, f64>,
    /// The run that deals with an asset, by asset.
    open_runs: BTreeMap<String, String>,
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
        let mut row = decision::Model {
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
        if let Some(run) = carry_out(app, &mut row, &decided.decision, prediction).await? {
            known.open_runs.insert(prediction.asset.clone(), run);
        }
    }
    Ok(decisions)
}

/// One transaction: the decision, and the run it starts; answers the run.
///
/// What stands in the way of the run is told in the decision's reason and stops nobody else's.
async fn carry_out(
    app: &App,
    row: &mut decision::Model,
    decision: &Decision,
    prediction: &Prediction,
) -> anyhow::Result<Option<String>> {
    let tx = store::begin(&app.db.write).await?;
    // Two ticks at once would both find that nothing is being done.
    store::decisions::one_at_a_time(&tx).await?;
    let mut event = json!({});
    if let Decision::Start { event: more, .. } = decision {
        event = json!(more);
    }
    // What the run is about is not for the policy to say.
    event["asset"] = json!(prediction.asset);
    event["at"] = json!(prediction.at);
    event["decision"] = json!(row.id);
    if let Some(workflow) = decision.workflow() {
        match may_start(&tx, workflow, &prediction.asset).await? {
            Ok(revision) => {
                let new = NewRun {
                    workflow,
                    revision: &revision.digest,
                    event: &event,
                    seed: Some(app.config.fleet.seed),
                    decision: Some(&row.id),
                    actor: &format!("policy {}", row.policy),
                };
                let run = store::runs::create(&tx, app.now_ms(), &new).await?;
                row.run_id = Some(run.id);
            }
            Err(why_not) => {
                tracing::warn!(policy = row.policy, asset.id = %row.asset,
                    "a decision on `{}` is not carried out: {why_not}", row.asset);
                row.reason = format!("{}; not carried out: {why_not}", row.reason);
            }
        }
    }
    store::decisions::insert(&tx, row.clone()).await?;
    tx.commit().await?;
    Ok(row.run_id.clone())
}

/// The revision to start, or why there is to be no run.
async fn may_start(
    tx: &store::DatabaseTransaction,
    workflow: &str,
    asset: &str,
) -> anyhow::Result<Result<Revision, String>> {
    if let Some(run) = store::decisions::open_runs(tx).await?.get(asset) {
        return Ok(Err(format!("run {run} is dealing with it")));
    }
    match Scripts::Workflows.active(tx, workflow).await {
        Ok(revision) => Ok(Ok(revision)),
        Err(StoreError::Unknown { .. }) => Ok(Err(format!("there is no workflow `{workflow}`"))),
        Err(error) => Err(error.into()),
    }
}

fn risk(prediction: &Prediction) -> f64 {
    let fps = prediction.fps.as_ref().and_then(|f| f.by_horizon.get("7d"));
    fps.copied().unwrap_or(0.0)
}

impl Known {
    async fn load(app: &App, predictions: &[&Prediction]) -> anyhow::Result<Self> {
        let twin = store::assets::twin(&app.db.read).await?;
        let latest = app.telemetry.latest("utilisation").await?;
        let quiet_ms = app.config.policy.cooldown_hours * 3_600_000.0;
        let since = app.now_ms() - quiet_ms as i64;
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
            open_runs: store::decisions::open_runs(&app.db.read).await?,
            cooling: store::decisions::acted_on_since(&app.db.read, since).await?,
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
        facts.open_run = self.open_runs.get(&asset.id).cloned();
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
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use workflows::model::Timestamp;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::store::{Page, runs::RunEnd};

    const HOUR_MS: i64 = 3_600_000;

    /// A hall of two fans and a policy that always acts, by a workflow of its own for each.
    async fn hall(folder: &std::path::Path) -> App {
        let data = folder.display().to_string();
        let vars = [("FOREWRIGHT_SERVER_DATA".to_owned(), data)];
        let config = Config::load(None, vars.into_iter()).expect("defaults");
        let app = App::open(config, Clock::default()).await.expect("an app");
        let policy = r#"fn decide(facts) {
            if facts.open_run != () || facts.cooling_down {
                return #{ action: "monitor", reason: "it is seen to" };
            }
            #{ action: "start", workflow: `see_to_${facts.asset}`, reason: "always", event: #{ asset: "other", n: 1 } }
        }"#;
        let db = &app.db.write;
        let serving = &app.config.fleet.policy;
        let put = Scripts::Policies.activate(db, 0, serving, policy).await;
        put.expect("a policy");
        let source = "fn run(event) { event }";
        let put = Scripts::Workflows.activate(db, 0, "see_to_a", source).await;
        put.expect("a workflow");
        for id in ["a", "b"] {
            let asset = json!({ "id": id, "kind": "fan", "name": id, "locality": "hall", "row": 0, "col": 0 });
            let asset = serde_json::from_value(asset).expect("an asset");
            store::assets::put(db, 0, &asset).await.expect("stored");
        }
        app
    }

    fn prediction(asset: &str) -> Prediction {
        Prediction {
            asset: asset.to_owned(),
            // Telemetry that is a week behind the clock.
            at: Timestamp(1_700_000_000_000),
            fps: None,
            model: None,
            anomaly: None,
            forecasts: Vec::new(),
        }
    }

    async fn decided(app: &App, asset: &str) -> decision::Model {
        let made = ask_policy(app, &[prediction(asset)]).await.expect("asked");
        let made = store::decisions::get(&app.db.read, &made[0]).await;
        made.expect("kept")
    }

    #[tokio::test]
    async fn a_decision_that_cannot_be_carried_out_is_kept_and_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let both = [prediction("b"), prediction("a")];
        let made = ask_policy(&app, &both).await.unwrap();
        assert_eq!(made.len(), 2);
        let rows = store::decisions::list(&app.db.read, None, Page::ALL).await;
        for row in rows.unwrap() {
            match row.asset.as_str() {
                "a" => {
                    let run = store::runs::get(&app.db.read, &row.run_id.unwrap()).await;
                    let event: Value = serde_json::from_str(&run.unwrap().event).unwrap();
                    assert_eq!((&event["asset"], &event["n"]), (&json!("a"), &json!(1)));
                }
                _ => assert_eq!(
                    (row.run_id, row.reason.as_str()),
                    (
                        None,
                        "always; not carried out: there is no workflow `see_to_b`"
                    )
                ),
            }
        }
    }

    #[tokio::test]
    async fn an_asset_cools_down_after_its_run_whatever_was_decided_since() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let run = decided(&app, "a").await.run_id.expect("a run");
        // While it goes on, and after it has ended, every tick decides to monitor.
        assert_eq!(decided(&app, "a").await.run_id, None);
        let now = app.now_ms();
        store::runs::end(&app.db.write, now, &run, &RunEnd::Failed(json!({})))
            .await
            .unwrap();
        for _ in 0..2 {
            assert_eq!(decided(&app, "a").await.reason, "it is seen to");
        }
        let quiet = app.config.policy.cooldown_hours as i64;
        app.clock.advance((quiet + 1) * HOUR_MS);
        assert!(decided(&app, "a").await.run_id.is_some());
    }

    #[tokio::test]
    async fn two_ticks_at_once_start_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let ask = || async { ask_policy(&app, &[prediction("a")]).await.unwrap() };
        tokio::join!(ask(), ask(), ask(), ask());
        let runs = store::runs::list(&app.db.read, None, Page::ALL).await;
        assert_eq!(runs.unwrap().len(), 1);
    }
}
