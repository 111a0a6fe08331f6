//! Forewright: one binary that serves, works, collects, makes and shows. The rooms are a library so that a benchmark
//! works through the same code as the processes.

pub mod agent;
pub mod api;
pub mod app;
pub mod artifacts;
pub mod auth;
pub mod cell;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod error;
pub mod extract;
pub mod first_token;
pub mod fleet;
pub mod host;
pub mod ingest;
pub mod jobs;
pub mod json;
pub mod links;
pub mod openapi;
pub mod plugins;
pub mod process;
pub mod queue;
pub mod rate;
pub mod router;
pub mod store;
pub mod telemetry;
#[cfg(test)]
pub mod testing;
