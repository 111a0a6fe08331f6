//! The detector: both scorers' votes as one number that means the same for every asset.

use serde::{Deserialize, Serialize};

use super::isolation_forest::IsolationForest;
use super::residual::{MOST_METRICS, Residual};

/// Smoothing of the reconstruction error over rows: a span of 10 (α = 2 / 11).
const ALPHA: f64 = 2.0 / 11.0;
/// The forest's share of the vote. On the server data the smoothed error is the far better detector.
const FOREST_SHARE: f64 = 0.1;
/// How much a metric's own distance from its mean adds to its error. The components explain a metric
/// that moves alone along one of them, however far; this does not let it go unseen.
const OWN_SHARE: f64 = 0.07;
/// Beyond this share of the past the quantile is continued by a power law.
const TAIL: f64 = 0.99;
/// Rows the detector is fitted on at most, thinned evenly.
const MOST_ROWS: usize = 50_000;

/// How unusual a row is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyScore {
    /// 0..1: the share of the past that was less unusual. Above the past's maximum it still rises.
    pub score: f64,
    /// Each metric's share in it, largest first; they add up to 1.
    pub attribution: Vec<(String, f64)>,
}

/// Knows what is normal for one asset, or one kind of asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    metrics: Vec<String>,
    forest: IsolationForest,
    residual: Residual,
    forest_rank: Rank,
    residual_rank: Rank,
    vote_rank: Rank,
}

/// What a detector remembers between the rows of one asset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Weighted sum of errors and the sum of the weights.
    sum: f64,
    weight: f64,
}

/// Why there is nothing to be fitted to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Too few rows.
    #[error("{rows} rows are too few to know what is normal, at least 2 are needed")]
    TooFewRows {
        /// Rows given.
        rows: usize,
    },
    /// No metric, or too many.
    #[error("{metrics} metrics are not within 1 and {MOST_METRICS}")]
    Metrics {
        /// Metrics given.
        metrics: usize,
    },
    /// A row does not have one value per metric.
    #[error("row {row} has {found} values for {expected} metrics")]
    Ragged {
        /// The row, counted from 0.
        row: usize,
        /// How many values it has.
        found: usize,
        /// How many metrics there are.
        expected: usize,
    },
}

/// A row that does not fit the detector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row has {found} values, the detector knows {expected} metrics")]
pub struct RowError {
    /// How many values the row has.
    pub found: usize,
    /// How many metrics there are.
    pub expected: usize,
}

impl State {
    fn smooth(&mut self, error: f64) -> f64 {
        self.sum = self.sum * (1.0 - ALPHA) + error;
        self.weight = self.weight * (1.0 - ALPHA) + 1.0;
        self.sum / self.weight
    }
}

impl Detector {
    /// Learns what is normal from rows in order of time. NaN is "not known", an infinity is extreme.
    pub fn fit(rows: &[Vec<f64>], metrics: &[String], seed: u64) -> Result<Self, FitError> {
        let expected = metrics.len();
        if expected == 0 || expected > MOST_METRICS {
            return Err(FitError::Metrics { metrics: expected });
        }
        if rows.len() < 2 {
            return Err(FitError::TooFewRows { rows: rows.len() });
        }
        if let Some(row) = rows.iter().position(|row| row.len() != expected) {
            return Err(FitError::Ragged {
                row,
                found: rows[row].len(),
                expected,
            });
        }
        let stride = rows.len().div_ceil(MOST_ROWS);
        let rows: Vec<Vec<f64>> = rows.iter().step_by(stride).cloned().collect();
        let residual = Residual::fit(&rows, expected);
        let standard: Vec<Vec<f64>> = rows.iter().map(|row| residual.standardise(row)).collect();
        let forest = IsolationForest::fit(&standard, seed);
        let isolated: Vec<f64> = standard.iter().map(|z| forest.score(z)).collect();
        let mut state = State::default();
        let error = |z: &Vec<f64>| state.smooth(parts(&residual, z).iter().sum::<f64>());
        let errors: Vec<f64> = standard.iter().map(error).collect();
        let [forest_rank, residual_rank] = [Rank::new(&isolated), Rank::new(&errors)];
        let votes: Vec<f64> = isolated
            .iter()
            .zip(&errors)
            .map(|(&isolated, &error)| {
                vote(
                    forest_rank.surprise(isolated),
                    residual_rank.surprise(error),
                )
            })
            .collect();
        Ok(Self {
            metrics: metrics.to_vec(),
            forest,
            residual,
            vote_rank: Rank::new(&votes),
            forest_rank,
            residual_rank,
        })
    }

    /// The metrics a row has, in order.
    pub fn metrics(&self) -> &[String] {
        &self.metrics
    }

    /// Scores a row on its own. A row that does not fit has score 0 and no attribution; see
    /// [`Detector::score_next`] for a refusal instead, and for what time adds.
    pub fn score(&self, row: &[f64]) -> AnomalyScore {
        let nothing = AnomalyScore {
            score: 0.0,
            attribution: Vec::new(),
        };
        self.score_next(&mut State::default(), row)
            .unwrap_or(nothing)
    }

    /// Scores the next row of an asset; what stays unusual over several rows counts for more than a
    /// single spike.
    pub fn score_next(&self, state: &mut State, row: &[f64]) -> Result<AnomalyScore, RowError> {
        let [found, expected] = [row.len(), self.metrics.len()];
        if found != expected {
            return Err(RowError { found, expected });
        }
        let z = self.residual.standardise(row);
        let parts = parts(&self.residual, &z);
        let error = state.smooth(parts.iter().sum::<f64>());
        let surprises = (
            self.forest_rank.surprise(self.forest.score(&z)),
            self.residual_rank.surprise(error),
        );
        Ok(AnomalyScore {
            score: self.vote_rank.quantile(vote(surprises.0, surprises.1)),
            attribution: self.attribution(&parts),
        })
    }

    fn attribution(&self, parts: &[f64]) -> Vec<(String, f64)> {
        let total: f64 = parts.iter().sum();
        let even = 1.0 / parts.len() as f64;
        let share = |part: f64| if total > 0.0 { part / total } else { even };
        let named = self
            .metrics
            .iter()
            .cloned()
            .zip(parts.iter().map(|&part| share(part)));
        let mut named: Vec<(String, f64)> = named.collect();
        named.sort_by(|a, b| b.1.total_cmp(&a.1));
        named
    }

    /// Whether every part fits every other; ask it of a detector that was read from bytes.
    pub fn is_sound(&self) -> bool {
        let metrics = self.metrics.len();
        metrics > 0
            && self.forest.is_sound(metrics)
            && self.residual.is_sound(metrics)
            && [&self.forest_rank, &self.residual_rank, &self.vote_rank]
                .iter()
                .all(|rank| !rank.levels.is_empty())
    }
}

/// Each metric's part: how badly the others explain it, and how far off it is on its own.
fn parts(residual: &Residual, z: &[f64]) -> Vec<f64> {
    let errors = residual.errors(z).into_iter().zip(z);
    errors.map(|(error, z)| error + OWN_SHARE * z * z).collect()
}

fn vote(forest: f64, residual: f64) -> f64 {
    FOREST_SHARE * forest + (1.0 - FOREST_SHARE) * residual
}

/// Where a value stands among those of the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rank {
    /// Quantiles of the past at equal steps from 0 to [`TAIL`], then the tail's index.
    levels: Vec<f64>,
    /// How fast the tail thins out beyond: `P(X > x) = (1 − TAIL)·(x / last level)^−index`.
    index: f64,
}

const LEVELS: usize = 500;

impl Rank {
    fn new(past: &[f64]) -> Self {
        let mut sorted = past.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len() - 1;
        let at = |level: usize| {
            let place = TAIL * level as f64 / LEVELS as f64 * last as f64;
            let below = place.floor() as usize;
            let way = place - below as f64;
            sorted[below] * (1.0 - way) + sorted[(below + 1).min(last)] * way
        };
        let levels: Vec<f64> = (0..=LEVELS).map(at).collect();
        // Hill's estimator over the values beyond the last level.
        let edge = levels[LEVELS].max(1e-12);
        let beyond: Vec<f64> = sorted.iter().copied().filter(|&x| x > edge).collect();
        let mean_log =
            beyond.iter().map(|x| (x / edge).ln()).sum::<f64>() / beyond.len().max(1) as f64;
        // Held back so that the far beyond stays distinguishable in a 64-bit float.
        let index = if mean_log > 0.0 {
            (1.0 / mean_log).clamp(0.2, 2.0)
        } else {
            1.0
        };
        Self { levels, index }
    }

    /// The probability that a value of the past exceeds this one.
    fn exceedance(&self, value: f64) -> f64 {
        let edge = self.levels[self.levels.len() - 1].max(1e-12);
        if value > edge {
            return (1.0 - TAIL) * (value / edge).powf(-self.index);
        }
        // The middle of a run of equal levels, so that constants are neither rare nor common.
        let low = self.levels.partition_point(|&level| level < value);
        let high = self.levels.partition_point(|&level| level <= value);
        let place = if low == high {
            let Some(below) = low.checked_sub(1) else {
                return 1.0;
            };
            let [from, to] = [
                self.levels[below],
                self.levels[low.min(self.levels.len() - 1)],
            ];
            below as f64
                + if to > from {
                    (value - from) / (to - from)
                } else {
                    0.0
                }
        } else {
            (low + high - 1) as f64 / 2.0
        };
        1.0 - TAIL * place / (self.levels.len() - 1) as f64
    }

    fn quantile(&self, value: f64) -> f64 {
        (1.0 - self.exceedance(value)).clamp(0.0, 1.0)
    }

    /// How surprising a value is: the nats by which it exceeds the past.
    fn surprise(&self, value: f64) -> f64 {
        -self.exceedance(value).max(1e-300).ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("m{number}")).collect()
    }

    fn normal_rows(count: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = Rng::new(seed);
        let mut row = || {
            let load = rng.normal();
            vec![load, 2.0 * load + 0.3 * rng.normal(), rng.normal(), 1.0]
        };
        (0..count).map(|_| row()).collect()
    }

    #[test]
    fn scores_of_the_normal_are_evenly_spread() {
        let detector = Detector::fit(&normal_rows(4000, 1), &names(4), 7).expect("enough rows");
        let mut state = State::default();
        let scores: Vec<f64> = normal_rows(4000, 2)
            .iter()
            .map(|row| {
                detector
                    .score_next(&mut state, row)
                    .expect("same metrics")
                    .score
            })
            .collect();
        for share in [0.5, 0.9, 0.99] {
            let below = scores.iter().filter(|&&score| score <= share).count() as f64 / 4000.0;
            assert!((below - share).abs() < 0.06, "{share}: {below}");
        }
    }

    #[test]
    fn the_metric_that_broke_away_is_named_and_more_is_more() {
        let detector = Detector::fit(&normal_rows(2000, 1), &names(4), 7).expect("enough rows");
        let off = detector.score(&[0.0, 0.0, 9.0, 1.0]);
        let further = detector.score(&[0.0, 0.0, 30.0, 1.0]);
        assert!(off.score > 0.99 && further.score > off.score && further.score < 1.0);
        assert_eq!(off.attribution[0].0, "m2");
        assert!((off.attribution.iter().map(|part| part.1).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(detector.score(&[0.1, 0.2, 0.0, 1.0]).score < 0.9);
        assert!(
            detector.score(&[0.0, 0.0, 0.0, 4.0]).score > 0.99,
            "a constant moved"
        );
    }

    #[test]
    fn what_is_missing_or_constant_is_no_anomaly() {
        let detector = Detector::fit(&normal_rows(500, 1), &names(4), 7).expect("enough rows");
        assert!(detector.score(&[f64::NAN; 4]).score < 0.9);
        let still = Detector::fit(&vec![vec![3.0, f64::NAN]; 20], &names(2), 7).expect("rows");
        assert!(still.score(&[3.0, f64::NAN]).score <= 0.5);
        assert!(still.score(&[4.0, 1.0]).score > 0.9);
    }

    #[test]
    fn the_same_seed_gives_the_same_detector_and_serde_keeps_it() {
        let rows = normal_rows(300, 1);
        let detector = Detector::fit(&rows, &names(4), 7).expect("enough rows");
        assert_eq!(
            detector,
            Detector::fit(&rows, &names(4), 7).expect("enough rows")
        );
        let bytes = serde_json::to_vec(&detector).expect("plain data");
        let back: Detector = serde_json::from_slice(&bytes).expect("own bytes");
        assert!(back.is_sound());
        assert_eq!(back, detector);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ragged = Detector::fit(&[vec![1.0], vec![1.0, 2.0]], &names(1), 7);
        assert_eq!(
            ragged,
            Err(FitError::Ragged {
                row: 1,
                found: 2,
                expected: 1
            })
        );
        assert!(Detector::fit(&[vec![1.0]], &names(1), 7).is_err());
        assert!(Detector::fit(&[vec![], vec![]], &[], 7).is_err());
        let detector = Detector::fit(&normal_rows(50, 1), &names(4), 7).expect("enough rows");
        assert!(detector.score_next(&mut State::default(), &[1.0]).is_err());
        assert_eq!(detector.score(&[1.0]).score, 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn scores_stay_within_bounds(
            rows in prop::collection::vec(
                prop::collection::vec(prop_oneof![-1e3..1e3, Just(f64::NAN), Just(1e300), Just(f64::INFINITY)], 3),
                2..40,
            ),
        ) {
            let detector = Detector::fit(&rows, &names(3), 1).expect("two rows");
            for row in &rows {
                let got = detector.score(row);
                prop_assert!((0.0..=1.0).contains(&got.score), "{got:?}");
                prop_assert!(got.attribution.iter().all(|part| part.1.is_finite()));
            }
        }
    }
}
