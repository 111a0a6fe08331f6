//! Approvals: a person's yes that a run waits for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use super::name::PageQuery;
use crate::app::App;
use crate::auth::{self, Role};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::{self, approvals::approval};

/// A yes that a run waits for.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalView {
    /// Stable name.
    id: String,
    /// The run that waits.
    run: String,
    /// Position of the call in it.
    position: String,
    /// Who may answer.
    role: String,
    /// What it is about.
    subject: Value,
    /// `open`, `answered`, `expired`, `withdrawn`.
    state: String,
    /// When it gives up waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    due: Option<Timestamp>,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<bool>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_by: Option<String>,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Approvals, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovalList {
    /// This page.
    approvals: Vec<ApprovalView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which approvals.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ApprovalQuery {
    /// Only those in this state: `open`, `answered`, `expired`, `withdrawn`.
    pub state: Option<String>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// A person's answer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewAnswer {
    /// Yes or no.
    pub answer: bool,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
}

impl TryFrom<approval::Model> for ApprovalView {
    type Error = ApiError;

    fn try_from(row: approval::Model) -> ApiResult<Self> {
        Ok(Self {
            id: row.id,
            run: row.run_id,
            position: row.position,
            role: row.role,
            subject: serde_json::from_str(&row.subject).map_err(ApiError::internal)?,
            state: row.state,
            due: row.due.map(Timestamp),
            answer: row.answer,
            comment: row.comment,
            answered_by: row.answered_by,
            created_at: Timestamp(row.created_at),
        })
    }
}

/// Approvals, newest first.
#[utoipa::path(get, path = "/api/v1/approvals", tag = "maintenance", params(ApprovalQuery),
    responses((status = 200, body = ApprovalList)))]
pub async fn list_approvals(
    app: App,
    _: auth::Reader,
    Query(query): Query<ApprovalQuery>,
) -> ApiResult<Json<ApprovalList>> {
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let rows = store::approvals::list(&app.db.read, query.state.as_deref(), page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    let approvals = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<ApiResult<_>>()?;
    Ok(Json(ApprovalList { approvals, next }))
}

/// Answer an approval; the run that waits for it goes on. The same answer may be given again.
#[utoipa::path(post, path = "/api/v1/approvals/{id}/answers", tag = "maintenance",
    params(("id" = String, Path)), request_body = NewAnswer,
    responses((status = 200, body = ApprovalView)))]
pub async fn answer_approval(
    app: App,
    who: auth::Technician,
    Path(id): Path<String>,
    Json(body): Json<NewAnswer>,
) -> ApiResult<Json<ApprovalView>> {
    let given = store::approvals::Answer {
        by: &who.0.subject,
        answer: body.answer,
        comment: body.comment.as_deref(),
    };
    let asked = store::approvals::get(&app.db.read, &id).await?;
    if who.0.role != Role::Operator && who.0.role.name() != asked.role {
        let detail = format!("this approval is for the role `{}`", asked.role);
        return Err(ApiError::forbidden(detail));
    }
    let tx = store::begin(&app.db.write).await?;
    let row = store::approvals::answer(&tx, app.now_ms(), &id, given).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(row.try_into()?))
}
