//! Optimised densities as a smooth distance on the surface's grid.

use rayon::prelude::*;

use super::Voxels;
use crate::families::DesignSpace;

/// Cells of the surface's grid along the edge of a voxel: rims a voxel thick need three.
const FINER: usize = 3;
/// Empty cells around the grid, so that the surface closes inside.
const PAD: usize = 2;
/// Standard deviation of the blur that takes the voxels' steps away, in voxels.
const BLUR: f64 = 0.625;
/// Density changes at least this much per voxel where its level stands for a distance.
const LEAST_SLOPE: f64 = 0.25;

/// Smoothed densities with their steepness.
pub(super) struct Material {
    density: Voxels,
    /// Change of density per mm.
    slope: Vec<f64>,
}

impl Material {
    /// Refines and blurs the densities of the free cells.
    pub(super) fn new(density: &Voxels, space: &DesignSpace) -> Self {
        let fine = refined(&spread(density, space));
        let density = blurred(&fine, BLUR * FINER as f64);
        let least = LEAST_SLOPE / (FINER as f64 * density.voxel_mm);
        let slope = slopes(&density, least);
        Self { density, slope }
    }

    /// Roughly the distance to the surface where the density has a level, mm, positive inside.
    pub(super) fn distance(&self, level: f64) -> Voxels {
        let mut distance = self.density.clone();
        for (value, slope) in distance.fill.iter_mut().zip(&self.slope) {
            *value = (*value - level) / slope;
        }
        distance
    }
}

/// Continues the densities of free cells straight into frozen shapes and keep-outs.
///
/// Their own densities repeat their outlines in steps of a voxel; the exact shapes are added later,
/// and must not compete with a second, coarser surface in nearly the same place.
fn spread(density: &Voxels, space: &DesignSpace) -> Voxels {
    let mut out = density.clone();
    let [nx, ny, _] = density.counts;
    let mut known: Vec<bool> = (0..density.fill.len())
        .map(|n| {
            let p = density.centre(n);
            !space.is_void(p) && !space.is_solid(p)
        })
        .collect();
    let around = |n: usize| {
        let cell = density.cell(n);
        let strides = [1, nx, nx * ny].into_iter().enumerate();
        strides.flat_map(move |(a, stride)| {
            let before = (cell[a] > 0).then(|| n - stride);
            let after = (cell[a] + 1 < density.counts[a]).then(|| n + stride);
            before.into_iter().chain(after)
        })
    };
    // Each cell once, when the front reaches it: values go straight on instead of fading.
    while known.contains(&false) && known.contains(&true) {
        let seen = known.clone();
        for n in (0..seen.len()).filter(|&n| !seen[n]) {
            let (mut sum, mut count) = (0.0, 0.0);
            for m in around(n).filter(|&m| seen[m]) {
                sum += out.fill[m];
                count += 1.0;
            }
            if count > 0.0 {
                out.fill[n] = sum / count;
                known[n] = true;
            }
        }
    }
    out
}

/// The densities on smaller cells.
fn refined(density: &Voxels) -> Voxels {
    let h = density.voxel_mm / FINER as f64;
    let counts = density.counts.map(|n| FINER * n + 2 * PAD);
    let origin = density.origin.map(|x| x - PAD as f64 * h);
    let mut fine = Voxels::uniform(counts, origin, h, 0.0);
    fine.fill = (0..fine.fill.len())
        .into_par_iter()
        .map(|n| sample(density, fine.centre(n)))
        .collect();
    fine
}

/// Trilinear interpolation between cell centres, constant beyond the outermost.
pub(super) fn sample(voxels: &Voxels, p: [f64; 3]) -> f64 {
    let mut low = [0; 3];
    let mut high = [0; 3];
    let mut share = [0.0; 3];
    for (a, &p) in p.iter().enumerate() {
        let last = (voxels.counts[a] - 1) as f64;
        let x = ((p - voxels.origin[a]) / voxels.voxel_mm - 0.5).clamp(0.0, last);
        low[a] = x.floor() as usize;
        high[a] = (low[a] + 1).min(voxels.counts[a] - 1);
        share[a] = x - x.floor();
    }
    let mut sum = 0.0;
    for corner in 0..8usize {
        let mut weight = 1.0;
        let cell = [0, 1, 2].map(|a| {
            if corner >> a & 1 == 1 {
                weight *= share[a];
                high[a]
            } else {
                weight *= 1.0 - share[a];
                low[a]
            }
        });
        sum += weight * voxels.fill[voxels.index(cell[0], cell[1], cell[2])];
    }
    sum
}

/// Gaussian blur along each axis; `deviation` is in cells, values go on beyond the outermost.
fn blurred(voxels: &Voxels, deviation: f64) -> Voxels {
    let reach = (3.0 * deviation).ceil() as isize;
    let weight = |d: isize| (-0.5 * (d as f64 / deviation).powi(2)).exp();
    let weights: Vec<(isize, f64)> = (-reach..=reach).map(|d| (d, weight(d))).collect();
    let total: f64 = weights.iter().map(|w| w.1).sum();
    let mut out = voxels.clone();
    let [nx, ny, _] = voxels.counts;
    for (axis, stride) in [1, nx, nx * ny].into_iter().enumerate() {
        let last = voxels.counts[axis] as isize - 1;
        out.fill = (0..out.fill.len())
            .into_par_iter()
            .map(|n| {
                let at = out.cell(n)[axis] as isize;
                let first = n - at as usize * stride;
                let value = |d: isize| out.fill[first + (at + d).clamp(0, last) as usize * stride];
                weights.iter().map(|&(d, w)| w * value(d)).sum::<f64>() / total
            })
            .collect();
    }
    out
}

/// Steepness of a field at every cell, per mm, at least `least`.
fn slopes(field: &Voxels, least: f64) -> Vec<f64> {
    let [nx, ny, _] = field.counts;
    let along = |n: usize, axis: usize, stride: usize| {
        let at = field.cell(n)[axis];
        let before = if at > 0 { n - stride } else { n };
        let after = if at + 1 < field.counts[axis] {
            n + stride
        } else {
            n
        };
        (field.fill[after] - field.fill[before]) / (2.0 * field.voxel_mm)
    };
    (0..field.fill.len())
        .into_par_iter()
        .map(|n| {
            let [x, y, z] = [along(n, 0, 1), along(n, 1, nx), along(n, 2, nx * ny)];
            (x * x + y * y + z * z).sqrt().max(least)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::bracket::Bracket;

    #[test]
    fn densities_go_straight_on_into_frozen_shapes() {
        let space = Bracket::default().design_space();
        let mut density = Voxels::uniform([30, 20, 20], [0.0; 3], 2.0, 0.3);
        for n in 0..density.fill.len() {
            let p = density.centre(n);
            if space.is_solid(p) {
                density.fill[n] = 1.0;
            } else if space.is_void(p) {
                density.fill[n] = 0.0;
            }
        }
        let spread = spread(&density, &space);
        assert!(spread.fill.iter().all(|d| (d - 0.3).abs() < 1e-12));
    }
}
