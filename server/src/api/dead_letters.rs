//! Dead letters: steps whose failure ended their run.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use super::name::PageQuery;
use super::runs::RunView;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::{self, dead_letters::DeadLetter, dead_letters::DeadLetters};

/// A step whose failure ended its run.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    /// Stable name.
    id: String,
    /// The run it ended.
    run: String,
    /// The run's workflow.
    workflow: String,
    /// Digest of the revision it ran.
    revision: String,
    /// Position of the step in it.
    position: String,
    /// What sort of step.
    kind: String,
    /// The queue it was claimed under.
    queue: String,
    /// What it was given; what is large is named by its digest.
    input: Value,
    /// The run's failure: `code`, `message`, whether it is `retryable`, the `line` of the script, and what was
    /// `not_undone`.
    error: Value,
    /// How often it was tried.
    attempt: i64,
    /// How often it might be.
    max_attempts: i64,
    /// The run that was begun again from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    redriven_as: Option<String>,
    /// When the step ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// Dead letters, those of the newest runs first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterList {
    /// This page.
    dead_letters: Vec<DeadLetterView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterQuery {
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only of this kind of step.
    pub kind: Option<String>,
    /// Only those that were redriven, or were not.
    pub redriven: Option<bool>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

impl TryFrom<DeadLetter> for DeadLetterView {
    type Error = ApiError;

    fn try_from(letter: DeadLetter) -> ApiResult<Self> {
        let DeadLetter {
            step,
            run,
            redriven_as,
        } = letter;
        let json = |text: &str| serde_json::from_str(text).map_err(ApiError::internal);
        Ok(Self {
            input: json(&step.input)?,
            error: run.failure.as_deref().map_or(Ok(Value::Null), json)?,
            id: step.id,
            run: run.id,
            workflow: run.workflow,
            revision: run.revision,
            position: step.position,
            kind: step.kind,
            queue: step.queue,
            attempt: step.attempt,
            max_attempts: step.max_attempts,
            redriven_as,
            ended_at: step.ended_at.map(Timestamp),
        })
    }
}

/// Steps whose failure ended their run, those of the newest runs first.
#[utoipa::path(get, path = "/api/v1/dead_letters", tag = "runs", params(DeadLetterQuery),
    responses((status = 200, body = DeadLetterList)))]
pub async fn list_dead_letters(
    app: App,
    _: auth::Reader,
    Query(query): Query<DeadLetterQuery>,
) -> ApiResult<Json<DeadLetterList>> {
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let which = DeadLetters {
        workflow: query.workflow.as_deref(),
        kind: query.kind.as_deref(),
        redriven: query.redriven,
    };
    let rows = store::dead_letters::list(&app.db.read, which, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|l| l.run.id.as_str()));
    let next = next.map(str::to_owned);
    let dead_letters = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<ApiResult<_>>()?;
    Ok(Json(DeadLetterList { dead_letters, next }))
}

/// Begin the run of a dead letter again from its step. Asking again gives the same run.
#[utoipa::path(post, path = "/api/v1/dead_letters/{id}/redrive", tag = "runs",
    params(("id" = String, Path)), responses((status = 201, body = RunView)))]
pub async fn redrive_dead_letter(
    app: App,
    who: auth::Engineer,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<RunView>)> {
    let tx = store::begin(&app.db.write).await?;
    let run = store::dead_letters::redrive(&tx, app.now_ms(), &who.0.subject, &id).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok((StatusCode::CREATED, Json(RunView::load(&app, &run).await?)))
}
