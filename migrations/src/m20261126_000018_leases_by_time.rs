//! Leases by when they run out, so that a look reads no others, and their concurrency keys apart.
//!
//! A heartbeat moves its step's entry, every few seconds; everything else of a step that has no key is as cheap as before.
//!
//! A step has `lease_until` while it is leased. The index says so by that column and not by the state, so that no statement
//! about single steps that are leased fits it: after a vacuum Postgres takes the index for the quicker way to one of them,
//! and beside a transaction that stays open it holds every lease there was.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000018_leases_by_time"
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

const UP: &str = "
DROP INDEX step_leased;
CREATE INDEX step_lease_until ON step (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX step_leased_keyed ON step (concurrency_key)
    WHERE state = 'leased' AND concurrency_key IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX step_leased_keyed;
DROP INDEX step_lease_until;
CREATE INDEX step_leased ON step (concurrency_key) WHERE state = 'leased';
";
