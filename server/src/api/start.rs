//! Starting a run on request, once however often the request is repeated under its key.

use axum::http::HeaderMap;
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::store::{self, runs::NewRun, scripts::Scripts};

/// A run that somebody asks for.
pub(super) struct Start<'a> {
    /// The workflow; its serving revision is pinned.
    pub workflow: &'a str,
    /// What its script is given.
    pub event: &'a Value,
    /// Seed of everything random in it; drawn if not given.
    pub seed: Option<u64>,
    /// Who asks.
    pub actor: &'a str,
}

/// Starts the run and answers its id; the same `Idempotency-Key` gives the same run.
///
/// # Errors
///
/// `idempotency_key_reused` when the key came with another request before.
pub(super) async fn start_once(
    app: &App,
    headers: &HeaderMap,
    start: &Start<'_>,
) -> ApiResult<String> {
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok());
    let request = serde_json::to_vec(&(start.workflow, start.event)).map_err(ApiError::internal)?;
    let request = crate::artifacts::digest(&request);
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    if let Some(key) = key
        && let Some(run) = store::idempotency::find(&tx, "runs", key, &request).await?
    {
        tx.rollback().await?;
        return Ok(run);
    }
    let revision = Scripts::Workflows.active(&tx, start.workflow).await?;
    let new = NewRun {
        workflow: start.workflow,
        revision: &revision.digest,
        event: start.event,
        seed: start.seed,
        decision: None,
        actor: start.actor,
    };
    let run = store::runs::create(&tx, now, &new).await?;
    if let Some(key) = key
        && !store::idempotency::keep(&tx, now, ("runs", key), &request, &run.id).await?
    {
        // The same request came twice at once, and the other one was first.
        tx.rollback().await?;
        let first = store::idempotency::find(&app.db.write, "runs", key, &request).await?;
        return first.ok_or_else(|| ApiError::internal(format!("the key `{key}` has no run")));
    }
    tx.commit().await?;
    app.queue.notify_local();
    Ok(run.id)
}
