//! Work orders: instructions to do maintenance.

use serde::Serialize;
use utoipa::ToSchema;
use workflows::model::{Timestamp, WorkOrder};

use super::name::PageQuery;
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};
use crate::store;

/// The instruction to do maintenance.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkOrderView {
    /// Stable name.
    id: String,
    /// The asset worked on.
    asset: String,
    /// The window it happens in.
    window: String,
    /// Where that window stands: `proposed`, `accepted`, `rejected`, `done`, `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_state: Option<String>,
    /// Who does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    technician: Option<String>,
    /// What to bring.
    bring: Vec<String>,
    /// What to do, in order.
    procedure: Vec<String>,
    /// Why.
    reason: String,
    /// The run that wrote it.
    run: String,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Work orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkOrderList {
    /// This page.
    work_orders: Vec<WorkOrderView>,
    /// Where the list goes on.
    next: Option<String>,
}

impl WorkOrderView {
    fn new(w: WorkOrder, window_state: Option<String>) -> Self {
        Self {
            id: w.id,
            asset: w.order.asset,
            window: w.order.window,
            window_state,
            technician: w.order.technician,
            bring: w.order.bring,
            procedure: w.order.procedure,
            reason: w.order.reason,
            run: w.run,
            created_at: w.created_at,
        }
    }
}

/// Work orders as they are shown: one whose window was cancelled is not to be carried out.
async fn views(app: &App, orders: Vec<WorkOrder>) -> ApiResult<Vec<WorkOrderView>> {
    let windows = orders.iter().map(|o| o.order.window.clone());
    let states = store::windows::states(&app.db.read, windows).await?;
    let view = |order: WorkOrder| {
        let state = states.get(&order.order.window).cloned();
        WorkOrderView::new(order, state)
    };
    Ok(orders.into_iter().map(view).collect())
}

/// Work orders, newest first.
#[utoipa::path(get, path = "/api/v1/work_orders", tag = "maintenance", params(PageQuery),
    responses((status = 200, body = WorkOrderList)))]
pub async fn list_work_orders(
    app: App,
    _: auth::Reader,
    Query(paging): Query<PageQuery>,
) -> ApiResult<Json<WorkOrderList>> {
    let page = paging.page()?;
    let orders = store::work_orders::list(&app.db.read, page).await?;
    let next = PageQuery::next(page, orders.len(), orders.last().map(|o| o.id.as_str()));
    let next = next.map(str::to_owned);
    let work_orders = views(&app, orders).await?;
    Ok(Json(WorkOrderList { work_orders, next }))
}

/// One work order.
#[utoipa::path(get, path = "/api/v1/work_orders/{id}", tag = "maintenance",
    params(("id" = String, Path)), responses((status = 200, body = WorkOrderView)))]
pub async fn get_work_order(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<WorkOrderView>> {
    let order = store::work_orders::get(&app.db.read, &id).await?;
    let states = store::windows::states(&app.db.read, [order.order.window.clone()]).await?;
    let state = states.get(&order.order.window).cloned();
    Ok(Json(WorkOrderView::new(order, state)))
}
