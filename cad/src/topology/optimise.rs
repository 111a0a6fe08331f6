//! The optimiser: SIMP, filters, several load cases, optimality criteria.

use std::ops::ControlFlow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::{overhang, project};
use crate::Progress;
use crate::fem::grid::{Field, Grid, dot};
use crate::fem::multigrid::Multigrid;
use crate::fem::solve::{SolveError, solve};

/// Whether the optimiser may change a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Free to change.
    Free,
    /// Always material.
    Solid,
    /// Never material.
    Void,
}

/// A force field and its weight in the objective.
#[derive(Debug, Clone)]
pub struct Case {
    /// Nodal forces, N.
    pub force: Field,
    /// Weight.
    pub weight: f64,
}

/// What to optimise.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Elements and supports.
    pub grid: Grid,
    /// Young's modulus of full material, N/mm².
    pub e_mpa: f64,
    /// Role of every element.
    pub roles: Vec<Role>,
    /// Load cases.
    pub cases: Vec<Case>,
}

/// How to optimise.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Share of all elements that may be material.
    pub volume_fraction: f64,
    /// Design iterations.
    pub iterations: usize,
    /// SIMP penalty.
    pub penalty: f64,
    /// Filter radius in voxels.
    pub radius: f64,
    /// Greatest change of a density per iteration.
    pub step: f64,
    /// Stiffness of void relative to material.
    pub e_min: f64,
    /// Keep overhangs below 45 degrees from the bed at z = 0.
    pub overhang: bool,
    /// Greatest sharpness of the projection, reached at the end; 0 for none.
    pub beta: f64,
    /// Relative residual of the linear solver.
    pub tolerance: f64,
}

/// One design iteration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IterationRecord {
    /// Weighted sum of compliances, N·mm.
    pub compliance_n_mm: f64,
    /// Share of all elements that is material.
    pub volume_fraction: f64,
    /// Greatest change of a design variable.
    pub change: f64,
    /// Iterations of the linear solver, all cases together.
    pub solver_iterations: usize,
}

/// The result.
#[derive(Debug, Clone)]
pub struct Optimum {
    /// Design variables, to continue from.
    pub design: Vec<f64>,
    /// Physical densities.
    pub density: Vec<f64>,
    /// What happened.
    pub history: Vec<IterationRecord>,
}

/// Why no optimum was found.
#[derive(Debug, thiserror::Error)]
pub enum OptimiseError {
    /// The progress callback said stop.
    #[error("optimisation was cancelled")]
    Cancelled,
    /// The linear solver failed.
    #[error("optimisation iteration {iteration} could not be analysed")]
    Solve {
        /// Which iteration.
        iteration: usize,
        /// Why.
        #[source]
        source: SolveError,
    },
}

impl Settings {
    /// The plain method of the literature: density filter, no projection, no overhang.
    #[must_use]
    pub fn plain(volume_fraction: f64, radius: f64, iterations: usize) -> Self {
        Self {
            volume_fraction,
            iterations,
            penalty: 3.0,
            radius,
            step: 0.2,
            e_min: 1e-9,
            overhang: false,
            beta: 0.0,
            tolerance: 1e-9,
        }
    }
}

/// Minimises the weighted compliance, from uniform free material or from `start`.
///
/// # Errors
/// If cancelled, or if the part cannot be analysed.
pub fn optimise(
    problem: &Problem,
    settings: &Settings,
    start: Option<&[f64]>,
    progress: Progress<'_>,
) -> Result<Optimum, OptimiseError> {
    let chain = Chain::new(problem, settings);
    let mut x = match start {
        Some(x) => x.to_vec(),
        None => vec![chain.even_density(); problem.roles.len()],
    };
    let mut displacements: Vec<Field> = problem
        .cases
        .iter()
        .map(|c| vec![0.0; c.force.len()])
        .collect();
    let mut history = Vec::new();
    for iteration in 0..settings.iterations {
        let beta = sharpness(settings, iteration);
        let state = chain.forward(&x, beta);
        let analysis =
            analyse(problem, settings, &state.printed, &mut displacements).map_err(|source| {
                OptimiseError::Solve {
                    iteration: iteration + 1,
                    source,
                }
            })?;
        let dc = chain.backward(&state, beta, &analysis.slope);
        let dv = chain.backward(&state, beta, &vec![1.0; x.len()]);
        let used: f64 = state.printed.iter().sum();
        let allowed = settings.volume_fraction * x.len() as f64;
        let next = chain.update(&x, &dc, &dv, allowed - used);
        let change = x
            .iter()
            .zip(&next)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        history.push(IterationRecord {
            compliance_n_mm: analysis.compliance,
            volume_fraction: used / x.len() as f64,
            change,
            solver_iterations: analysis.iterations,
        });
        x = next;
        let share = (iteration + 1) as f64 / settings.iterations as f64;
        if progress(share) == ControlFlow::Break(()) {
            return Err(OptimiseError::Cancelled);
        }
    }
    let density = chain
        .forward(&x, sharpness(settings, settings.iterations))
        .printed;
    Ok(Optimum {
        design: x,
        density,
        history,
    })
}

/// Projection sharpness: none for the first 40 %, then doubling from 1 up to the greatest.
fn sharpness(settings: &Settings, iteration: usize) -> Option<f64> {
    if settings.beta <= 0.0 {
        return None;
    }
    let share = iteration as f64 / settings.iterations as f64;
    let doublings = settings.beta.log2().max(1.0);
    let level = ((share - 0.4) / 0.5 * doublings).clamp(0.0, doublings);
    (share >= 0.4).then(|| level.floor().exp2().min(settings.beta))
}

struct Analysis {
    compliance: f64,
    /// Derivative of the compliance by each physical density.
    slope: Vec<f64>,
    iterations: usize,
}

fn analyse(
    problem: &Problem,
    settings: &Settings,
    printed: &[f64],
    displacements: &mut [Field],
) -> Result<Analysis, SolveError> {
    let (grid, p) = (&problem.grid, settings.penalty);
    let e: Vec<f64> = printed
        .iter()
        .map(|x| problem.e_mpa * (settings.e_min + (1.0 - settings.e_min) * x.powf(p)))
        .collect();
    let preconditioner = Multigrid::new(grid, &e);
    let solved: Vec<_> = problem
        .cases
        .par_iter()
        .zip(displacements.par_iter_mut())
        .map(|(case, u)| {
            solve(
                grid,
                &preconditioner,
                &e,
                &case.force,
                u,
                settings.tolerance,
                400,
            )
            .map(|solved| (solved, dot(&case.force, u), grid.energies(u)))
        })
        .collect();
    let mut analysis = Analysis {
        compliance: 0.0,
        slope: vec![0.0; printed.len()],
        iterations: 0,
    };
    for (solved, case) in solved.into_iter().zip(&problem.cases) {
        let (solved, compliance, energies) = solved?;
        analysis.iterations += solved.iterations;
        analysis.compliance += case.weight * compliance;
        for ((slope, energy), x) in analysis.slope.iter_mut().zip(&energies).zip(printed) {
            let stiffening = problem.e_mpa * (1.0 - settings.e_min) * p * x.powf(p - 1.0);
            *slope -= case.weight * stiffening * energy;
        }
    }
    Ok(analysis)
}

/// From design variables to physical densities and back: filter, projection, overhang, frozen.
struct Chain<'a> {
    problem: &'a Problem,
    settings: &'a Settings,
    filter: Filter,
    frozen: Vec<bool>,
}

/// The densities between the stages.
struct Stages {
    filtered: Vec<f64>,
    blueprint: Vec<f64>,
    printed: Vec<f64>,
}

impl<'a> Chain<'a> {
    fn new(problem: &'a Problem, settings: &'a Settings) -> Self {
        let filter = Filter::new(problem.grid.counts, settings.radius);
        let frozen = problem.roles.iter().map(|&r| r != Role::Free).collect();
        Self {
            problem,
            settings,
            filter,
            frozen,
        }
    }

    /// The free density that meets the volume at the start.
    fn even_density(&self) -> f64 {
        let count = |role| self.problem.roles.iter().filter(|&&r| r == role).count() as f64;
        let all = self.problem.roles.len() as f64;
        let room = self.settings.volume_fraction * all - count(Role::Solid);
        (room / count(Role::Free).max(1.0)).clamp(0.01, 1.0)
    }

    fn forward(&self, x: &[f64], beta: Option<f64>) -> Stages {
        let filtered = self.filter.apply(x);
        let mut blueprint: Vec<f64> = match beta {
            Some(beta) => filtered
                .iter()
                .map(|&x| project::project(x, beta))
                .collect(),
            None => filtered.clone(),
        };
        for (x, role) in blueprint.iter_mut().zip(&self.problem.roles) {
            match role {
                Role::Free => {}
                Role::Solid => *x = 1.0,
                Role::Void => *x = 0.0,
            }
        }
        let printed = if self.settings.overhang {
            overhang::print(self.problem.grid.counts, &blueprint, &self.frozen)
        } else {
            blueprint.clone()
        };
        Stages {
            filtered,
            blueprint,
            printed,
        }
    }

    fn backward(&self, stages: &Stages, beta: Option<f64>, d: &[f64]) -> Vec<f64> {
        let mut d = if self.settings.overhang {
            let counts = self.problem.grid.counts;
            overhang::adjoint(counts, &stages.blueprint, &stages.printed, &self.frozen, d)
        } else {
            d.to_vec()
        };
        for ((d, &x), &frozen) in d.iter_mut().zip(&stages.filtered).zip(&self.frozen) {
            if frozen {
                *d = 0.0;
            } else if let Some(beta) = beta {
                *d *= project::slope(x, beta);
            }
        }
        self.filter.adjoint(&d)
    }

    /// Optimality criteria; `room` is how much volume may be added to the present design.
    ///
    /// The volume is taken as linear in the step, which is exact without projection and overhang,
    /// and is corrected in the next iteration otherwise.
    fn update(&self, x: &[f64], dc: &[f64], dv: &[f64], room: f64) -> Vec<f64> {
        // With the overhang filter a support gains nothing by itself; such slopes become tiny or
        // positive and must not drive the step.
        let ratio: Vec<f64> = dc
            .iter()
            .zip(dv)
            .map(|(c, v)| (-c).max(0.0) / (v.max(0.0) + 1e-9))
            .collect();
        let step = self.settings.step;
        let candidate = |lambda: f64| -> Vec<f64> {
            x.iter()
                .zip(&ratio)
                .map(|(&x, r)| {
                    let target = x * (r / lambda).sqrt();
                    target.clamp((x - step).max(0.0), (x + step).min(1.0))
                })
                .collect()
        };
        let added = |next: &[f64]| -> f64 {
            next.iter()
                .zip(x)
                .zip(dv)
                .map(|((n, x), v)| (n - x) * v)
                .sum()
        };
        let (mut low, mut high) = (1e-9, 1e9);
        let mut next = x.to_vec();
        while (high - low) / (high + low) > 1e-3 {
            let middle = 0.5 * (low + high);
            next = candidate(middle);
            if added(&next) > room {
                low = middle;
            } else {
                high = middle;
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fem::solve::tests::cantilever;

    #[test]
    fn the_reference_trajectory_is_followed() {
        // pytopo3d 0.3.0, 32 × 16 × 16, volume 0.3, penalty 3, radius 1.5.
        let expected = [
            28_585.449_1,
            16_570.412_1,
            11_349.853_0,
            9_122.742_6,
            7_820.353_4,
        ];
        let (grid, force) = cantilever([32, 16, 16], 2);
        let roles = vec![Role::Free; grid.elements()];
        let cases = vec![Case { force, weight: 1.0 }];
        let problem = Problem {
            grid,
            e_mpa: 1.0,
            roles,
            cases,
        };
        let optimum = optimise(&problem, &Settings::plain(0.3, 1.5, 5), None, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        for (record, expected) in optimum.history.iter().zip(expected) {
            println!("{record:?}");
            assert!(
                (record.compliance_n_mm / expected - 1.0).abs() < 1e-4,
                "{record:?}"
            );
        }
    }

    #[test]
    fn break_cancels() {
        let (grid, force) = cantilever([8, 4, 4], 2);
        let roles = vec![Role::Free; grid.elements()];
        let problem = Problem {
            grid,
            e_mpa: 1.0,
            roles,
            cases: vec![Case { force, weight: 1.0 }],
        };
        let error = optimise(&problem, &Settings::plain(0.3, 1.5, 5), None, &mut |_| {
            ControlFlow::Break(())
        });
        assert!(matches!(error, Err(OptimiseError::Cancelled)));
    }
}
