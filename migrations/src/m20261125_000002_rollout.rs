//! Revisions get a state, decisions say what stood in their way, and what two revisions answered is compared.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000002_rollout"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["policy_revision", "workflow_revision"] {
            db.execute_unprepared(&STATES.replace("TABLE_NAME", table))
                .await?;
        }
        db.execute_unprepared(DECISIONS).await?;
        db.execute_unprepared(COMPARISONS).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["policy_revision", "workflow_revision"] {
            db.execute_unprepared(&NO_STATES.replace("TABLE_NAME", table))
                .await?;
        }
        db.execute_unprepared(UNDO).await?;
        Ok(())
    }
}

/// `served_at` is when a revision last began to serve; `good` is false once somebody rolled back from it.
const STATES: &str = "
ALTER TABLE TABLE_NAME ADD COLUMN state TEXT NOT NULL DEFAULT 'draft';
ALTER TABLE TABLE_NAME ADD COLUMN percent BIGINT;
ALTER TABLE TABLE_NAME ADD COLUMN served_at BIGINT;
ALTER TABLE TABLE_NAME ADD COLUMN good BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE TABLE_NAME ADD COLUMN tests TEXT;
UPDATE TABLE_NAME SET state = CASE WHEN active THEN 'active' ELSE 'retired' END, served_at = created_at;
DROP INDEX TABLE_NAME_active;
ALTER TABLE TABLE_NAME DROP COLUMN active;
CREATE UNIQUE INDEX TABLE_NAME_standing ON TABLE_NAME (name, state)
    WHERE state IN ('active', 'canary', 'shadow');
";

const NO_STATES: &str = "
ALTER TABLE TABLE_NAME ADD COLUMN active BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE TABLE_NAME SET active = (state = 'active');
DROP INDEX TABLE_NAME_standing;
ALTER TABLE TABLE_NAME DROP COLUMN state;
ALTER TABLE TABLE_NAME DROP COLUMN percent;
ALTER TABLE TABLE_NAME DROP COLUMN served_at;
ALTER TABLE TABLE_NAME DROP COLUMN good;
ALTER TABLE TABLE_NAME DROP COLUMN tests;
CREATE UNIQUE INDEX TABLE_NAME_active ON TABLE_NAME (name) WHERE active;
";

const DECISIONS: &str = "
ALTER TABLE decision ADD COLUMN stopped_by TEXT;
ALTER TABLE decision ADD COLUMN fell_back TEXT;
CREATE INDEX decision_by_policy ON decision (policy, id);
";

/// `dedup` keeps, for each key, the run that stands for what comes under it, and how much has come since.
const COMPARISONS: &str = "
CREATE TABLE comparison (
    id TEXT PRIMARY KEY,
    decision_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    asset TEXT NOT NULL,
    at BIGINT NOT NULL,
    before_revision TEXT NOT NULL,
    revision TEXT NOT NULL,
    role TEXT NOT NULL,
    before_outcome TEXT NOT NULL,
    outcome TEXT NOT NULL,
    flipped BOOLEAN NOT NULL,
    failed BOOLEAN NOT NULL
);
CREATE INDEX comparison_by_revision ON comparison (policy, revision, id);
CREATE INDEX comparison_by_decision ON comparison (decision_id);
CREATE TABLE dedup (
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    until BIGINT NOT NULL,
    suppressed BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (workflow, key)
);
";

const UNDO: &str = "
DROP INDEX decision_by_policy;
ALTER TABLE decision DROP COLUMN stopped_by;
ALTER TABLE decision DROP COLUMN fell_back;
DROP TABLE comparison;
DROP TABLE dedup;
";
