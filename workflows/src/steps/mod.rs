//! The kinds of step: one file per kind, and the list of them.

mod allocate;
mod make;
mod notify;
mod predict;
mod record_outcome;
mod redesign;
mod schedule;
mod simulate;
mod slice;
mod step;
mod swap;
<<<<<<< HEAD
mod verify;
=======
mod train;
>>>>>>> eb2c47c0a34a65c00079f92ae10c4701c6fac207
#[cfg(test)]
mod world;

pub use allocate::Allocate;
pub use make::Make;
pub use notify::Notify;
pub use predict::Predict;
pub use record_outcome::RecordOutcome;
pub use redesign::Redesign;
pub use schedule::Schedule;
pub use simulate::Simulate;
pub use slice::Slice;
pub use step::{DynStep, Outcome, Registry, Step, StepError, Wait};
pub use swap::Swap;
<<<<<<< HEAD
pub use verify::Verify;
=======
pub use train::Train;
>>>>>>> eb2c47c0a34a65c00079f92ae10c4701c6fac207
