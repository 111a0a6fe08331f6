//! What is no longer kept: runs that were archived, and the order in which the rest is looked through.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000010_retention"
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

/// A run whose `archived_at` is set is gone for everybody; its rows are removed a few at a time. `digest` is absent
/// where no archive was wanted; such a row goes with the last of the run.
const UP: &str = "
ALTER TABLE run ADD COLUMN archived_at BIGINT;
CREATE INDEX run_archived ON run (id) WHERE archived_at IS NOT NULL;
CREATE INDEX run_by_decision ON run (decision) WHERE decision IS NOT NULL;
CREATE TABLE run_archive (
    id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    revision TEXT NOT NULL,
    state TEXT NOT NULL,
    asset TEXT,
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    digest TEXT,
    size_bytes BIGINT NOT NULL,
    archived_at BIGINT NOT NULL
);
CREATE INDEX run_archive_by_workflow ON run_archive (workflow, id);
CREATE INDEX run_archive_by_asset ON run_archive (asset, id);
CREATE INDEX signal_taken_by_seq ON signal_taken (seq);
CREATE INDEX idempotency_by_age ON idempotency (created_at);
CREATE INDEX dedup_by_end ON dedup (until);
CREATE INDEX outbox_told ON outbox (created_at) WHERE state <> 'waiting';
";

const DOWN: &str = "
DROP INDEX outbox_told;
DROP INDEX dedup_by_end;
DROP INDEX idempotency_by_age;
DROP INDEX signal_taken_by_seq;
DROP TABLE run_archive;
DROP INDEX run_by_decision;
DROP INDEX run_archived;
ALTER TABLE run DROP COLUMN archived_at;
";
