//! Policies: scripts that only decide, the facts they see and the decisions they may answer.

mod decide;
mod explain;
mod facts;
mod flips;
mod forecast;
mod given;
mod guard;
mod rollout;
mod schema;

pub use decide::{DECISION_TIME, Decided, Decider, PolicyError, decide};
pub use explain::{Difference, Explained, TraceStep, TraceWhat, explain, first_difference};
pub use facts::{Facts, RedundancyFacts, RemainingLifeFacts, fact_names};
pub use flips::{
    Answered, DayCount, Flip, Outcome, Recorded, Replayed, Reply, Unreadable, read_facts, replay,
};
pub use forecast::{Forecast, forecast};
pub use guard::{
    Crowd, Guard, GuardSettings, KillSwitch, Situation, StandsFor, Stopped, stopped_by,
};
pub use rollout::{
    Asked, Comparison, Failed, MoveError, Panel, RevisionState, Seat, check_move, in_share,
};
pub use schema::{Decision, DecisionError};
pub(crate) use schema::{action_names, fields_of};
