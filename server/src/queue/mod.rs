//! The queue: a fenced claim on the `step` table, and the apalis backend that hands claimed steps to workers.

mod backend;
mod claim;
mod finish;
mod finisher;
mod heartbeat;
mod line;
mod listen;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod rate_tests;
mod settings;

pub use backend::{Place, StepBackend, Taken};
pub use claim::{Claimed, Expired, claim, claim_keyed, expire, release};
pub use finish::{Advance, Finished, advance, answer_if_over, complete, fail, hold, park};
pub use finisher::{Finisher, Recording};
pub use heartbeat::{Heartbeat, Held};
pub use listen::Queue;
pub use settings::{Clock, LeaseSettings};
