//! Will it fail, and when: the failure prediction score (FPS), its reasons, and the life that remains.
//!
//! [`FailureModel::train`] learns from units that ran to failure, and from units still running;
//! [`FailureModel::score`] answers a calibrated probability per horizon. Nothing here knows a clock.

mod bytes;
mod evaluation;
mod features;
mod fps;
mod hazard;
mod life;
mod table;
mod training;

pub use bytes::BytesError;
pub use evaluation::{Evaluation, HorizonEvaluation, phm, rmse};
pub use fps::{Fps, LifeHours, Reason};
pub use hazard::{FailureModel, ScoreError};
pub use training::{Horizon, TrainError, Training};
