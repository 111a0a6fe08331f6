//! Steps that wait for what they began are found by their concurrency key, which they have meanwhile.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000014_waiting_keyed"
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
CREATE INDEX step_waiting_keyed ON step (concurrency_key)
    WHERE state = 'ready' AND waiting_for IS NOT NULL AND concurrency_key IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX step_waiting_keyed;
";
