//! Archived runs: what ran long ago, and where it can be read.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use super::name::PageQuery;
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Query};
use crate::store::archives::{self, ArchiveFilter, run_archive};

/// An archived run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunArchiveView {
    /// The run.
    run: String,
    /// Its workflow.
    workflow: String,
    /// Digest of the revision it was pinned to.
    revision: String,
    /// How it ended.
    state: String,
    /// The asset its event named.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<String>,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    ended_at: Timestamp,
    /// Digest of its archive: gzipped JSON, an artifact.
    digest: String,
    /// Size of that.
    size_bytes: i64,
    /// Since when it is in the archive alone.
    #[schema(value_type = String, format = DateTime)]
    archived_at: Timestamp,
}

/// Archived runs, those started last first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunArchiveList {
    /// This page.
    run_archives: Vec<RunArchiveView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which archived runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunArchiveQuery {
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those whose event named this asset.
    pub asset: Option<String>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// Archived runs, those started last first; `GET /artifacts/{digest}` has the bytes.
#[utoipa::path(get, path = "/api/v1/run_archives", tag = "runs", params(RunArchiveQuery),
    responses((status = 200, body = RunArchiveList)))]
pub async fn list_run_archives(
    app: App,
    _: auth::Reader,
    Query(query): Query<RunArchiveQuery>,
) -> ApiResult<Json<RunArchiveList>> {
    let only = ArchiveFilter {
        workflow: query.workflow.as_deref(),
        asset: query.asset.as_deref(),
    };
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let rows = archives::list(&app.db.read, only, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    Ok(Json(RunArchiveList {
        run_archives: rows.into_iter().map(RunArchiveView::from).collect(),
        next,
    }))
}

impl From<run_archive::Model> for RunArchiveView {
    fn from(row: run_archive::Model) -> Self {
        Self {
            run: row.id,
            workflow: row.workflow,
            revision: row.revision,
            state: row.state,
            asset: row.asset,
            started_at: Timestamp(row.started_at),
            ended_at: Timestamp(row.ended_at),
            digest: row.digest.unwrap_or_default(),
            size_bytes: row.size_bytes,
            archived_at: Timestamp(row.archived_at),
        }
    }
}
