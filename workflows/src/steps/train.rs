//! `train`: learns a model from the histories of all assets of a kind.

use predict::failure::{Evaluation, FailureModel, TrainError, Training};
use predict::history::UnitHistory;
use serde::{Deserialize, Serialize};

use super::predict::MODEL_KIND;
use super::{Outcome, Step, StepError};
use crate::host::Host;
use crate::model::NewModel;

/// The media type of a model's bytes.
pub const MODEL_MEDIA: &str = "application/vnd.forewright.failure-model";
/// The name that they are kept under.
pub const MODEL_NAME: &str = "failure_model.bin";
/// Assets that live longer than this (hours, median) are told apart up to the longest horizon.
const LONG_LIFE_HOURS: f64 = 400.0;
const LONG_CAP_HOURS: f64 = 720.0;

/// Trains a failure model and registers it.
pub struct Train;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct TrainInput {
    /// What the model predicts; `failure`.
    pub kind: String,
    /// The kind of asset it is for.
    pub asset_kind: String,
    /// Seed of folds and samples; the run's where it is missing.
    #[serde(default)]
    pub seed: Option<u64>,
    /// How many rows it looks back.
    #[serde(default)]
    pub window: Option<usize>,
    /// Remaining life in hours beyond which assets are not told apart.
    #[serde(default)]
    pub cap_hours: Option<f64>,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainOutput {
    /// The model's id in the registry.
    pub model: String,
    /// Digest of its bytes.
    pub digest: String,
    /// How it did on assets it had not seen.
    pub evaluation: Evaluation,
}

impl Step for Train {
    const KIND: &'static str = "train";
    // Computes for minutes, like the steps it shares the queue with.
    const QUEUE: &'static str = "cad";
    type Input = TrainInput;
    type Output = TrainOutput;

    fn run(&self, input: TrainInput, host: &dyn Host) -> Result<Outcome<TrainOutput>, StepError> {
        if input.kind != MODEL_KIND {
            return Err(StepError::failed(
                "unknown_model_kind",
                format_args!(
                    "model kind `{}` is unknown; `{MODEL_KIND}` is known",
                    input.kind
                ),
            ));
        }
        let histories = host.histories(&input.asset_kind)?;
        let standard = Training::default();
        let training = Training {
            seed: input.seed.unwrap_or_else(|| host.seed()),
            window: input.window.unwrap_or(standard.window),
            cap: input
                .cap_hours
                .unwrap_or_else(|| cap_hours(&histories, standard.cap)),
            ..standard
        };
        let mut progress = |share: f64| host.progress(share, "train");
        let (model, evaluation) = FailureModel::train(&histories, &training, &mut progress)
            .map_err(|e| refused(&e, &input.asset_kind))?;
        if host.progress(1.0, "store").is_break() {
            return Err(StepError::Cancelled);
        }
        let artifact = host.put_artifact(MODEL_NAME, MODEL_MEDIA, &model.to_bytes())?;
        let record = host.store_model(&NewModel {
            kind: input.kind,
            asset_kind: input.asset_kind,
            digest: artifact.digest.clone(),
            evaluation: serde_json::to_value(&evaluation)
                .map_err(|e| StepError::failed("invalid_output", e))?,
        })?;
        Ok(Outcome::Done(TrainOutput {
            model: record.id,
            digest: artifact.digest,
            evaluation,
        }))
    }
}

/// The longest horizon where lives are that long; else what is usual for short ones.
fn cap_hours(histories: &[UnitHistory], usual: f64) -> f64 {
    let mut lives: Vec<f64> = histories
        .iter()
        .filter(|h| h.failed)
        .map(|h| h.rows.len() as f64 * h.step_ms as f64 / 3_600_000.0)
        .collect();
    lives.sort_by(f64::total_cmp);
    match lives.get(lives.len() / 2) {
        Some(median) if *median > LONG_LIFE_HOURS => LONG_CAP_HOURS,
        _ => usual,
    }
}

fn refused(error: &TrainError, asset_kind: &str) -> StepError {
    match error {
        TrainError::Stopped => StepError::Cancelled,
        // More outcomes may have been recorded by the next attempt.
        TrainError::TooFewUnits { .. } => StepError::unavailable(
            "too_little_history",
            format_args!("assets of kind `{asset_kind}`: {error}"),
        ),
        _ => StepError::failed(
            "cannot_train",
            format_args!("assets of kind `{asset_kind}`: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed};
    use super::*;

    #[test]
    fn a_model_is_trained_and_registered_once() {
        let world = World::with_fan_histories();
        let input = json!({ "kind": "failure", "asset_kind": "fan_tray", "seed": 3 });
        let first = done(&Train, &input, &world);
        assert_eq!(first["model"], "model-1");
        assert!(
            first["evaluation"]["horizons"]
                .as_array()
                .is_some_and(|h| h.len() == 3)
        );
        assert_eq!(done(&Train, &input, &world), first);
        let bytes = world.artifact(first["digest"].as_str().unwrap()).unwrap();
        assert!(FailureModel::from_bytes(&bytes).is_ok());
    }

    #[test]
    fn too_little_history_may_grow() {
        let world = World::new();
        let input = json!({ "kind": "failure", "asset_kind": "fan_tray" });
        let error = failed(&Train, &input, &world);
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("too_little_history", true)
        );
        let odd = json!({ "kind": "mood", "asset_kind": "fan_tray" });
        assert_eq!(failed(&Train, &odd, &world).code(), "unknown_model_kind");
    }
}
