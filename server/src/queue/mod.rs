//! The queue: a fenced claim on the `step` table, and the apalis backend that hands claimed steps to workers.

mod backend;
mod claim;
mod finish;
mod heartbeat;
mod line;
mod listen;
mod settings;

pub use backend::{StepBackend, Taken};
pub use claim::{Claimed, Expired, claim, expire, release};
pub use finish::{Advance, Finished, advance, complete, fail, hold, park};
pub use heartbeat::{Heartbeat, Held};
pub use listen::Queue;
pub use settings::{Clock, LeaseSettings};
