//! Rhai behind limits: compiling scripts, values in and out, errors a person can act on, checks and tests.

mod check;
mod definitions;
pub mod duration;
mod engine;
mod error;
mod memory;
mod nearest;
pub mod shipped;
mod stack;
mod test;
pub mod value;

pub use check::{check_policy, check_workflow};
pub use definitions::{policy_definitions, workflow_definitions};
pub use engine::{Limits, Script};
pub(crate) use engine::{innermost, limited_engine};
pub use error::ScriptError;
pub use nearest::nearest;
pub use stack::{Panicked, on_big_stack};
pub use test::{TestReport, TestResult, run_tests};
