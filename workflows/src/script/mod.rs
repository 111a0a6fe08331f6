//! Rhai behind limits: compiling scripts, values in and out, errors a person can act on, checks and tests.

pub mod duration;
mod engine;
mod error;
mod nearest;
mod stack;
pub mod value;

pub(crate) use engine::{innermost, limited_engine};
pub use engine::{Limits, Script};
pub use error::ScriptError;
pub use nearest::nearest;
pub use stack::{Panicked, on_big_stack};
