//! Forewright: one binary that serves, works, collects, makes and shows.

pub mod agent;
mod api;
mod app;
mod artifacts;
mod auth;
mod cell;
mod cli;
mod client;
mod clock;
mod config;
mod dashboard;
mod error;
mod extract;
mod fleet;
pub mod host;
pub mod ingest;
pub mod jobs;
mod openapi;
mod process;
pub mod queue;
mod router;
pub mod store;
pub mod telemetry;
#[cfg(test)]
pub mod testing;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One TLS provider for every client; only the first installation counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run(cli::Arguments::parse())
}
