//! Maintenance windows: the one that hurts least, and what to do when nobody is free.
//!
//! [`propose()`] is pure: everything it weighs is in the [`Request`], and each answer went through the independent
//! [`check()`] before it is given.

mod alternatives;
mod baseline;
mod calendar;
mod check;
mod crew;
mod elsewhere;
mod propose;
mod request;
mod risk;

pub use baseline::{Baseline, baseline};
pub use calendar::{CalendarError, Span, hour_of_week, shifts_between, spoken};
pub use check::{Fault, check};
pub use elsewhere::{Choice, NoChoice, choice, chosen};
pub use propose::{Candidate, Cost, Proposal, Rejection, ScheduleError, propose};
pub use request::{Busy, Costs, GRID_MS, Group, HORIZON_MS, ImpactProfile, Request};
pub use risk::RiskCurve;

#[cfg(test)]
mod tests;
