//! Indexes of builds: a page of those in one state, and the plates that nobody has looked at.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000015_builds_by_state"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(
            manager,
            "DROP INDEX build_uncertain; DROP INDEX build_by_state;",
        )
        .await
    }
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    db.execute_unprepared(sql).await.map(drop)
}

const INDEXES: &str = "
CREATE INDEX build_by_state ON build (state, id);
CREATE INDEX build_uncertain ON build (cell) WHERE state = 'uncertain';
";
