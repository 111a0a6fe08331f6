//! Starting a run on request, once however often the request is repeated under its key.

use axum::http::HeaderMap;
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::store::{self, guards, runs::NewRun, scripts::Scripts};

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
    /// What names its cause, and for how long, ms, the run stands for it.
    pub cause: Option<(&'a str, i64)>,
}

/// A run that was asked for.
pub(super) struct Started {
    /// Its id.
    pub run: String,
    /// Whether another run stands for its cause already, and this is that one.
    pub is_repeat: bool,
}

/// Starts the run and answers its id; the same `Idempotency-Key`, or the same cause, gives the same run.
///
/// # Errors
///
/// `idempotency_key_reused` when the key came with another request before, `kill_switch_on` when nothing is to start.
pub(super) async fn start_once(
    app: &App,
    headers: &HeaderMap,
    start: &Start<'_>,
) -> ApiResult<Started> {
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok());
    let request = serde_json::to_vec(&(start.workflow, start.event)).map_err(ApiError::internal)?;
    let request = crate::artifacts::digest(&request);
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    if let Some(key) = key
        && let Some(run) = store::idempotency::find(&tx, "runs", key, &request).await?
    {
        tx.rollback().await?;
        return Ok(Started {
            run,
            is_repeat: false,
        });
    }
    if let Some(run) = run_of_cause(&tx, now, start).await? {
        tx.commit().await?;
        return Ok(Started {
            run,
            is_repeat: true,
        });
    }
    guards::may_start(&tx).await?;
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
    if let Some((cause, _)) = start.cause {
        guards::stand_for(&tx, (start.workflow, cause), &run.id).await?;
    }
    if let Some(key) = key
        && !store::idempotency::keep(&tx, now, ("runs", key), &request, &run.id).await?
    {
        // The same request came twice at once, and the other one was first.
        tx.rollback().await?;
        let first = store::idempotency::find(&app.db.write, "runs", key, &request).await?;
        let run = first.ok_or_else(|| ApiError::internal(format!("the key `{key}` has no run")))?;
        return Ok(Started {
            run,
            is_repeat: false,
        });
    }
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Started {
        run: run.id,
        is_repeat: false,
    })
}

/// The run that stands for the cause, if one does; else the cause is claimed for the run to be.
async fn run_of_cause(
    tx: &store::DatabaseTransaction,
    now: i64,
    start: &Start<'_>,
) -> ApiResult<Option<String>> {
    let Some((key, window_ms)) = start.cause else {
        return Ok(None);
    };
    let until = now.saturating_add(window_ms);
    if guards::claim_cause(tx, now, (start.workflow, key), until).await? {
        return Ok(None);
    }
    let Some(cause) = guards::same_cause(tx, now, start.workflow, key).await? else {
        return Err(ApiError::internal(format!("the cause `{key}` has no run")));
    };
    guards::suppress(tx, now, start.workflow, &cause).await?;
    Ok(Some(cause.run))
}
