//! The domain: what we know, what it means, what should happen next. No I/O, no clock, no async.

pub mod build;
pub mod host;
pub mod model;
pub mod policy;
pub mod run;
pub mod script;
pub mod steps;
