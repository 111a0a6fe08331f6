//! The process.

pub mod host;
pub mod jobs;
pub mod queue;
pub mod store;
#[cfg(test)]
pub mod testing;

fn main() {}
