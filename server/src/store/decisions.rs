//! What policies decided, and on what facts.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::database::execute;
use super::{Page, StoreError};

table!(
    /// Decisions; `facts` and `verdict` are what went into the policy and what came out, JSON.
    decision, "decision", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    asset: String,
    policy: String,
    revision: String,
    facts: String,
    verdict: String,
    reason: String,
    operations: i64,
    duration_us: i64,
    run_id: Option<String>,
    at: i64,
});

/// Keeps a decision.
pub async fn insert(db: &impl ConnectionTrait, row: decision::Model) -> Result<(), StoreError> {
    decision::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Notes the run a decision started.
pub async fn set_run(db: &impl ConnectionTrait, id: &str, run: &str) -> Result<(), StoreError> {
    let sql = "UPDATE decision SET run_id = $2 WHERE id = $1";
    execute(db, sql, values![id, run]).await?;
    Ok(())
}

/// One decision.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<decision::Model, StoreError> {
    let row = decision::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("decision", id))
}

/// Decisions, newest first, of all assets or of one.
pub async fn list(
    db: &impl ConnectionTrait,
    asset: Option<&str>,
    page: Page<'_>,
) -> Result<Vec<decision::Model>, StoreError> {
    let mut find = decision::Entity::find()
        .order_by_desc(decision::Column::Id)
        .limit(page.limit);
    if let Some(asset) = asset {
        find = find.filter(decision::Column::Asset.eq(asset));
    }
    if let Some(after) = page.after {
        find = find.filter(decision::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

/// The latest decision on an asset: what a guard looks at before it lets another one act.
pub async fn latest(
    db: &impl ConnectionTrait,
    asset: &str,
) -> Result<Option<decision::Model>, StoreError> {
    let page = Page {
        after: None,
        limit: 1,
    };
    Ok(list(db, Some(asset), page).await?.pop())
}
