//! What a failure model is to be, and the histories that will do.

use serde::{Deserialize, Serialize};

use crate::history::{HistoryError, UnitHistory};

/// A span of time a probability is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Horizon {
    /// Its name in answers, such as `7d`.
    pub name: String,
    /// Its length.
    pub hours: f64,
}

impl Horizon {
    /// One day, one week, thirty days: `1d`, `7d`, `30d`.
    pub fn standard() -> Vec<Self> {
        let spans = [("1d", 24.0), ("7d", 168.0), ("30d", 720.0)];
        spans
            .map(|(name, hours)| Self {
                name: name.into(),
                hours,
            })
            .into()
    }
}

/// What a failure model is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The horizons of its probabilities.
    pub horizons: Vec<Horizon>,
    /// How many rows it looks back.
    pub window: usize,
    /// Remaining life in hours beyond which units are not told apart: a healthy unit shows nothing yet.
    pub cap: f64,
    /// Seed of folds and samples.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            horizons: Horizon::standard(),
            window: 30,
            cap: 125.0,
            seed: 0,
        }
    }
}

/// Why a failure model cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A history is unusable.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The histories do not name the same metrics at the same step.
    #[error("history of unit `{unit}` does not share the step of {step_ms} ms with the first one")]
    Step {
        /// The unit that differs.
        unit: String,
        /// The step of the first unit.
        step_ms: i64,
    },
    /// There is too little to learn from.
    #[error("{units} units of which {failed} failed are too few, at least 4 and 2 are needed")]
    TooFewUnits {
        /// Units given.
        units: usize,
        /// Those that failed.
        failed: usize,
    },
    /// No metric ever changes.
    #[error("no metric of the histories ever changes")]
    NothingChanges,
    /// The training parameters make no sense.
    #[error("training parameter `{name}` is {problem}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The caller asked to stop.
    #[error("training was stopped")]
    Stopped,
}

/// Checks parameters and histories; answers the horizons in rising order.
pub(super) fn check(
    units: &[UnitHistory],
    training: &Training,
) -> Result<Vec<Horizon>, TrainError> {
    let parameter = |name, problem| Err(TrainError::Parameter { name, problem });
    if training.window == 0 {
        return parameter("window", "zero rows");
    }
    if !(training.cap.is_finite() && training.cap > 0.0) {
        return parameter("cap", "not a positive time");
    }
    let mut horizons = training.horizons.clone();
    horizons.sort_by(|a, b| a.hours.total_cmp(&b.hours));
    if horizons.is_empty() {
        return parameter("horizons", "empty");
    }
    if !horizons
        .iter()
        .all(|horizon| horizon.hours.is_finite() && horizon.hours > 0.0)
    {
        return parameter("horizons", "not all positive times");
    }
    let same = |a: &Horizon, b: &Horizon| a.name == b.name || a.hours == b.hours;
    if horizons
        .iter()
        .enumerate()
        .any(|(i, a)| horizons[..i].iter().any(|b| same(a, b)))
    {
        return parameter("horizons", "holding one twice");
    }
    let failed = units.iter().filter(|unit| unit.failed).count();
    if units.len() < 4 || failed < 2 {
        return Err(TrainError::TooFewUnits {
            units: units.len(),
            failed,
        });
    }
    let step_ms = units[0].step_ms;
    for unit in units {
        unit.check()?;
        if unit.step_ms != step_ms {
            return Err(TrainError::Step {
                unit: unit.unit.clone(),
                step_ms,
            });
        }
    }
    Ok(horizons)
}

/// The units that were measured by every metric the failed units share, reduced to those metrics.
///
/// The others teach nothing: a unit in service that nobody measures looks like no failed one.
pub(super) fn comparable(units: &[UnitHistory]) -> Result<Vec<UnitHistory>, TrainError> {
    let mut failed = units.iter().filter(|unit| unit.failed);
    let mut metrics = failed.next().map_or(&[][..], |unit| &unit.metrics).to_vec();
    for unit in failed {
        metrics.retain(|metric| unit.metrics.contains(metric));
    }
    let comparable = units.iter().filter(|unit| unit.columns(&metrics).is_ok());
    Ok(comparable
        .map(|unit| unit.select(&metrics))
        .collect::<Result<_, _>>()?)
}

/// The metrics of the first unit that are not the same number throughout; every unit has them.
pub(super) fn changing_metrics(units: &[UnitHistory]) -> Result<Vec<String>, TrainError> {
    let mut changing = Vec::new();
    for metric in &units[0].metrics {
        let [mut low, mut high] = [f64::INFINITY, f64::NEG_INFINITY];
        for unit in units {
            let column = unit.columns(std::slice::from_ref(metric))?[0];
            for value in unit
                .rows
                .iter()
                .map(|row| row[column])
                .filter(|x| x.is_finite())
            {
                low = low.min(value);
                high = high.max(value);
            }
        }
        if high - low > 1e-9 * high.abs().max(low.abs()) {
            changing.push(metric.clone());
        }
    }
    if changing.is_empty() {
        Err(TrainError::NothingChanges)
    } else {
        Ok(changing)
    }
}
