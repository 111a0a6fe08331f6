//! The history of the schema, the same on Postgres and SQLite.
//!
//! A released migration is never edited; a change is a new file and one line in [`Migrator`].

use sea_orm_migration::prelude::*;

mod m20260101_000001_loop;
pub mod m20260101_000002_telemetry;
mod m20261125_000002_rollout;
mod m20261125_000003_durable_runs;
mod m20261125_000004_queue;
mod m20261125_000005_uploads;
mod m20261125_000005b_dispatch;
mod m20261125_000006_triggers;
mod m20261125_000006b_listing;
mod m20261126_000010_retention;
mod m20261126_000011_kill_switch;
mod m20261126_000012_step_rates;
mod m20261126_000013_rated_steps;
mod m20261126_000014_waiting_keyed;
mod m20261126_000015_builds_by_state;
mod m20261126_000016_found_on_plate;
mod m20261126_000017_decision_filters;
mod m20261126_000018_leases_by_time;
mod m20261127_000019_plugins;

/// Brings a database to the newest schema.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20260101_000001_loop::Migration),
            Box::new(m20260101_000002_telemetry::Migration),
            Box::new(m20261125_000002_rollout::Migration),
            Box::new(m20261125_000003_durable_runs::Migration),
            Box::new(m20261125_000004_queue::Migration),
            Box::new(m20261125_000005_uploads::Migration),
            Box::new(m20261125_000005b_dispatch::Migration),
            Box::new(m20261125_000006_triggers::Migration),
            Box::new(m20261125_000006b_listing::Migration),
            Box::new(m20261126_000010_retention::Migration),
            Box::new(m20261126_000011_kill_switch::Migration),
            Box::new(m20261126_000012_step_rates::Migration),
            Box::new(m20261126_000013_rated_steps::Migration),
            Box::new(m20261126_000014_waiting_keyed::Migration),
            Box::new(m20261126_000015_builds_by_state::Migration),
            Box::new(m20261126_000016_found_on_plate::Migration),
            Box::new(m20261126_000017_decision_filters::Migration),
            Box::new(m20261126_000018_leases_by_time::Migration),
            Box::new(m20261127_000019_plugins::Migration),
        ]
    }
}
