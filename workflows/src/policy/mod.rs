//! Policies: scripts that only decide, the facts they see and the decisions they may answer.

mod decide;
mod facts;
mod schema;

pub use decide::{Decided, PolicyError, decide};
pub use facts::{Facts, RedundancyFacts, RemainingLifeFacts, fact_names};
pub use schema::{Decision, DecisionError};
pub(crate) use schema::{action_names, fields_of};
