//! The probability of having failed, as a curve over time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Above this a probability is certainty for planning; its hazard stays finite.
const CERTAIN: f64 = 0.9999;

/// P(failed by t), kept as cumulative hazard with a constant rate between knots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RiskCurve {
    // Both strictly increasing in time and never decreasing in hazard; starts at (0, 0), which is not stored.
    knots: Vec<(f64, f64)>,
}

impl RiskCurve {
    /// The curve through the calibrated scores; the quantiles of the remaining life (hours that 5, 50 and 95 of 100 do
    /// not outlast) shape it where they agree.
    ///
    /// The scores are calibrated, so a quantile that contradicts the two scores around it is left out.
    #[must_use]
    pub fn new(by_horizon: &BTreeMap<String, f64>, life: Option<[f64; 3]>) -> Self {
        let mut knots: Vec<(f64, f64)> = by_horizon
            .iter()
            .filter_map(|(name, p)| Some((horizon_hours(name)?, hazard(*p)?)))
            .filter(|(hours, _)| *hours > 0.0)
            .collect();
        knots.sort_by(|a, b| a.0.total_cmp(&b.0));
        knots.dedup_by(|a, b| a.0 == b.0);
        for i in 1..knots.len() {
            knots[i].1 = knots[i].1.max(knots[i - 1].1);
        }
        for (hours, p) in life.into_iter().flatten().zip([0.05, 0.5, 0.95]) {
            if let Some(h) = hazard(p).filter(|_| hours.is_finite() && hours > 0.0) {
                insert_if_consistent(&mut knots, hours, h);
            }
        }
        Self { knots }
    }

    /// Whether anything is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.knots.is_empty()
    }

    /// Probability of having failed within `hours`.
    #[must_use]
    pub fn failed_by(&self, hours: f64) -> f64 {
        -(-self.hazard_at(hours)).exp_m1()
    }

    /// Expected hours of outage when the repair comes at `repair`, or `emergency` hours after the failure, whichever
    /// is sooner: the integral of the curve over the last `emergency` hours before the repair.
    #[must_use]
    pub fn outage_hours(&self, repair: f64, emergency: f64) -> f64 {
        let from = (repair - emergency).max(0.0);
        let mut edges = vec![from];
        edges.extend(
            self.knots
                .iter()
                .map(|k| k.0)
                .filter(|h| *h > from && *h < repair),
        );
        edges.push(repair.max(from));
        edges
            .windows(2)
            .map(|e| self.integral(e[0], e[1]))
            .sum::<f64>()
            .max(0.0)
    }

    /// Integral of the curve over a piece of constant rate.
    fn integral(&self, from: f64, to: f64) -> f64 {
        let width = to - from;
        if width <= 0.0 {
            return 0.0;
        }
        let (h0, h1) = (self.hazard_at(from), self.hazard_at(to));
        let step = h1 - h0;
        if step < 1e-9 {
            return -(-h0).exp_m1() * width;
        }
        width - ((-h0).exp() - (-h1).exp()) * width / step
    }

    fn hazard_at(&self, hours: f64) -> f64 {
        if hours <= 0.0 {
            return 0.0;
        }
        let mut before = (0.0, 0.0);
        for &knot in &self.knots {
            if hours <= knot.0 {
                return before.1 + (knot.1 - before.1) * (hours - before.0) / (knot.0 - before.0);
            }
            before = knot;
        }
        // Beyond what was predicted the last known rate goes on.
        let rate = match self.knots.as_slice() {
            [] => 0.0,
            [only] => only.1 / only.0,
            [.., a, b] => (b.1 - a.1) / (b.0 - a.0),
        };
        before.1 + rate * (hours - before.0)
    }
}

/// Hours of a horizon's name: `12h`, `7d`.
fn horizon_hours(name: &str) -> Option<f64> {
    let (digits, factor) = name
        .strip_suffix('d')
        .map(|d| (d, 24.0))
        .or_else(|| name.strip_suffix('h').map(|d| (d, 1.0)))?;
    Some(f64::from(digits.parse::<u32>().ok()?) * factor)
}

fn hazard(probability: f64) -> Option<f64> {
    probability
        .is_finite()
        .then(|| -(-probability.clamp(0.0, CERTAIN)).ln_1p())
}

fn insert_if_consistent(knots: &mut Vec<(f64, f64)>, hours: f64, hazard: f64) {
    let at = knots.partition_point(|k| k.0 < hours);
    let above = at == 0 || knots[at - 1].1 <= hazard;
    let below = knots.get(at).is_none_or(|k| k.0 > hours && k.1 >= hazard);
    if above && below {
        knots.insert(at, (hours, hazard));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(day: f64, week: f64, month: f64) -> BTreeMap<String, f64> {
        [("1d", day), ("7d", week), ("30d", month)]
            .map(|(k, v)| (k.to_owned(), v))
            .into()
    }

    #[test]
    fn the_curve_meets_the_calibrated_scores() {
        let curve = RiskCurve::new(&scores(0.05, 0.4, 0.9), None);
        for (hours, p) in [(24.0, 0.05), (168.0, 0.4), (720.0, 0.9)] {
            assert!((curve.failed_by(hours) - p).abs() < 1e-12);
        }
        assert_eq!(curve.failed_by(0.0), 0.0);
        assert!(curve.failed_by(1000.0) > 0.9);
    }

    #[test]
    fn a_quantile_that_contradicts_the_scores_is_left_out() {
        let life = [30.0, 20.0, 400.0];
        let curve = RiskCurve::new(&scores(0.04, 0.4, 0.97), Some(life));
        assert!((curve.failed_by(24.0) - 0.04).abs() < 1e-12);
        assert!((curve.failed_by(30.0) - 0.05).abs() < 1e-12);
        assert!((curve.failed_by(400.0) - 0.95).abs() < 1e-12);
    }

    #[test]
    fn the_closed_form_integral_agrees_with_a_fine_sum() {
        let curve = RiskCurve::new(&scores(0.1, 0.6, 0.99), None);
        for repair in [3.0_f64, 30.0, 200.0, 800.0] {
            let emergency = 12.0;
            let from = (repair - emergency).max(0.0);
            let n = 20_000;
            let dx = (repair - from) / f64::from(n);
            let sum: f64 = (0..n)
                .map(|i| curve.failed_by(from + (f64::from(i) + 0.5) * dx) * dx)
                .sum();
            assert!((curve.outage_hours(repair, emergency) - sum).abs() < 1e-6);
        }
    }

    #[test]
    fn waiting_longer_never_looks_safer() {
        let curve = RiskCurve::new(&scores(0.3, 0.2, 0.5), None);
        let mut last = 0.0;
        for hour in 0..800 {
            let now = curve.outage_hours(f64::from(hour), 12.0);
            assert!(now >= last - 1e-12);
            last = now;
        }
    }
}
