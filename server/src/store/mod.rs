//! Storage: one file per table group, the same statements on Postgres and SQLite.
//!
//! Every function takes the connection or transaction it works in and the present moment; a caller joins several of
//! them into one transaction with [`database::begin`].

#[macro_use]
mod table;

pub mod actions;
pub mod approvals;
pub mod archives;
pub mod artifacts;
pub mod assets;
pub mod audit;
pub mod builds;
pub mod cells;
pub mod children;
pub mod chores;
#[cfg(test)]
mod chosen_tests;
pub mod comparisons;
pub mod database;
pub mod dead_letters;
pub mod decisions;
pub mod designs;
pub mod dispatch;
pub mod events;
#[cfg(test)]
pub(crate) mod failpoints;
pub mod guards;
pub mod idempotency;
pub mod journal;
pub mod leases;
pub mod localities;
pub mod models;
pub mod outbox;
pub mod outcomes;
pub mod parts;
pub mod plugin_calls;
pub mod plugin_differences;
pub mod plugin_keys;
pub mod plugin_memory;
pub mod plugin_settings;
#[cfg(test)]
mod plugin_tests;
pub mod plugins;
pub mod predictions;
pub mod queues;
pub mod rates;
pub mod restarts;
pub mod retention;
pub mod rules;
pub mod runs;
pub mod scripts;
pub mod settings;
pub mod standing;
pub mod steps;
pub mod technicians;
pub mod tokens;
mod transaction;
pub mod triggers;
pub mod uploads;
pub mod windows;
pub mod work_orders;

pub use database::{Database, Page, StoreError, begin, first_id_of, new_id, sha256_hex};
pub use sea_orm::{ConnectionTrait, DatabaseConnection};
pub(crate) use table::values;
pub use transaction::DatabaseTransaction;
