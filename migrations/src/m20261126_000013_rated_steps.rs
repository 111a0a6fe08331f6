//! Steps with a rate get indexes of their own: those a rate holds up, however many, are passed over by their key.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000013_rated_steps"
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
DROP INDEX step_ready_keyed;
CREATE INDEX step_ready_keyed ON step (queue, run_at)
    WHERE state = 'ready' AND concurrency_key IS NOT NULL AND rate_key IS NULL;
CREATE INDEX step_ready_rated ON step (rate_key, queue, (run_at - priority * 60000), run_at, id)
    WHERE state = 'ready' AND rate_key IS NOT NULL;
CREATE INDEX step_ready_woken ON step (queue, run_at)
    WHERE state = 'ready' AND rate_key IS NOT NULL AND waiting_for IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX step_ready_woken;
DROP INDEX step_ready_rated;
DROP INDEX step_ready_keyed;
CREATE INDEX step_ready_keyed ON step (queue, run_at)
    WHERE state = 'ready' AND concurrency_key IS NOT NULL;
";
