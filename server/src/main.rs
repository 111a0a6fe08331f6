//! The process.

pub mod store;
#[cfg(test)]
pub mod testing;

fn main() {}
