//! What a policy sees of one asset: every fact is a field here, documented once.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{AssetState, Timestamp};

/// The facts about one asset at one moment; what is not known is `()` in the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The asset's id.
    pub asset: String,
    /// What sort of asset it is.
    pub kind: String,
    /// The locality it stands in.
    pub locality: String,
    /// Whether and how it serves: `in_service`, `standby`, `stood_in`, `offline` or `retired`.
    pub state: AssetState,
    /// The moment the facts speak of.
    pub at: Timestamp,
    /// Probability of failure by horizon: `fps["1d"]`, `fps["7d"]`, `fps["30d"]`; empty where no model serves.
    pub fps: BTreeMap<String, f64>,
    /// Metrics that speak for it, strongest first.
    pub fps_reasons: Vec<String>,
    /// Remaining life, hours.
    pub remaining_life_hours: Option<RemainingLifeFacts>,
    /// How unusual the present is, 0–1.
    pub anomaly: Option<f64>,
    /// Share of its capacity in use, 0–1.
    pub utilisation: Option<f64>,
    /// Share by which its kind's capacity in its locality exceeds the use of it; below 0 where it runs short.
    pub spare_capacity: Option<f64>,
    /// How many assets need it, directly or through others.
    pub dependents: u32,
    /// How many of them would stop with it, alternatives and redundancy considered.
    pub critical_dependents: u32,
    /// The group of equals it belongs to.
    pub redundancy: Option<RedundancyFacts>,
    /// Whether a virtual stand-in could be placed somewhere.
    pub stand_in_possible: bool,
    /// Whether a stand-in is placed and working.
    pub stand_in_operational: bool,
    /// The printable part that cures its failure mode.
    pub part: Option<String>,
    /// How it is expected to fail.
    pub failure_mode: Option<String>,
    /// What an hour of unplanned outage costs, in the currency of the settings.
    pub outage_cost_per_hour: f64,
    /// The run that is dealing with it already.
    pub open_run: Option<String>,
    /// Whether something was done for it so recently that it should be left alone.
    pub cooling_down: bool,
}

/// The group of equals an asset belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedundancyFacts {
    /// Name of the group.
    pub group: String,
    /// How many of its members serve now.
    pub serving: u32,
    /// How many have to.
    pub needed: u32,
}

/// Quantiles of the remaining life, hours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "quantiles")]
pub struct RemainingLifeFacts {
    pub p05: f64,
    pub p50: f64,
    pub p95: f64,
}

impl Facts {
    /// Facts about an asset of which nothing more is known.
    #[must_use]
    pub fn about(asset: &str, kind: &str, at: Timestamp) -> Self {
        Self {
            asset: asset.to_owned(),
            kind: kind.to_owned(),
            locality: String::new(),
            state: AssetState::InService,
            at,
            fps: BTreeMap::new(),
            fps_reasons: Vec::new(),
            remaining_life_hours: None,
            anomaly: None,
            utilisation: None,
            spare_capacity: None,
            dependents: 0,
            critical_dependents: 0,
            redundancy: None,
            stand_in_possible: false,
            stand_in_operational: false,
            part: None,
            failure_mode: None,
            outage_cost_per_hour: 0.0,
            open_run: None,
            cooling_down: false,
        }
    }
}

/// The names of all facts, in order.
#[must_use]
pub fn fact_names() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let facts = Facts::about("", "", Timestamp(0));
        match serde_json::to_value(facts) {
            Ok(Value::Object(fields)) => fields.keys().cloned().collect(),
            _ => Vec::new(),
        }
    });
    &NAMES
}
