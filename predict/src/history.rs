//! One unit's recorded life.
use serde::{Deserialize, Serialize};

/// A unit's metrics on one regular grid.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitHistory {
    /// The unit.
    pub unit: String,
    /// Milliseconds per row.
    pub step_ms: i64,
    /// Names of the columns.
    pub metrics: Vec<String>,
    /// Values by time, then metric.
    pub rows: Vec<Vec<f64>>,
    /// Whether the unit failed right after the last row.
    pub failed: bool,
}
