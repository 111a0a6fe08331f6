//! Values ahead.
use serde::{Deserialize, Serialize};

/// Quantiles ahead.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The model that gave them.
    pub model: String,
    /// By step.
    pub points: Vec<ForecastPoint>,
}

/// Quantiles at one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "quantiles")]
pub struct ForecastPoint {
    pub steps: usize,
    pub p05: f64,
    pub p25: f64,
    pub p50: f64,
    pub p75: f64,
    pub p95: f64,
}
