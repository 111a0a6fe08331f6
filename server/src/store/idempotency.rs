//! Answers to requests that carried an `Idempotency-Key`, so that a repeated request gets the first one's answer.

use sea_orm::{ConnectionTrait, EntityTrait};

use super::StoreError;
use super::database::execute;

table!(
    /// Answers by key.
    idempotency, "idempotency", {
    #[sea_orm(primary_key, auto_increment = false)]
    scope: String,
    #[sea_orm(primary_key, auto_increment = false)]
    key: String,
    request_digest: String,
    response: String,
    created_at: i64,
});

/// The answer a key got.
///
/// # Errors
///
/// `idempotency_key_reused` when the key came with another request.
pub async fn find(
    db: &impl ConnectionTrait,
    scope: &str,
    key: &str,
    request_digest: &str,
) -> Result<Option<String>, StoreError> {
    let id = (scope.to_owned(), key.to_owned());
    match idempotency::Entity::find_by_id(id).one(db).await? {
        Some(row) if row.request_digest != request_digest => Err(StoreError::refused(
            "idempotency_key_reused",
            format_args!("the key `{key}` came with another request before; use a new one"),
        )),
        Some(row) => Ok(Some(row.response)),
        None => Ok(None),
    }
}

/// Keeps the answer of a key, in the transaction of what it answers; says whether this was the first.
pub async fn keep(
    db: &impl ConnectionTrait,
    now: i64,
    (scope, key): (&str, &str),
    request_digest: &str,
    response: &str,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO idempotency (scope, key, request_digest, response, created_at) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (scope, key) DO NOTHING";
    let values = values![scope, key, request_digest, response, now];
    Ok(execute(db, sql, values).await? == 1)
}
