//! One file per command.

pub mod agent;
