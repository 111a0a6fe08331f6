//! Policies: scripts that only decide.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use workflows::script::{Script, ScriptError, check_policy as check, policy_definitions};

use super::name::checked_name;
use super::script::{CheckReport, NewScript, ScriptSource, ScriptView, refusal};
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path};
use crate::store::{self, scripts::Scripts};

/// The policies that serve.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    /// By name.
    policies: Vec<ScriptView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// The policies that serve.
#[utoipa::path(get, path = "/api/v1/policies", tag = "policies",
    responses((status = 200, body = PolicyList)))]
pub async fn list_policies(app: App, _: auth::Reader) -> ApiResult<Json<PolicyList>> {
    let rows = Scripts::Policies.list(&app.db.read).await?;
    Ok(Json(PolicyList {
        policies: rows.into_iter().map(Into::into).collect(),
        next: None,
    }))
}

/// The serving revision of a policy.
#[utoipa::path(get, path = "/api/v1/policies/{name}", tag = "policies",
    params(("name" = String, Path)), responses((status = 200, body = ScriptView)))]
pub async fn get_policy(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
) -> ApiResult<Json<ScriptView>> {
    Ok(Json(
        Scripts::Policies.active(&app.db.read, &name).await?.into(),
    ))
}

/// Store a policy and let it serve; one with a fault is refused and the last good one keeps serving.
#[utoipa::path(post, path = "/api/v1/policies", tag = "policies", request_body = NewScript,
    responses((status = 201, body = ScriptView)))]
pub async fn put_policy(
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
    let stored = Scripts::Policies
        .activate(&tx, now, &name, &body.source)
        .await?;
    let detail = json!({ "revision": stored.digest });
    store::audit::record(&tx, now, &who.0.subject, "activate_policy", &name, &detail).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(stored.into())))
}

/// Look a policy over without storing it.
#[utoipa::path(post, path = "/api/v1/policies/check", tag = "policies", request_body = ScriptSource,
    responses((status = 200, body = CheckReport)))]
pub async fn check_policy(
    _: auth::Reader,
    Json(body): Json<ScriptSource>,
) -> ApiResult<Json<CheckReport>> {
    let problems = problems("policy".into(), body.source).await;
    Ok(Json(CheckReport {
        problems: problems.into_iter().map(Into::into).collect(),
    }))
}

/// What a policy can call and see, for editors (`.d.rhai`).
#[utoipa::path(get, path = "/api/v1/policies/definitions", tag = "policies",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn get_definitions(_: auth::Reader) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        policy_definitions(),
    )
        .into_response()
}

async fn problems(name: String, source: String) -> Vec<ScriptError> {
    let look = move || match Script::compile(&name, &source) {
        Ok(script) => check(&script),
        Err(error) => vec![error],
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}
