//! Who suffers if an asset stops, and what that costs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::graph::Graph;
use crate::model::{AssetState, Twin};

/// Share of its outage cost that a dependent risks while it has lost a spare and still works.
pub(super) const EXPOSED_SHARE: f64 = 0.05;
/// Share of the outage cost that remains while a stand-in serves: it carries the load with less reserve.
pub const STOOD_IN_SHARE: f64 = 0.25;

/// What stopping one asset does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// The asset that stops.
    pub asset: String,
    /// Who stops with it, directly or through others, by id.
    pub stopped: Vec<String>,
    /// Who keeps working with one spare less, by id.
    pub exposed: Vec<String>,
    /// Whether a stand-in serves in its place.
    pub stood_in: bool,
    /// What an hour costs at full use, in the currency of the settings.
    pub cost_per_hour: f64,
}

impl Impact {
    /// Everybody whose use matters, each with the share of its outage cost that counts, the asset itself first.
    #[must_use]
    pub fn weights(&self) -> Vec<(&str, f64)> {
        let served = if self.stood_in { STOOD_IN_SHARE } else { 1.0 };
        let itself = std::iter::once((self.asset.as_str(), served));
        let stopped = self.stopped.iter().map(|a| (a.as_str(), served));
        let exposed = self
            .exposed
            .iter()
            .map(|a| (a.as_str(), EXPOSED_SHARE * served));
        itself.chain(stopped).chain(exposed).collect()
    }
}

/// Follows the dependencies of an asset to everybody who suffers if it stops.
#[must_use]
pub fn impact_of(twin: &Twin, graph: &Graph, asset: &str) -> Impact {
    let stopped: BTreeSet<&str> = graph.critical_dependents(asset);
    let working = graph.working(&BTreeSet::new());
    let exposed: Vec<String> = graph
        .dependents(asset)
        .into_keys()
        .filter(|d| working.contains(d) && !stopped.contains(d))
        .map(str::to_owned)
        .collect();
    let mut impact = Impact {
        asset: asset.to_owned(),
        stopped: stopped.into_iter().map(str::to_owned).collect(),
        exposed,
        stood_in: twin
            .assets
            .get(asset)
            .is_some_and(|a| a.state == AssetState::StoodIn),
        cost_per_hour: 0.0,
    };
    let cost = |id: &str| twin.assets.get(id).map_or(0.0, |a| a.outage_cost_per_hour);
    impact.cost_per_hour = impact.weights().iter().map(|(id, w)| cost(id) * w).sum();
    impact
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::twin;
    use super::*;

    #[test]
    fn those_who_stop_count_fully_and_those_with_a_spare_less_a_little() {
        let twin = twin(&["fan", "fan2", "srv: fan", "app: srv", "web: a=fan a=fan2"]);
        let impact = impact_of(&twin, &Graph::new(&twin), "fan");
        assert_eq!(impact.stopped, ["app", "srv"]);
        assert_eq!(impact.exposed, ["web"]);
        assert!((impact.cost_per_hour - 305.0).abs() < 1e-9);
    }

    #[test]
    fn a_stand_in_takes_most_of_the_harm_away() {
        let mut twin = twin(&["fan", "srv: fan"]);
        twin.assets.get_mut("fan").unwrap().state = AssetState::StoodIn;
        let impact = impact_of(&twin, &Graph::new(&twin), "fan");
        assert!(impact.stood_in);
        assert!((impact.cost_per_hour - 50.0).abs() < 1e-9);
    }
}
