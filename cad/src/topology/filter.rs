//! The density filter: a weighted mean over a ball, which sets the smallest member size.

use rayon::prelude::*;

/// Linear hat weights of radius `radius` (in voxels), normalised at the borders.
#[derive(Debug, Clone)]
pub struct Filter {
    counts: [usize; 3],
    offsets: Vec<([isize; 3], f64)>,
    /// Sum of weights around each voxel.
    sums: Vec<f64>,
}

impl Filter {
    /// Prepares the filter for a grid.
    #[must_use]
    pub fn new(counts: [usize; 3], radius: f64) -> Self {
        let reach = radius.ceil() as isize - 1;
        let mut offsets = Vec::new();
        for k in -reach..=reach {
            for j in -reach..=reach {
                for i in -reach..=reach {
                    let w = radius - ((i * i + j * j + k * k) as f64).sqrt();
                    if w > 0.0 {
                        offsets.push(([i, j, k], w));
                    }
                }
            }
        }
        let mut filter = Self {
            counts,
            offsets,
            sums: Vec::new(),
        };
        let ones = vec![1.0; counts.iter().product()];
        filter.sums = filter.weighted(&ones);
        filter
    }

    /// The filtered densities.
    #[must_use]
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let mut out = self.weighted(x);
        for (o, s) in out.iter_mut().zip(&self.sums) {
            *o /= s;
        }
        out
    }

    /// Sensitivities of the design from those of the filtered densities.
    #[must_use]
    pub fn adjoint(&self, d: &[f64]) -> Vec<f64> {
        let scaled: Vec<f64> = d.iter().zip(&self.sums).map(|(d, s)| d / s).collect();
        self.weighted(&scaled)
    }

    fn weighted(&self, x: &[f64]) -> Vec<f64> {
        let [nx, ny, nz] = self.counts;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(nx * ny)
            .enumerate()
            .for_each(|(k, plane)| {
                for &([di, dj, dk], w) in &self.offsets {
                    let other = k as isize + dk;
                    if other < 0 || other >= nz as isize {
                        continue;
                    }
                    let from = &x[other as usize * nx * ny..][..nx * ny];
                    let rows = (-dj).max(0) as usize..(ny as isize - dj.max(0)).max(0) as usize;
                    for j in rows {
                        let source = &from[(j as isize + dj) as usize * nx..][..nx];
                        let target = &mut plane[j * nx..][..nx];
                        let first = (-di).max(0) as usize;
                        let last = (nx as isize - di.max(0)).max(0) as usize;
                        if first < last {
                            let shifted = (first as isize + di) as usize;
                            let count = last - first;
                            for (t, s) in target[first..last]
                                .iter_mut()
                                .zip(&source[shifted..shifted + count])
                            {
                                *t += w * s;
                            }
                        }
                    }
                }
            });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn constants_pass_and_the_adjoint_is_the_transpose() {
        let filter = Filter::new([7, 5, 4], 2.5);
        assert!(
            filter
                .apply(&[0.3; 140])
                .iter()
                .all(|x| (x - 0.3).abs() < 1e-14)
        );
        let mut rng = Rng::new(2);
        let a: Vec<f64> = (0..140).map(|_| rng.normal()).collect();
        let b: Vec<f64> = (0..140).map(|_| rng.normal()).collect();
        let left: f64 = filter.apply(&a).iter().zip(&b).map(|(x, y)| x * y).sum();
        let right: f64 = filter.adjoint(&b).iter().zip(&a).map(|(x, y)| x * y).sum();
        assert!((left - right).abs() < 1e-12);
    }
}
