//! Conjugate gradients with the multigrid preconditioner.

use super::grid::{Field, Grid, dot};
use super::multigrid::Multigrid;

/// How a solve ended.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Solved {
    /// Iterations of conjugate gradients.
    pub iterations: usize,
    /// Norm of the residual over the norm of the load.
    pub residual: f64,
}

/// Why displacements could not be found.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SolveError {
    /// The residual stayed above the tolerance.
    #[error(
        "linear solver stopped at relative residual {residual:.1e} after {iterations} iterations, \
         above {tolerance:.1e}; is the part held and in one piece?"
    )]
    NotConverged {
        /// Iterations done.
        iterations: usize,
        /// Residual reached.
        residual: f64,
        /// Residual wanted.
        tolerance: f64,
    },
}

/// Solves `K u = f` from the given `u`, until the residual is below `tolerance` times the load.
///
/// # Errors
/// If that takes more than `limit` iterations.
pub fn solve(
    grid: &Grid,
    preconditioner: &Multigrid<'_>,
    e: &[f64],
    f: &[f64],
    u: &mut Field,
    tolerance: f64,
    limit: usize,
) -> Result<Solved, SolveError> {
    let mut b = f.to_vec();
    for &dof in &grid.fixed {
        b[dof] = 0.0;
        u[dof] = 0.0;
    }
    let size = dot(&b, &b).sqrt();
    if size == 0.0 {
        u.fill(0.0);
        return Ok(Solved {
            iterations: 0,
            residual: 0.0,
        });
    }
    let mut product = vec![0.0; b.len()];
    grid.apply(e, u, &mut product);
    let mut r: Field = b.iter().zip(&product).map(|(b, p)| b - p).collect();
    let mut residual = dot(&r, &r).sqrt() / size;
    if residual.is_nan() || residual >= 1.0 {
        // A bad start is worse than none.
        u.fill(0.0);
        r.copy_from_slice(&b);
        residual = 1.0;
    }
    let mut iterations = 0;
    let mut direction = vec![0.0; b.len()];
    let mut rho = 0.0;
    while residual > tolerance {
        if iterations == limit {
            return Err(SolveError::NotConverged {
                iterations,
                residual,
                tolerance,
            });
        }
        let z = preconditioner.precondition(&r);
        let next = dot(&r, &z);
        let beta = if iterations == 0 { 0.0 } else { next / rho };
        rho = next;
        for (d, z) in direction.iter_mut().zip(&z) {
            *d = z + beta * *d;
        }
        grid.apply(e, &direction, &mut product);
        let alpha = rho / dot(&direction, &product);
        for (u, d) in u.iter_mut().zip(&direction) {
            *u += alpha * d;
        }
        for (r, p) in r.iter_mut().zip(&product) {
            *r -= alpha * p;
        }
        residual = dot(&r, &r).sqrt() / size;
        iterations += 1;
    }
    Ok(Solved {
        iterations,
        residual,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The cantilever of the literature: x = 0 clamped, unit loads along the edge x = end, with
    /// `load_axis` the load's (negative) direction and the edge at zero of that axis.
    pub(crate) fn cantilever(counts: [usize; 3], load_axis: usize) -> (Grid, Field) {
        let mut grid = Grid::new(counts, 1.0, 0.3);
        let [nx, ny, nz] = counts;
        let clamped: Vec<usize> = (0..=nz)
            .flat_map(|k| (0..=ny).map(move |j| (j, k)))
            .map(|(j, k)| grid.node([0, j, k]))
            .collect();
        grid.fix_nodes(&clamped);
        let mut f = vec![0.0; 3 * grid.nodes()];
        let along = if load_axis == 1 { nz } else { ny };
        for n in 0..=along {
            let node = grid.node(if load_axis == 1 {
                [nx, 0, n]
            } else {
                [nx, n, 0]
            });
            f[load_axis * grid.nodes() + node] = -1.0;
        }
        (grid, f)
    }

    fn compliance(counts: [usize; 3], modulus: f64) -> f64 {
        let (grid, f) = cantilever(counts, 1);
        let e = vec![modulus; grid.elements()];
        let mut u = vec![0.0; f.len()];
        let preconditioner = Multigrid::new(&grid, &e);
        let solved = solve(&grid, &preconditioner, &e, &f, &mut u, 1e-10, 60).unwrap();
        println!("{counts:?}: {solved:?}");
        dot(&f, &u)
    }

    #[test]
    fn compliances_agree_with_the_reference_values() {
        // Sparse direct solution of the same elements; 32 × 16 × 16 agrees with CalculiX C3D8.
        // The last two are not square in cross-section, which shows exchanged axes.
        let thin = 0.027 + 1e-9 * 0.973;
        let cases = [
            ([32, 16, 16], 1.0, 771.807_154),
            ([48, 24, 24], 1.0, 1_134.634_727),
            ([60, 20, 4], 1.0, 765.579_084),
            ([60, 4, 20], thin, 10_415_735.780_963),
        ];
        for (counts, modulus, expected) in cases {
            let c = compliance(counts, modulus);
            assert!(
                (c / expected - 1.0).abs() < 1e-6,
                "{counts:?}: {c} is not {expected}"
            );
        }
    }

    #[test]
    fn odd_counts_and_high_contrast_converge_to_the_same_bits_for_any_thread_count() {
        let (grid, f) = cantilever([15, 7, 9], 1);
        let mut rng = crate::rng::Rng::new(5);
        let e: Vec<f64> = (0..grid.elements())
            .map(|n| {
                if n % 15 < 14 && rng.uniform() < 0.3 {
                    1e-9
                } else {
                    1.0
                }
            })
            .collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let mut u = vec![0.0; f.len()];
                let preconditioner = Multigrid::new(&grid, &e);
                let solved = solve(&grid, &preconditioner, &e, &f, &mut u, 1e-8, 200).unwrap();
                println!("{solved:?}");
                u
            })
        };
        assert_eq!(run(1), run(3));
    }
}
