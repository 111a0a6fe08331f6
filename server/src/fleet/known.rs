//! The facts about an asset, gathered once for a tick.

use std::collections::BTreeMap;

use anyhow::Context;
use workflows::allocate;
use workflows::model::{AssetState, Prediction, Twin};
use workflows::policy::{Facts, RedundancyFacts, RemainingLifeFacts};
use workflows::twin::Graph;

use crate::app::App;
use crate::store;

/// What the facts about an asset are drawn from.
pub(super) struct Known {
    /// The assets.
    pub twin: Twin,
    utilisation: BTreeMap<String, f64>,
    failure_risk: BTreeMap<String, f64>,
    /// The run that deals with an asset, by asset.
    pub open_runs: BTreeMap<String, String>,
    /// When a run that a decision started was last at work on an asset, ms, if within the cool-down.
    acted_at: BTreeMap<String, i64>,
}

/// The probability that the asset fails within seven days, 0 where no model says.
pub(super) fn risk(prediction: &Prediction) -> f64 {
    let fps = prediction.fps.as_ref().and_then(|f| f.by_horizon.get("7d"));
    fps.copied().unwrap_or(0.0)
}

impl Known {
    /// Reads what the facts about these assets are drawn from.
    pub(super) async fn load(app: &App, predictions: &[&Prediction]) -> anyhow::Result<Self> {
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
            acted_at: store::decisions::acted_on_since(&app.db.read, since).await?,
        })
    }

    /// The facts about the asset of a prediction.
    pub(super) fn facts(&self, prediction: &Prediction) -> anyhow::Result<Facts> {
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
            let life = fps.remaining_life_hours;
            facts.remaining_life_hours = life.map(|life| RemainingLifeFacts {
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
        facts.cooling_down = self.acted_at.contains_key(&asset.id);
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
