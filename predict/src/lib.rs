//! What the past says about the future, and how far to believe it.

pub mod anomaly;
pub mod backtest;
pub mod calibrate;
pub mod codec;
pub mod failure;
pub mod forecast;
pub mod gbdt;
pub mod history;
mod linalg;
pub mod rng;
pub mod series;
pub mod wear;

/// Told the share done (0..1) of a long computation; answers whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(f64) -> std::ops::ControlFlow<()>;
