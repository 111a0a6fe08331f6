//! The queue: a fenced claim on the `step` table, and the apalis backend that hands claimed steps to workers.

mod backend;
mod claim;
mod desk;
mod expire;
mod finish;
mod finisher;
mod floor;
mod heartbeat;
mod line;
mod listen;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod rate_tests;
mod settings;

pub use backend::StepBackend;
#[cfg(test)]
pub use claim::claim;
pub use claim::{Claimed, claim_advances, claim_from, claim_keyed, claim_parked, release};
pub use desk::{Place, PutBy, Taken};
#[cfg(test)]
pub use expire::expire;
pub use expire::{Looks, Span, exhausted, first_left, give_up_exhausted, ran_out, take_back};
pub use finish::{
    Advance, Finished, advance, answer_if_over, complete, end, fail, hold, park, say_why, tell_end,
};
pub use finisher::{Finisher, Recording};
pub use floor::Floor;
pub(crate) use floor::RECENT_MS;
pub use heartbeat::{Heartbeat, Held};
pub use listen::Queue;
pub use settings::{Clock, LeaseSettings};
