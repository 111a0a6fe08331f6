//! Builds: what may become of one, and which cell can make it.

pub mod dispatch;
pub mod fit;
pub mod machine;
#[cfg(test)]
mod model;
pub mod rules;
