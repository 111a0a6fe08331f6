//! The failure model: boosted trees for the remaining life and for each horizon's risk, calibrated on
//! units they have not seen.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evaluation::{Evaluation, HorizonEvaluation, phm, rmse};
use super::features::{FeaturePlan, STATISTICS};
use super::fps::{Fps, Reason};
use super::life::{Band, Ending, bands, life_quantiles};
use super::table::{Labels, Table, folds};
use super::training::{Horizon, TrainError, Training, changing_metrics, check, comparable};
use crate::Progress;
use crate::calibrate::beta::BetaCurve;
use crate::calibrate::reliability::reliability;
use crate::gbdt::{Binned, Boosted, Objective, Settings, Targets, train};
use crate::history::{HistoryError, UnitHistory};
use crate::rng::Rng;

/// Folds over units, if there are that many.
const FOLDS: usize = 5;
/// Reasons an answer has at most.
const REASONS: usize = 5;

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
    pub(super) curve: BetaCurve,
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
    /// long. Learnt from are the metrics that all failed units share; a unit without them is left out,
    /// and so is a metric that never changes. To choose metrics, pass histories that hold only those
    /// ([`UnitHistory::select`]). The same input gives the same model for any number of threads.
    pub fn train(
        units: &[UnitHistory],
        training: &Training,
        progress: Progress<'_>,
    ) -> Result<(Self, Evaluation), TrainError> {
        let given = units.len();
        let units = &comparable(units)?[..];
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
        let mut evaluation = evaluate(
            units,
            &table,
            &labels,
            &held,
            &horizons,
            training.cap,
            count,
        );
        evaluation.left_out_units = given - units.len();
        let curves = labels.iter().zip(&held.risk).map(|(labels, risk)| {
            BetaCurve::fit(&examples(labels, risk, |_| true), labels.overlap)
        });
        let hazards = horizons.into_iter().zip(all.hazards).zip(curves);
        let model = Self {
            feature_hash: plan.hash(),
            step_ms: units[0].step_ms,
            cap: training.cap,
            bands: bands(held.endings(&table, |_| true)),
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
            remaining_life_hours: Some(life_quantiles(&self.bands, life)),
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
                typical: Some(self.typical[loudest]).filter(|typical| typical.is_finite()),
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

    fn endings(&self, table: &Table, keep: impl Fn(usize) -> bool) -> Vec<Ending> {
        let ending = |row: usize| Ending {
            predicted: self.life[row],
            left: table.left_hours[row],
            failed: table.failed[row],
        };
        (0..table.len())
            .filter(|&row| keep(row))
            .map(ending)
            .collect()
    }
}

fn clip(life: f64, cap: f64) -> f64 {
    life.clamp(0.0, cap)
}

/// What a calibration curve is fitted to.
fn examples(labels: &Labels, risk: &[f64], keep: impl Fn(usize) -> bool) -> Vec<(f64, f64, f64)> {
    let rows = (0..risk.len()).filter(|&row| keep(row));
    rows.map(|row| (risk[row], labels.values[row], labels.weights[row]))
        .collect()
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
            let curve = BetaCurve::fit(&others, labels.overlap);
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
        let others = bands(held.endings(table, |row| held.fold[row] != fold));
        for &row in known.iter().filter(|&&row| held.fold[row] == fold) {
            let life = life_quantiles(&others, held.life[row]);
            let actual = table.left_hours[row];
            covered += usize::from(life.p05 <= actual && actual <= life.p95);
        }
    }
    Evaluation {
        units: units.len(),
        left_out_units: 0,
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
