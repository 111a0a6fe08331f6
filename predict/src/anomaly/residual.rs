//! What the principal components cannot explain: metrics that no longer move together.

use serde::{Deserialize, Serialize};

use crate::linalg::symmetric_eigen;

/// Share of the variance the kept components explain.
const EXPLAINED: f64 = 0.9;
/// Metrics that vary less than this are left as they are instead of being blown up.
const LEAST_SD: f64 = 1e-6;
/// Standardised values are held within this.
const MOST_Z: f64 = 50.0;
/// More metrics than this are cut: the eigenvectors of a larger matrix would take minutes.
pub(super) const MOST_METRICS: usize = 256;

/// Standardisation and leading components of a past taken as normal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    means: Vec<f64>,
    sds: Vec<f64>,
    components: Vec<Vec<f64>>,
}

impl Residual {
    /// Learns from rows of equal length; missing values are left out of means and count as the mean.
    pub fn fit(rows: &[Vec<f64>], metrics: usize) -> Self {
        let moments = |column: usize| {
            let known = || rows.iter().map(|row| row[column]).filter(|x| x.is_finite());
            let n = known().count().max(1) as f64;
            let mean = known().map(|x| x / n).sum::<f64>();
            let variance = known().map(|x| (x - mean).powi(2) / n).sum::<f64>();
            let sd = variance.sqrt();
            (
                mean,
                if sd.is_finite() && sd >= LEAST_SD {
                    sd
                } else {
                    1.0
                },
            )
        };
        let (means, sds) = (0..metrics).map(moments).unzip();
        let mut fitted = Self {
            means,
            sds,
            components: Vec::new(),
        };
        let mut covariance = vec![0.0; metrics * metrics];
        for row in rows {
            let z = fitted.standardise(row);
            for p in 0..metrics {
                for q in 0..=p {
                    covariance[p * metrics + q] += z[p] * z[q];
                }
            }
        }
        for p in 0..metrics {
            for q in 0..p {
                covariance[q * metrics + p] = covariance[p * metrics + q];
            }
        }
        let pairs = symmetric_eigen(covariance, metrics);
        let total: f64 = pairs.iter().map(|pair| pair.0.max(0.0)).sum();
        let mut explained = 0.0;
        for (value, vector) in pairs {
            if explained >= EXPLAINED * total || total <= 0.0 {
                break;
            }
            explained += value.max(0.0);
            fitted.components.push(vector);
        }
        fitted
    }

    /// Distance from the mean in standard deviations; 0 for missing values.
    pub fn standardise(&self, row: &[f64]) -> Vec<f64> {
        let columns = row.iter().zip(self.means.iter().zip(&self.sds));
        let z = |(x, (mean, sd)): (&f64, (&f64, &f64))| {
            if x.is_nan() {
                0.0
            } else {
                ((x - mean) / sd).clamp(-MOST_Z, MOST_Z)
            }
        };
        columns.map(z).collect()
    }

    /// Squared reconstruction error of each metric of a standardised row.
    pub fn errors(&self, z: &[f64]) -> Vec<f64> {
        let mut rest = z.to_vec();
        for component in &self.components {
            let along: f64 = z.iter().zip(component).map(|(z, c)| z * c).sum();
            for (rest, c) in rest.iter_mut().zip(component) {
                *rest -= along * c;
            }
        }
        rest.iter().map(|rest| rest * rest).collect()
    }

    /// Whether its parts fit each other, whoever wrote it.
    pub(super) fn is_sound(&self, metrics: usize) -> bool {
        self.means.len() == metrics
            && self.sds.len() == metrics
            && self.sds.iter().all(|sd| *sd > 0.0)
            && self
                .components
                .iter()
                .all(|component| component.len() == metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn what_moves_together_is_explained_and_what_parts_is_not() {
        let mut rng = Rng::new(4);
        let rows: Vec<Vec<f64>> = (0..500)
            .map(|_| {
                let common = rng.normal();
                vec![common, 10.0 - 3.0 * common + 0.01 * rng.normal(), 5.0]
            })
            .collect();
        let fitted = Residual::fit(&rows, 3);
        let error = |row: &[f64]| fitted.errors(&fitted.standardise(row)).iter().sum::<f64>();
        assert!(error(&[2.0, 4.0, 5.0]) < 0.01);
        assert!(error(&[2.0, 16.0, 5.0]) > 3.0);
        assert!(
            error(&[0.0, 10.0, 9.0]) > 3.0,
            "a constant metric that moves is unusual"
        );
        assert!(error(&[f64::NAN, f64::NAN, 5.0]) < 0.01);
    }
}
