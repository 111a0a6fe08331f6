//! What a version of a plugin says beside what serves: what an operator looks at before a promotion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::{plugin_differences, plugins};

/// What two said of one asset, the latest time that both were asked.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginDifferenceView {
    /// The asset.
    asset: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Digest of the model or plugin that serves.
    other: String,
    /// What the version said, number by number: probabilities by horizon, and `life_p50_hours`.
    own: BTreeMap<String, f64>,
    /// What the other said.
    theirs: BTreeMap<String, f64>,
}

/// How far a version is from what serves.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginDifferences {
    /// Assets that both were asked about.
    assets: i64,
    /// The mean over assets of the largest distance of two numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    /// The largest distance of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    largest: Option<f64>,
    /// The assets that they differ about most.
    differences: Vec<PluginDifferenceView>,
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DifferenceQuery {
    /// Assets listed at most, 1 to 500; 20 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
}

/// How far what a version says is from what was said by whoever serves, about the same assets at the same time.
#[utoipa::path(get, path = "/api/v1/plugins/{plugin}/versions/{version}/differences", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path), DifferenceQuery),
    responses((status = 200, body = PluginDifferences)))]
pub async fn get_plugin_differences(
    app: App,
    _: auth::Reader,
    Path((plugin, version)): Path<(String, String)>,
    Query(query): Query<DifferenceQuery>,
) -> ApiResult<Json<PluginDifferences>> {
    let limit = query.limit.unwrap_or(20);
    if !(1..=500).contains(&limit) {
        let detail = "`limit` must be 1 to 500";
        return Err(ApiError::malformed("malformed_query", detail));
    }
    let db = &app.db.read;
    let row = plugins::get(db, &plugin, &version).await?;
    let summary = plugin_differences::summary(db, &row.id).await?;
    let differences = plugin_differences::largest(db, &row.id, limit).await?;
    let view = |one: plugin_differences::Difference| PluginDifferenceView {
        asset: one.asset,
        at: Timestamp(one.at),
        other: one.other,
        own: one.own,
        theirs: one.theirs,
    };
    Ok(Json(PluginDifferences {
        assets: summary.assets,
        mean: summary.mean,
        largest: summary.largest,
        differences: differences.into_iter().map(view).collect(),
    }))
}
