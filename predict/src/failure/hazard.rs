//! The failure model: boosted trees for the remaining life and for each horizon's risk, calibrated on
//! units they have not seen.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evaluation::{Evaluation, HorizonEvaluation, phm, rmse};
use super::features::{FeaturePlan, STATISTICS};
use super::fps::{Fps, LifeHours, Reason};
use super::table::{Labels, Table, folds};
use crate::Progress;
use crate::calibrate::isotonic::Isotonic;
use crate::calibrate::reliability::reliability;
use crate::calibrate::survival::Survival;
use crate::gbdt::{Binned, Boosted, Objective, Settings, Targets, train};
use crate::history::{HistoryError, UnitHistory};
use crate::rng::Rng;

/// Folds over units, if there are that many.
const FOLDS: usize = 5;
/// Bands of predicted life that have quantiles of their own.
const BANDS: usize = 12;
/// Reasons an answer has at most.
const REASONS: usize = 5;

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

/// Why a unit cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// The history is unusable or lacks a metric.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The history's step is not the model's.
    #[error("history of unit `{unit}` has a step of {found} ms, the model reads {expected} ms")]
    Step {
        /// The unit.
        unit: String,
        /// The model's step.
        expected: i64,
        /// The history's step.
        found: i64,
    },
}

/// A trained failure model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureModel {
    pub(super) plan: FeaturePlan,
    pub(super) feature_hash: u64,
    pub(super) step_ms: i64,
    pub(super) cap: f64,
    pub(super) life: Boosted,
    pub(super) bands: Vec<Band>,
    /// By rising horizon.
    pub(super) horizons: Vec<Hazard>,
    /// Median of each feature over units with a long life ahead.
    pub(super) typical: Vec<f64>,
}

/// The risk of one horizon: log-odds, and what they really mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hazard {
    pub(super) horizon: Horizon,
    pub(super) trees: Boosted,
    pub(super) curve: Isotonic,
}

/// How far actual lives lay from a predicted life of about `centre` hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Band {
    pub(super) centre: f64,
    pub(super) offsets: LifeHours,
}

/// The trees of one fold, or of all units.
struct Ensemble {
    life: Boosted,
    hazards: Vec<Boosted>,
}

/// Answers for cut-offs whose unit the answering trees have not seen.
struct HeldOut {
    life: Vec<f64>,
    /// Log-odds per horizon and cut-off.
    risk: Vec<Vec<f64>>,
    fold: Vec<usize>,
}

impl FailureModel {
    /// Trains on histories, judged and calibrated by folds over units.
    ///
    /// Units that still run (`failed: false`) are used for what they show: they lived at least that
    /// long. Metrics that never change are dropped; to choose metrics, pass histories that hold only
    /// those ([`UnitHistory::select`]). The same input gives the same model for any number of threads.
    pub fn train(
        units: &[UnitHistory],
        training: &Training,
        progress: Progress<'_>,
    ) -> Result<(Self, Evaluation), TrainError> {
        let horizons = check(units, training)?;
        let metrics = changing_metrics(units)?;
        let plan = FeaturePlan {
            window: training.window,
            metrics,
        };
        let table = Table::build(units, &plan, training.seed)?;
        let labels: Vec<Labels> = horizons
            .iter()
            .map(|horizon| table.labels(horizon.hours))
            .collect();
        let count = FOLDS.min(units.len());
        let fold_of_unit = folds(units, count, training.seed);
        let fold: Vec<usize> = table
            .units
            .iter()
            .map(|&unit| fold_of_unit[unit as usize])
            .collect();
        let mut held = HeldOut {
            life: vec![0.0; table.len()],
            risk: vec![vec![0.0; table.len()]; horizons.len()],
            fold,
        };
        let mut tell = |done: usize| match progress(done as f64 / (count + 1) as f64) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Stopped),
        };
        tell(0)?;
        for number in 0..count {
            let rows: Vec<usize> = (0..table.len())
                .filter(|&row| held.fold[row] != number)
                .collect();
            let seed = training.seed.wrapping_add(1 + number as u64);
            let trees = Ensemble::train(&table, &labels, &rows, training.cap, seed);
            held.answer(number, &table, &trees, training.cap);
            tell(number + 1)?;
        }
        let rows: Vec<usize> = (0..table.len()).collect();
        let all = Ensemble::train(&table, &labels, &rows, training.cap, training.seed);
        tell(count + 1)?;
        let evaluation = evaluate(
            units,
            &table,
            &labels,
            &held,
            &horizons,
            training.cap,
            count,
        );
        let curves = labels
            .iter()
            .zip(&held.risk)
            .map(|(labels, risk)| Isotonic::fit(&examples(labels, risk, |_| true), labels.overlap));
        let hazards = horizons.into_iter().zip(all.hazards).zip(curves);
        let model = Self {
            feature_hash: plan.hash(),
            step_ms: units[0].step_ms,
            cap: training.cap,
            bands: bands(&table, &held, |_| true),
            horizons: hazards
                .map(|((horizon, trees), curve)| Hazard {
                    horizon,
                    trees,
                    curve,
                })
                .collect(),
            typical: typical(&table, training.cap),
            life: all.life,
            plan,
        };
        Ok((model, evaluation))
    }

    /// The metrics a history must have to be scored.
    pub fn metrics(&self) -> &[String] {
        &self.plan.metrics
    }

    /// The step a history must have to be scored.
    pub fn step_ms(&self) -> i64 {
        self.step_ms
    }

    /// Rows of a history that are read, from its end; older ones may be left out.
    pub fn window(&self) -> usize {
        self.plan.window
    }

    /// The horizons, rising.
    pub fn horizons(&self) -> impl Iterator<Item = &Horizon> {
        self.horizons.iter().map(|hazard| &hazard.horizon)
    }

    /// A number that two models share if they read the same features.
    pub fn feature_hash(&self) -> u64 {
        self.feature_hash
    }

    /// Scores a unit as of the last row of its history; a history shorter than the window will do.
    pub fn score(&self, unit: &UnitHistory) -> Result<Fps, ScoreError> {
        let features = self.features(unit)?;
        let mut by_horizon = BTreeMap::new();
        let mut least = 0.0_f64;
        for hazard in &self.horizons {
            // Who fails within a day fails within a week: a longer horizon never has less.
            least = least.max(hazard.curve.probability(hazard.trees.predict(&features)));
            by_horizon.insert(hazard.horizon.name.clone(), least);
        }
        let life = clip(self.life.predict(&features), self.cap);
        Ok(Fps {
            by_horizon,
            reasons: self.reasons(&features),
            remaining_life_hours: life_quantiles(&self.bands, life),
            model: None,
        })
    }

    /// The expected remaining life in hours, at most the cap the model was trained with.
    pub fn expected_life_hours(&self, unit: &UnitHistory) -> Result<f64, ScoreError> {
        Ok(clip(self.life.predict(&self.features(unit)?), self.cap))
    }

    fn features(&self, unit: &UnitHistory) -> Result<Vec<f64>, ScoreError> {
        unit.check()?;
        if unit.step_ms != self.step_ms {
            let [expected, found] = [self.step_ms, unit.step_ms];
            return Err(ScoreError::Step {
                unit: unit.unit.clone(),
                expected,
                found,
            });
        }
        let columns = unit.columns(&self.plan.metrics)?;
        let mut features = Vec::with_capacity(self.plan.len());
        self.plan
            .extract(&unit.rows, unit.rows.len(), &columns, &mut features);
        Ok(features)
    }

    /// The metrics that take most remaining life away, each with its loudest statistic.
    fn reasons(&self, features: &[f64]) -> Vec<Reason> {
        let credit = self.life.contributions(features);
        let mut reasons: Vec<Reason> = Vec::new();
        for first in (0..credit.len()).step_by(STATISTICS.len()) {
            let own = first..first + STATISTICS.len();
            let known = own.clone().filter(|&feature| features[feature].is_finite());
            let Some(loudest) = known.min_by(|&a, &b| credit[a].total_cmp(&credit[b])) else {
                continue;
            };
            let (metric, feature) = self.plan.name(loudest);
            reasons.push(Reason {
                metric: metric.to_owned(),
                feature: feature.to_owned(),
                value: features[loudest],
                typical: self.typical[loudest],
                contribution: -credit[own].iter().sum::<f64>(),
            });
        }
        reasons.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        reasons.truncate(REASONS);
        reasons
    }
}

impl Ensemble {
    /// Grows the trees on the given cut-offs; the ensembles are independent and grow in parallel.
    fn train(table: &Table, labels: &[Labels], rows: &[usize], cap: f64, seed: u64) -> Self {
        let pick = |column: &Vec<f64>| rows.iter().map(|&row| column[row]).collect::<Vec<f64>>();
        let columns: Vec<Vec<f64>> = table.columns.iter().map(pick).collect();
        let data = Binned::new(&columns);
        let life: Vec<f64> = rows
            .iter()
            .map(|&row| table.left_hours[row].min(cap))
            .collect();
        // A unit still running that has outlived the cap is known; before that it is a lower bound.
        let at_least: Vec<bool> = rows
            .iter()
            .map(|&row| !table.failed[row] && table.left_hours[row] < cap)
            .collect();
        let ones = vec![1.0; rows.len()];
        let grow = |part: usize| {
            let seed = Rng::for_part(seed, part as u64).next_u64();
            let Some(labels) = part.checked_sub(1).map(|horizon| &labels[horizon]) else {
                let targets = Targets {
                    values: &life,
                    weights: &ones,
                    at_least: &at_least,
                };
                return train(
                    &data,
                    &targets,
                    Objective::Mean,
                    &life_settings(rows.len()),
                    seed,
                );
            };
            let values: Vec<f64> = rows.iter().map(|&row| labels.values[row]).collect();
            let weights: Vec<f64> = rows.iter().map(|&row| labels.weights[row]).collect();
            let targets = Targets {
                values: &values,
                weights: &weights,
                at_least: &[],
            };
            train(
                &data,
                &targets,
                Objective::LogOdds,
                &risk_settings(rows.len()),
                seed,
            )
        };
        let mut grown: Vec<Boosted> = (0..=labels.len()).into_par_iter().map(grow).collect();
        let hazards = grown.split_off(1);
        Self {
            life: grown.remove(0),
            hazards,
        }
    }
}

/// Neighbouring cut-offs are almost copies of each other: trees on a fifth of the rows and a third of
/// the features lose nothing, differ more, and grow many times as fast. Chosen by folds over the
/// training engines of FD001.
fn life_settings(rows: usize) -> Settings {
    Settings {
        learning_rate: 0.02,
        row_share: (2500.0 / rows.max(1) as f64).clamp(0.2, 1.0),
        feature_share: 0.3,
        ..Settings::default()
    }
}

fn risk_settings(rows: usize) -> Settings {
    Settings {
        trees: 120,
        learning_rate: 0.05,
        ..life_settings(rows)
    }
}

impl HeldOut {
    fn answer(&mut self, fold: usize, table: &Table, trees: &Ensemble, cap: f64) {
        for row in (0..table.len()).filter(|&row| self.fold[row] == fold) {
            let features = table.row(row);
            self.life[row] = clip(trees.life.predict(&features), cap);
            for (risk, hazard) in self.risk.iter_mut().zip(&trees.hazards) {
                risk[row] = hazard.predict(&features);
            }
        }
    }
}

fn clip(life: f64, cap: f64) -> f64 {
    life.clamp(0.0, cap)
}

/// Checks parameters and histories; answers the horizons in rising order.
fn check(units: &[UnitHistory], training: &Training) -> Result<Vec<Horizon>, TrainError> {
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

/// The metrics of the first unit that every unit has and that are not the same number throughout.
fn changing_metrics(units: &[UnitHistory]) -> Result<Vec<String>, TrainError> {
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

/// What a calibration curve is fitted to.
fn examples(labels: &Labels, risk: &[f64], keep: impl Fn(usize) -> bool) -> Vec<(f64, f64, f64)> {
    let rows = (0..risk.len()).filter(|&row| keep(row));
    rows.map(|row| (risk[row], labels.values[row], labels.weights[row]))
        .collect()
}

/// Quantiles of actual minus predicted life, for neighbourhoods of the predicted life. Units still
/// running enter as "longer than" (Kaplan–Meier).
fn bands(table: &Table, held: &HeldOut, keep: impl Fn(usize) -> bool) -> Vec<Band> {
    let mut rows: Vec<usize> = (0..table.len()).filter(|&row| keep(row)).collect();
    rows.sort_by(|&a, &b| held.life[a].total_cmp(&held.life[b]));
    let count = (rows.len() / 50).clamp(1, BANDS);
    let band = |number: usize| {
        let part = &rows[rows.len() * number / count..rows.len() * (number + 1) / count];
        let centre = part.iter().map(|&row| held.life[row]).sum::<f64>() / part.len().max(1) as f64;
        let error = |&row: &usize| (table.left_hours[row] - held.life[row], table.failed[row]);
        let errors = Survival::fit(&part.iter().map(error).collect::<Vec<_>>());
        let [p05, p50, p95] = [0.05, 0.5, 0.95].map(|share| errors.quantile(share));
        Band {
            centre,
            offsets: LifeHours { p05, p50, p95 },
        }
    };
    (0..count).map(band).collect()
}

/// The quantiles around a predicted life, between the centres of the bands on either side.
fn life_quantiles(bands: &[Band], life: f64) -> LifeHours {
    let after = bands.partition_point(|band| band.centre < life);
    let low = &bands[after.saturating_sub(1)];
    let high = &bands[after.min(bands.len() - 1)];
    let span = high.centre - low.centre;
    let way = if span > 0.0 {
        ((life - low.centre) / span).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let at = |of: fn(&LifeHours) -> f64| {
        let [from, to] = [of(&low.offsets), of(&high.offsets)];
        (life + from + way * (to - from)).max(0.0)
    };
    let p05 = at(|hours| hours.p05);
    let p50 = at(|hours| hours.p50).max(p05);
    LifeHours {
        p05,
        p50,
        p95: at(|hours| hours.p95).max(p50),
    }
}

/// The median of each feature over cut-offs at least `cap` hours before the end, or over all of them.
fn typical(table: &Table, cap: f64) -> Vec<f64> {
    let healthy: Vec<usize> = (0..table.len())
        .filter(|&row| table.left_hours[row] >= cap)
        .collect();
    let rows = if healthy.is_empty() {
        (0..table.len()).collect()
    } else {
        healthy
    };
    let median = |column: &Vec<f64>| {
        let known = rows
            .iter()
            .map(|&row| column[row])
            .filter(|x| x.is_finite());
        let mut known: Vec<f64> = known.collect();
        known.sort_unstable_by(f64::total_cmp);
        known.get(known.len() / 2).copied().unwrap_or(0.0)
    };
    table.columns.iter().map(median).collect()
}

/// Judges answers about unseen units. The curves are fitted on the other folds, so a probability is
/// never judged by an outcome that helped to calibrate it.
fn evaluate(
    units: &[UnitHistory],
    table: &Table,
    labels: &[Labels],
    held: &HeldOut,
    horizons: &[Horizon],
    cap: f64,
    folds: usize,
) -> Evaluation {
    let known: Vec<usize> = (0..table.len()).filter(|&row| table.failed[row]).collect();
    let capped = || {
        known
            .iter()
            .map(|&row| (held.life[row], table.left_hours[row].min(cap)))
    };
    let raw = known
        .iter()
        .map(|&row| (held.life[row], table.left_hours[row]));
    let judge = |(horizon, (labels, risk)): (&Horizon, (&Labels, &Vec<f64>))| {
        let mut pairs = Vec::with_capacity(table.len());
        for fold in 0..folds {
            let others = examples(labels, risk, |row| held.fold[row] != fold);
            let curve = Isotonic::fit(&others, labels.overlap);
            let own = examples(labels, risk, |row| held.fold[row] == fold);
            pairs.extend(
                own.iter()
                    .map(|&(risk, y, weight)| (curve.probability(risk), y, weight)),
            );
        }
        HorizonEvaluation {
            name: horizon.name.clone(),
            hours: horizon.hours,
            reliability: reliability(&pairs, 10),
        }
    };
    let mut covered = 0;
    for fold in 0..folds {
        let others = bands(table, held, |row| held.fold[row] != fold);
        for &row in known.iter().filter(|&&row| held.fold[row] == fold) {
            let life = life_quantiles(&others, held.life[row]);
            let actual = table.left_hours[row];
            covered += usize::from(life.p05 <= actual && actual <= life.p95);
        }
    }
    Evaluation {
        units: units.len(),
        failed_units: units.iter().filter(|unit| unit.failed).count(),
        folds,
        n: table.len(),
        rmse_capped: rmse(capped()),
        rmse_raw: rmse(raw),
        phm_mean: phm(capped()) / known.len().max(1) as f64,
        life_coverage: covered as f64 / known.len().max(1) as f64,
        horizons: horizons
            .iter()
            .zip(labels.iter().zip(&held.risk))
            .map(judge)
            .collect(),
    }
}
