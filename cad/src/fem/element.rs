//! The 8-node brick with full integration (2 × 2 × 2 Gauss points), unit edge, unit modulus.
//!
//! Node `a` sits at the corner whose x, y, z bits are the bits 0, 1, 2 of `a`; degrees of freedom
//! are ordered `3 a + component`.

/// A dense element matrix.
pub type Matrix24 = [[f64; 24]; 24];

/// Stiffness of the unit cube for E = 1; a cube of edge h and modulus E has `h * E` times this.
#[must_use]
pub fn stiffness(nu: f64) -> Matrix24 {
    let d = elasticity(nu);
    let mut ke = [[0.0; 24]; 24];
    let g = 0.5 / 3.0f64.sqrt();
    for point in 0..8usize {
        let p = [0, 1, 2].map(|a| {
            if point >> a & 1 == 1 {
                0.5 + g
            } else {
                0.5 - g
            }
        });
        let b = strain_matrix(p);
        let mut db = [[0.0; 24]; 6];
        for r in 0..6 {
            for c in 0..24 {
                db[r][c] = (0..6).map(|m| d[r][m] * b[m][c]).sum();
            }
        }
        for r in 0..24 {
            for c in 0..24 {
                // Weight of each Gauss point on the unit cube.
                ke[r][c] += (0..6).map(|m| b[m][r] * db[m][c]).sum::<f64>() / 8.0;
            }
        }
    }
    ke
}

/// Hooke's law for E = 1 in Voigt order xx, yy, zz, xy, yz, zx (engineering shear).
#[must_use]
pub fn elasticity(nu: f64) -> [[f64; 6]; 6] {
    let scale = 1.0 / ((1.0 + nu) * (1.0 - 2.0 * nu));
    let mut d = [[0.0; 6]; 6];
    for r in 0..3 {
        d[r][..3].fill(scale * nu);
        d[r][r] = scale * (1.0 - nu);
        d[r + 3][r + 3] = scale * (1.0 - 2.0 * nu) / 2.0;
    }
    d
}

/// Strain from displacements at a point of the unit cube; divide by h for an edge of h.
#[must_use]
pub fn strain_matrix(p: [f64; 3]) -> [[f64; 24]; 6] {
    let mut b = [[0.0; 24]; 6];
    for node in 0..8usize {
        let value = |a: usize| if node >> a & 1 == 1 { p[a] } else { 1.0 - p[a] };
        let slope = |a: usize| if node >> a & 1 == 1 { 1.0 } else { -1.0 };
        let d = [
            slope(0) * value(1) * value(2),
            value(0) * slope(1) * value(2),
            value(0) * value(1) * slope(2),
        ];
        let c = 3 * node;
        for (a, d) in d.into_iter().enumerate() {
            b[a][c + a] = d;
        }
        b[3][c] = d[1];
        b[3][c + 1] = d[0];
        b[4][c + 1] = d[2];
        b[4][c + 2] = d[1];
        b[5][c] = d[2];
        b[5][c + 2] = d[0];
    }
    b
}

/// The stiffness in sign-flip modes: eight 3 × 3 blocks instead of 576 numbers.
///
/// A cube is symmetric under reflection along each axis, so in the Walsh–Hadamard basis of its
/// corners mode `s` of component `c` couples only to modes with the same `s ^ (1 << c)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Modes {
    /// `blocks[g][c][d]` couples component `c`, mode `g ^ (1 << c)` with component `d`, likewise.
    pub blocks: [[[f64; 3]; 3]; 8],
    /// The diagonal of the stiffness: one number by symmetry.
    pub diagonal: f64,
    /// An upper bound of the eigenvalues of the stiffness scaled by its diagonal.
    pub bound: f64,
}

impl Modes {
    /// Transforms an element stiffness.
    #[must_use]
    pub fn of(ke: &Matrix24) -> Self {
        let sign = |s: usize, a: usize| {
            if (s & a).count_ones().is_multiple_of(2) {
                1.0
            } else {
                -1.0
            }
        };
        let mut blocks = [[[0.0; 3]; 3]; 8];
        for (g, block) in blocks.iter_mut().enumerate() {
            for c in 0..3 {
                for d in 0..3 {
                    let (s, t) = (g ^ (1 << c), g ^ (1 << d));
                    let mut sum = 0.0;
                    for a in 0..8 {
                        for b in 0..8 {
                            sum += sign(s, a) * ke[3 * a + c][3 * b + d] * sign(t, b);
                        }
                    }
                    // Both transforms are unscaled; each costs a factor 8 in total.
                    block[c][d] = sum / 64.0;
                }
            }
        }
        Self {
            blocks,
            diagonal: ke[0][0],
            bound: greatest_eigenvalue(ke) / ke[0][0] * 1.01,
        }
    }
}

fn greatest_eigenvalue(ke: &Matrix24) -> f64 {
    let mut v = [0.0; 24];
    for (n, x) in v.iter_mut().enumerate() {
        *x = 1.0 + (n * 7 % 5) as f64 - 3.0 * (n % 3) as f64;
    }
    let mut value = 0.0;
    for _ in 0..500 {
        let mut w = [0.0; 24];
        for (r, row) in ke.iter().enumerate() {
            w[r] = row.iter().zip(&v).map(|(a, b)| a * b).sum();
        }
        value = w.iter().map(|x| x * x).sum::<f64>().sqrt();
        v = w.map(|x| x / value);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rigid_motions_cost_nothing_and_stretching_costs_what_hooke_says() {
        let ke = stiffness(0.3);
        let energy = |u: &dyn Fn([f64; 3]) -> [f64; 3]| {
            let mut v = [0.0; 24];
            for a in 0..8usize {
                let at = [0, 1, 2].map(|b| (a >> b & 1) as f64);
                v[3 * a..3 * a + 3].copy_from_slice(&u(at));
            }
            (0..24)
                .map(|r| (0..24).map(|c| v[r] * ke[r][c] * v[c]).sum::<f64>())
                .sum::<f64>()
        };
        assert!(energy(&|_| [1.0, 2.0, 3.0]).abs() < 1e-13);
        assert!(energy(&|p| [-p[1], p[0], 0.0]).abs() < 1e-13);
        // Uniaxial stress: strain 1 along x, -0.3 across, so energy is E.
        assert!((energy(&|p| [p[0], -0.3 * p[1], -0.3 * p[2]]) - 1.0).abs() < 1e-13);
    }

    #[test]
    fn the_mode_blocks_hold_the_whole_matrix() {
        let ke = stiffness(0.3);
        let modes = Modes::of(&ke);
        let sign = |s: usize, a: usize| {
            if (s & a).count_ones().is_multiple_of(2) {
                1.0
            } else {
                -1.0
            }
        };
        for (r, row) in ke.iter().enumerate() {
            for (c, expected) in row.iter().enumerate() {
                let mut sum = 0.0;
                for g in 0..8 {
                    let (s, t) = (g ^ (1 << (r % 3)), g ^ (1 << (c % 3)));
                    sum += sign(s, r / 3) * modes.blocks[g][r % 3][c % 3] * sign(t, c / 3);
                }
                assert!((sum - expected).abs() < 1e-14, "{r} {c}: {sum} {expected}");
            }
        }
    }
}
