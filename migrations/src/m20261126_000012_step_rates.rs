//! Rates of steps: how many of a key are started in a time, and when the last ones were.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000012_step_rates"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, DOWN).await
    }
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    db.execute_unprepared(sql).await.map(drop)
}

/// A start counts until `until`, the period of its rate later; it is a claim, so its fence tells it from others.
const UP: &str = "
ALTER TABLE step ADD COLUMN rate_key TEXT;
ALTER TABLE step ADD COLUMN rate_limit BIGINT;
ALTER TABLE step ADD COLUMN rate_period_ms BIGINT;
CREATE TABLE step_start (
    step TEXT NOT NULL,
    fence BIGINT NOT NULL,
    rate_key TEXT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (step, fence)
);
CREATE INDEX step_start_by_key ON step_start (rate_key, until);
CREATE INDEX step_start_by_end ON step_start (until);
";

const DOWN: &str = "
DROP TABLE step_start;
ALTER TABLE step DROP COLUMN rate_period_ms;
ALTER TABLE step DROP COLUMN rate_limit;
ALTER TABLE step DROP COLUMN rate_key;
";
