//! The default failure model as a plugin: the code of the room `predict`, and the model that serves assets of the kind.
//!
//! It says what the server's own scoring says of the same history, to the last bit of every number that both tell.

use plugin_sdk::artifacts;
use plugin_sdk::info;
use plugin_sdk::predict::{
    ArtifactRef, Duration, History, Outlook, PluginError, Quantile, Reason, Request, Risk,
};
use predict::failure::{FailureModel, Fps};
use predict::history::UnitHistory;

const HOUR_MS: f64 = 3_600_000.0;
/// The largest model that is read, in bytes.
const LARGEST: u32 = 8 << 20;

struct Default;

impl plugin_sdk::Predictor for Default {
    fn predict(request: Request) -> Result<Vec<Outlook>, PluginError> {
        let Some(model) = &request.model else {
            let why = "no model serves assets of this kind; train one";
            return Err(PluginError::Unsupported(why.to_owned()));
        };
        let model = read(model)?;
        let horizons = named(&model, &request.horizons)?;
        info!("scores {} assets", request.histories.len());
        let outlooks = request.histories.into_iter();
        Ok(outlooks
            .map(|history| outlook(&model, &horizons, history))
            .collect())
    }
}

plugin_sdk::predictor!(Default);

fn read(model: &ArtifactRef) -> Result<FailureModel, PluginError> {
    let bytes = artifacts::read(model, LARGEST)?;
    let broken = |why| PluginError::InvalidInput(format!("the model cannot be read: {why}"));
    FailureModel::from_bytes(&bytes).map_err(broken)
}

/// The names of the model's horizons, in the order in which they are asked for.
fn named(model: &FailureModel, asked: &[Duration]) -> Result<Vec<String>, PluginError> {
    let name = |asked: &Duration| {
        let same = |hours: f64| (hours * HOUR_MS - asked).abs() < 1.0;
        let found = model.horizons().find(|horizon| same(horizon.hours));
        let unknown = || format!("the model has no horizon of {} h", asked / HOUR_MS);
        found
            .map(|horizon| horizon.name.clone())
            .ok_or_else(|| PluginError::Unsupported(unknown()))
    };
    asked.iter().map(name).collect()
}

fn outlook(model: &FailureModel, horizons: &[String], history: History) -> Outlook {
    match model.score(&unit(history)) {
        Ok(fps) => Outlook::Risk(risk(&fps, horizons)),
        Err(why) => Outlook::Declined(why.to_string()),
    }
}

/// Columns into rows.
fn unit(history: History) -> UnitHistory {
    let rows = history.columns.first().map_or(0, |one| one.values.len());
    let row = |row: usize| history.columns.iter().map(|one| one.values[row]).collect();
    UnitHistory {
        rows: (0..rows).map(row).collect(),
        unit: history.asset.id,
        step_ms: history.step as i64,
        metrics: history.columns.into_iter().map(|one| one.metric).collect(),
        failed: false,
    }
}

fn risk(fps: &Fps, horizons: &[String]) -> Risk {
    let life = fps.remaining_life_hours.iter().flat_map(|life| {
        [(0.05, life.p05), (0.5, life.p50), (0.95, life.p95)].map(|(p, hours)| Quantile {
            p,
            after: hours * HOUR_MS,
        })
    });
    let reason = |reason: &predict::failure::Reason| Reason {
        metric: reason.metric.clone(),
        feature: reason.feature.clone(),
        value: reason.value,
        typical: reason.typical.unwrap_or(f64::NAN),
        contribution: reason.contribution * HOUR_MS,
    };
    Risk {
        probabilities: horizons.iter().map(|name| fps.by_horizon[name]).collect(),
        remaining_life: life.collect(),
        reasons: fps.reasons.iter().map(reason).collect(),
    }
}
