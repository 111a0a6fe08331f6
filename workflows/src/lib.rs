//! The domain: what we know, what it means, what should happen next. No I/O, no clock, no async.

pub mod allocate;
pub mod build;
pub mod demo;
pub mod host;
pub mod model;
pub mod policy;
pub mod run;
pub mod schedule;
pub mod script;
pub mod steps;
pub mod twin;
