//! Indexes of the lists: runs of a workflow, a page of a journal, facts about something.

use sea_orm_migration::prelude::*;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000006b_listing"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "DROP INDEX IF EXISTS event_by_subject; DROP INDEX IF EXISTS journal_by_ordinal; \
                   DROP INDEX IF EXISTS run_by_workflow;";
        run(manager, sql).await
    }
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    db.execute_unprepared(sql).await.map(drop)
}

const INDEXES: &str = "
CREATE INDEX run_by_workflow ON run (workflow, id);
CREATE INDEX journal_by_ordinal ON journal (run_id, ordinal);
CREATE INDEX event_by_subject ON event (subject, seq);
";
