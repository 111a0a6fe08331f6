//! How unusual is the present, compared with a past taken as normal, and which metrics make it so?
//!
//! Two scorers vote: an isolation forest sees values that are rare one by one, the principal
//! components see metrics that no longer move together. The vote is read as a quantile of the past.

pub mod isolation_forest;
pub mod residual;
mod vote;

pub use vote::{AnomalyScore, Detector, FitError, RowError, State};
