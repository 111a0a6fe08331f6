//! When cells may take and start builds: rules of cells, groups that heat together, and the order builds are taken in.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000005b_dispatch"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(DISPATCH)
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "DROP TABLE IF EXISTS cell_rules; DROP TABLE IF EXISTS heat_group; \
                   ALTER TABLE build DROP COLUMN priority";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }
}

const DISPATCH: &str = "
CREATE TABLE heat_group (
    name TEXT PRIMARY KEY,
    limits TEXT NOT NULL,
    last_start_at BIGINT
);
CREATE TABLE cell_rules (
    cell TEXT PRIMARY KEY REFERENCES cell (id),
    heat_group TEXT REFERENCES heat_group (name),
    rules TEXT NOT NULL
);
CREATE INDEX cell_rules_group ON cell_rules (heat_group);
ALTER TABLE build ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
";
