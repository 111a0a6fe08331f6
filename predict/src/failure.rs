//! Failure prediction score.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Calibrated probability of failure by horizon, with reasons.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fps {
    /// Probability by horizon.
    pub by_horizon: BTreeMap<String, f64>,
    /// What speaks for it, strongest first.
    pub reasons: Vec<Reason>,
    /// Remaining life, hours.
    pub remaining_life_hours: RemainingLife,
}

/// One reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Metric.
    pub metric: String,
    /// Feature of it.
    pub feature: String,
    /// Its value.
    pub value: f64,
    /// Its typical value.
    pub typical: f64,
    /// How much it moved the score.
    pub contribution: f64,
}

/// Quantiles of the remaining life, hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "quantiles")]
pub struct RemainingLife {
    pub p05: f64,
    pub p50: f64,
    pub p95: f64,
}
