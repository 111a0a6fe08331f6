//! Triggers: workflows started by the clock, and what became of each tick.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000006_triggers"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(TABLES)
            .await
            .map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "DROP TABLE IF EXISTS trigger_tick; DROP TABLE IF EXISTS cron_trigger;";
        manager
            .get_connection()
            .execute_unprepared(sql)
            .await
            .map(drop)
    }
}

/// `due` is the next tick and its jitter. A tick is open while it is queued, or its run goes on.
const TABLES: &str = "
CREATE TABLE cron_trigger (
    name TEXT PRIMARY KEY,
    cron TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    workflow TEXT NOT NULL,
    event TEXT NOT NULL,
    missed TEXT NOT NULL,
    overlap TEXT NOT NULL,
    jitter_s BIGINT NOT NULL,
    paused BOOLEAN NOT NULL,
    next_tick BIGINT,
    due BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX cron_trigger_due ON cron_trigger (due) WHERE NOT paused;
CREATE TABLE trigger_tick (
    trigger_name TEXT NOT NULL,
    tick BIGINT NOT NULL,
    state TEXT NOT NULL,
    passed_over BIGINT NOT NULL,
    reason TEXT,
    run_id TEXT,
    is_open BOOLEAN NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (trigger_name, tick)
);
CREATE INDEX trigger_tick_open ON trigger_tick (trigger_name, tick) WHERE is_open;
CREATE INDEX trigger_tick_by_time ON trigger_tick (at);
";
