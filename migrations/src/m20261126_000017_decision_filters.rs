//! Indexes of decisions by what was decided and by what stopped them: whoever looks for the few that start a run, or did
//! not, passes over all that watch.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000017_decision_filters"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (action, guard) = match manager.get_database_backend() {
            DatabaseBackend::Postgres => (
                "(verdict::json ->> 'action')",
                "(stopped_by::json ->> 'guard')",
            ),
            _ => (
                "json_extract(verdict, '$.action')",
                "json_extract(stopped_by, '$.guard')",
            ),
        };
        let sql = format!(
            "CREATE INDEX decision_by_action ON decision ({action}, id);
             CREATE INDEX decision_by_guard ON decision ({guard}, id) WHERE stopped_by IS NOT NULL;
             CREATE INDEX decision_stopped ON decision (id) WHERE stopped_by IS NOT NULL;"
        );
        run(manager, &sql).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "DROP INDEX decision_stopped; DROP INDEX decision_by_guard; \
                   DROP INDEX decision_by_action;";
        run(manager, sql).await
    }
}

async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    db.execute_unprepared(sql).await.map(drop)
}
