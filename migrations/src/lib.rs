//! The history of the schema, the same on Postgres and SQLite.

pub mod m20260101_000002_telemetry;
