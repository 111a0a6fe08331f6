//! Voxels and distances, where booleans cannot fail.

use serde::{Deserialize, Serialize};

mod composed;
mod faces;
mod material;
mod part;
mod relax;
pub mod surface;
pub mod voxelise;

/// A regular grid of cubes with one number each: 0 is empty, 1 is full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Voxels {
    /// Cubes along x, y and z.
    pub counts: [usize; 3],
    /// Corner of the first cube, mm.
    pub origin: [f64; 3],
    /// Edge of a cube, mm.
    pub voxel_mm: f64,
    /// Fill of each cube, x fastest, then y, then z.
    pub fill: Vec<f64>,
}

impl Voxels {
    /// A grid where every cube has the same fill.
    #[must_use]
    pub fn uniform(counts: [usize; 3], origin: [f64; 3], voxel_mm: f64, fill: f64) -> Self {
        Self {
            counts,
            origin,
            voxel_mm,
            fill: vec![fill; counts.iter().product()],
        }
    }

    /// Position of a cube in `fill`.
    #[must_use]
    pub const fn index(&self, i: usize, j: usize, k: usize) -> usize {
        (k * self.counts[1] + j) * self.counts[0] + i
    }

    /// The cube at a position in `fill`.
    #[must_use]
    pub const fn cell(&self, index: usize) -> [usize; 3] {
        let [nx, ny, _] = self.counts;
        [index % nx, index / nx % ny, index / (nx * ny)]
    }

    /// Centre of the cube at a position in `fill`, mm.
    #[must_use]
    pub fn centre(&self, index: usize) -> [f64; 3] {
        let cell = self.cell(index);
        [0, 1, 2].map(|a| self.origin[a] + (cell[a] as f64 + 0.5) * self.voxel_mm)
    }

    /// Volume of a cube, mm³.
    #[must_use]
    pub fn cell_mm3(&self) -> f64 {
        self.voxel_mm.powi(3)
    }

    /// Filled volume, mm³.
    #[must_use]
    pub fn volume_mm3(&self) -> f64 {
        self.fill.iter().sum::<f64>() * self.cell_mm3()
    }
}

/// Labels the 6-connected components of `inside`; 0 is outside, components count from 1.
pub(crate) fn components(counts: [usize; 3], inside: &[bool]) -> (Vec<u32>, u32) {
    let [nx, ny, nz] = counts;
    let mut label = vec![0u32; inside.len()];
    let (mut found, mut stack) = (0, Vec::new());
    for start in 0..inside.len() {
        if !inside[start] || label[start] != 0 {
            continue;
        }
        found += 1;
        label[start] = found;
        stack.push(start);
        while let Some(c) = stack.pop() {
            let (i, j, k) = (c % nx, c / nx % ny, c / (nx * ny));
            let mut visit = |n: usize| {
                if inside[n] && label[n] == 0 {
                    label[n] = found;
                    stack.push(n);
                }
            };
            if i > 0 {
                visit(c - 1);
            }
            if i + 1 < nx {
                visit(c + 1);
            }
            if j > 0 {
                visit(c - nx);
            }
            if j + 1 < ny {
                visit(c + nx);
            }
            if k > 0 {
                visit(c - nx * ny);
            }
            if k + 1 < nz {
                visit(c + nx * ny);
            }
        }
    }
    (label, found)
}
