//! How runs hang together: begun again, started by another, continued; what undid a run; and which events a run took.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000003_durable_runs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(DOWN).await?;
        Ok(())
    }
}

const UP: &str = "
ALTER TABLE journal ADD COLUMN undo BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE run ADD COLUMN failed_position TEXT;
ALTER TABLE run ADD COLUMN restarted_from TEXT;
ALTER TABLE run ADD COLUMN restarted_position TEXT;
ALTER TABLE run ADD COLUMN parent TEXT;
ALTER TABLE run ADD COLUMN parent_position TEXT;
ALTER TABLE run ADD COLUMN depth BIGINT NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN continues TEXT;
ALTER TABLE run ADD COLUMN mailbox TEXT;
ALTER TABLE run ADD COLUMN events_after BIGINT NOT NULL DEFAULT 0;
CREATE INDEX run_by_restarted_from ON run (restarted_from) WHERE restarted_from IS NOT NULL;
CREATE INDEX run_by_parent ON run (parent, parent_position) WHERE parent IS NOT NULL;
CREATE INDEX run_by_continues ON run (continues) WHERE continues IS NOT NULL;
CREATE INDEX run_by_failed_step ON run (id) WHERE failed_position IS NOT NULL;
CREATE TABLE signal (
    seq BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    key TEXT NOT NULL
);
CREATE INDEX signal_by_key ON signal (name, key, seq);
CREATE TABLE signal_taken (
    mailbox TEXT NOT NULL,
    seq BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (mailbox, seq)
);
CREATE INDEX signal_taken_by_call ON signal_taken (run_id, position);
";

const DOWN: &str = "
DROP TABLE signal_taken;
DROP TABLE signal;
DROP INDEX run_by_failed_step;
DROP INDEX run_by_continues;
DROP INDEX run_by_parent;
DROP INDEX run_by_restarted_from;
ALTER TABLE run DROP COLUMN events_after;
ALTER TABLE run DROP COLUMN mailbox;
ALTER TABLE run DROP COLUMN continues;
ALTER TABLE run DROP COLUMN depth;
ALTER TABLE run DROP COLUMN parent_position;
ALTER TABLE run DROP COLUMN parent;
ALTER TABLE run DROP COLUMN restarted_position;
ALTER TABLE run DROP COLUMN restarted_from;
ALTER TABLE run DROP COLUMN failed_position;
ALTER TABLE journal DROP COLUMN undo;
";
