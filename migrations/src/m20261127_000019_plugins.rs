//! Plugins: their versions and settings, who vouches for them, how their calls went and what they remember.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261127_000019_plugins"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let bytes = match manager.get_database_backend() {
            DbBackend::Postgres => "BYTEA",
            _ => "BLOB",
        };
        let sql = PLUGINS.replace("BYTES", bytes);
        manager.get_connection().execute_unprepared(&sql).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "DROP TABLE plugin_difference; DROP TABLE plugin_memory; DROP TABLE plugin_call; \
                   DROP TABLE plugin_key; DROP TABLE plugin_version; DROP TABLE plugin_settings";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }
}

const PLUGINS: &str = "
CREATE TABLE plugin_settings (
    plugin TEXT PRIMARY KEY,
    granted TEXT NOT NULL,
    config TEXT NOT NULL,
    asset_kinds TEXT NOT NULL,
    crash_policy TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE TABLE plugin_version (
    id TEXT PRIMARY KEY,
    plugin TEXT NOT NULL,
    version TEXT NOT NULL,
    world TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    signer TEXT,
    state TEXT NOT NULL,
    percent BIGINT,
    reason TEXT,
    since BIGINT NOT NULL,
    report TEXT,
    fence BIGINT NOT NULL DEFAULT 0,
    leased_until BIGINT,
    examinations BIGINT NOT NULL DEFAULT 0,
    calls BIGINT NOT NULL DEFAULT 0,
    failures BIGINT NOT NULL DEFAULT 0,
    failures_in_a_row BIGINT NOT NULL DEFAULT 0,
    uploaded_by TEXT NOT NULL,
    uploaded_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX plugin_version_named ON plugin_version (plugin, version);
CREATE UNIQUE INDEX plugin_version_alone ON plugin_version (plugin, state)
    WHERE state IN ('canary', 'active');
CREATE INDEX plugin_version_to_examine ON plugin_version (uploaded_at)
    WHERE state IN ('uploaded', 'compiling', 'checking');
CREATE TABLE plugin_key (
    name TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX plugin_key_once ON plugin_key (public_key);
CREATE TABLE plugin_call (
    id TEXT PRIMARY KEY,
    version_id TEXT NOT NULL REFERENCES plugin_version (id),
    at BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    code TEXT,
    failure TEXT,
    log TEXT NOT NULL,
    used TEXT NOT NULL,
    recording BYTES
);
CREATE INDEX plugin_call_of ON plugin_call (version_id, id);
CREATE TABLE plugin_memory (
    plugin TEXT NOT NULL,
    name TEXT NOT NULL,
    value BYTES,
    version BIGINT NOT NULL,
    PRIMARY KEY (plugin, name)
);
CREATE TABLE plugin_difference (
    version_id TEXT NOT NULL REFERENCES plugin_version (id),
    asset TEXT NOT NULL,
    at BIGINT NOT NULL,
    other TEXT NOT NULL,
    own TEXT NOT NULL,
    theirs TEXT NOT NULL,
    largest DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (version_id, asset)
);
CREATE INDEX plugin_difference_largest ON plugin_difference (version_id, largest);
";
