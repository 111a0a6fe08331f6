//! Work orders: instructions to do maintenance.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use workflows::model::{NewWorkOrder, Timestamp, WorkOrder};

use super::database::{execute, from_json, one, to_json};
use super::{Page, StoreError, events, new_id};

table!(
    /// Work orders; `body` is the JSON of a [`workflows::model::NewWorkOrder`].
    work_order, "work_order", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    asset: String,
    window_id: String,
    body: String,
    run_id: String,
    position: String,
    created_at: i64,
});

impl TryFrom<work_order::Model> for WorkOrder {
    type Error = StoreError;

    fn try_from(row: work_order::Model) -> Result<Self, StoreError> {
        Ok(Self {
            order: from_json("work order", &row.body)?,
            id: row.id,
            created_at: Timestamp(row.created_at),
            run: row.run_id,
        })
    }
}

/// Writes the work order of a step; the step's second attempt gets the first one's. To be called in a transaction.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    new: &NewWorkOrder,
) -> Result<WorkOrder, StoreError> {
    let sql = "INSERT INTO work_order (id, asset, window_id, body, run_id, position, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (run_id, position) DO NOTHING";
    let id = new_id(now);
    let values = values![
        id.as_str(),
        new.asset.as_str(),
        new.window.as_str(),
        to_json("work order", new)?,
        run,
        position,
        now
    ];
    if execute(db, sql, values).await? == 1 {
        let detail = json!({ "asset": new.asset, "window": new.window });
        events::record(db, now, "work_order.written", &id, &detail).await?;
    }
    let sql = "SELECT * FROM work_order WHERE run_id = $1 AND position = $2";
    let row: Option<work_order::Model> = one(db, sql, values![run, position]).await?;
    row.ok_or_else(|| StoreError::unknown("work order of step", format!("{run}/{position}")))?
        .try_into()
}

/// One work order.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<WorkOrder, StoreError> {
    let row = work_order::Entity::find_by_id(id.to_owned())
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("work order", id))?
        .try_into()
}

/// Work orders, newest first.
pub async fn list(db: &impl ConnectionTrait, page: Page<'_>) -> Result<Vec<WorkOrder>, StoreError> {
    let mut find = work_order::Entity::find()
        .order_by_desc(work_order::Column::Id)
        .limit(page.limit);
    if let Some(after) = page.after {
        find = find.filter(work_order::Column::Id.lt(after));
    }
    let rows = find.all(db).await?;
    rows.into_iter().map(WorkOrder::try_from).collect()
}
