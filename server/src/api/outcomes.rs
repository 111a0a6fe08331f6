//! Outcomes: what really happened to an asset.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiResult, Problem};
use crate::extract::{Json, Query};
use crate::store::{self, outcomes::NewOutcome};

/// What happened.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// It failed.
    Failed,
    /// Its part was replaced after all.
    Replaced,
    /// It would have failed, and was seen to in time.
    Prevented,
    /// It was looked at and is well.
    Healthy,
}

impl OutcomeKind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Failed, "failed"),
        (Self::Replaced, "replaced"),
        (Self::Prevented, "prevented"),
        (Self::Healthy, "healthy"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// An outcome to be recorded.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewOutcomeBody {
    /// The asset.
    pub asset: String,
    /// What happened.
    pub kind: OutcomeKind,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// In words.
    #[serde(default)]
    pub note: String,
}

/// A recorded outcome.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeView {
    /// The asset.
    asset: String,
    /// What happened.
    kind: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// In words.
    note: String,
}

/// Outcomes in order of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeList {
    /// In order of time.
    outcomes: Vec<OutcomeView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which outcomes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OutcomeQuery {
    /// Only those of this asset.
    pub asset: Option<String>,
}

/// What happened, in order of time.
#[utoipa::path(get, path = "/api/v1/outcomes", tag = "predictions", params(OutcomeQuery),
    responses((status = 200, body = OutcomeList)))]
pub async fn list_outcomes(
    app: App,
    _: auth::Reader,
    Query(query): Query<OutcomeQuery>,
) -> ApiResult<Json<OutcomeList>> {
    let rows = store::outcomes::list(&app.db.read, query.asset.as_deref()).await?;
    let outcomes = rows.into_iter().map(|row| OutcomeView {
        asset: row.asset,
        kind: row.kind,
        at: Timestamp(row.at),
        note: row.note,
    });
    Ok(Json(OutcomeList {
        outcomes: outcomes.collect(),
        next: None,
    }))
}

/// Record what happened; recording it again changes nothing.
#[utoipa::path(post, path = "/api/v1/outcomes", tag = "predictions", request_body = NewOutcomeBody,
    responses((status = 201, body = OutcomeView),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn create_outcome(
    app: App,
    _: auth::Technician,
    Json(body): Json<NewOutcomeBody>,
) -> ApiResult<(StatusCode, Json<OutcomeView>)> {
    store::assets::get(&app.db.read, &body.asset).await?;
    let new = NewOutcome {
        asset: &body.asset,
        kind: body.kind.name(),
        at: body.at.0,
        note: &body.note,
        step: None,
    };
    store::outcomes::insert(&app.db.write, app.now_ms(), new).await?;
    let kind = body.kind.name().into();
    let view = OutcomeView {
        asset: body.asset,
        kind,
        at: body.at,
        note: body.note,
    };
    Ok((StatusCode::CREATED, Json(view)))
}
