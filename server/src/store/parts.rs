//! Parts we can make.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use workflows::model::Part;

use super::StoreError;
use super::database::{execute, from_json, to_json};

table!(
    /// Parts we can make.
    part, "part", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    body: String,
    updated_at: i64,
});

/// Stores or replaces one.
pub async fn put(db: &impl ConnectionTrait, now: i64, part: &Part) -> Result<(), StoreError> {
    let sql = "INSERT INTO part (id, body, updated_at) VALUES ($1, $2, $3) ON CONFLICT (id) \
               DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";
    let body = to_json("part", part)?;
    execute(db, sql, values![part.id.as_str(), body, now]).await?;
    Ok(())
}

/// One, by its name.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Part, StoreError> {
    let row = part::Entity::find_by_id(id.to_owned()).one(db).await?;
    let row = row.ok_or_else(|| StoreError::unknown("part", id))?;
    from_json("part", &row.body)
}

/// All of them, by name.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<Part>, StoreError> {
    let rows = part::Entity::find()
        .order_by_asc(part::Column::Id)
        .all(db)
        .await?;
    rows.iter()
        .map(|row| from_json("part", &row.body))
        .collect()
}
