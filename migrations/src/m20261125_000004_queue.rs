//! The queue: what keeps steps apart, the order they are claimed in, and how many ended when.
//!
//! The place in line is `run_at - priority * 60000`: a point of priority is worth a minute of waiting. Indexes name no
//! column that a heartbeat writes, so a heartbeat stays within its page.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000004_queue"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(UP).await?;
        if db.get_database_backend() == DbBackend::Postgres {
            db.execute_unprepared(UP_POSTGRES).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Postgres {
            db.execute_unprepared(DOWN_POSTGRES).await?;
        }
        db.execute_unprepared(DOWN).await?;
        Ok(())
    }
}

const UP: &str = "
ALTER TABLE step ADD COLUMN concurrency_key TEXT;
ALTER TABLE step ADD COLUMN concurrency_limit BIGINT NOT NULL DEFAULT 1;
ALTER TABLE step ADD COLUMN idempotency_key TEXT;
DROP INDEX step_ready;
CREATE INDEX step_ready ON step (queue, (run_at - priority * 60000), run_at, id)
    WHERE state = 'ready' AND concurrency_key IS NULL;
CREATE INDEX step_ready_keyed ON step (queue, run_at)
    WHERE state = 'ready' AND concurrency_key IS NOT NULL;
DROP INDEX step_leased;
CREATE INDEX step_leased ON step (concurrency_key) WHERE state = 'leased';
CREATE INDEX step_by_idempotency ON step (kind, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TABLE queue_tick (
    queue TEXT NOT NULL,
    tick BIGINT NOT NULL,
    done BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    PRIMARY KEY (queue, tick)
);
";

/// Room in each page for the versions of a row, and a vacuum before dead ones are in the way of a claim.
const UP_POSTGRES: &str = "
ALTER TABLE step SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE journal SET (fillfactor = 80);
ALTER TABLE queue_tick SET (fillfactor = 50);
";

const DOWN: &str = "
DROP TABLE queue_tick;
DROP INDEX step_by_idempotency;
DROP INDEX step_leased;
DROP INDEX step_ready_keyed;
DROP INDEX step_ready;
CREATE INDEX step_ready ON step (queue, priority DESC, run_at, id) WHERE state = 'ready';
CREATE INDEX step_leased ON step (lease_until) WHERE state = 'leased';
ALTER TABLE step DROP COLUMN idempotency_key;
ALTER TABLE step DROP COLUMN concurrency_limit;
ALTER TABLE step DROP COLUMN concurrency_key;
";

const DOWN_POSTGRES: &str = "
ALTER TABLE step RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
    autovacuum_analyze_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE journal RESET (fillfactor);
";
