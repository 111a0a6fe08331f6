//! Predictions: failure scores with reasons, anomaly scores, values ahead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::{MetricForecast, PluginUse, Prediction, Timestamp};

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store;

/// Everything predicted of one asset at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictionView {
    /// The asset.
    asset: String,
    /// The moment it speaks from: the last sample it saw.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Probability of failure by horizon; empty where no model serves the kind of asset.
    fps: BTreeMap<String, f64>,
    /// What speaks for it, strongest first.
    reasons: Vec<ReasonView>,
    /// Hours until it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_life_hours: Option<LifeView>,
    /// Digest of the model or of the plugin that scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The plugin that scored, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<PluginUseView>,
    /// How unusual the present is.
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<AnomalyView>,
    /// The plugin that says so, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    detector: Option<PluginUseView>,
    /// Values ahead.
    forecasts: Vec<ForecastView>,
}

/// One reason for a score.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonView {
    /// The metric.
    metric: String,
    /// What of it.
    feature: String,
    /// Its value.
    value: f64,
    /// What is typical, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    typical: Option<f64>,
    /// How much it moved the score.
    contribution: f64,
}

/// Which plugin gave an answer, and in which of its calls.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginUseView {
    /// Its name.
    name: String,
    /// Its version.
    version: String,
    /// The digest of its file.
    digest: String,
    /// The version of the contract that it was called by.
    interface: String,
    /// The call; `GET /api/v1/plugin_calls/{call}` tells more while it is kept.
    call: String,
    /// Instructions, where they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    /// Capabilities that the call really used.
    grants: Vec<String>,
}

/// Quantiles of the remaining life, hours.
#[derive(Debug, Serialize, ToSchema)]
pub struct LifeView {
    p05: f64,
    p50: f64,
    p95: f64,
}

/// How unusual the present is.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyView {
    /// 0–1.
    score: f64,
    /// The metrics to blame, most first.
    attribution: Vec<BlameView>,
}

/// One metric's share of an anomaly.
#[derive(Debug, Serialize, ToSchema)]
pub struct BlameView {
    /// The metric.
    metric: String,
    /// Its share.
    share: f64,
}

/// Values ahead of one metric.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForecastView {
    /// The metric.
    metric: String,
    /// Milliseconds per step.
    step_ms: i64,
    /// The model that forecasts it.
    model: String,
    /// Quantiles by step.
    points: Vec<ForecastPointView>,
}

/// Quantiles at one step ahead.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForecastPointView {
    steps: usize,
    p05: f64,
    p25: f64,
    p50: f64,
    p75: f64,
    p95: f64,
}

/// Predictions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictionList {
    /// Newest first.
    predictions: Vec<PredictionView>,
    /// `before` of the next page.
    next: Option<String>,
}

/// Which predictions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PredictionQuery {
    /// The asset; the newest of every asset if not said.
    pub asset: Option<String>,
    /// Only those that speak from before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    pub before: Option<Timestamp>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

impl From<Prediction> for PredictionView {
    fn from(p: Prediction) -> Self {
        let fps = p.fps.unwrap_or_default();
        let reasons = fps.reasons.into_iter().map(|r| ReasonView {
            metric: r.metric,
            feature: r.feature,
            value: r.value,
            typical: r.typical,
            contribution: r.contribution,
        });
        let anomaly = p.anomaly.map(|a| AnomalyView {
            score: a.score,
            attribution: a
                .attribution
                .into_iter()
                .map(|(metric, share)| BlameView { metric, share })
                .collect(),
        });
        Self {
            asset: p.asset,
            at: p.at,
            remaining_life_hours: fps.remaining_life_hours.map(|life| LifeView {
                p05: life.p05,
                p50: life.p50,
                p95: life.p95,
            }),
            fps: fps.by_horizon,
            reasons: reasons.collect(),
            model: p.model,
            plugin: p.plugin.map(Into::into),
            anomaly,
            detector: p.detector.map(Into::into),
            forecasts: p.forecasts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<PluginUse> for PluginUseView {
    fn from(used: PluginUse) -> Self {
        Self {
            name: used.name,
            version: used.version,
            digest: used.digest,
            interface: used.interface,
            call: used.call,
            fuel: used.fuel,
            grants: used.grants,
        }
    }
}

impl From<MetricForecast> for ForecastView {
    fn from(f: MetricForecast) -> Self {
        let points = f.forecast.points.into_iter().map(|p| ForecastPointView {
            steps: p.steps,
            p05: p.p05,
            p25: p.p25,
            p50: p.p50,
            p75: p.p75,
            p95: p.p95,
        });
        Self {
            metric: f.metric,
            step_ms: f.step_ms,
            model: f.forecast.model,
            points: points.collect(),
        }
    }
}

/// Predictions: the newest of every asset, or those of one, newest first.
#[utoipa::path(get, path = "/api/v1/predictions", tag = "predictions", params(PredictionQuery),
    responses((status = 200, body = PredictionList)))]
pub async fn list_predictions(
    app: App,
    _: auth::Reader,
    Query(query): Query<PredictionQuery>,
) -> ApiResult<Json<PredictionList>> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) {
        return Err(ApiError::malformed(
            "malformed_query",
            "`limit` must be 1 to 500",
        ));
    }
    let (found, next) = match &query.asset {
        None => (store::predictions::latest_of_all(&app.db.read).await?, None),
        Some(asset) => {
            let before = query.before.map(|t| t.0);
            let found = store::predictions::list(&app.db.read, asset, before, limit).await?;
            let full = found.len() as u64 == limit;
            let next = found.last().filter(|_| full).map(|p| p.at.to_string());
            (found, next)
        }
    };
    let predictions = found.into_iter().map(Into::into).collect();
    Ok(Json(PredictionList { predictions, next }))
}

/// The newest prediction of an asset.
#[utoipa::path(get, path = "/api/v1/assets/{id}/prediction", tag = "predictions",
    params(("id" = String, Path)), responses((status = 200, body = PredictionView)))]
pub async fn get_prediction(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<PredictionView>> {
    store::assets::get(&app.db.read, &id).await?;
    let found = store::predictions::latest(&app.db.read, &id).await?;
    let found = found.ok_or_else(|| ApiError::not_found("prediction of asset", &id))?;
    Ok(Json(found.into()))
}
