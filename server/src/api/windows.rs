//! Windows: agreed spans when an asset may be offline.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::{Timestamp, Window, WindowState};

use super::name::PageQuery;
use crate::app::App;
use crate::auth::{self, Role};
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};
use crate::store;

/// An agreed span when an asset may be offline.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowView {
    /// Stable name.
    id: String,
    /// The asset.
    asset: String,
    /// `proposed`, `accepted`, `rejected`, `done`, `cancelled`.
    state: String,
    /// First moment.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// First moment after.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Who does the work; nobody while nobody is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    technician: Option<String>,
    /// Why this one, and what it costs, term by term.
    reasons: Value,
    /// The next best, best first.
    alternatives: Vec<Value>,
    /// The run that proposed it.
    run: String,
}

/// Windows, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowList {
    /// This page.
    windows: Vec<WindowView>,
    /// Where the list goes on.
    next: Option<String>,
}

impl From<Window> for WindowView {
    fn from(w: Window) -> Self {
        Self {
            id: w.id,
            state: store::windows::word(w.state).into(),
            asset: w.proposal.asset,
            from: w.proposal.from,
            to: w.proposal.to,
            technician: w.proposal.technician,
            reasons: w.proposal.reasons,
            alternatives: w.proposal.alternatives,
            run: w.run,
        }
    }
}

/// Windows, newest first.
#[utoipa::path(get, path = "/api/v1/windows", tag = "maintenance", params(PageQuery),
    responses((status = 200, body = WindowList)))]
pub async fn list_windows(
    app: App,
    _: auth::Reader,
    Query(paging): Query<PageQuery>,
) -> ApiResult<Json<WindowList>> {
    let page = paging.page()?;
    let windows = store::windows::list(&app.db.read, page).await?;
    let next = PageQuery::next(page, windows.len(), windows.last().map(|w| w.id.as_str()));
    let next = next.map(str::to_owned);
    Ok(Json(WindowList {
        windows: windows.into_iter().map(Into::into).collect(),
        next,
    }))
}

/// One window.
#[utoipa::path(get, path = "/api/v1/windows/{id}", tag = "maintenance",
    params(("id" = String, Path)), responses((status = 200, body = WindowView)))]
pub async fn get_window(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<WindowView>> {
    Ok(Json(store::windows::get(&app.db.read, &id).await?.into()))
}

/// Accept a window: a technician will come. Answers the approval that asks about it.
#[utoipa::path(post, path = "/api/v1/windows/{id}/accept", tag = "maintenance",
    params(("id" = String, Path)), responses((status = 200, body = WindowView)))]
pub async fn accept_window(
    app: App,
    who: auth::Technician,
    Path(id): Path<String>,
) -> ApiResult<Json<WindowView>> {
    answer(&app, &who, &id, WindowState::Accepted).await
}

/// Reject a window: nobody will come then. Answers the approval that asks about it.
#[utoipa::path(post, path = "/api/v1/windows/{id}/reject", tag = "maintenance",
    params(("id" = String, Path)), responses((status = 200, body = WindowView)))]
pub async fn reject_window(
    app: App,
    who: auth::Technician,
    Path(id): Path<String>,
) -> ApiResult<Json<WindowView>> {
    answer(&app, &who, &id, WindowState::Rejected).await
}

async fn answer(
    app: &App,
    who: &auth::Technician,
    id: &str,
    state: WindowState,
) -> ApiResult<Json<WindowView>> {
    let tx = store::begin(&app.db.write).await?;
    let (now, by) = (app.now_ms(), who.0.subject.as_str());
    let window = store::windows::get(&tx, id).await?;
    // The run that proposed it may be asking: its approval's answer is the window's.
    let asked = store::approvals::about_window(&tx, &window.run, id).await?;
    let mine = |role: &str| who.0.role == Role::Operator || who.0.role.name() == role;
    match asked.filter(|asked| mine(&asked.role)) {
        Some(asked) => {
            let given = store::approvals::Answer {
                by,
                answer: state == WindowState::Accepted,
                comment: None,
            };
            store::approvals::answer(&tx, now, &asked.id, given).await?;
        }
        None => {
            store::windows::set_state(&tx, now, by, id, state).await?;
        }
    }
    let window = store::windows::get(&tx, id).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(window.into()))
}
