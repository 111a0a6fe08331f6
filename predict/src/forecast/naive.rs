//! Persistence: it stays as it is. Hard to beat at short range, so it is the first champion.

use super::Model;

/// Forecasts the last value.
#[derive(Debug, Clone, Copy)]
pub struct Naive;

impl Model for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn forecast(&self, values: &[f64], first: usize, steps: &[usize]) -> Vec<Vec<f64>> {
        let last = |origin: usize| origin.checked_sub(1).map_or(0.0, |last| values[last]);
        (first..=values.len())
            .map(|origin| vec![last(origin); steps.len()])
            .collect()
    }
}
