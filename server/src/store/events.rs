//! Recorded facts, numbered in the order they became visible, and the runs that wait for one of them.

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QuerySelect};
use serde_json::Value;

use super::database::{all, execute, notify, number, to_json};
use super::{StoreError, journal, steps};

table!(
    /// Recorded facts.
    event, "event", {
    #[sea_orm(primary_key)]
    seq: i64,
    at: i64,
    name: String,
    subject: String,
    payload: String,
});

table!(
    /// Calls that wait for a fact.
    event_wait, "event_wait", {
    #[sea_orm(primary_key, auto_increment = false)]
    run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    position: String,
    name: String,
    key: String,
});

/// Records a fact and gives its number.
///
/// Readers ask for what came after the last number they saw, so numbers must become visible in order: on Postgres the
/// writers of facts queue up from here to their commit. Record facts last in a transaction.
pub async fn record(
    db: &impl ConnectionTrait,
    now: i64,
    name: &str,
    subject: &str,
    payload: &Value,
) -> Result<i64, StoreError> {
    in_order(db).await?;
    let sql = "INSERT INTO event (at, name, subject, payload) VALUES ($1, $2, $3, $4) \
               RETURNING seq AS n";
    let values = values![now, name, subject, to_json("event", payload)?];
    let seq = number(db, sql, values).await?;
    notify(db).await?;
    seq.ok_or_else(|| StoreError::unknown("event", name))
}

/// Makes what is written to a numbered table from here to the commit visible in the order of its numbers.
pub(super) async fn in_order(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        execute(db, "SELECT pg_advisory_xact_lock($1)", values![4_178_i64]).await?;
    }
    Ok(())
}

/// Records a fact from outside and answers every call that waits for it; says how many there were.
pub async fn emit(
    db: &impl ConnectionTrait,
    now: i64,
    name: &str,
    key: &str,
    payload: &Value,
) -> Result<u64, StoreError> {
    let answered = answer_waits(db, now, name, key, payload).await?;
    record(db, now, name, key, payload).await?;
    Ok(answered)
}

/// Answers every call that waits for a fact that is about to be recorded; says how many there were.
pub(super) async fn answer_waits(
    db: &impl ConnectionTrait,
    now: i64,
    name: &str,
    key: &str,
    payload: &Value,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM event_wait WHERE name = $1 AND key = $2 RETURNING *";
    let waits: Vec<event_wait::Model> = all(db, sql, values![name, key]).await?;
    let mut answered = 0;
    for wait in waits {
        let outcome = workflows::run::CallOutcome::Ok(payload.clone());
        if journal::answer(db, now, &wait.run_id, &wait.position, &outcome).await? {
            steps::wake(db, now, &wait.run_id, steps::ADVANCE).await?;
            answered += 1;
        }
    }
    Ok(answered)
}

/// Notes that a call waits for a fact; noting it again changes nothing.
pub async fn wait_for(
    db: &impl ConnectionTrait,
    run: &str,
    position: &str,
    name: &str,
    key: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO event_wait (run_id, position, name, key) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (run_id, position) DO NOTHING";
    execute(db, sql, values![run, position, name, key]).await?;
    Ok(())
}

/// Forgets that a call waits for a fact.
pub async fn wait_no_more(
    db: &impl ConnectionTrait,
    run: &str,
    position: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM event_wait WHERE run_id = $1 AND position = $2";
    execute(db, sql, values![run, position]).await?;
    Ok(())
}

/// Facts after a number, in order.
pub async fn after(
    db: &impl ConnectionTrait,
    seq: i64,
    limit: u64,
) -> Result<Vec<event::Model>, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};
    Ok(event::Entity::find()
        .filter(event::Column::Seq.gt(seq))
        .order_by_asc(event::Column::Seq)
        .limit(limit)
        .all(db)
        .await?)
}

/// The number of the latest fact, 0 before the first.
pub async fn latest(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let seq = number(db, "SELECT MAX(seq) AS n FROM event", values![]).await?;
    Ok(seq.unwrap_or(0))
}
