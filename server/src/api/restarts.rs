//! Going on with runs that came to nothing: pinning another revision, beginning again from a call.

use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use workflows::run::Position;

use super::runs::RunView;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::{self, restarts::Restart, scripts::Scripts};

/// The revision a run is to go on with.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewPin {
    /// Digest of a stored revision of its workflow; its own, to try the same script again.
    pub revision: String,
}

/// Where and how a run is to be begun again.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewRestart {
    /// Position of the call to begin again with; the one it failed or diverged at if not said. Where there is none, its
    /// script goes on from everything it was told.
    #[serde(default)]
    #[schema(pattern = "^[0-9]{1,9}(\\.[0-9]{1,9})*$")]
    pub from: Option<String>,
    /// Digest of another stored revision of its workflow; its own if not said.
    #[serde(default)]
    pub revision: Option<String>,
}

/// Let a run that diverged go on with a revision. It is replayed against the same journal.
#[utoipa::path(post, path = "/api/v1/runs/{id}/pin", tag = "runs",
    params(("id" = String, Path)), request_body = NewPin, responses((status = 202, body = RunView)))]
pub async fn pin_run(
    app: App,
    who: auth::Engineer,
    Path(id): Path<String>,
    Json(body): Json<NewPin>,
) -> ApiResult<(StatusCode, Json<RunView>)> {
    let run = store::runs::get(&app.db.read, &id).await?;
    known(&app, &run.workflow, &body.revision).await?;
    let tx = store::begin(&app.db.write).await?;
    store::runs::pin(&tx, app.now_ms(), &who.0.subject, &id, &body.revision).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok((StatusCode::ACCEPTED, Json(RunView::load(&app, &id).await?)))
}

/// Begin a run again from one of its calls, as a new run that takes over the answers it was given before.
///
/// What was done before is not done again. The same `Idempotency-Key` gives the same run.
#[utoipa::path(post, path = "/api/v1/runs/{id}/restart", tag = "runs",
    params(("id" = String, Path),
        ("idempotency-key" = Option<String>, Header, description = "Makes the call repeatable")),
    request_body = NewRestart, responses((status = 201, body = RunView)))]
pub async fn restart_run(
    app: App,
    who: auth::Engineer,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<NewRestart>,
) -> ApiResult<(StatusCode, Json<RunView>)> {
    let run = store::runs::get(&app.db.read, &id).await?;
    if let Some(revision) = &body.revision {
        known(&app, &run.workflow, revision).await?;
    }
    let from = body.from.as_deref().map(str::parse::<Position>);
    let from = from
        .transpose()
        .map_err(|error| ApiError::refused("invalid_position", error.to_string()))?;
    let how = Restart {
        from: from.as_ref(),
        revision: body.revision.as_deref(),
        actor: &who.0.subject,
    };
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok());
    let asked = serde_json::to_vec(&(&id, &body.from, &body.revision));
    let asked = crate::artifacts::digest(&asked.map_err(ApiError::internal)?);
    let made = restart_once(&app, &id, &how, key, &asked).await?;
    app.queue.notify_local();
    Ok((StatusCode::CREATED, Json(RunView::load(&app, &made).await?)))
}

async fn restart_once(
    app: &App,
    id: &str,
    how: &Restart<'_>,
    key: Option<&str>,
    asked: &str,
) -> ApiResult<String> {
    const SCOPE: &str = "restarts";
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    if let Some(key) = key
        && let Some(run) = store::idempotency::find(&tx, SCOPE, key, asked).await?
    {
        tx.rollback().await?;
        return Ok(run);
    }
    let made = store::restarts::restart(&tx, now, id, how).await?;
    if let Some(key) = key
        && !store::idempotency::keep(&tx, now, (SCOPE, key), asked, &made.id).await?
    {
        // The same request came twice at once, and the other one was first.
        tx.rollback().await?;
        let first = store::idempotency::find(&app.db.write, SCOPE, key, asked).await?;
        return first.ok_or_else(|| ApiError::internal(format!("the key `{key}` has no run")));
    }
    tx.commit().await?;
    Ok(made.id)
}

/// Refuses a revision that is not stored.
pub(super) async fn known(app: &App, workflow: &str, revision: &str) -> ApiResult<()> {
    Scripts::Workflows
        .revision(&app.db.read, workflow, revision)
        .await?;
    Ok(())
}
