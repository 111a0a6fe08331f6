//! What to do about an asset that is about to fail, besides repairing it: actions with reason, benefit and inverse.

mod bandwidth;
mod desirability;
mod plan;

pub use bandwidth::{BandwidthError, Flow, max_min};
pub use desirability::{Place, places};
pub use plan::{Branch, Goal, Plan, Request, State, UnknownAsset, branch, plan, undo};
