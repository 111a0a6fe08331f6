//! Shapes only, until the room moves in.
pub mod anomaly;
pub mod failure;
pub mod forecast;
pub mod history;
