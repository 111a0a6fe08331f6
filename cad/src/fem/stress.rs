//! Von Mises stress from displacements.

use rayon::prelude::*;

use super::element::{elasticity, strain_matrix};
use super::grid::Grid;

/// Von Mises stress at the centre of each element, in the unit of `e`.
///
/// The centre is the most accurate point of the brick; at a re-entrant corner of a voxel model the
/// stress at the surface grows without limit as voxels shrink, at the centre it is a mean over one.
#[must_use]
pub fn von_mises(grid: &Grid, e: &[f64], u: &[f64]) -> Vec<f64> {
    let nodes = grid.nodes();
    let b = strain_matrix([0.5; 3]);
    let d = elasticity(grid.nu);
    (0..grid.elements())
        .into_par_iter()
        .map(|element| {
            let corners = grid.element_nodes(element);
            let mut strain = [0.0; 6];
            for (a, &node) in corners.iter().enumerate() {
                for c in 0..3 {
                    let x = u[c * nodes + node] / grid.voxel_mm;
                    for (s, b) in strain.iter_mut().zip(&b) {
                        *s += b[3 * a + c] * x;
                    }
                }
            }
            let stress =
                d.map(|row| e[element] * row.iter().zip(&strain).map(|(d, s)| d * s).sum::<f64>());
            von_mises_of(stress)
        })
        .collect()
}

/// Von Mises stress of a state in Voigt order xx, yy, zz, xy, yz, zx.
#[must_use]
pub fn von_mises_of([x, y, z, xy, yz, zx]: [f64; 6]) -> f64 {
    let normal = (x - y).powi(2) + (y - z).powi(2) + (z - x).powi(2);
    (0.5 * normal + 3.0 * (xy * xy + yz * yz + zx * zx)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretched_bar_has_its_stress_everywhere() {
        let grid = Grid::new([4, 2, 3], 0.5, 0.3);
        let nodes = grid.nodes();
        let mut u = vec![0.0; 3 * nodes];
        for n in 0..nodes {
            let p = grid.node_position(n).map(|x| x as f64 * 0.5);
            // Strain 0.01 along x with free contraction: stress is 0.01 E.
            u[n] = 0.01 * p[0];
            u[nodes + n] = -0.003 * p[1];
            u[2 * nodes + n] = -0.003 * p[2];
        }
        for s in von_mises(&grid, &vec![2000.0; grid.elements()], &u) {
            assert!((s - 20.0).abs() < 1e-10, "{s}");
        }
        // Pure shear: von Mises is √3 τ.
        assert!((von_mises_of([0.0, 0.0, 0.0, 2.0, 0.0, 0.0]) - 12.0f64.sqrt()).abs() < 1e-12);
    }
}
