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
    /// Digest of the model, or of the plugin, that gave the score.
    pub model: Option<String>,
    /// The plugin that gave it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginUse>,
    /// How unusual the present is, 0–1, with the metrics to blame.
    pub anomaly: Option<predict::anomaly::AnomalyScore>,
    /// The plugin that says so, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<PluginUse>,
    /// Values ahead, per metric.
    pub forecasts: Vec<MetricForecast>,
}

/// A score, and what it was told from.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The score.
    pub fps: predict::failure::Fps,
    /// Digest of the model or the plugin.
    pub model: String,
    /// The plugin, where it was one.
    pub plugin: Option<PluginUse>,
    /// What was looked at.
    pub history: predict::history::UnitHistory,
}

/// How unusual the present of an asset is, in the eyes of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// The score.
    pub score: predict::anomaly::AnomalyScore,
    /// The plugin.
    pub plugin: PluginUse,
}

/// Which plugin gave an answer, and in which of its calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginUse {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of its file.
    pub digest: String,
    /// The version of the contract that it was called by, such as `forewright:plugin@1.0.0`.
    pub interface: String,
    /// The call, as the record of calls names it.
    pub call: String,
    /// Instructions, where they were counted.
    pub fuel: Option<u64>,
    /// Capabilities that the call really used.
    pub grants: Vec<String>,
}

/// What a plugin says of a part that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginVerdict {
    /// `accept`, `rework`, `reject` or `inconclusive`.
    pub disposition: String,
    /// 0 to 1.
    pub confidence: f64,
    /// What it found.
    pub findings: Vec<PluginFinding>,
    /// Which plugin.
    pub plugin: PluginUse,
}

/// One thing that a plugin found on a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginFinding {
    /// A stable word, such as `layer_shift`.
    pub code: String,
    /// 0 to 1.
    pub severity: f64,
    /// Where, mm, in the frame of the design; none where the whole part is meant.
    pub at: Option<[f64; 3]>,
    /// In words.
    pub detail: String,
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
