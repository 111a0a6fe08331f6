//! Scores to probabilities by a smooth curve that never ties two of them: beta calibration
//! (Kull, Silva Filho and Flach, AISTATS 2017).

use serde::{Deserialize, Serialize};

use crate::gbdt::sigmoid;
use crate::linalg::solve_positive_definite;

/// Newton's steps before the fit is taken as it is; it is convex and needs about six.
const STEPS: usize = 50;
/// Keeps the fit's equations solvable where the scores hardly differ; far below any observation's pull.
const RIDGE: f64 = 1e-6;

/// A rising map from log-odds `z` to a probability `p`:
/// `logit p = rise · ln s − fall · ln(1 − s) + shift`, where `s = 1 / (1 + e^−z)`.
///
/// With `rise = fall` it is Platt's line; two slopes let the ends bend differently.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BetaCurve {
    /// Slope where `z` is low; not negative.
    rise: f64,
    /// Slope where `z` is high; not negative.
    fall: f64,
    shift: f64,
}

impl BetaCurve {
    /// Fits the curve to `(log-odds, outcome 0..1, weight)` by maximum likelihood.
    ///
    /// Neighbouring examples may watch the same events: `overlap` says how many of them amount to one
    /// independent observation. However clear the record, it cannot prove that something never or
    /// always happens, so each class keeps the doubt of half an observation to the contrary (Platt's
    /// targets with Jeffreys' half).
    /// Without any weight the answer is ½ throughout.
    pub fn fit(examples: &[(f64, f64, f64)], overlap: f64) -> Self {
        let known = examples
            .iter()
            .filter(|(score, _, weight)| *weight > 0.0 && score.is_finite());
        let independent = 1.0 / overlap.max(1e-9);
        let [mut happened, mut not] = [0.0; 2];
        for (_, outcome, weight) in known.clone() {
            happened += outcome * weight * independent;
            not += (1.0 - outcome) * weight * independent;
        }
        let [yes, no] = [(happened + 0.5) / (happened + 1.0), 0.5 / (not + 1.0)];
        let points: Vec<Point> = known
            .map(|&(score, outcome, weight)| Point {
                low: ln_sigmoid(score),
                high: -ln_sigmoid(-score),
                target: outcome * yes + (1.0 - outcome) * no,
                weight: weight * independent,
            })
            .collect();
        // A slope below zero would turn the order round; the better of the curves without it is the fit.
        let both = descend(&points, [true, true]);
        if both.rise >= 0.0 && both.fall >= 0.0 {
            return both;
        }
        let single = |slopes: [bool; 2]| {
            let curve = descend(&points, slopes);
            if curve.rise >= 0.0 && curve.fall >= 0.0 {
                curve
            } else {
                descend(&points, [false, false])
            }
        };
        let [first, second] = [single([true, false]), single([false, true])];
        if first.loss(&points) <= second.loss(&points) {
            first
        } else {
            second
        }
    }

    /// The probability that belongs to log-odds.
    pub fn probability(&self, log_odds: f64) -> f64 {
        sigmoid(self.logit(ln_sigmoid(log_odds), -ln_sigmoid(-log_odds)))
    }

    /// Whether the curve is one [`BetaCurve::fit`] could have made, whoever wrote it.
    pub(crate) fn is_sound(&self) -> bool {
        let slope = |value: f64| value.is_finite() && value >= 0.0;
        slope(self.rise) && slope(self.fall) && self.shift.is_finite()
    }

    fn logit(&self, low: f64, high: f64) -> f64 {
        self.rise * low + self.fall * high + self.shift
    }

    /// The negative log-likelihood, with the ridge.
    fn loss(&self, points: &[Point]) -> f64 {
        let ridge = 0.5 * RIDGE * (self.rise.powi(2) + self.fall.powi(2) + self.shift.powi(2));
        let loss = |point: &Point| {
            let logit = self.logit(point.low, point.high);
            -point.weight
                * (point.target * ln_sigmoid(logit) + (1.0 - point.target) * ln_sigmoid(-logit))
        };
        ridge + points.iter().map(loss).sum::<f64>()
    }
}

/// One example as the fit sees it.
struct Point {
    /// `ln s`, at most 0.
    low: f64,
    /// `−ln(1 − s)`, at least 0.
    high: f64,
    target: f64,
    weight: f64,
}

/// Newton's method with step halving over the shift and the slopes that are free; the others stay 0.
fn descend(points: &[Point], free: [bool; 2]) -> BetaCurve {
    let mut curve = BetaCurve {
        rise: 0.0,
        fall: 0.0,
        shift: 0.0,
    };
    let mut loss = curve.loss(points);
    for _ in 0..STEPS {
        let Some(step) = newton_step(&curve, points, free) else {
            break;
        };
        let tried = (0..30).find_map(|halvings| {
            let share = 0.5_f64.powi(halvings);
            let next = BetaCurve {
                rise: curve.rise - share * step[0],
                fall: curve.fall - share * step[1],
                shift: curve.shift - share * step[2],
            };
            let less = next.loss(points);
            (less < loss).then_some((next, less))
        });
        let Some((next, less)) = tried else { break };
        let settled = loss - less < 1e-12 * loss.abs();
        (curve, loss) = (next, less);
        if settled {
            break;
        }
    }
    curve
}

/// What Newton's method subtracts from rise, fall and shift.
fn newton_step(curve: &BetaCurve, points: &[Point], free: [bool; 2]) -> Option<Vec<f64>> {
    let mut gradient = vec![RIDGE * curve.rise, RIDGE * curve.fall, RIDGE * curve.shift];
    let mut hessian = vec![0.0; 9];
    for diagonal in 0..3 {
        hessian[diagonal * 4] = RIDGE;
    }
    for point in points {
        let p = sigmoid(curve.logit(point.low, point.high));
        let inputs = [
            if free[0] { point.low } else { 0.0 },
            if free[1] { point.high } else { 0.0 },
            1.0,
        ];
        for row in 0..3 {
            gradient[row] += point.weight * (p - point.target) * inputs[row];
            for column in 0..3 {
                hessian[row * 3 + column] +=
                    point.weight * p * (1.0 - p) * inputs[row] * inputs[column];
            }
        }
    }
    solve_positive_definite(hessian, gradient)
}

/// `ln(1 / (1 + e^−x))` without overflow.
fn ln_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    /// Outcomes drawn with the probability that a known curve gives their score.
    fn drawn(truth: BetaCurve, count: usize) -> Vec<(f64, f64, f64)> {
        let mut rng = Rng::for_part(3, 0);
        (0..count)
            .map(|_| {
                let score = rng.uniform() * 10.0 - 5.0;
                let happened = rng.uniform() < truth.probability(score);
                (score, f64::from(u8::from(happened)), 1.0)
            })
            .collect()
    }

    #[test]
    fn a_known_curve_is_found_again() {
        let truth = BetaCurve {
            rise: 0.5,
            fall: 1.5,
            shift: -0.4,
        };
        let found = BetaCurve::fit(&drawn(truth, 20_000), 1.0);
        for score in [-4.0, -1.0, 0.0, 1.0, 4.0] {
            let [want, got] = [truth.probability(score), found.probability(score)];
            assert!((want - got).abs() < 0.02, "{score}: {want} and {got}");
        }
    }

    #[test]
    fn certainty_is_bounded_and_nothing_known_is_even_odds() {
        let clear: Vec<_> = (0..18)
            .map(|i| (f64::from(i / 9) * 6.0 - 3.0, f64::from(i / 9), 1.0))
            .collect();
        // Nine of nine, and half a one to the contrary: 9.5 of 10.
        let curve = BetaCurve::fit(&clear, 1.0);
        assert!((curve.probability(3.0) - 0.95).abs() < 1e-3);
        assert!((curve.probability(-3.0) - 0.05).abs() < 1e-3);
        // If nine examples are one observation, it is 1.5 of 2.
        assert!((BetaCurve::fit(&clear, 9.0).probability(3.0) - 0.75).abs() < 1e-3);
        assert_eq!(BetaCurve::fit(&[], 1.0).probability(3.0), 0.5);
    }

    #[test]
    fn scores_that_point_the_wrong_way_are_not_believed() {
        let against: Vec<_> = (0..100)
            .map(|i| (f64::from(i) / 10.0 - 5.0, f64::from(u8::from(i < 50)), 1.0))
            .collect();
        let curve = BetaCurve::fit(&against, 1.0);
        assert!((curve.probability(-5.0) - 0.5).abs() < 0.05, "{curve:?}");
        assert!((curve.probability(5.0) - 0.5).abs() < 0.05, "{curve:?}");
    }

    proptest! {
        #[test]
        fn the_curve_is_rising_and_sound(
            examples in prop::collection::vec((-40.0..40.0, 0.0..=1.0, 0.0..3.0), 0..60),
            mut asked in prop::collection::vec(-60.0..60.0, 2..20),
        ) {
            let curve = BetaCurve::fit(&examples, 1.0);
            prop_assert!(curve.is_sound(), "{curve:?}");
            asked.sort_by(f64::total_cmp);
            let answers: Vec<f64> = asked.iter().map(|&score| curve.probability(score)).collect();
            prop_assert!(answers.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(answers.iter().all(|p| (0.0..=1.0).contains(p)));
        }
    }
}
