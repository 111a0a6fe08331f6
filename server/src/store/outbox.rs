//! Facts still to be told outside, and what was told.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder, QuerySelect};
use serde_json::Value;

use super::database::{all, among, execute, skip_locked, to_json};
use super::{StoreError, new_id};

table!(
    /// Messages to be told outside.
    outbox, "outbox", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    subject: String,
    payload: String,
    state: String,
    attempt: i64,
    due: i64,
    created_at: i64,
});

table!(
    /// Messages that were told, and how it was answered.
    webhook_delivery, "webhook_delivery", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    outbox_id: String,
    target: String,
    subject: String,
    payload: String,
    status: Option<i64>,
    delivered_at: i64,
});

/// Puts a message out; under the same id it is put out once.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    subject: &str,
    payload: &Value,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO outbox (id, subject, payload, state, attempt, due, created_at) \
               VALUES ($1, $2, $3, 'waiting', 0, $4, $4) ON CONFLICT (id) DO NOTHING";
    let values = values![id, subject, to_json("outbox message", payload)?, now];
    execute(db, sql, values).await?;
    Ok(())
}

/// Takes the messages that are due, each for a while; whoever dies with one lets it come due again.
pub async fn take(
    db: &impl ConnectionTrait,
    now: i64,
    again_at: i64,
    limit: u64,
) -> Result<Vec<outbox::Model>, StoreError> {
    let first = format!(
        "SELECT id FROM outbox WHERE state = 'waiting' AND due <= $1 ORDER BY due, id LIMIT {limit} {}",
        skip_locked(db)
    );
    let sql = format!(
        "UPDATE outbox SET attempt = attempt + 1, due = $2 WHERE id {} RETURNING *",
        among(db, &first)
    );
    all(db, &sql, values![now, again_at]).await
}

/// Notes that a message was told. To be called in a transaction.
pub async fn delivered(
    db: &impl ConnectionTrait,
    now: i64,
    message: &outbox::Model,
    target: &str,
    status: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET state = 'delivered' WHERE id = $1 AND state = 'waiting'";
    if execute(db, sql, values![message.id.as_str()]).await? == 0 {
        return Ok(());
    }
    let sql = "INSERT INTO webhook_delivery \
               (id, outbox_id, target, subject, payload, status, delivered_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (outbox_id) DO NOTHING";
    let values = values![
        new_id(now),
        message.id.as_str(),
        target,
        message.subject.as_str(),
        message.payload.as_str(),
        status,
        now
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Gives a message another time, or up.
pub async fn postpone(
    db: &impl ConnectionTrait,
    message: &outbox::Model,
    due: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET due = $2, state = $3 WHERE id = $1 AND state = 'waiting'";
    let state = if due.is_some() { "waiting" } else { "given_up" };
    let values = values![message.id.as_str(), due.unwrap_or(message.due), state];
    execute(db, sql, values).await?;
    Ok(())
}

/// Messages that were told, newest first.
pub async fn deliveries(
    db: &impl ConnectionTrait,
    limit: u64,
) -> Result<Vec<webhook_delivery::Model>, StoreError> {
    Ok(webhook_delivery::Entity::find()
        .order_by_desc(webhook_delivery::Column::Id)
        .limit(limit)
        .all(db)
        .await?)
}
