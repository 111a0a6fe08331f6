//! The process.

pub mod agent;
pub mod ingest;
pub mod telemetry;

fn main() {}
