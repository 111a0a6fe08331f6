//! Enrolments: how a cell comes by its token, with an operator's yes.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::Timestamp;

use super::name::{Name, checked_name};
use super::tokens::{self, CellToken};
use crate::app::App;
use crate::auth::{self, Role};
use crate::error::{ApiResult, Problem};
use crate::extract::{Json, Path, SmallJson};
use crate::store::{self, cells::NewEnrolment};

/// The most a request without a token may send.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// A cell that wants to work.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewEnrolmentBody {
    /// What it wants to be called.
    #[schema(value_type = Name)]
    pub name: String,
    /// Its machine: `printers`, `materials` and whatever an operator should know.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub machine: serde_json::Map<String, Value>,
}

/// What the cell shows to a person, and what it keeps to itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolmentRequested {
    /// For an operator to approve.
    code: String,
    /// For the cell to fetch its token with.
    claim_secret: String,
}

/// A request to become a cell.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolmentView {
    /// Its code.
    code: String,
    /// What it wants to be called.
    name: String,
    /// Its machine.
    machine: Value,
    /// `pending`, `approved`, `claimed`, `rejected`.
    state: String,
    /// The cell it became.
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<String>,
    /// When it asked.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Requests, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolmentList {
    /// Newest first.
    enrolments: Vec<EnrolmentView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// The secret given with the code.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TokenClaim {
    /// It.
    pub claim_secret: String,
}

impl From<store::cells::enrolment::Model> for EnrolmentView {
    fn from(row: store::cells::enrolment::Model) -> Self {
        Self {
            machine: serde_json::from_str(&row.machine).unwrap_or_default(),
            code: row.code,
            name: row.name,
            state: row.state,
            cell: row.cell,
            created_at: Timestamp(row.created_at),
        }
    }
}

/// Ask to become a cell. Needs no token; nothing happens until an operator approves the code.
#[utoipa::path(post, path = "/api/v1/enrolments", tag = "cells", security(()),
    request_body(content = NewEnrolmentBody, description = "At most 16 KiB."),
    responses((status = 201, body = EnrolmentRequested),
        (status = 429, description = "Too many wait for an operator.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn create_enrolment(
    app: App,
    SmallJson(body): SmallJson<MAX_BODY_BYTES, NewEnrolmentBody>,
) -> ApiResult<(StatusCode, Json<EnrolmentRequested>)> {
    let name = checked_name("name", body.name)?;
    let code = new_code();
    let claim_secret = auth::new_token();
    let new = NewEnrolment {
        code: &code,
        name: &name,
        machine: &Value::Object(body.machine),
        secret_hash: &auth::hash(&claim_secret),
    };
    let tx = store::begin(&app.db.write).await?;
    store::cells::enrol(&tx, app.now_ms(), new).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok((
        StatusCode::CREATED,
        Json(EnrolmentRequested { code, claim_secret }),
    ))
}

/// Who asks to become a cell.
#[utoipa::path(get, path = "/api/v1/enrolments", tag = "cells",
    responses((status = 200, body = EnrolmentList)))]
pub async fn list_enrolments(app: App, _: auth::Operator) -> ApiResult<Json<EnrolmentList>> {
    let rows = store::cells::enrolments(&app.db.read).await?;
    let enrolments = rows.into_iter().map(Into::into).collect();
    Ok(Json(EnrolmentList {
        enrolments,
        next: None,
    }))
}

/// Let a cell in; approving again changes nothing.
#[utoipa::path(post, path = "/api/v1/enrolments/{code}/approve", tag = "cells",
    params(("code" = String, Path)), responses((status = 200, body = EnrolmentView)))]
pub async fn approve_enrolment(
    app: App,
    who: auth::Operator,
    Path(code): Path<String>,
) -> ApiResult<Json<EnrolmentView>> {
    let tx = store::begin(&app.db.write).await?;
    let row = store::cells::approve(&tx, app.now_ms(), &who.0.subject, &code).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(row.into()))
}

/// Turn a cell away; rejecting again changes nothing. It may ask anew.
#[utoipa::path(post, path = "/api/v1/enrolments/{code}/reject", tag = "cells",
    params(("code" = String, Path)), responses((status = 200, body = EnrolmentView)))]
pub async fn reject_enrolment(
    app: App,
    who: auth::Operator,
    Path(code): Path<String>,
) -> ApiResult<Json<EnrolmentView>> {
    let tx = store::begin(&app.db.write).await?;
    let row = store::cells::reject(&tx, app.now_ms(), &who.0.subject, &code).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(row.into()))
}

/// Fetch the token of an approved enrolment; it may be fetched again until the cell first connects.
#[utoipa::path(post, path = "/api/v1/enrolments/{code}/token", tag = "cells", security(()),
    params(("code" = String, Path)), request_body = TokenClaim,
    responses((status = 200, body = CellToken)))]
pub async fn claim_cell_token(
    app: App,
    Path(code): Path<String>,
    SmallJson(body): SmallJson<MAX_BODY_BYTES, TokenClaim>,
) -> ApiResult<Json<CellToken>> {
    let hash = auth::hash(&body.claim_secret);
    let tx = store::begin(&app.db.write).await?;
    let cell = store::cells::claim_token(&tx, app.now_ms(), &code, &hash).await?;
    let (_, token) = tokens::issue_in(&tx, app.now_ms(), &cell, Role::Cell, &cell).await?;
    tx.commit().await?;
    Ok(Json(CellToken { cell, token }))
}

/// Eight characters a person can read out: no 0/O, no 1/I.
fn new_code() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[8..]
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(b % 32)]))
        .collect()
}
