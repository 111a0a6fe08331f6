//! The kinds of step: one file per kind, and the list of them.

mod allocate;
mod make;
mod notify;
mod predict;
mod record_outcome;
mod schedule;
mod step;
mod swap;
mod train;
#[cfg(test)]
mod world;

pub use allocate::Allocate;
pub use make::Make;
pub use notify::Notify;
pub use predict::Predict;
pub use record_outcome::RecordOutcome;
pub use schedule::Schedule;
pub use step::{DynStep, Outcome, Registry, Step, StepError, Wait};
pub use swap::Swap;
pub use train::Train;
