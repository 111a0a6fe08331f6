//! Cells: what makes and checks parts, and the leases it takes.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use workflows::build::fit::Capabilities;
use workflows::model::Timestamp;

use super::lease_view::LeaseView;
use super::tokens::{self, CellToken};
use crate::app::App;
use crate::auth::{self, Role};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::{self, StoreError, cells::cell, leases::Ask};

/// A cell.
#[derive(Debug, Serialize, ToSchema)]
pub struct CellView {
    /// Stable name.
    id: String,
    /// What people call it.
    name: String,
    /// Its machine, as it enrolled.
    machine: Value,
    /// The number of its present connection.
    epoch: i64,
    /// When it last spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Timestamp>,
}

/// Every cell.
#[derive(Debug, Serialize, ToSchema)]
pub struct CellList {
    /// By id.
    cells: Vec<CellView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// A cell's new connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct EpochView {
    /// Every later call of this connection names it.
    epoch: i64,
}

/// What a cell can make now.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LeaseRequest {
    /// The number of its present connection.
    pub epoch: i64,
    /// Printer profiles its machine understands; none named means any.
    #[serde(default)]
    pub printers: Vec<String>,
    /// Materials it has; none named means any.
    #[serde(default)]
    pub materials: Vec<String>,
}

impl From<cell::Model> for CellView {
    fn from(row: cell::Model) -> Self {
        Self {
            machine: serde_json::from_str(&row.machine).unwrap_or_default(),
            id: row.id,
            name: row.name,
            epoch: row.epoch,
            seen_at: row.seen_at.map(Timestamp),
        }
    }
}

/// Every cell.
#[utoipa::path(get, path = "/api/v1/cells", tag = "cells",
    responses((status = 200, body = CellList)))]
pub async fn list_cells(app: App, _: auth::Reader) -> ApiResult<Json<CellList>> {
    let rows = store::cells::list(&app.db.read).await?;
    Ok(Json(CellList {
        cells: rows.into_iter().map(Into::into).collect(),
        next: None,
    }))
}

/// One cell.
#[utoipa::path(get, path = "/api/v1/cells/{cell}", tag = "cells", params(("cell" = String, Path)),
    responses((status = 200, body = CellView)))]
pub async fn get_cell(
    app: App,
    _: auth::Reader,
    Path(cell): Path<String>,
) -> ApiResult<Json<CellView>> {
    Ok(Json(store::cells::get(&app.db.read, &cell).await?.into()))
}

/// Give a cell a new token, shown this once; its old ones are worthless from now on, its lease goes on.
#[utoipa::path(post, path = "/api/v1/cells/{cell}/token", tag = "cells",
    params(("cell" = String, Path)), responses((status = 201, body = CellToken)))]
pub async fn rotate_cell_token(
    app: App,
    who: auth::Operator,
    Path(cell): Path<String>,
) -> ApiResult<(StatusCode, Json<CellToken>)> {
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    store::cells::get(&tx, &cell).await?;
    let revoked = store::tokens::revoke_of_cell(&tx, now, &cell).await?;
    let (_, token) = tokens::issue_in(&tx, now, actor, Role::Cell, &cell).await?;
    let detail = json!({ "revoked": revoked });
    store::audit::record(&tx, now, actor, "rotate_cell_token", &cell, &detail).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(CellToken { cell, token })))
}

/// Shut a cell out: its tokens are worthless, and what it held is lost to it.
#[utoipa::path(delete, path = "/api/v1/cells/{cell}/token", tag = "cells",
    params(("cell" = String, Path)), responses((status = 204, description = "Shut out.")))]
pub async fn revoke_cell_token(
    app: App,
    who: auth::Operator,
    Path(cell): Path<String>,
) -> ApiResult<StatusCode> {
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    store::cells::get(&tx, &cell).await?;
    let revoked = store::tokens::revoke_of_cell(&tx, now, &cell).await?;
    let detail = json!({ "revoked": revoked });
    store::audit::record(&tx, now, actor, "revoke_cell_token", &cell, &detail).await?;
    // A claim that waits was let in before; the new epoch shuts it out.
    store::cells::open_epoch(&tx, now, &cell).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(StatusCode::NO_CONTENT)
}

/// Open a new connection of a cell: its older ones are shut out.
#[utoipa::path(post, path = "/api/v1/cells/{cell}/epochs", tag = "cells",
    params(("cell" = String, Path)), responses((status = 201, body = EpochView)))]
pub async fn open_epoch(
    app: App,
    who: auth::Cell,
    Path(cell): Path<String>,
) -> ApiResult<(StatusCode, Json<EpochView>)> {
    who.must_be(&cell)?;
    let tx = store::begin(&app.db.write).await?;
    let epoch = store::cells::open_epoch(&tx, app.now_ms(), &cell).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok((StatusCode::CREATED, Json(EpochView { epoch })))
}

/// Take the next build this cell can make, waiting a little for one to appear (`Prefer: wait=50`).
///
/// The same `Idempotency-Key` gives the same lease, so that a lost reply strands nothing. 409 `plate_unknown` while nobody
/// has said what an earlier build left on the plate; a call that waits goes on once somebody has.
#[utoipa::path(post, path = "/api/v1/cells/{cell}/leases", tag = "cells",
    params(("cell" = String, Path),
        ("prefer" = Option<String>, Header, description = "`wait=50`: how many seconds to wait"),
        ("idempotency-key" = Option<String>, Header, description = "Makes the call repeatable")),
    request_body = LeaseRequest,
    responses((status = 201, body = LeaseView), (status = 204, description = "No work")))]
pub async fn acquire_lease(
    app: App,
    who: auth::Cell,
    Path(cell): Path<String>,
    headers: HeaderMap,
    Json(ask): Json<LeaseRequest>,
) -> ApiResult<Response> {
    who.must_be(&cell)?;
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok());
    let wait = wanted_wait(&headers)?.min(app.config.builds.max_wait_s);
    let ask = Ask {
        cell: &cell,
        epoch: ask.epoch,
        printers: &ask.printers,
        materials: &ask.materials,
        key,
        ttl_ms: app.config.builds.lease_ms,
    };
    let claim = || async {
        let tx = store::begin(&app.db.write).await?;
        let grant = match store::leases::claim(&tx, app.now_ms(), &ask).await {
            // Somebody may look while the cell waits.
            Err(StoreError::PlateUnknown { .. }) => None,
            claimed => claimed?,
        };
        tx.commit().await?;
        Ok::<_, ApiError>(grant)
    };
    let offer = Capabilities {
        printers: ask.printers.to_vec(),
        materials: ask.materials.to_vec(),
        volume_mm: None,
    };
    let waiting = Duration::from_secs(wait);
    let mut response = match app
        .queue
        .take_in_turn(waiting, (&cell, offer), claim)
        .await?
    {
        Some(grant) => (StatusCode::CREATED, Json(LeaseView::new(grant, &app))).into_response(),
        None => {
            store::builds::check_plate(&app.db.read, &cell).await?;
            (StatusCode::NO_CONTENT, [(header::RETRY_AFTER, "1")]).into_response()
        }
    };
    if headers.contains_key("prefer") {
        let applied = HeaderValue::from_str(&format!("wait={wait}")).map_err(ApiError::internal)?;
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

/// The seconds of `Prefer: wait=N` (RFC 7240); 0 without it.
fn wanted_wait(headers: &HeaderMap) -> ApiResult<u64> {
    let prefer = headers
        .get("prefer")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let wait = prefer
        .split(',')
        .find_map(|p| p.trim().strip_prefix("wait="));
    let Some(wait) = wait else { return Ok(0) };
    wait.trim().parse().map_err(|_| {
        ApiError::malformed(
            "malformed_header",
            "`Prefer: wait=N` takes a whole number of seconds",
        )
    })
}
