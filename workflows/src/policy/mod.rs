//! Policies: scripts that only decide, the facts they see and the decisions they may answer.

mod decide;
mod explain;
mod facts;
mod forecast;
mod schema;

pub use decide::{Decided, Decider, PolicyError, decide};
pub use explain::{Difference, Explained, TraceStep, TraceWhat, explain, first_difference};
pub use facts::{Facts, RedundancyFacts, RemainingLifeFacts, fact_names};
pub use forecast::{Forecast, forecast};
pub use schema::{Decision, DecisionError};
pub(crate) use schema::{action_names, fields_of};
