//! Assets, the places they stand in, and what they depend on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A thing we keep running: server, fan tray, disk, rack, machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// Stable name, unique in the fleet.
    pub id: String,
    /// What sort of asset; models are trained per kind.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// The locality it stands in.
    pub locality: String,
    /// Row on the locality's plan, from the top.
    pub row: u32,
    /// Column on the locality's plan, from the left.
    pub col: u32,
    /// Height unit in its rack, from the bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub u: Option<u32>,
    /// What it needs to work.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// The group of equals it belongs to, if others can carry its load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<Redundancy>,
    /// Whether and how it serves.
    #[serde(default)]
    pub state: AssetState,
    /// The printable part that cures its failure mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// How it is expected to fail, e.g. `imbalance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_mode: Option<String>,
    /// The metric that carries the load of that failure mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vibration_metric: Option<String>,
    /// What an hour of unplanned outage costs, in the currency of the settings.
    #[serde(default)]
    pub outage_cost_per_hour: f64,
    /// Whatever else is known, by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// One thing an asset needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The asset needed.
    pub asset: String,
    /// Alternatives share a group name: any one of the group is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of: Option<String>,
}

/// Membership in a group of equals of which `needed` must serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// Name of the group.
    pub group: String,
    /// How many of its members must serve at any time.
    pub needed: u32,
}

/// Whether and how an asset serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetState {
    /// It serves.
    #[default]
    InService,
    /// It could serve and does not yet.
    Standby,
    /// A virtual stand-in serves for it.
    StoodIn,
    /// It does not serve.
    Offline,
    /// It will never serve again; its history still teaches.
    Retired,
}

/// A place assets stand in: a hall, a row of racks, a rack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Locality {
    /// Stable name.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Left edge on the hall plan, m.
    pub x: f64,
    /// Top edge on the hall plan, m.
    pub y: f64,
    /// Width on the hall plan, m.
    pub width: f64,
    /// Height (depth) on the hall plan, m.
    pub height: f64,
    /// Electrical power available, W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit_w: Option<f64>,
}

/// The graph of assets as it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Twin {
    /// Every asset, by id.
    pub assets: BTreeMap<String, Asset>,
    /// Every locality, by id.
    pub localities: BTreeMap<String, Locality>,
}
