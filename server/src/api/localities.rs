//! Localities: the places assets stand in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Locality;

use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path};
use crate::store;

/// A place assets stand in, in metres on the plan of its hall.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LocalityView {
    /// Stable name.
    #[serde(default)]
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Left edge, m.
    pub x: f64,
    /// Top edge, m.
    pub y: f64,
    /// Width, m.
    pub width: f64,
    /// Depth, m.
    pub height: f64,
    /// Electrical power available, W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit_w: Option<f64>,
}

/// Every locality.
#[derive(Debug, Serialize, ToSchema)]
pub struct LocalityList {
    /// By id.
    localities: Vec<LocalityView>,
    /// Where the list goes on.
    next: Option<String>,
}

impl From<Locality> for LocalityView {
    fn from(l: Locality) -> Self {
        Self {
            id: l.id,
            name: l.name,
            x: l.x,
            y: l.y,
            width: l.width,
            height: l.height,
            power_limit_w: l.power_limit_w,
        }
    }
}

/// Every locality.
#[utoipa::path(get, path = "/api/v1/localities", tag = "twin",
    responses((status = 200, body = LocalityList)))]
pub async fn list_localities(app: App, _: auth::Reader) -> ApiResult<Json<LocalityList>> {
    let localities = store::localities::list(&app.db.read).await?;
    let localities = localities.into_iter().map(Into::into).collect();
    Ok(Json(LocalityList {
        localities,
        next: None,
    }))
}

/// One locality.
#[utoipa::path(get, path = "/api/v1/localities/{id}", tag = "twin", params(("id" = String, Path)),
    responses((status = 200, body = LocalityView)))]
pub async fn get_locality(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<LocalityView>> {
    Ok(Json(
        store::localities::get(&app.db.read, &id).await?.into(),
    ))
}

/// Create or replace a locality.
#[utoipa::path(put, path = "/api/v1/localities/{id}", tag = "twin", params(("id" = inline(Name), Path)),
    request_body = LocalityView, responses((status = 200, body = LocalityView)))]
pub async fn put_locality(
    app: App,
    who: auth::Operator,
    Path(id): Path<String>,
    Json(body): Json<LocalityView>,
) -> ApiResult<Json<LocalityView>> {
    let locality = Locality {
        id: checked_name("id", id)?,
        name: body.name,
        x: body.x,
        y: body.y,
        width: body.width,
        height: body.height,
        power_limit_w: body.power_limit_w,
    };
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    store::localities::put(&tx, now, &locality).await?;
    store::audit::record_put(&tx, now, actor, "put_locality", &locality.id, &locality).await?;
    tx.commit().await?;
    Ok(Json(locality.into()))
}
