//! What a policy sees of one asset: every fact is a field here, documented once.

use std::{collections::BTreeMap, sync::LazyLock};

use rhai::{Dynamic, Map};
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

impl Facts {
    /// All the facts as a script sees them; what is not known, or is no finite number, is `()`.
    pub(crate) fn to_dynamic(&self) -> Dynamic {
        let fields = FACTS
            .iter()
            .map(|(name, read)| ((*name).into(), read(self)));
        fields.collect::<Map>().into()
    }

    fn fps_to_dynamic(&self) -> Dynamic {
        let mut map = Map::new();
        // Collecting them would sort what is sorted.
        for (horizon, fps) in &self.fps {
            map.insert(horizon.as_str().into(), number(*fps));
        }
        map.into()
    }

    fn fps_reasons_to_dynamic(&self) -> Dynamic {
        let reasons = self.fps_reasons.iter();
        let reasons: Vec<Dynamic> = reasons.map(|reason| reason.as_str().into()).collect();
        reasons.into()
    }

    fn redundancy_to_dynamic(&self) -> Dynamic {
        self.redundancy.as_ref().map_or(Dynamic::UNIT, |group| {
            Map::from([
                ("group".into(), group.group.as_str().into()),
                ("needed".into(), whole(group.needed)),
                ("serving".into(), whole(group.serving)),
            ])
            .into()
        })
    }

    fn remaining_life_to_dynamic(&self) -> Dynamic {
        self.remaining_life_hours.map_or(Dynamic::UNIT, |life| {
            Map::from([
                ("p05".into(), number(life.p05)),
                ("p50".into(), number(life.p50)),
                ("p95".into(), number(life.p95)),
            ])
            .into()
        })
    }
}

/// One fact as a script sees it.
type Read = fn(&Facts) -> Dynamic;

/// Every fact by its name, in order.
pub(super) const FACTS: [(&str, Read); 21] = [
    ("anomaly", |f| optional(f.anomaly)),
    ("asset", |f| f.asset.as_str().into()),
    ("at", |f| f.at.to_string().into()),
    ("cooling_down", |f| f.cooling_down.into()),
    ("critical_dependents", |f| whole(f.critical_dependents)),
    ("dependents", |f| whole(f.dependents)),
    ("failure_mode", |f| text(f.failure_mode.as_deref())),
    ("fps", Facts::fps_to_dynamic),
    ("fps_reasons", Facts::fps_reasons_to_dynamic),
    ("kind", |f| f.kind.as_str().into()),
    ("locality", |f| f.locality.as_str().into()),
    ("open_run", |f| text(f.open_run.as_deref())),
    ("outage_cost_per_hour", |f| number(f.outage_cost_per_hour)),
    ("part", |f| text(f.part.as_deref())),
    ("redundancy", Facts::redundancy_to_dynamic),
    ("remaining_life_hours", Facts::remaining_life_to_dynamic),
    ("spare_capacity", |f| optional(f.spare_capacity)),
    ("stand_in_operational", |f| f.stand_in_operational.into()),
    ("stand_in_possible", |f| f.stand_in_possible.into()),
    ("state", |f| state_name(f.state).into()),
    ("utilisation", |f| optional(f.utilisation)),
];

fn number(number: f64) -> Dynamic {
    if number.is_finite() {
        number.into()
    } else {
        Dynamic::UNIT
    }
}

fn optional(value: Option<f64>) -> Dynamic {
    value.map_or(Dynamic::UNIT, number)
}

fn text(value: Option<&str>) -> Dynamic {
    value.map_or(Dynamic::UNIT, Into::into)
}

fn whole(number: u32) -> Dynamic {
    i64::from(number).into()
}

const fn state_name(state: AssetState) -> &'static str {
    match state {
        AssetState::InService => "in_service",
        AssetState::Standby => "standby",
        AssetState::StoodIn => "stood_in",
        AssetState::Offline => "offline",
        AssetState::Retired => "retired",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::value;

    #[test]
    fn a_script_sees_the_facts_as_they_are_stored() {
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(1_766_368_800_123));
        for state in [
            AssetState::InService,
            AssetState::Standby,
            AssetState::StoodIn,
            AssetState::Offline,
            AssetState::Retired,
        ] {
            facts.state = state;
            let stored = serde_json::to_value(&facts).expect("facts are JSON");
            assert_eq!(value::from_dynamic(&facts.to_dynamic()), Ok(stored));
        }
        facts.fps = BTreeMap::from([("7d".into(), 0.25), ("1d".into(), f64::NAN)]);
        facts.fps_reasons = vec!["fan_rpm".into(), "temperature".into()];
        (facts.anomaly, facts.utilisation) = (Some(f64::INFINITY), Some(1.0));
        facts.spare_capacity = Some(-0.5);
        (facts.dependents, facts.critical_dependents) = (u32::MAX, 3);
        facts.part = Some("fan_blade".into());
        facts.failure_mode = Some("bearing".into());
        facts.open_run = Some("r-1".into());
        facts.cooling_down = true;
        facts.redundancy = Some(RedundancyFacts {
            group: "fans".into(),
            serving: 3,
            needed: 2,
        });
        facts.remaining_life_hours = Some(RemainingLifeFacts {
            p05: 1.0,
            p50: 2.5,
            p95: f64::NAN,
        });
        let stored = serde_json::to_value(&facts).expect("facts are JSON");
        assert_eq!(value::from_dynamic(&facts.to_dynamic()), Ok(stored));
    }
}
