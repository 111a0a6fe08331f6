//! The `forewright` binary.

use std::process::ExitCode;

use clap::Parser;
use server::cli;

fn main() -> ExitCode {
    // One TLS provider for every client; only the first installation counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run(cli::Arguments::parse())
}
