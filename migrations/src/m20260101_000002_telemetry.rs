//! Telemetry: the names of series, their sealed blocks, and the log of samples not yet sealed.

use sea_orm_migration::prelude::*;

/// Creates the tables of the telemetry store.
#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20260101_000002_telemetry"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(series()).await?;
        manager.create_index(unique_names()).await?;
        manager.create_table(block()).await?;
        manager.create_table(log()).await?;
        manager.create_table(state()).await?;
        manager
            .execute(
                Query::insert()
                    .into_table("telemetry_state")
                    .columns(["id", "appended", "flushed"])
                    .values_panic([1.into(), 0.into(), 0.into()])
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["telemetry_state", "sample_wal", "block", "series"] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

/// One row per series; first, last and count are those of its sealed blocks.
fn series() -> TableCreateStatement {
    Table::create()
        .table("series")
        .col(ColumnDef::new("id").big_integer().not_null().primary_key())
        .col(ColumnDef::new("asset").text().not_null())
        .col(ColumnDef::new("metric").text().not_null())
        .col(ColumnDef::new("first_ms").big_integer())
        .col(ColumnDef::new("last_ms").big_integer())
        .col(ColumnDef::new("count").big_integer().not_null().default(0))
        .to_owned()
}

fn unique_names() -> IndexCreateStatement {
    Index::create()
        .name("series_asset_metric")
        .table("series")
        .col("asset")
        .col("metric")
        .unique()
        .to_owned()
}

/// Blocks of one series never overlap, so their end names them; it also finds the newest at once.
fn block() -> TableCreateStatement {
    Table::create()
        .table("block")
        .col(ColumnDef::new("series_id").big_integer().not_null())
        .col(ColumnDef::new("end_ms").big_integer().not_null())
        .col(ColumnDef::new("start_ms").big_integer().not_null())
        .col(ColumnDef::new("count").big_integer().not_null())
        .col(ColumnDef::new("min").double().not_null())
        .col(ColumnDef::new("max").double().not_null())
        .col(ColumnDef::new("sum").double().not_null())
        .col(ColumnDef::new("bytes").blob().not_null())
        .primary_key(Index::create().col("series_id").col("end_ms"))
        .to_owned()
}

/// One row per accepted batch, kept until its samples are in blocks.
fn log() -> TableCreateStatement {
    Table::create()
        .table("sample_wal")
        .col(ColumnDef::new("id").big_integer().not_null().primary_key())
        .col(ColumnDef::new("bytes").blob().not_null())
        .to_owned()
}

/// One row: how many batches were accepted, and how many of them are sealed.
/// Every writer locks it first, so the numbers of batches have no gaps and follow their commits.
fn state() -> TableCreateStatement {
    Table::create()
        .table("telemetry_state")
        .col(ColumnDef::new("id").big_integer().not_null().primary_key())
        .col(ColumnDef::new("appended").big_integer().not_null())
        .col(ColumnDef::new("flushed").big_integer().not_null())
        .to_owned()
}
