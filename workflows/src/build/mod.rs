//! Builds: what may become of one, and which cell can make it.

pub mod fit;
pub mod machine;
