//! API tokens: only the hash of a token is stored.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
};

use super::StoreError;
use super::database::execute;

table!(
    /// API tokens.
    token, "token", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    hash: String,
    role: String,
    subject: String,
    created_at: i64,
    revoked_at: Option<i64>,
});

/// Stores a token's hash with the role it speaks for.
pub async fn insert(db: &impl ConnectionTrait, row: token::Model) -> Result<(), StoreError> {
    token::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// The valid token of a hash.
pub async fn by_hash(
    db: &impl ConnectionTrait,
    hash: &str,
) -> Result<Option<token::Model>, StoreError> {
    Ok(token::Entity::find()
        .filter(token::Column::Hash.eq(hash))
        .filter(token::Column::RevokedAt.is_null())
        .one(db)
        .await?)
}

/// Every token, oldest first.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<token::Model>, StoreError> {
    Ok(token::Entity::find()
        .order_by_asc(token::Column::Id)
        .all(db)
        .await?)
}

/// Makes every token of a cell worthless; says how many there were.
pub async fn revoke_of_cell(
    db: &impl ConnectionTrait,
    now: i64,
    cell: &str,
) -> Result<u64, StoreError> {
    let sql = "UPDATE token SET revoked_at = $2 \
               WHERE role = 'cell' AND subject = $1 AND revoked_at IS NULL";
    execute(db, sql, values![cell, now]).await
}

/// Makes a token worthless; says whether there was one.
pub async fn revoke(db: &impl ConnectionTrait, now: i64, id: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    Ok(execute(db, sql, values![id, now]).await? == 1)
}
