//! Judging models: on rolling origins, at the gate that decides who serves, and on pinned public data.

pub mod ai4i;
pub mod cmapss;
pub mod gate;
pub mod rolling_origin;
