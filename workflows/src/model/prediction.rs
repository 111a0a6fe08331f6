//! What the models say of an asset, and the models themselves.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Everything predicted of one asset at one moment; immutable, later joined to its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The asset.
    pub asset: String,
    /// The moment it speaks from: the last sample it saw.
    pub at: Timestamp,
    /// Failure prediction score with reasons and remaining life; absent where no model serves the kind.
    pub fps: Option<predict::failure::Fps>,
    /// Digest of the model that gave the score.
    pub model: Option<String>,
    /// How unusual the present is, 0–1, with the metrics to blame.
    pub anomaly: Option<predict::anomaly::AnomalyScore>,
    /// Values ahead, per metric.
    pub forecasts: Vec<MetricForecast>,
}

/// Values ahead of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricForecast {
    /// The metric.
    pub metric: String,
    /// Milliseconds per step.
    pub step_ms: i64,
    /// Quantiles by step.
    pub forecast: predict::forecast::Forecast,
}

/// A trained model, as the registry knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Stable name.
    pub id: String,
    /// What it predicts, e.g. `failure`.
    pub kind: String,
    /// The kind of asset it was trained for.
    pub asset_kind: String,
    /// Digest of the artifact that holds it.
    pub digest: String,
    /// How it did on data it had not seen.
    pub evaluation: serde_json::Value,
    /// When it was trained.
    pub trained_at: Timestamp,
}

/// A model to be registered; it serves if it beats the champion of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewModel {
    /// What it predicts.
    pub kind: String,
    /// The kind of asset it was trained for.
    pub asset_kind: String,
    /// Digest of the artifact that holds it.
    pub digest: String,
    /// How it did on data it had not seen.
    pub evaluation: serde_json::Value,
}
