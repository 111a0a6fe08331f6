//! The kinds of step: one file per kind, and the list of them.

mod step;

pub use step::{DynStep, Outcome, Registry, Step, StepError, Wait};
