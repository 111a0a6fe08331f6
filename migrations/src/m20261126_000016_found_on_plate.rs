//! What somebody found on the plate of a build that stays uncertain all the same: a part that nobody has scanned.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000016_found_on_plate"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, "ALTER TABLE build ADD COLUMN on_plate TEXT").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, "ALTER TABLE build DROP COLUMN on_plate").await
    }
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    db.execute_unprepared(sql).await.map(drop)
}
