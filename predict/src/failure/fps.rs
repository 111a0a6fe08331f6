//! What scoring a unit answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The failure prediction score of one unit: a calibrated probability for each named horizon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fps {
    /// Probability of failing within the horizon, by its name; never falls as the horizon grows.
    pub by_horizon: BTreeMap<String, f64>,
    /// What speaks for failure most, strongest first.
    pub reasons: Vec<Reason>,
    /// When the unit is likely to fail, where whoever scores can tell.
    pub remaining_life_hours: Option<LifeHours>,
    /// The digest of the model that answered; filled in by whoever stores models.
    pub model: Option<String>,
}

/// Quantiles of the remaining life in hours.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LifeHours {
    /// One unit in twenty fails sooner.
    pub p05: f64,
    /// As many fail sooner as later.
    pub p50: f64,
    /// One unit in twenty lasts longer.
    pub p95: f64,
}

/// Why a score is what it is: one metric's part in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The metric.
    pub metric: String,
    /// Which statistic of its window spoke loudest, such as `mean_5`.
    pub feature: String,
    /// What that statistic is now.
    pub value: f64,
    /// What it is for units with a long life ahead (median), where that is known.
    pub typical: Option<f64>,
    /// Hours of expected remaining life this metric takes away, over all its statistics; negative if
    /// it speaks for a longer life.
    pub contribution: f64,
}
