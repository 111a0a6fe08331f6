//! `predict`: what the models say of one asset at one moment.

use std::collections::BTreeMap;

use predict::anomaly::{AnomalyScore, Detector, State};
use predict::failure::{FailureModel, LifeHours, Reason};
use predict::forecast::forecast;
use predict::history::UnitHistory;
use serde::{Deserialize, Serialize};

use super::{Outcome, Step, StepError};
use crate::host::{Answer, Host};
use crate::model::{Asset, Detected, MetricForecast, PluginUse, Prediction, Scored, Timestamp};

/// The kind of model that answers.
pub const MODEL_KIND: &str = "failure";
/// Forecasts reach this far ahead, or one to three rows where rows are further apart.
const AHEAD_MS: [i64; 3] = [300_000, 600_000, 900_000];
/// How many metrics are forecast: the load's own, and the strongest reasons.
const MOST_FORECASTS: usize = 4;
/// The first rows of a history tell how much a healthy asset vibrates.
const BASELINE_ROWS: usize = 20;
/// The last rows tell how much it vibrates now.
const PRESENT_ROWS: usize = 5;
/// Beyond this it is no vibration any more, but a broken sensor.
const GREATEST_RATIO: f64 = 50.0;
/// A detector needs this many rows to know what is normal.
const LEAST_NORMAL_ROWS: usize = 16;
/// The detector's forest; fixed, so that what is unusual does not depend on the run.
const DETECTOR_SEED: u64 = 0;

/// Scores one asset and keeps the prediction.
pub struct Predict;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct PredictInput {
    /// The asset.
    pub asset: String,
    /// Telemetry up to this moment is read.
    pub at: Timestamp,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictOutput {
    /// The asset.
    pub asset: String,
    /// The moment it speaks from.
    pub at: Timestamp,
    /// Calibrated probability of failing by horizon.
    pub fps: BTreeMap<String, f64>,
    /// What speaks for it, strongest first.
    pub reasons: Vec<Reason>,
    /// Quantiles of the remaining life, where whoever scored could tell.
    pub remaining_life_hours: Option<LifeHours>,
    /// How the asset is expected to fail.
    pub mode: Option<String>,
    /// What the load of that failure is computed from.
    pub features: Features,
    /// How unusual the present is, where enough is known.
    pub anomaly: Option<AnomalyScore>,
    /// The plugin that says so, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector: Option<PluginUse>,
    /// Values ahead.
    pub forecasts: Vec<MetricForecast>,
    /// Digest of the model or of the plugin.
    pub model: String,
    /// The plugin that scored, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginUse>,
}

/// What the load of a failure is computed from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Features {
    /// The metric that carries the load.
    pub vibration_metric: Option<String>,
    /// Present vibration over that in health; 1 where nothing is known.
    pub vibration_ratio: f64,
    /// Present value of the metric.
    pub vibration: Option<f64>,
    /// Its value in health.
    pub baseline: Option<f64>,
    /// Present speed of the rotor, where it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_rpm: Option<f64>,
}

impl Step for Predict {
    const KIND: &'static str = "predict";
    type Input = PredictInput;
    type Output = PredictOutput;

    fn run(
        &self,
        input: PredictInput,
        host: &dyn Host,
    ) -> Result<Outcome<PredictOutput>, StepError> {
        let asset = host.asset(&input.asset)?;
        let scored = match host.plugin_score(&asset, input.at)? {
            Some(scored) => scored,
            None => scored_by_model(host, &asset, input.at)?,
        };
        let detected = host.plugin_anomaly(&asset, input.at)?;
        let (prediction, features) = predict_asset(&asset, &scored, detected, input.at)?;
        host.store_prediction(&prediction)?;
        let fps = prediction.fps.unwrap_or_default();
        Ok(Outcome::Done(PredictOutput {
            asset: input.asset,
            at: input.at,
            fps: fps.by_horizon,
            reasons: fps.reasons,
            remaining_life_hours: fps.remaining_life_hours,
            mode: asset.failure_mode.clone(),
            features,
            anomaly: prediction.anomaly,
            detector: prediction.detector,
            forecasts: prediction.forecasts,
            model: scored.model,
            plugin: scored.plugin,
        }))
    }
}

fn scored_by_model(host: &dyn Host, asset: &Asset, at: Timestamp) -> Answer<Scored> {
    let Some(champion) = host.champion(MODEL_KIND, &asset.kind)? else {
        return Err(StepError::unavailable(
            "no_model",
            format_args!(
                "no failure model serves assets of kind `{}`; train one",
                asset.kind
            ),
        ));
    };
    let model = FailureModel::from_bytes(&host.artifact(&champion.digest)?)
        .map_err(|e| StepError::failed("bad_model", e))?;
    let history = host.history(&asset.id, at, model.step_ms())?;
    score(&model, &champion.digest, history)
}

/// What a model says of a history.
///
/// # Errors
///
/// `cannot_score` when the history is not what the model was trained on.
pub fn score(model: &FailureModel, digest: &str, history: UnitHistory) -> Answer<Scored> {
    let fps = model
        .score(&history)
        .map_err(|e| StepError::failed("cannot_score", e))?;
    Ok(Scored {
        fps,
        model: digest.to_owned(),
        plugin: None,
        history,
    })
}

/// Everything that is predicted of one asset once it is scored, and the features its load follows from. Where no plugin
/// says how unusual the present is, the detector here does.
///
/// # Errors
///
/// `cannot_forecast` when a metric is not a series.
pub fn predict_asset(
    asset: &Asset,
    scored: &Scored,
    detected: Option<Detected>,
    at: Timestamp,
) -> Answer<(Prediction, Features)> {
    let history = &scored.history;
    let (anomaly, detector) = match detected {
        Some(detected) => (Some(detected.score), Some(detected.plugin)),
        None => (anomaly(history), None),
    };
    let prediction = Prediction {
        asset: asset.id.clone(),
        at,
        model: Some(scored.model.clone()),
        plugin: scored.plugin.clone(),
        anomaly,
        detector,
        forecasts: forecasts(asset, history, &scored.fps.reasons)?,
        fps: Some(scored.fps.clone()),
    };
    Ok((prediction, features(asset, history)))
}

/// What the load is computed from: how far the metric stands above where nothing vibrates, now and in health.
fn features(asset: &Asset, history: &UnitHistory) -> Features {
    let attribute = |name: &str| asset.attributes.get(name);
    let values = asset
        .vibration_metric
        .as_deref()
        .map(|m| column(history, m));
    let values = values.unwrap_or_default();
    let zero = attribute("vibration_zero").and_then(serde_json::Value::as_f64);
    let zero = zero.unwrap_or(0.0);
    let vibration = mean(&values[values.len().saturating_sub(PRESENT_ROWS)..]);
    let baseline = median(&values[..values.len().min(BASELINE_ROWS)]);
    let ratio = match (vibration, baseline) {
        (Some(now), Some(then)) if then > zero => ((now - zero) / (then - zero)).max(0.0),
        _ => 1.0,
    };
    let speed = attribute("speed_rpm_metric").and_then(serde_json::Value::as_str);
    Features {
        vibration_metric: asset.vibration_metric.clone(),
        vibration_ratio: ratio.min(GREATEST_RATIO),
        vibration,
        baseline,
        speed_rpm: speed.and_then(|m| column(history, m).last().copied()),
    }
}

/// How unusual the last row is, after what the first three quarters showed to be normal.
fn anomaly(history: &UnitHistory) -> Option<AnomalyScore> {
    let normal = history.rows.len() * 3 / 4;
    if normal < LEAST_NORMAL_ROWS {
        return None;
    }
    let (before, after) = history.rows.split_at(normal);
    let detector = Detector::fit(before, &history.metrics, DETECTOR_SEED).ok()?;
    let mut state = State::default();
    after
        .iter()
        .map_while(|row| detector.score_next(&mut state, row).ok())
        .last()
}

/// Values ahead of the load's metric and of those that speak loudest.
fn forecasts(
    asset: &Asset,
    history: &UnitHistory,
    reasons: &[Reason],
) -> Answer<Vec<MetricForecast>> {
    let steps = steps_ahead(history.step_ms);
    let mut metrics: Vec<&str> = Vec::new();
    let own = asset.vibration_metric.as_deref();
    for metric in own
        .into_iter()
        .chain(reasons.iter().map(|r| r.metric.as_str()))
    {
        if metrics.len() < MOST_FORECASTS && !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    let mut found = Vec::new();
    for metric in metrics {
        let values = column_with_gaps(history, metric);
        if values.iter().filter(|v| v.is_finite()).count() < 2 {
            continue;
        }
        found.push(MetricForecast {
            metric: metric.to_owned(),
            step_ms: history.step_ms,
            forecast: forecast(&values, &steps)
                .map_err(|e| StepError::failed("cannot_forecast", format_args!("{metric}: {e}")))?,
        });
    }
    Ok(found)
}

fn steps_ahead(step_ms: i64) -> Vec<usize> {
    if step_ms > AHEAD_MS[0] {
        return vec![1, 2, 3];
    }
    AHEAD_MS
        .iter()
        .map(|ahead| usize::try_from(ahead / step_ms.max(1)).unwrap_or(1))
        .collect()
}

/// Known values of a metric, oldest first.
fn column(history: &UnitHistory, metric: &str) -> Vec<f64> {
    let mut values = column_with_gaps(history, metric);
    values.retain(|v| v.is_finite());
    values
}

fn column_with_gaps(history: &UnitHistory, metric: &str) -> Vec<f64> {
    let Some(index) = history.metrics.iter().position(|m| m == metric) else {
        return Vec::new();
    };
    let value = |row: &Vec<f64>| row.get(index).copied().filter(|v| v.is_finite());
    history
        .rows
        .iter()
        .map(|row| value(row).unwrap_or(f64::NAN))
        .collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Train;
    use super::super::world::{World, done, failed};
    use super::*;

    #[test]
    fn a_worn_fan_is_told_from_a_new_one() {
        let world = World::with_fan_histories();
        let train = json!({ "kind": "failure", "asset_kind": "fan_tray", "seed": 3 });
        let trained = done(&Train, &train, &world);
        let ask = |asset: &str| json!({ "asset": asset, "at": world.at });
        let worn = done(&Predict, &ask("fan-r01-01"), &world);
        let fresh = done(&Predict, &ask("fan-r02-01"), &world);
        assert_eq!(worn["model"], trained["digest"]);
        assert_eq!(worn["mode"], "imbalance");
        let week = |p: &serde_json::Value| p["fps"]["7d"].as_f64().unwrap();
        assert!(
            week(&worn) > 0.5 && week(&worn) > 3.0 * week(&fresh),
            "{worn} {fresh}"
        );
        let ratio = |p: &serde_json::Value| p["features"]["vibration_ratio"].as_f64().unwrap();
        assert!(
            ratio(&worn) > 1.5 && ratio(&fresh) < 1.5,
            "{} {}",
            ratio(&worn),
            ratio(&fresh)
        );
        assert_eq!(worn["forecasts"][0]["metric"], "vibration_mm_s");
        assert_eq!(
            worn["forecasts"][0]["forecast"]["points"]
                .as_array()
                .map(Vec::len),
            Some(3)
        );

        assert_eq!(done(&Predict, &ask("fan-r01-01"), &world), worn);
        assert_eq!(world.predictions.borrow().len(), 2);
    }

    #[test]
    fn without_a_model_it_may_be_tried_again() {
        let world = World::new();
        let error = failed(
            &Predict,
            &json!({ "asset": "fan-r01-01", "at": world.at }),
            &world,
        );
        assert_eq!((error.code(), error.is_retryable()), ("no_model", true));
    }

    #[test]
    fn five_ten_and_fifteen_minutes_where_rows_allow_it() {
        assert_eq!(steps_ahead(60_000), [5, 10, 15]);
        assert_eq!(steps_ahead(300_000), [1, 2, 3]);
        assert_eq!(steps_ahead(3_600_000), [1, 2, 3]);
    }
}
