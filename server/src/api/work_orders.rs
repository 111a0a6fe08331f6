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

impl From<WorkOrder> for WorkOrderView {
    fn from(w: WorkOrder) -> Self {
        Self {
            id: w.id,
            asset: w.order.asset,
            window: w.order.window,
            technician: w.order.technician,
            bring: w.order.bring,
            procedure: w.order.procedure,
            reason: w.order.reason,
            run: w.run,
            created_at: w.created_at,
        }
    }
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
    let work_orders = orders.into_iter().map(Into::into).collect();
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
    Ok(Json(
        store::work_orders::get(&app.db.read, &id).await?.into(),
    ))
}
