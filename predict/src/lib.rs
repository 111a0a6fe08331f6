//! What the past says about the future, and how far to believe it.
//!
//! Pure numerics, usable without the server: no clock, no network, no global state. The same input and
//! seed give the same bytes, whatever the number of threads. In reading order:
//!
//! * [`series`] puts irregular samples onto a regular grid; [`history`] is what one unit lived through.
//! * [`failure`] learns from such histories and answers the failure prediction score (FPS): a
//!   calibrated probability per horizon, its reasons, and quantiles of the remaining life.
//! * [`forecast`] continues one metric, with quantiles, by the model that proved itself on it.
//! * [`anomaly`] says how unusual the present is, and which metrics make it so.
//! * [`calibrate`] makes the numbers mean what they say; [`backtest`] judges models, lets them serve,
//!   and holds the pinned protocols on public data; [`gbdt`] are the boosted trees underneath.
//! * [`codec`] packs samples without loss; [`wear`] is the documented model of fan trays that stands
//!   in for history nobody recorded; [`rng`] is the only randomness.
//!
//! # From samples to a failure prediction score
//!
//! ```
//! use std::ops::ControlFlow;
//! use predict::failure::{FailureModel, Training};
//! use predict::history::UnitHistory;
//! use predict::series::{Grid, Samples, resample};
//!
//! // A fleet of the past, each fan run to failure (here: from the wear model), and a failure model.
//! let fleet = predict::wear::fleet(1, 6, &[0.4, 0.7]);
//! let training = Training { window: 24, cap: 720.0, ..Training::default() };
//! let (model, evaluation) =
//!     FailureModel::train(&fleet, &training, &mut |_done| ControlFlow::Continue(()))?;
//! assert!(evaluation.horizons.iter().all(|horizon| horizon.reliability.n > 0));
//!
//! // Samples of a fan in service, as they came: one metric every seven minutes or so.
//! let grid = Grid { start_ms: 0, step_ms: 3_600_000, count: 30, hold_ms: 7_200_000 };
//! let mut rows = vec![Vec::new(); grid.count];
//! for metric in model.metrics() {
//!     let column = predict::wear::METRICS.iter().position(|own| own == metric);
//!     let typical = [0.8, 55.0, 1.4, 5400.0, 0.55][column.expect("a fan's metric")];
//!     let times_ms: Vec<i64> = (0..300).map(|i| i * 420_000 + i % 13 * 1000).collect();
//!     let values = times_ms.iter().map(|&time| typical * (1.0 + 0.02 * (time as f64).sin()));
//!     let samples = Samples { values: values.collect(), times_ms };
//!     for (row, value) in rows.iter_mut().zip(resample(&samples, &grid)?) {
//!         row.push(value);
//!     }
//! }
//! let fan = UnitHistory {
//!     unit: "fan-7".into(),
//!     step_ms: grid.step_ms,
//!     metrics: model.metrics().to_vec(),
//!     rows,
//!     failed: false,
//! };
//!
//! // Its failure prediction score: a probability per horizon, and why.
//! let fps = model.score(&fan)?;
//! assert!(fps.by_horizon["1d"] <= fps.by_horizon["7d"]);
//! assert!(fps.by_horizon["7d"] <= fps.by_horizon["30d"]);
//! assert!(!fps.reasons.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
