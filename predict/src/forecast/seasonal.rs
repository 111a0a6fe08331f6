//! Seasonal naive: as it was one period ago, the period found by autocorrelation.

use super::Model;

/// The least autocorrelation at which a period is believed.
const LEAST_CORRELATION: f64 = 0.3;

/// Forecasts the value one period earlier.
#[derive(Debug, Clone, Copy)]
pub struct SeasonalNaive {
    /// Steps per period, at least 2.
    pub period: usize,
}

impl SeasonalNaive {
    /// Looks for a period that repeats at least three times.
    pub fn find(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n.max(1) as f64;
        let spread: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        if spread.is_nan() || spread <= 0.0 {
            return None;
        }
        let correlation = |lag: usize| {
            let pairs = values[..n - lag].iter().zip(&values[lag..]);
            pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / spread
        };
        let all: Vec<f64> = (0..=n / 3).map(correlation).collect();
        let is_peak = |lag: &usize| {
            all[*lag] >= all[lag - 1] && all.get(lag + 1).is_none_or(|next| all[*lag] > *next)
        };
        let peaks = (2..all.len())
            .filter(is_peak)
            .filter(|&lag| all[lag] >= LEAST_CORRELATION);
        let period = peaks.max_by(|&a, &b| all[a].total_cmp(&all[b]))?;
        Some(Self { period })
    }
}

impl Model for SeasonalNaive {
    fn name(&self) -> &'static str {
        "seasonal_naive"
    }

    fn forecast(&self, values: &[f64], first: usize, steps: &[usize]) -> Vec<Vec<f64>> {
        let at = |origin: usize, ahead: usize| {
            let target = origin + ahead - 1;
            let periods = ahead.div_ceil(self.period);
            let place = target.checked_sub(periods * self.period);
            // Before the first whole period there is only the last value.
            place
                .or(origin.checked_sub(1))
                .map_or(0.0, |place| values[place])
        };
        let origins = first..=values.len();
        origins
            .map(|origin| steps.iter().map(|&ahead| at(origin, ahead)).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_found_and_continued() {
        let values: Vec<f64> = (0..120)
            .map(|i| (f64::from(i) / 12.0 * std::f64::consts::TAU).sin())
            .collect();
        let model = SeasonalNaive::find(&values).expect("a sine has a period");
        assert_eq!(model.period, 12);
        let ahead = model.forecast(&values, 120, &[1, 15]);
        assert_eq!(ahead[0], [values[108], values[110]]);
    }

    #[test]
    fn a_constant_has_no_period() {
        assert!(SeasonalNaive::find(&[2.0; 50]).is_none());
        assert!(SeasonalNaive::find(&[]).is_none());
    }
}
