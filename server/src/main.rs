//! The process.

pub mod queue;
pub mod store;
#[cfg(test)]
pub mod testing;

fn main() {}
