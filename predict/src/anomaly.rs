//! How unusual the present is.
use serde::{Deserialize, Serialize};

/// Score and the metrics to blame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnomalyScore {
    /// 0–1.
    pub score: f64,
    /// Share by metric.
    pub attribution: Vec<(String, f64)>,
}
