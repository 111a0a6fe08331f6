//! Forewright: one binary that serves, works, collects, makes and shows.

mod agent;
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
mod host;
mod ingest;
mod jobs;
mod openapi;
mod process;
mod queue;
mod router;
mod store;
mod telemetry;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // One TLS provider for every client; only the first installation counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run(cli::Arguments::parse())
}
