//! Assets: what we keep running, where it stands and what it needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::{Asset, Dependency, Redundancy};

use super::asset_state::AssetStateView;
use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store;

/// A thing we keep running.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AssetView {
    /// Stable name.
    #[serde(default)]
    pub id: String,
    /// What sort of asset; models are trained per kind.
    #[schema(value_type = Name)]
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// The locality it stands in.
    pub locality: String,
    /// Row on the locality's plan, from the top.
    #[serde(default)]
    #[schema(value_type = i64, minimum = 0, maximum = 4_294_967_295_u32)]
    pub row: u32,
    /// Column on the locality's plan, from the left.
    #[serde(default)]
    #[schema(value_type = i64, minimum = 0, maximum = 4_294_967_295_u32)]
    pub col: u32,
    /// Height unit in its rack, from the bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_u32)]
    pub u: Option<u32>,
    /// What it needs to work.
    #[serde(default)]
    pub depends_on: Vec<DependencyView>,
    /// The group of equals it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<RedundancyView>,
    /// Whether and how it serves.
    #[serde(default)]
    pub state: AssetStateView,
    /// The printable part that cures its failure mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// How it is expected to fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_mode: Option<String>,
    /// The metric that carries the load of that failure mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vibration_metric: Option<String>,
    /// What an hour of unplanned outage costs, in the currency of the settings.
    #[serde(default)]
    #[schema(minimum = 0.0)]
    pub outage_cost_per_hour: f64,
    /// Whatever else is known, by name.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
}

/// One thing an asset needs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DependencyView {
    /// The asset needed.
    pub asset: String,
    /// Any one of those that share this name is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of: Option<String>,
}

/// Membership in a group of equals.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RedundancyView {
    /// Name of the group.
    pub group: String,
    /// How many of its members must serve at any time.
    #[schema(value_type = i64, minimum = 0, maximum = 4_294_967_295_u32)]
    pub needed: u32,
}

impl From<Asset> for AssetView {
    fn from(a: Asset) -> Self {
        let dependency = |d: Dependency| DependencyView {
            asset: d.asset,
            any_of: d.any_of,
        };
        Self {
            id: a.id,
            kind: a.kind,
            name: a.name,
            locality: a.locality,
            row: a.row,
            col: a.col,
            u: a.u,
            depends_on: a.depends_on.into_iter().map(dependency).collect(),
            redundancy: a.redundancy.map(|r| RedundancyView {
                group: r.group,
                needed: r.needed,
            }),
            state: a.state.into(),
            part: a.part,
            failure_mode: a.failure_mode,
            vibration_metric: a.vibration_metric,
            outage_cost_per_hour: a.outage_cost_per_hour,
            attributes: a.attributes,
        }
    }
}

impl From<AssetView> for Asset {
    fn from(a: AssetView) -> Self {
        let dependency = |d: DependencyView| Dependency {
            asset: d.asset,
            any_of: d.any_of,
        };
        Self {
            id: a.id,
            kind: a.kind,
            name: a.name,
            locality: a.locality,
            row: a.row,
            col: a.col,
            u: a.u,
            depends_on: a.depends_on.into_iter().map(dependency).collect(),
            redundancy: a.redundancy.map(|r| Redundancy {
                group: r.group,
                needed: r.needed,
            }),
            state: a.state.into(),
            part: a.part,
            failure_mode: a.failure_mode,
            vibration_metric: a.vibration_metric,
            outage_cost_per_hour: a.outage_cost_per_hour,
            attributes: a.attributes,
        }
    }
}

/// Every asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetList {
    /// By id.
    assets: Vec<AssetView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Every asset.
#[utoipa::path(get, path = "/api/v1/assets", tag = "twin",
    responses((status = 200, body = AssetList)))]
pub async fn list_assets(app: App, _: auth::Reader) -> ApiResult<Json<AssetList>> {
    let assets = store::assets::list(&app.db.read).await?;
    Ok(Json(AssetList {
        assets: assets.into_iter().map(Into::into).collect(),
        next: None,
    }))
}

/// One asset.
#[utoipa::path(get, path = "/api/v1/assets/{id}", tag = "twin", params(("id" = String, Path)),
    responses((status = 200, body = AssetView)))]
pub async fn get_asset(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<AssetView>> {
    Ok(Json(store::assets::get(&app.db.read, &id).await?.into()))
}

/// Create or replace an asset.
#[utoipa::path(put, path = "/api/v1/assets/{id}", tag = "twin", params(("id" = inline(Name), Path)),
    request_body = AssetView, responses((status = 200, body = AssetView)))]
pub async fn put_asset(
    app: App,
    who: auth::Operator,
    Path(id): Path<String>,
    Json(mut body): Json<AssetView>,
) -> ApiResult<Json<AssetView>> {
    body.id = checked_name("id", id)?;
    body.kind = checked_name("kind", body.kind)?;
    if !body.outage_cost_per_hour.is_finite() || body.outage_cost_per_hour < 0.0 {
        let detail = "`outage_cost_per_hour` must be zero or more";
        return Err(ApiError::refused("invalid_cost", detail).with("field", "outage_cost_per_hour"));
    }
    let asset = Asset::from(body);
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    store::assets::put(&tx, now, &asset).await?;
    store::audit::record_put(&tx, now, actor, "put_asset", &asset.id, &asset).await?;
    tx.commit().await?;
    Ok(Json(asset.into()))
}
