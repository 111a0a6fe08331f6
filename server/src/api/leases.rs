//! Leases: what a cell says of the build it holds. Every call repeats the fence and the epoch.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::lease_view::LeaseView;
use super::name::Digest;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::{self, leases::Beat, leases::Holder};

/// That the cell is alive, and how far it is.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// The lease's fence.
    pub fence: i64,
    /// The cell's present connection.
    pub epoch: i64,
    /// Counts up; a beat that comes late changes nothing.
    pub seq: i64,
    /// 0–100.
    #[schema(minimum = 0.0, maximum = 100.0)]
    pub percent: f64,
    /// What the cell is at.
    #[serde(default)]
    pub phase: String,
}

/// The G-code lies at the machine, verified.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Staged {
    /// The lease's fence.
    pub fence: i64,
    /// The cell's present connection.
    pub epoch: i64,
    /// Digest of what lies there.
    pub digest: String,
}

/// The machine is about to move.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Start {
    /// The lease's fence.
    pub fence: i64,
    /// The cell's present connection.
    pub epoch: i64,
}

/// The part lies on the plate and was scanned.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Completion {
    /// The lease's fence.
    pub fence: i64,
    /// The cell's present connection.
    pub epoch: i64,
    /// Digest of the scan, uploaded before.
    #[schema(value_type = Digest)]
    pub scan: String,
    /// What the cell has to say.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub report: serde_json::Map<String, Value>,
}

/// No usable part came of it.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BuildFailure {
    /// The lease's fence.
    pub fence: i64,
    /// The cell's present connection.
    pub epoch: i64,
    /// Stable code.
    pub code: String,
    /// What happened.
    pub message: String,
}

fn holder<'a>(lease: &'a str, who: &'a auth::Cell, fence: i64, epoch: i64) -> Holder<'a> {
    Holder {
        lease,
        cell: &who.0.subject,
        fence,
        epoch,
    }
}

/// Renew a lease and tell how far the build is; the answer says whether it is still wanted.
#[utoipa::path(put, path = "/api/v1/leases/{id}", tag = "cells", params(("id" = String, Path)),
    request_body = Heartbeat, responses((status = 200, body = LeaseView)))]
pub async fn renew_lease(
    app: App,
    who: auth::Cell,
    Path(id): Path<String>,
    Json(body): Json<Heartbeat>,
) -> ApiResult<Json<LeaseView>> {
    if !(0.0..=100.0).contains(&body.percent) {
        let detail = "`percent` must be 0 to 100";
        return Err(ApiError::refused("invalid_percent", detail).with("field", "percent"));
    }
    let beat = Beat {
        seq: body.seq,
        share_done: body.percent / 100.0,
        phase: &body.phase,
        ttl_ms: app.config.builds.lease_ms,
    };
    let tx = store::begin(&app.db.write).await?;
    let holder = holder(&id, &who, body.fence, body.epoch);
    let grant = store::leases::heartbeat(&tx, app.now_ms(), holder, beat).await?;
    tx.commit().await?;
    Ok(Json(LeaseView::new(grant, &app)))
}

/// Tell that the G-code lies at the machine; its digest must be the build's.
#[utoipa::path(post, path = "/api/v1/leases/{id}/staged", tag = "cells",
    params(("id" = String, Path)), request_body = Staged,
    responses((status = 200, body = LeaseView)))]
pub async fn stage_build(
    app: App,
    who: auth::Cell,
    Path(id): Path<String>,
    Json(body): Json<Staged>,
) -> ApiResult<Json<LeaseView>> {
    let tx = store::begin(&app.db.write).await?;
    let holder = holder(&id, &who, body.fence, body.epoch);
    let grant = store::leases::stage(&tx, app.now_ms(), holder, &body.digest).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(LeaseView::new(grant, &app)))
}

/// Ask to move matter: granted once per lease. Only after the answer may the machine start.
#[utoipa::path(post, path = "/api/v1/leases/{id}/start", tag = "cells",
    params(("id" = String, Path)), request_body = Start,
    responses((status = 200, body = LeaseView)))]
pub async fn start_build(
    app: App,
    who: auth::Cell,
    Path(id): Path<String>,
    Json(body): Json<Start>,
) -> ApiResult<Json<LeaseView>> {
    let tx = store::begin(&app.db.write).await?;
    let holder = holder(&id, &who, body.fence, body.epoch);
    let grant = store::leases::start(&tx, app.now_ms(), holder).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(LeaseView::new(grant, &app)))
}

/// End a build with its scan; saying the same again answers the same.
#[utoipa::path(post, path = "/api/v1/leases/{id}/complete", tag = "cells",
    params(("id" = String, Path)), request_body = Completion,
    responses((status = 200, body = LeaseView)))]
pub async fn complete_build(
    app: App,
    who: auth::Cell,
    Path(id): Path<String>,
    Json(body): Json<Completion>,
) -> ApiResult<Json<LeaseView>> {
    // A scan nobody uploaded would strand the step that verifies it.
    app.artifacts.size(&body.scan).await?;
    let tx = store::begin(&app.db.write).await?;
    let holder = holder(&id, &who, body.fence, body.epoch);
    let report = Value::Object(body.report);
    let grant = store::leases::complete(&tx, app.now_ms(), holder, &body.scan, &report).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(LeaseView::new(grant, &app)))
}

/// End a build without a part.
#[utoipa::path(post, path = "/api/v1/leases/{id}/fail", tag = "cells",
    params(("id" = String, Path)), request_body = BuildFailure,
    responses((status = 200, body = LeaseView)))]
pub async fn fail_build(
    app: App,
    who: auth::Cell,
    Path(id): Path<String>,
    Json(body): Json<BuildFailure>,
) -> ApiResult<Json<LeaseView>> {
    let tx = store::begin(&app.db.write).await?;
    let holder = holder(&id, &who, body.fence, body.epoch);
    let grant = store::leases::fail(&tx, app.now_ms(), holder, &body.code, &body.message).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(LeaseView::new(grant, &app)))
}
