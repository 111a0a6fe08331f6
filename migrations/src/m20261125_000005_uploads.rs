//! Uploads that can be resumed: what was announced, and the pieces that have arrived.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::ConnectionTrait;

/// See the file's documentation.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000005_uploads"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UPLOADS).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = "DROP TABLE IF EXISTS upload_piece; DROP TABLE IF EXISTS upload";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }
}

const UPLOADS: &str = "
CREATE TABLE upload (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    media TEXT NOT NULL,
    received_bytes BIGINT NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX upload_open ON upload (owner, digest) WHERE state = 'open';
CREATE INDEX upload_expires ON upload (expires_at);
CREATE TABLE upload_piece (
    upload TEXT NOT NULL REFERENCES upload (id),
    at_byte BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (upload, at_byte)
);
";
