//! Triggers: workflows started by the clock, their next tick, and what became of the earlier ones.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::database::{execute, number, one, skip_locked};
use super::{Page, StoreError};

table!(
    /// Triggers; `event` is JSON, `due` is when the next tick fires: its moment and the jitter.
    cron_trigger, "cron_trigger", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    cron: String,
    time_zone: String,
    workflow: String,
    event: String,
    missed: String,
    overlap: String,
    jitter_s: i64,
    paused: bool,
    next_tick: Option<i64>,
    due: Option<i64>,
    created_at: i64,
    updated_at: i64,
});

table!(
    /// What became of a tick: `started`, `queued`, `skipped`, `refused` or `missed`.
    ///
    /// A missed one stands for `passed_over` ticks, itself the last. It is open while it is queued, and while its run
    /// may go on.
    trigger_tick, "trigger_tick", {
    #[sea_orm(primary_key, auto_increment = false)]
    trigger_name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    tick: i64,
    state: String,
    passed_over: i64,
    reason: Option<String>,
    run_id: Option<String>,
    is_open: bool,
    at: i64,
});

/// Stores a trigger; one of the same name is replaced and keeps its age.
pub async fn put(
    db: &impl ConnectionTrait,
    row: cron_trigger::Model,
) -> Result<cron_trigger::Model, StoreError> {
    use cron_trigger::Column;
    let name = row.name.clone();
    let replace = sea_orm::sea_query::OnConflict::column(Column::Name)
        .update_columns([
            Column::Cron,
            Column::TimeZone,
            Column::Workflow,
            Column::Event,
            Column::Missed,
            Column::Overlap,
            Column::JitterS,
            Column::Paused,
            Column::NextTick,
            Column::Due,
            Column::UpdatedAt,
        ])
        .to_owned();
    cron_trigger::Entity::insert(row.into_active_model())
        .on_conflict(replace)
        .exec_without_returning(db)
        .await?;
    get(db, &name).await
}

/// One trigger.
pub async fn get(db: &impl ConnectionTrait, name: &str) -> Result<cron_trigger::Model, StoreError> {
    let row = find(db, name).await?;
    row.ok_or_else(|| StoreError::unknown("trigger", name))
}

/// One trigger, if there is one of that name.
pub async fn find(
    db: &impl ConnectionTrait,
    name: &str,
) -> Result<Option<cron_trigger::Model>, StoreError> {
    let find = cron_trigger::Entity::find_by_id(name.to_owned());
    Ok(find.one(db).await?)
}

/// Triggers by name.
pub async fn list(
    db: &impl ConnectionTrait,
    page: Page<'_>,
) -> Result<Vec<cron_trigger::Model>, StoreError> {
    let mut find = cron_trigger::Entity::find()
        .order_by_asc(cron_trigger::Column::Name)
        .limit(page.limit);
    if let Some(after) = page.after {
        find = find.filter(cron_trigger::Column::Name.gt(after));
    }
    Ok(find.all(db).await?)
}

/// Removes a trigger and gives up what it had queued; what became of its ticks is kept. `false` if there is none.
pub async fn delete(db: &impl ConnectionTrait, now: i64, name: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM cron_trigger WHERE name = $1";
    let gone = execute(db, sql, values![name]).await? == 1;
    let sql = "UPDATE trigger_tick SET state = 'skipped', reason = 'the trigger was deleted', \
               is_open = FALSE, at = $2 WHERE trigger_name = $1 AND is_open AND state = 'queued'";
    execute(db, sql, values![name, now]).await?;
    Ok(gone)
}

/// Whether a trigger is due or has a tick queued, so that most looks cost no transaction.
pub async fn anything_to_do(db: &impl ConnectionTrait, now: i64) -> Result<bool, StoreError> {
    let sql = "SELECT 1 AS n WHERE EXISTS \
               (SELECT 1 FROM cron_trigger WHERE NOT paused AND due <= $1) \
               OR EXISTS (SELECT 1 FROM trigger_tick WHERE is_open AND state = 'queued')";
    // The databases differ in the width of a literal.
    let sql = sql.replace("SELECT 1 AS n", "SELECT CAST(1 AS BIGINT) AS n");
    Ok(number(db, &sql, values![now]).await?.is_some())
}

/// The trigger that is due for longest, held to the end of the transaction; one that another process holds is not seen.
pub async fn take_due(
    db: &impl ConnectionTrait,
    now: i64,
) -> Result<Option<cron_trigger::Model>, StoreError> {
    let sql = format!(
        "SELECT * FROM cron_trigger WHERE NOT paused AND due <= $1 ORDER BY due, name LIMIT 1 {}",
        skip_locked(db)
    );
    one(db, &sql, values![now]).await
}

/// Notes which tick comes next.
pub async fn move_on(
    db: &impl ConnectionTrait,
    name: &str,
    next_tick: Option<i64>,
    due: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "UPDATE cron_trigger SET next_tick = $2, due = $3 WHERE name = $1";
    execute(db, sql, values![name, next_tick, due]).await?;
    Ok(())
}

/// Stops a trigger until somebody stores it again.
pub async fn pause(db: &impl ConnectionTrait, now: i64, name: &str) -> Result<(), StoreError> {
    let sql = "UPDATE cron_trigger SET paused = TRUE, updated_at = $2 WHERE name = $1";
    execute(db, sql, values![name, now]).await?;
    Ok(())
}

/// Whether it is known what became of a tick.
pub async fn has_tick(
    db: &impl ConnectionTrait,
    name: &str,
    tick: i64,
) -> Result<bool, StoreError> {
    let find = trigger_tick::Entity::find_by_id((name.to_owned(), tick));
    Ok(find.one(db).await?.is_some())
}

/// Notes what becomes of a tick, once: `false` when that is known already.
pub async fn record_tick(
    db: &impl ConnectionTrait,
    row: trigger_tick::Model,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO trigger_tick \
               (trigger_name, tick, state, passed_over, reason, run_id, is_open, at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (trigger_name, tick) DO NOTHING";
    let values = values![
        row.trigger_name,
        row.tick,
        row.state,
        row.passed_over,
        row.reason,
        row.run_id,
        row.is_open,
        row.at
    ];
    Ok(execute(db, sql, values).await? == 1)
}

/// The run of an earlier tick that still goes on. One that diverged goes nowhere.
pub async fn open_run(db: &impl ConnectionTrait, name: &str) -> Result<Option<String>, StoreError> {
    let sql = "UPDATE trigger_tick SET is_open = FALSE \
               WHERE trigger_name = $1 AND is_open AND state = 'started' AND NOT EXISTS \
               (SELECT 1 FROM run WHERE run.id = trigger_tick.run_id AND run.ended_at IS NULL)";
    execute(db, sql, values![name]).await?;
    let sql = "SELECT t.* FROM trigger_tick t JOIN run r ON r.id = t.run_id \
               WHERE t.trigger_name = $1 AND t.is_open AND r.state <> 'diverged' \
               ORDER BY t.tick LIMIT 1";
    let found: Option<trigger_tick::Model> = one(db, sql, values![name]).await?;
    Ok(found.and_then(|tick| tick.run_id))
}

/// How many ticks of a trigger are queued.
pub async fn count_queued(db: &impl ConnectionTrait, name: &str) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) AS n FROM trigger_tick \
               WHERE trigger_name = $1 AND is_open AND state = 'queued'";
    Ok(number(db, sql, values![name]).await?.unwrap_or(0))
}

/// The oldest queued tick whose trigger is not paused and has no run under way; its trigger is held to the end of the
/// transaction.
pub async fn take_queued(
    db: &impl ConnectionTrait,
) -> Result<Option<(cron_trigger::Model, trigger_tick::Model)>, StoreError> {
    let sql = format!(
        "SELECT c.* FROM cron_trigger c WHERE NOT c.paused AND EXISTS \
         (SELECT 1 FROM trigger_tick t WHERE t.trigger_name = c.name AND t.is_open AND t.state = 'queued') \
         AND NOT EXISTS (SELECT 1 FROM trigger_tick t JOIN run r ON r.id = t.run_id \
         WHERE t.trigger_name = c.name AND t.is_open AND t.state = 'started' \
         AND r.ended_at IS NULL AND r.state <> 'diverged') ORDER BY c.name LIMIT 1 {}",
        skip_locked(db)
    );
    let Some(trigger) = one::<cron_trigger::Model>(db, &sql, values![]).await? else {
        return Ok(None);
    };
    // Who held the trigger before may have started the tick after this statement's view of it was taken.
    if open_run(db, &trigger.name).await?.is_some() {
        return Ok(None);
    }
    let sql = "SELECT * FROM trigger_tick WHERE trigger_name = $1 AND is_open AND state = 'queued' \
               ORDER BY tick LIMIT 1";
    let tick = one(db, sql, values![trigger.name.as_str()]).await?;
    Ok(tick.map(|tick| (trigger, tick)))
}

/// Notes what became of a queued tick.
pub async fn dequeue(
    db: &impl ConnectionTrait,
    row: &trigger_tick::Model,
) -> Result<(), StoreError> {
    let sql = "UPDATE trigger_tick SET state = $3, reason = $4, run_id = $5, is_open = $6, at = $7 \
               WHERE trigger_name = $1 AND tick = $2 AND state = 'queued'";
    let values = values![
        row.trigger_name.as_str(),
        row.tick,
        row.state.as_str(),
        row.reason.clone(),
        row.run_id.clone(),
        row.is_open,
        row.at
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// What became of a trigger's ticks, latest first, before a tick if one is given.
pub async fn ticks(
    db: &impl ConnectionTrait,
    name: &str,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<trigger_tick::Model>, StoreError> {
    let mut find = trigger_tick::Entity::find()
        .filter(trigger_tick::Column::TriggerName.eq(name))
        .order_by_desc(trigger_tick::Column::Tick)
        .limit(limit);
    if let Some(before) = before {
        find = find.filter(trigger_tick::Column::Tick.lt(before));
    }
    Ok(find.all(db).await?)
}
