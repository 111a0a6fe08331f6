//! The twin: the graph of assets with their latest state, and the heatmaps drawn from it.

use std::collections::BTreeMap;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::{Timestamp, WindowState};
use workflows::twin::{Facts, Heatmap, Layer, WindowFact};

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Query};
use crate::store;

/// The hall as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub struct TwinView {
    /// The moment it speaks of.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Every asset, by id.
    assets: Vec<TwinAssetView>,
    /// What needs what.
    dependencies: Vec<EdgeView>,
}

/// An asset and the latest that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TwinAssetView {
    /// Its id.
    id: String,
    /// What sort of asset.
    kind: String,
    /// What people call it.
    name: String,
    /// Where it stands.
    locality: String,
    /// Row on the plan.
    row: u32,
    /// Column on the plan.
    col: u32,
    /// `in_service`, `standby`, `stood_in`, `offline`, `retired`.
    state: super::asset_state::AssetStateView,
    /// Utilisation, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    utilisation: Option<f64>,
    /// Probability of failing within 7 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    fps_7d: Option<f64>,
    /// The moment that speaks from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    predicted_at: Option<Timestamp>,
    /// How unusual it is, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<f64>,
    /// How many assets stop with it.
    critical_dependents: usize,
    /// Begin of its next window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    window_from: Option<Timestamp>,
}

/// One asset needs another.
#[derive(Debug, Serialize, ToSchema)]
pub struct EdgeView {
    /// The one that needs.
    from: String,
    /// The one needed.
    to: String,
    /// Any one of those that share this name is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    any_of: Option<String>,
}

/// A layer of the hall.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeatmapView {
    /// What is shown.
    layer: LayerView,
    /// The moment it speaks of.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Unit of the values.
    unit: String,
    /// What the levels mean, lowest first.
    legend: Vec<LegendView>,
    /// Titles of the columns.
    columns: BTreeMap<String, String>,
    /// One cell per asset, by column, then row.
    cells: Vec<HeatmapCellView>,
}

/// What a level means.
#[derive(Debug, Serialize, ToSchema)]
pub struct LegendView {
    /// 0–4.
    level: u8,
    /// In words.
    text: String,
}

/// One asset in a heatmap.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeatmapCellView {
    /// The asset.
    asset: String,
    /// What sort of asset.
    kind: String,
    /// Row, from the top.
    row: u32,
    /// Column, from the left.
    col: u32,
    /// The value; nothing where nothing is known.
    value: Option<f64>,
    /// The value as people read it.
    text: String,
    /// 0–4, so that colour is never needed to tell.
    level: u8,
    /// How old it is, seconds.
    age_s: Option<i64>,
    /// `high`, `low`, `none`.
    confidence: ConfidenceView,
}

/// How far to believe a value.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfidenceView {
    /// Fresh, or agreed.
    High,
    /// Old, or only proposed.
    Low,
    /// Nothing is known.
    None,
}

/// What a heatmap shows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerView {
    /// How much is used.
    Utilisation,
    /// How likely it fails within seven days.
    FailureRisk,
    /// When it is worked on.
    Maintenance,
}

/// Which layer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HeatmapQuery {
    /// What to show.
    #[param(inline)]
    pub layer: LayerView,
}

impl From<LayerView> for Layer {
    fn from(layer: LayerView) -> Self {
        match layer {
            LayerView::Utilisation => Self::Utilisation,
            LayerView::FailureRisk => Self::FailureRisk,
            LayerView::Maintenance => Self::Maintenance,
        }
    }
}

/// The hall as it is now.
#[utoipa::path(get, path = "/api/v1/twin", tag = "twin",
    responses((status = 200, body = TwinView)))]
pub async fn get_twin(app: App, _: auth::Reader) -> ApiResult<Json<TwinView>> {
    let twin = store::assets::twin(&app.db.read).await?;
    let facts = facts(&app).await?;
    let predictions = store::predictions::present_of_all(&app.db.read, app.now_ms()).await?;
    let anomalies: BTreeMap<&str, f64> = predictions
        .iter()
        .filter_map(|p| p.anomaly.as_ref().map(|a| (p.asset.as_str(), a.score)))
        .collect();
    let graph = workflows::twin::Graph::new(&twin);
    let nothing = Facts::default();
    let assets = twin.assets.values().map(|asset| {
        let known = facts.get(&asset.id).unwrap_or(&nothing);
        TwinAssetView {
            id: asset.id.clone(),
            kind: asset.kind.clone(),
            name: asset.name.clone(),
            locality: asset.locality.clone(),
            row: asset.row,
            col: asset.col,
            state: asset.state.into(),
            utilisation: known.utilisation.map(|(value, _)| value),
            fps_7d: known.failure_risk.map(|(value, _)| value),
            predicted_at: known.failure_risk.map(|(_, at)| at),
            anomaly: anomalies.get(asset.id.as_str()).copied(),
            critical_dependents: graph.critical_dependents(&asset.id).len(),
            window_from: known.window.map(|w| w.from),
        }
    });
    let edges = twin.assets.values().flat_map(|asset| {
        asset.depends_on.iter().map(|d| EdgeView {
            from: asset.id.clone(),
            to: d.asset.clone(),
            any_of: d.any_of.clone(),
        })
    });
    Ok(Json(TwinView {
        now: app.clock.now(),
        assets: assets.collect(),
        dependencies: edges.collect(),
    }))
}

/// One layer of the hall.
#[utoipa::path(get, path = "/api/v1/twin/heatmap", tag = "twin", params(HeatmapQuery),
    responses((status = 200, body = HeatmapView)))]
pub async fn get_heatmap(
    app: App,
    _: auth::Reader,
    Query(query): Query<HeatmapQuery>,
) -> ApiResult<Json<HeatmapView>> {
    let map = heatmap(&app, query.layer).await?;
    let columns = map
        .columns
        .into_iter()
        .map(|(col, title)| (col.to_string(), title));
    let legend = map.legend.into_iter().map(|l| LegendView {
        level: l.level,
        text: l.text,
    });
    Ok(Json(HeatmapView {
        layer: query.layer,
        now: map.now,
        unit: map.unit,
        legend: legend.collect(),
        columns: columns.collect(),
        cells: map.cells.into_iter().map(Into::into).collect(),
    }))
}

/// One layer of the hall as a picture.
#[utoipa::path(get, path = "/api/v1/twin/heatmap.png", tag = "twin", params(HeatmapQuery),
    responses((status = 200, content_type = "image/png", body = String)))]
pub async fn get_heatmap_png(
    app: App,
    _: auth::Reader,
    Query(query): Query<HeatmapQuery>,
) -> ApiResult<Response> {
    let map = heatmap(&app, query.layer).await?;
    let png = tokio::task::spawn_blocking(move || workflows::twin::heatmap_png(&map))
        .await
        .map_err(ApiError::internal)?
        .map_err(|e| ApiError::refused("no_picture", e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

impl From<workflows::twin::Cell> for HeatmapCellView {
    fn from(cell: workflows::twin::Cell) -> Self {
        use workflows::twin::Confidence;
        Self {
            asset: cell.asset,
            kind: cell.kind,
            row: cell.row,
            col: cell.col,
            value: cell.value,
            text: cell.text,
            level: cell.level,
            age_s: cell.age_s,
            confidence: match cell.confidence {
                Confidence::High => ConfidenceView::High,
                Confidence::Low => ConfidenceView::Low,
                Confidence::None => ConfidenceView::None,
            },
        }
    }
}

async fn heatmap(app: &App, layer: LayerView) -> ApiResult<Heatmap> {
    let twin = store::assets::twin(&app.db.read).await?;
    let facts = facts(app).await?;
    Ok(workflows::twin::heatmap(
        &twin,
        &facts,
        layer.into(),
        app.clock.now(),
    ))
}

/// The latest that is known of every asset.
async fn facts(app: &App) -> ApiResult<BTreeMap<String, Facts>> {
    let now = app.clock.now();
    let mut facts: BTreeMap<String, Facts> = BTreeMap::new();
    for p in store::predictions::present_of_all(&app.db.read, now.0).await? {
        let risk = p
            .fps
            .and_then(|f| f.by_horizon.get("7d").copied())
            .map(|v| (v, p.at));
        facts.entry(p.asset).or_default().failure_risk = risk;
    }
    for (asset, reading) in app.telemetry.latest("utilisation").await? {
        let reading = Some((reading.1, Timestamp(reading.0)));
        facts.entry(asset).or_default().utilisation = reading;
    }
    let far = now.plus_ms(365 * 86_400_000);
    for w in store::windows::overlapping(&app.db.read, now.0, far.0).await? {
        if w.state == WindowState::Done {
            continue;
        }
        let fact = WindowFact {
            from: w.proposal.from,
            to: w.proposal.to,
            state: w.state,
        };
        facts
            .entry(w.proposal.asset)
            .or_default()
            .window
            .get_or_insert(fact);
    }
    Ok(facts)
}
