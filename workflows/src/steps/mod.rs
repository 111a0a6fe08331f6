//! The kinds of step: one file per kind, and the list of them.

mod allocate;
mod make;
mod notify;
mod record_outcome;
mod redesign;
mod schedule;
mod simulate;
mod slice;
mod step;
mod swap;
mod verify;
#[cfg(test)]
mod world;

pub use allocate::Allocate;
pub use make::Make;
pub use notify::Notify;
pub use record_outcome::RecordOutcome;
pub use redesign::Redesign;
pub use schedule::Schedule;
pub use simulate::Simulate;
pub use slice::Slice;
pub use step::{DynStep, Outcome, Registry, Step, StepError, Wait};
pub use swap::Swap;
pub use verify::Verify;
