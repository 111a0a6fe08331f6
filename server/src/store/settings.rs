//! Named values the process keeps: its instance id, its clock's offset.

use sea_orm::{ConnectionTrait, EntityTrait};

use super::StoreError;
use super::database::execute;

table!(
    /// Named values.
    setting, "setting", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    value: String,
});

/// A setting's value.
pub async fn get(db: &impl ConnectionTrait, name: &str) -> Result<Option<String>, StoreError> {
    let row = setting::Entity::find_by_id(name.to_owned()).one(db).await?;
    Ok(row.map(|row| row.value))
}

/// Sets a value.
pub async fn put(db: &impl ConnectionTrait, name: &str, value: &str) -> Result<(), StoreError> {
    let sql = "INSERT INTO setting (name, value) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";
    execute(db, sql, values![name, value]).await?;
    Ok(())
}

/// The value that is there, or else this one, set now; of several processes that ask at once all get the same.
pub async fn get_or_set(
    db: &impl ConnectionTrait,
    name: &str,
    value: &str,
) -> Result<String, StoreError> {
    let sql = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    execute(db, sql, values![name, value]).await?;
    let stored = get(db, name).await?;
    stored.ok_or_else(|| StoreError::unknown("setting", name))
}
