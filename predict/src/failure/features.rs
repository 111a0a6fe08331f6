//! From the last rows of a history to a row of features: five statistics per metric.

use serde::{Deserialize, Serialize};

use crate::rng::checksum;

/// The statistics of each metric's window, in the order of the features.
pub(super) const STATISTICS: [&str; 5] = ["last", "mean", "sd", "trend", "mean_5"];

/// Which features a model reads. Changing what a statistic means requires a new [`PLAN_VERSION`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FeaturePlan {
    /// Rows a window has, at most.
    pub(super) window: usize,
    /// The metrics read.
    pub(super) metrics: Vec<String>,
}

/// The meaning of the statistics; part of the feature hash.
const PLAN_VERSION: u32 = 1;

impl FeaturePlan {
    pub(super) fn len(&self) -> usize {
        self.metrics.len() * STATISTICS.len()
    }

    /// The metric and the statistic behind a feature.
    pub(super) fn name(&self, feature: usize) -> (&str, &'static str) {
        let [metric, statistic] = [feature / STATISTICS.len(), feature % STATISTICS.len()];
        (&self.metrics[metric], STATISTICS[statistic])
    }

    /// A number that differs if two plans read different features.
    pub(super) fn hash(&self) -> u64 {
        let mut text = format!(
            "{PLAN_VERSION}\n{}\n{}\n",
            self.window,
            STATISTICS.join(",")
        );
        for metric in &self.metrics {
            // The length keeps ["a,b"] and ["a", "b"] apart.
            text.push_str(&format!("{}:{metric}\n", metric.len()));
        }
        checksum(text.as_bytes())
    }

    /// Appends the features of the window that ends before row `end`. `columns` holds, per metric of
    /// the plan, its column in the rows. Missing values are left out; without any, features are NaN.
    pub(super) fn extract(
        &self,
        rows: &[Vec<f64>],
        end: usize,
        columns: &[usize],
        out: &mut Vec<f64>,
    ) {
        let window = &rows[end.saturating_sub(self.window)..end];
        for &column in columns {
            out.extend(statistics(window, column));
        }
    }
}

fn statistics(window: &[Vec<f64>], column: usize) -> [f64; STATISTICS.len()] {
    let known = || {
        let values = window.iter().map(|row| row[column]).enumerate();
        values.filter(|(_, value)| value.is_finite())
    };
    let count = known().count();
    if count == 0 {
        return [f64::NAN; STATISTICS.len()];
    }
    let n = count as f64;
    let last = known().next_back().map_or(f64::NAN, |(_, value)| value);
    let mean = known().map(|(_, value)| value).sum::<f64>() / n;
    let variance = known()
        .map(|(_, value)| (value - mean).powi(2))
        .sum::<f64>()
        / n;
    // τ runs from −1 at the window's first row to 1 at its last.
    let half = (window.len() - 1) as f64 / 2.0;
    let tau = |place: usize| {
        if half > 0.0 {
            place as f64 / half - 1.0
        } else {
            0.0
        }
    };
    let trend = known()
        .map(|(place, value)| (value - mean) * tau(place))
        .sum::<f64>()
        / n;
    let recent = known().filter(|(place, _)| place + 5 >= window.len());
    let (recent, recent_n) = recent.fold((0.0, 0.0), |(sum, n), (_, value)| (sum + value, n + 1.0));
    let mean_5 = if recent_n > 0.0 {
        recent / recent_n
    } else {
        last
    };
    [last, mean, variance.sqrt(), trend, mean_5]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(window: usize) -> FeaturePlan {
        FeaturePlan {
            window,
            metrics: vec!["a".into()],
        }
    }

    fn features(plan: &FeaturePlan, values: &[f64]) -> Vec<f64> {
        let rows: Vec<Vec<f64>> = values.iter().map(|&value| vec![value]).collect();
        let mut out = Vec::new();
        plan.extract(&rows, rows.len(), &[0], &mut out);
        out
    }

    #[test]
    fn the_statistics_are_the_closed_form_ones() {
        let line: Vec<f64> = (0..12).map(f64::from).collect();
        let got = features(&plan(11), &line);
        // 1..=11: mean 6, variance 10, τ = (x − 6)/5, so the mean of (x − 6)·τ is 10/5.
        let expected = [11.0, 6.0, 10.0_f64.sqrt(), 2.0, 9.0];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    #[test]
    fn short_windows_and_gaps_are_no_trouble() {
        assert_eq!(features(&plan(30), &[4.0]), [4.0, 4.0, 0.0, 0.0, 4.0]);
        let gappy = features(&plan(30), &[1.0, f64::NAN, 3.0, f64::NAN]);
        assert_eq!(gappy[0], 3.0);
        assert_eq!(gappy[1], 2.0);
        assert!(
            features(&plan(30), &[f64::NAN; 4])
                .iter()
                .all(|x| x.is_nan())
        );
    }

    #[test]
    fn plans_that_read_different_features_have_different_hashes() {
        assert_ne!(plan(30).hash(), plan(31).hash());
        let [one, two] = [["a,b"].as_slice(), &["a", "b"]].map(|names| FeaturePlan {
            window: 30,
            metrics: names.iter().map(|&name| name.into()).collect(),
        });
        assert_ne!(one.hash(), two.hash());
    }
}
