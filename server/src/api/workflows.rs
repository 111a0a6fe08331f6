//! Workflows: scripts that act in steps.

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use workflows::script::{Script, ScriptError, check_workflow as check};

use super::name::checked_name;
use super::script::{CheckReport, NewScript, ScriptSource, ScriptView, refusal};
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path};
use crate::store::{self, scripts::Scripts};

/// The workflows that serve.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowList {
    /// By name.
    workflows: Vec<ScriptView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// The workflows that serve.
#[utoipa::path(get, path = "/api/v1/workflows", tag = "runs",
    responses((status = 200, body = WorkflowList)))]
pub async fn list_workflows(app: App, _: auth::Reader) -> ApiResult<Json<WorkflowList>> {
    let rows = Scripts::Workflows.list(&app.db.read).await?;
    Ok(Json(WorkflowList {
        workflows: rows.into_iter().map(Into::into).collect(),
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
    Ok(Json(
        Scripts::Workflows.active(&app.db.read, &name).await?.into(),
    ))
}

/// Store a workflow and let it serve; one with a fault is refused and the last good one keeps serving.
#[utoipa::path(post, path = "/api/v1/workflows", tag = "runs", request_body = NewScript,
    responses((status = 201, body = ScriptView)))]
pub async fn put_workflow(
    app: App,
    who: auth::Engineer,
    Json(body): Json<NewScript>,
) -> ApiResult<(StatusCode, Json<ScriptView>)> {
    let name = checked_name("name", body.name)?;
    let problems = problems(name.clone(), body.source.clone()).await;
    if !problems.is_empty() {
        return Err(refusal(&problems));
    }
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    let stored = Scripts::Workflows
        .activate(&tx, now, &name, &body.source)
        .await?;
    let detail = json!({ "revision": stored.digest });
    store::audit::record(
        &tx,
        now,
        &who.0.subject,
        "activate_workflow",
        &name,
        &detail,
    )
    .await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(stored.into())))
}

/// Look a workflow over without storing it.
#[utoipa::path(post, path = "/api/v1/workflows/check", tag = "runs", request_body = ScriptSource,
    responses((status = 200, body = CheckReport)))]
pub async fn check_workflow(
    _: auth::Reader,
    Json(body): Json<ScriptSource>,
) -> ApiResult<Json<CheckReport>> {
    let problems = problems("workflow".into(), body.source).await;
    Ok(Json(CheckReport {
        problems: problems.into_iter().map(Into::into).collect(),
    }))
}

async fn problems(name: String, source: String) -> Vec<ScriptError> {
    let look = move || match Script::compile(&name, &source) {
        Ok(script) => check(&script, &crate::process::kinds()),
        Err(error) => vec![error],
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
