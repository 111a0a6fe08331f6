//! Simple exponential smoothing: a level that follows the series, more or less eagerly.

use super::Model;

/// The eagernesses that are tried.
const ALPHAS: [f64; 4] = [0.1, 0.3, 0.5, 0.8];

/// Forecasts the smoothed level.
#[derive(Debug, Clone, Copy)]
pub struct Ses;

/// The level before each value and after the last one.
fn levels(values: &[f64], alpha: f64) -> Vec<f64> {
    let mut level = values.first().copied().unwrap_or(0.0);
    let mut all = vec![level];
    for value in values {
        level += alpha * (value - level);
        all.push(level);
    }
    all
}

impl Model for Ses {
    fn name(&self) -> &'static str {
        "ses"
    }

    fn forecast(&self, values: &[f64], first: usize, steps: &[usize]) -> Vec<Vec<f64>> {
        let ahead = steps.iter().copied().min().unwrap_or(1);
        let error = |alpha: f64| {
            let levels = levels(&values[..first], alpha);
            let known = values[..first].iter().skip(ahead - 1);
            levels
                .iter()
                .zip(known)
                .map(|(level, value)| (level - value).abs())
                .sum::<f64>()
        };
        let mut best = (ALPHAS[0], f64::INFINITY);
        for alpha in ALPHAS {
            let error = error(alpha);
            if error < best.1 {
                best = (alpha, error);
            }
        }
        levels(values, best.0)[first..]
            .iter()
            .map(|&level| vec![level; steps.len()])
            .collect()
    }
}
