//! Places assets stand in.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use workflows::model::Locality;

use super::StoreError;
use super::database::{execute, from_json, to_json};

table!(
    /// Places assets stand in.
    locality, "locality", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    body: String,
    updated_at: i64,
});

/// Stores or replaces one.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    locality: &Locality,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO locality (id, body, updated_at) VALUES ($1, $2, $3) ON CONFLICT (id) \
               DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";
    let body = to_json("locality", locality)?;
    execute(db, sql, values![locality.id.as_str(), body, now]).await?;
    Ok(())
}

/// One, by its name.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Locality, StoreError> {
    let row = locality::Entity::find_by_id(id.to_owned()).one(db).await?;
    let row = row.ok_or_else(|| StoreError::unknown("locality", id))?;
    from_json("locality", &row.body)
}

/// All of them, by name.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<Locality>, StoreError> {
    let rows = locality::Entity::find()
        .order_by_asc(locality::Column::Id)
        .all(db)
        .await?;
    rows.iter()
        .map(|row| from_json("locality", &row.body))
        .collect()
}
