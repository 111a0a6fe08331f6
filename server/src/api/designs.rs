//! Designs: versions of parts' geometry, each with its proof.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::{Design, Timestamp};

use super::name::PageQuery;
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};
use crate::store;

/// One version of a part's geometry.
#[derive(Debug, Serialize, ToSchema)]
pub struct DesignView {
    /// Stable name.
    id: String,
    /// The part.
    part: String,
    /// The asset it was made for.
    asset: String,
    /// The run that ordered it.
    run: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Its files, digest by role.
    artifacts: BTreeMap<String, String>,
    /// Its proof in short.
    certificate: Value,
}

/// Designs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DesignList {
    /// This page.
    designs: Vec<DesignView>,
    /// Where the list goes on.
    next: Option<String>,
}

impl From<Design> for DesignView {
    fn from(d: Design) -> Self {
        Self {
            id: d.id,
            part: d.part,
            asset: d.asset,
            run: d.run,
            created_at: d.created_at,
            artifacts: d
                .artifacts
                .into_iter()
                .map(|(role, a)| (role, a.digest))
                .collect(),
            certificate: d.certificate,
        }
    }
}

/// Designs, newest first.
#[utoipa::path(get, path = "/api/v1/designs", tag = "parts", params(PageQuery),
    responses((status = 200, body = DesignList)))]
pub async fn list_designs(
    app: App,
    _: auth::Reader,
    Query(paging): Query<PageQuery>,
) -> ApiResult<Json<DesignList>> {
    let page = paging.page()?;
    let designs = store::designs::list(&app.db.read, page).await?;
    let next = PageQuery::next(page, designs.len(), designs.last().map(|d| d.id.as_str()));
    let next = next.map(str::to_owned);
    Ok(Json(DesignList {
        designs: designs.into_iter().map(Into::into).collect(),
        next,
    }))
}

/// One design.
#[utoipa::path(get, path = "/api/v1/designs/{id}", tag = "parts", params(("id" = String, Path)),
    responses((status = 200, body = DesignView)))]
pub async fn get_design(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<DesignView>> {
    Ok(Json(store::designs::get(&app.db.read, &id).await?.into()))
}
