//! Workflows: scripts that act in steps.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use workflows::policy::RevisionState;
use workflows::script::workflow_definitions;

use super::name::PageQuery;
use super::script::{
    self, CheckReport, Move, NewScript, RevisionList, RolledBack, ScriptProblem, ScriptSource,
    ScriptView,
};
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};
use crate::store::scripts::Scripts;

const SORT: Scripts = Scripts::Workflows;

/// The workflows that serve.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowList {
    /// By name.
    workflows: Vec<ScriptView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// A workflow that was stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredWorkflow {
    /// The revision.
    #[serde(flatten)]
    script: ScriptView,
    /// What in it works and is probably not what was meant, in order of line.
    warnings: Vec<ScriptProblem>,
}

/// The workflows that serve.
#[utoipa::path(get, path = "/api/v1/workflows", tag = "runs",
    responses((status = 200, body = WorkflowList)))]
pub async fn list_workflows(app: App, _: auth::Reader) -> ApiResult<Json<WorkflowList>> {
    Ok(Json(WorkflowList {
        workflows: script::serving(&app, SORT).await?,
        next: None,
    }))
}

/// The serving revision of a workflow.
#[utoipa::path(get, path = "/api/v1/workflows/{name}", tag = "runs",
    params(("name" = String, Path)), responses((status = 200, body = ScriptView)))]
pub async fn get_workflow(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
) -> ApiResult<Json<ScriptView>> {
    Ok(Json(SORT.active(&app.db.read, &name).await?.into()))
}

/// Store a workflow and let it serve, or keep it as a draft; one with a fault, or whose tests fail, is refused and the
/// last good one keeps serving.
#[utoipa::path(post, path = "/api/v1/workflows", tag = "runs", request_body = NewScript,
    responses((status = 201, body = StoredWorkflow)))]
pub async fn put_workflow(
    app: App,
    who: auth::Engineer,
    Json(body): Json<NewScript>,
) -> ApiResult<(StatusCode, Json<StoredWorkflow>)> {
    let stored = script::put(&app, SORT, &who.0, body).await?;
    let stored = StoredWorkflow {
        script: stored.revision.into(),
        warnings: stored.warnings,
    };
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Look a workflow over without storing it.
#[utoipa::path(post, path = "/api/v1/workflows/check", tag = "runs", request_body = ScriptSource,
    responses((status = 200, body = CheckReport)))]
pub async fn check_workflow(
    _: auth::Reader,
    Json(body): Json<ScriptSource>,
) -> ApiResult<Json<CheckReport>> {
    script::look_over(SORT, body.source).await
}

/// What a workflow can call, for editors (`.d.rhai`).
#[utoipa::path(get, path = "/api/v1/workflows/definitions", tag = "runs",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn get_workflow_definitions(_: auth::Reader) -> Response {
    script::definitions(workflow_definitions())
}

/// The revisions of a workflow, newest first.
#[utoipa::path(get, path = "/api/v1/workflows/{name}/revisions", tag = "runs",
    params(("name" = String, Path), PageQuery), responses((status = 200, body = RevisionList)))]
pub async fn list_workflow_revisions(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<RevisionList>> {
    script::revisions(&app, SORT, &name, query).await
}

/// One revision of a workflow.
#[utoipa::path(get, path = "/api/v1/workflows/{name}/revisions/{digest}", tag = "runs",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn get_workflow_revision(
    app: App,
    _: auth::Reader,
    Path((name, digest)): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    let revision = SORT.revision(&app.db.read, &name, &digest).await?;
    Ok(Json(revision.into()))
}

/// Let a revision serve: new runs are pinned to it, those at work stay with theirs.
#[utoipa::path(post, path = "/api/v1/workflows/{name}/revisions/{digest}/activate", tag = "runs",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn activate_workflow_revision(
    app: App,
    who: auth::Engineer,
    Path(revision): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    move_to(&app, &who, &revision, RevisionState::Active).await
}

/// Retire a revision; it is kept, and runs pinned to it go on. The one that serves cannot be retired.
#[utoipa::path(post, path = "/api/v1/workflows/{name}/revisions/{digest}/retire", tag = "runs",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn retire_workflow_revision(
    app: App,
    who: auth::Engineer,
    Path(revision): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    move_to(&app, &who, &revision, RevisionState::Retired).await
}

/// Let the revision serve again that served last, and that nobody rolled back from.
#[utoipa::path(post, path = "/api/v1/workflows/{name}/rollback", tag = "runs",
    params(("name" = String, Path)), responses((status = 200, body = RolledBack)))]
pub async fn roll_back_workflow(
    app: App,
    who: auth::Engineer,
    Path(name): Path<String>,
) -> ApiResult<Json<RolledBack>> {
    script::roll_back(&app, SORT, &who.0, &name).await
}

async fn move_to(
    app: &App,
    who: &auth::Engineer,
    (name, digest): &(String, String),
    to: RevisionState,
) -> ApiResult<Json<ScriptView>> {
    let step = Move {
        name,
        digest,
        to,
        percent: None,
    };
    script::move_revision(app, SORT, &who.0, step).await
}
