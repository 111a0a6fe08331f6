//! The kinds of step: one file per kind, and the list of them.

mod act;
mod allocate;
mod fields;
mod make;
mod notify;
mod predict;
mod proposed;
mod record_outcome;
mod redesign;
mod run;
mod schedule;
mod simulate;
mod slice;
mod step;
mod swap;
mod train;
mod verify;
#[cfg(test)]
mod world;

pub use act::Act;
pub use allocate::Allocate;
pub use make::Make;
pub use notify::Notify;
pub use predict::{MODEL_KIND, Predict, predict_asset, score};
pub use record_outcome::RecordOutcome;
pub use redesign::Redesign;
pub use run::Run;
pub use schedule::Schedule;
pub use simulate::Simulate;
pub use slice::Slice;
pub use step::{DynStep, Outcome, Registry, Step, StepError, Wait};
pub use swap::Swap;
pub use train::{MODEL_MEDIA, MODEL_NAME, Train};
pub use verify::Verify;

/// Every kind of step that ships with the product; a new kind is a new file and a new line.
#[must_use]
pub fn registry() -> Registry {
    Registry::default()
        .register(Act)
        .register(Allocate)
        .register(Make)
        .register(Notify)
        .register(Predict)
        .register(RecordOutcome)
        .register(Redesign)
        .register(Run)
        .register(Schedule)
        .register(Simulate)
        .register(Slice)
        .register(Swap)
        .register(Train)
        .register(Verify)
}
