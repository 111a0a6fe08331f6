//! Durable runs: the journal, the calls a script may make, the replay, and the states of a run.
//!
//! ```
//! use serde_json::json;
//! use workflows::{
//!     model::Timestamp,
//!     run::{CallOutcome, Ending, Journal, Progress, ReplayContext, replay},
//!     script::{Limits, Script},
//! };
//!
//! let script = Script::compile("greet", r#"fn run(event) { step("notify", event).sent }"#).unwrap();
//! let limits = Limits::workflow();
//! let ctx = ReplayContext { run: "r1", now: Timestamp(0), seed: 1, cancelled: false, limits: &limits };
//! let event = json!({ "subject": "hello" });
//! let mut journal = Journal::default();
//!
//! // The first replay asks for a step and suspends.
//! let Progress::Suspended { new, calls, .. } = replay(&script, &event, &journal, &ctx) else { panic!() };
//! new.into_iter().for_each(|entry| { journal.insert(entry); });
//!
//! // Somebody, somewhere, some day runs the step; the next replay finds the answer and goes on.
//! journal.answer(calls[0].position(), CallOutcome::Ok(json!({ "sent": true })));
//! let Progress::Ended { ending, .. } = replay(&script, &event, &journal, &ctx) else { panic!() };
//! assert_eq!(ending, Ending::Succeeded { result: json!(true) });
//! ```

mod calls;
#[cfg(test)]
mod cancel_tests;
mod cron;
mod cron_field;
mod host;
mod journal;
#[cfg(test)]
mod limit_tests;
pub mod machine;
mod position;
mod rate;
mod replay;
mod restart;
#[cfg(test)]
mod restart_tests;
pub mod step_machine;
#[cfg(test)]
mod step_model;
#[cfg(test)]
mod tests;
pub mod trigger;
pub mod why;

pub(crate) use calls::STEP_OPTIONS;
pub use calls::{Call, QUEUES, ROLES, StepOptions, WaitingFor};
pub use cron::{Cron, zone_named};
pub use cron_field::CronError;
pub(crate) use host::FUNCTIONS;
pub(crate) use journal::TIMEOUT;
pub use journal::{
    CallOutcome, Entry, INLINE_LIMIT_BYTES, Journal, StepFailure, inline_stored, outline_large,
};
pub use position::Position;
pub use rate::{Rate, RateError};
pub use replay::{Divergence, Ending, Progress, ReplayContext, RunFailure, Side, replay};
pub use restart::{Kept, RestartError, Told, take_over};
