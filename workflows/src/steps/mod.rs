//! The kinds of step: one file per kind, and the list of them.

mod redesign;
mod simulate;
mod slice;
mod step;
mod verify;

pub use redesign::Redesign;
pub use simulate::Simulate;
pub use slice::Slice;
pub use step::{DynStep, Outcome, Registry, Step, StepError, Wait};
pub use verify::Verify;
