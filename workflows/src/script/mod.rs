//! Rhai behind limits: compiling scripts, values in and out, errors a person can act on, checks and tests.

mod check;
mod definitions;
pub mod duration;
mod engine;
mod error;
mod memory;
mod nearest;
pub mod shipped;
mod sites;
mod stack;
mod stop;
mod test;
pub mod value;
mod watch;

pub use check::{
    Finding, Severity, StepInput, check_policy, check_workflow, look_over_policy,
    look_over_workflow, policy_findings, test_findings, workflow_findings, workflow_name_findings,
};
pub use definitions::{policy_definitions, workflow_definitions};
use engine::is_stopped;
pub use engine::{Limits, Pause, Script};
pub(crate) use engine::{Meter, engine_for, innermost, limited_engine, metered_engine};
pub use error::ScriptError;
pub use nearest::nearest;
pub use sites::TraceWhat;
pub(crate) use sites::{Read, Root, Site, Sites};
pub use stack::{Panicked, on_big_stack};
pub use stop::{StopFlag, StopReason};
use test::register_for_checks;
pub use test::{Coverage, TestReport, TestResult, UncoveredBranch, run_tests};
pub(crate) use watch::{Branches, Seen, watch};
