//! The process.

pub mod agent;
pub mod cli;
pub mod ingest;
pub mod telemetry;

fn main() {}
