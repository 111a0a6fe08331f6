//! Parts: what we can make, and the briefs they are redesigned from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Part;

use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store;

/// A physical thing we can make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PartView {
    /// Stable name.
    #[serde(default)]
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The redesign brief, TOML.
    pub brief: String,
    /// How to put it in, one instruction a line.
    #[serde(default)]
    pub procedure: Vec<String>,
    /// How long that takes, minutes.
    #[serde(default)]
    #[schema(value_type = i64, minimum = 0, maximum = 4_294_967_295_u32)]
    pub swap_minutes: u32,
    /// What a technician must be able to do.
    #[serde(default)]
    pub skills: Vec<String>,
}

/// Every part.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartList {
    /// By id.
    parts: Vec<PartView>,
    /// Where the list goes on.
    next: Option<String>,
}

impl From<Part> for PartView {
    fn from(p: Part) -> Self {
        Self {
            id: p.id,
            name: p.name,
            brief: p.brief,
            procedure: p.procedure,
            swap_minutes: p.swap_minutes,
            skills: p.skills,
        }
    }
}

/// Every part.
#[utoipa::path(get, path = "/api/v1/parts", tag = "parts",
    responses((status = 200, body = PartList)))]
pub async fn list_parts(app: App, _: auth::Reader) -> ApiResult<Json<PartList>> {
    let parts = store::parts::list(&app.db.read).await?;
    Ok(Json(PartList {
        parts: parts.into_iter().map(Into::into).collect(),
        next: None,
    }))
}

/// One part.
#[utoipa::path(get, path = "/api/v1/parts/{id}", tag = "parts", params(("id" = String, Path)),
    responses((status = 200, body = PartView)))]
pub async fn get_part(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<PartView>> {
    Ok(Json(store::parts::get(&app.db.read, &id).await?.into()))
}

/// Create or replace a part; a brief that cannot be read is refused with the field it fails at.
#[utoipa::path(put, path = "/api/v1/parts/{id}", tag = "parts", params(("id" = inline(Name), Path)),
    request_body = PartView, responses((status = 200, body = PartView)))]
pub async fn put_part(
    app: App,
    who: auth::Engineer,
    Path(id): Path<String>,
    Json(body): Json<PartView>,
) -> ApiResult<Json<PartView>> {
    cad::brief::Brief::from_toml(&body.brief).map_err(|e| {
        ApiError::refused("invalid_brief", format!("`brief`: {e}")).with("field", "brief")
    })?;
    let part = Part {
        id: checked_name("id", id)?,
        name: body.name,
        brief: body.brief,
        procedure: body.procedure,
        swap_minutes: body.swap_minutes,
        skills: body.skills,
    };
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    store::parts::put(&tx, now, &part).await?;
    store::audit::record_put(&tx, now, actor, "put_part", &part.id, &part).await?;
    tx.commit().await?;
    Ok(Json(part.into()))
}
