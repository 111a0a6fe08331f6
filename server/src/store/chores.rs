//! Ticks of chores: each is taken once, whatever the number of processes.

use sea_orm::ConnectionTrait;

use super::StoreError;
use super::database::execute;

table!(
    /// Ticks that were taken.
    chore_tick, "chore_tick", {
    #[sea_orm(primary_key, auto_increment = false)]
    chore: String,
    #[sea_orm(primary_key, auto_increment = false)]
    tick: i64,
    taken_at: i64,
});

/// Takes a tick; `true` for the one process that did.
pub async fn take(
    db: &impl ConnectionTrait,
    now: i64,
    chore: &str,
    tick: i64,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO chore_tick (chore, tick, taken_at) VALUES ($1, $2, $3) \
               ON CONFLICT (chore, tick) DO NOTHING";
    Ok(execute(db, sql, values![chore, tick, now]).await? == 1)
}

/// Forgets ticks older than a moment.
pub async fn prune(db: &impl ConnectionTrait, before: i64) -> Result<u64, StoreError> {
    execute(
        db,
        "DELETE FROM chore_tick WHERE taken_at < $1",
        values![before],
    )
    .await
}
