//! Decisions: what policies decided, and on what facts.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use super::name::PageQuery;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::{self, decisions::decision};

/// One decision, with everything that led to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionView {
    /// Stable name.
    id: String,
    /// The asset decided on.
    asset: String,
    /// The policy asked.
    policy: String,
    /// Digest of the revision that answered.
    revision: String,
    /// What it saw.
    facts: Value,
    /// What it answered.
    decision: Value,
    /// Why.
    reason: String,
    /// How many operations it took.
    operations: i64,
    /// How long it took, µs.
    duration_us: i64,
    /// The run it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Decisions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionList {
    /// This page.
    decisions: Vec<DecisionView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DecisionQuery {
    /// Only those on this asset.
    pub asset: Option<String>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

impl TryFrom<decision::Model> for DecisionView {
    type Error = ApiError;

    fn try_from(row: decision::Model) -> ApiResult<Self> {
        Ok(Self {
            facts: serde_json::from_str(&row.facts).map_err(ApiError::internal)?,
            decision: serde_json::from_str(&row.verdict).map_err(ApiError::internal)?,
            id: row.id,
            asset: row.asset,
            policy: row.policy,
            revision: row.revision,
            reason: row.reason,
            operations: row.operations,
            duration_us: row.duration_us,
            run: row.run_id,
            at: Timestamp(row.at),
        })
    }
}

/// Decisions, newest first.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "policies", params(DecisionQuery),
    responses((status = 200, body = DecisionList)))]
pub async fn list_decisions(
    app: App,
    _: auth::Reader,
    Query(query): Query<DecisionQuery>,
) -> ApiResult<Json<DecisionList>> {
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let rows = store::decisions::list(&app.db.read, query.asset.as_deref(), page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    let decisions = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<ApiResult<_>>()?;
    Ok(Json(DecisionList { decisions, next }))
}

/// One decision.
#[utoipa::path(get, path = "/api/v1/decisions/{id}", tag = "policies",
    params(("id" = String, Path)), responses((status = 200, body = DecisionView)))]
pub async fn get_decision(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<DecisionView>> {
    Ok(Json(
        store::decisions::get(&app.db.read, &id).await?.try_into()?,
    ))
}
