//! Autoregression with a ridge: the change ahead as a sum of recent differences, fitted per step.

use super::Model;
use crate::linalg::solve_positive_definite;

/// Forecasts `x(t + h) − x(t)` from the last values minus `x(t)`, and an intercept.
#[derive(Debug, Clone, Copy)]
pub struct Ridge {
    /// How many values it looks back.
    pub lags: usize,
    /// The ridge penalty.
    pub penalty: f64,
}

impl Default for Ridge {
    fn default() -> Self {
        Self {
            lags: 24,
            penalty: 0.1,
        }
    }
}

impl Ridge {
    /// Differences of the values before `origin` to the last of them, then 1 for the intercept.
    fn inputs(&self, values: &[f64], origin: usize, out: &mut Vec<f64>) {
        let last = values[origin - 1];
        out.clear();
        out.extend((2..=self.lags).map(|back| values[origin - back] - last));
        out.push(1.0);
    }

    /// The weights for one step ahead; nothing if there is too little to fit or it is degenerate.
    fn fit(&self, values: &[f64], ahead: usize) -> Option<Vec<f64>> {
        let n = self.lags;
        let origins = n..(values.len() + 1).checked_sub(ahead)?;
        if origins.len() < 2 * n {
            return None;
        }
        let mut gram = vec![0.0; n * n];
        let mut moment = vec![0.0; n];
        let mut x = Vec::with_capacity(n);
        for origin in origins {
            self.inputs(values, origin, &mut x);
            let y = values[origin + ahead - 1] - values[origin - 1];
            for row in 0..n {
                for column in 0..=row {
                    gram[row * n + column] += x[row] * x[column];
                }
                moment[row] += x[row] * y;
            }
        }
        for diagonal in 0..n {
            gram[diagonal * n + diagonal] += self.penalty;
        }
        solve_positive_definite(gram, moment)
    }
}

impl Model for Ridge {
    fn name(&self) -> &'static str {
        "ridge"
    }

    fn forecast(&self, values: &[f64], first: usize, steps: &[usize]) -> Vec<Vec<f64>> {
        let fits: Vec<Option<Vec<f64>>> = steps
            .iter()
            .map(|&ahead| self.fit(&values[..first], ahead))
            .collect();
        let mut x = Vec::with_capacity(self.lags);
        let mut from = |origin: usize| {
            let last = origin.checked_sub(1).map_or(0.0, |last| values[last]);
            if origin < self.lags {
                return vec![last; steps.len()];
            }
            self.inputs(values, origin, &mut x);
            let change = |fit: &Option<Vec<f64>>| match fit {
                Some(weights) => weights.iter().zip(&x).map(|(w, x)| w * x).sum(),
                None => 0.0,
            };
            fits.iter().map(|fit| last + change(fit)).collect()
        };
        (first..=values.len()).map(&mut from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_continued() {
        let values: Vec<f64> = (0..200).map(|i| 3.0 * f64::from(i)).collect();
        let ahead = Ridge::default().forecast(&values, 200, &[1, 10]);
        assert!((ahead[0][0] - 600.0).abs() < 0.1, "{}", ahead[0][0]);
        assert!((ahead[0][1] - 627.0).abs() < 0.5, "{}", ahead[0][1]);
    }

    #[test]
    fn too_little_history_is_persistence() {
        assert_eq!(Ridge::default().forecast(&[1.0, 5.0], 2, &[3]), [[5.0]]);
    }
}
