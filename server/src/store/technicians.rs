//! Who can do maintenance, and when.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use workflows::model::Technician;

use super::StoreError;
use super::database::{execute, from_json, to_json};

table!(
    /// Who can do maintenance, and when.
    technician, "technician", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    body: String,
    updated_at: i64,
});

/// Stores or replaces one.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    technician: &Technician,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO technician (id, body, updated_at) VALUES ($1, $2, $3) ON CONFLICT (id) \
               DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";
    let body = to_json("technician", technician)?;
    execute(db, sql, values![technician.id.as_str(), body, now]).await?;
    Ok(())
}

/// One, by its name.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Technician, StoreError> {
    let row = technician::Entity::find_by_id(id.to_owned())
        .one(db)
        .await?;
    let row = row.ok_or_else(|| StoreError::unknown("technician", id))?;
    from_json("technician", &row.body)
}

/// All of them, by name.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<Technician>, StoreError> {
    let rows = technician::Entity::find()
        .order_by_asc(technician::Column::Id)
        .all(db)
        .await?;
    rows.iter()
        .map(|row| from_json("technician", &row.body))
        .collect()
}
