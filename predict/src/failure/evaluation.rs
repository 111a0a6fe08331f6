//! How good a failure model is on units it has not seen.

use serde::{Deserialize, Serialize};

use crate::calibrate::reliability::Reliability;

/// What folds over units showed: every number is about units the answering model was not trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Units in the training set.
    pub units: usize,
    /// Units that were given but lack a metric that the failed ones share.
    #[serde(default)]
    pub left_out_units: usize,
    /// Those of them that failed.
    pub failed_units: usize,
    /// Folds the units were dealt into.
    pub folds: usize,
    /// Cut-offs that were predicted.
    pub n: usize,
    /// Root mean squared error of the remaining life in hours, the truth capped like the prediction.
    /// Units still running have no known remaining life and are left out of this and the next two.
    pub rmse_capped: f64,
    /// The same against the uncapped truth.
    pub rmse_raw: f64,
    /// Mean PHM'08 score per cut-off against the capped truth; 0 is perfect, late predictions cost most.
    pub phm_mean: f64,
    /// Share of cut-offs whose remaining life lies between p05 and p95; 0.9 is what it should be.
    pub life_coverage: f64,
    /// The probabilities, by rising horizon.
    pub horizons: Vec<HorizonEvaluation>,
}

/// How honest the probability of one horizon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HorizonEvaluation {
    /// The horizon's name.
    pub name: String,
    /// Its length.
    pub hours: f64,
    /// Brier score, skill and the reliability diagram.
    pub reliability: Reliability,
}

/// Root mean squared difference; 0 if there is nothing to compare.
pub fn rmse(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let squares = pairs
        .into_iter()
        .map(|(predicted, actual)| (predicted - actual).powi(2));
    let (sum, n) = squares.fold((0.0, 0.0), |(sum, n), square| (sum + square, n + 1.0));
    if n > 0.0 { (sum / n).sqrt() } else { 0.0 }
}

/// The score of the PHM'08 challenge: exponential in the error, late (`predicted > actual`) is worse.
pub fn phm(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let cost = |(predicted, actual): (f64, f64)| {
        let late = predicted - actual;
        if late < 0.0 {
            (-late / 13.0).exp() - 1.0
        } else {
            (late / 10.0).exp() - 1.0
        }
    };
    pairs.into_iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scores_are_the_published_formulas() {
        assert_eq!(rmse([(1.0, 2.0), (2.0, 4.0), (0.0, 2.0)]), 3.0_f64.sqrt());
        assert_eq!(rmse([]), 0.0);
        let expected = (13.0_f64 / 13.0).exp() - 1.0 + (10.0_f64 / 10.0).exp() - 1.0;
        assert!((phm([(0.0, 13.0), (20.0, 10.0)]) - expected).abs() < 1e-12);
    }
}
