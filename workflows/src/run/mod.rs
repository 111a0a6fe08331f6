//! Durable runs: the journal, the calls a script may make, the replay, and the states of a run.

mod calls;
mod host;
mod journal;
pub mod machine;
mod position;
mod replay;

pub use calls::{Call, StepOptions, WaitingFor};
pub(crate) use host::FUNCTIONS;
pub use journal::{
    CallOutcome, Entry, INLINE_LIMIT_BYTES, Journal, StepFailure, inline_stored, outline_large,
};
pub use position::Position;
pub use replay::{Divergence, Ending, Progress, ReplayContext, RunFailure, Side, replay};
