//! The proof that a part holds: geometry and strength of the final mesh, as one document.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::Progress;
use crate::brief::Brief;
use crate::fem::grid::dot;
use crate::fem::model::{Model, ModelError};
use crate::fem::multigrid::Multigrid;
use crate::fem::solve::{SolveError, Solved, solve};
use crate::fem::stress::von_mises;
use crate::field::Voxels;
use crate::field::voxelise::voxelise;
use crate::mesh::{Mesh, MeshReport};

/// Relative residual at which displacements count as exact.
pub const TOLERANCE: f64 = 1e-8;
/// Iterations after which the solver gives up.
const LIMIT: usize = 600;
/// Mesh and voxel volume may differ by this share before the analysis is distrusted.
const VOLUME_MISMATCH: f64 = 0.1;

/// What was computed for a part, and whether that is enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Sum of the compliances of all load cases, N·mm.
    pub compliance_n_mm: f64,
    /// Greatest displacement of any node in any case, mm.
    pub max_displacement_mm: f64,
    /// Greatest von Mises stress at an element centre in any case, N/mm².
    pub max_von_mises_mpa: f64,
    /// Yield strength over that stress.
    pub factor_of_safety: f64,
    /// What the brief asks for.
    pub required_fos: f64,
    /// Mass of the mesh at full density, g.
    pub mass_g: f64,
    /// Volume of the mesh, mm³.
    pub volume_mm3: f64,
    /// Volume of the mesh over that of the envelope.
    pub volume_fraction: f64,
    /// What keeps the mesh from bounding a solid; all zero if nothing does.
    pub watertight: MeshReport,
    /// Each load case by itself.
    pub load_cases: Vec<LoadCaseResult>,
    /// Full voxels analysed.
    pub elements: usize,
    /// Edge of a voxel, mm.
    pub voxel_mm: f64,
    /// The worst solve.
    pub solver: Solved,
    /// Whether the part may be made.
    pub holds: bool,
    /// Why not; empty if it holds.
    pub reasons: Vec<String>,
}

/// Strength under one load case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadCaseResult {
    /// The load's name.
    pub name: String,
    /// The interface it acts on.
    pub at: String,
    /// Force, N.
    pub force_n: [f64; 3],
    /// Work of the force, N·mm.
    pub compliance_n_mm: f64,
    /// Greatest displacement of a node, mm.
    pub max_displacement_mm: f64,
    /// Greatest von Mises stress, N/mm².
    pub max_von_mises_mpa: f64,
    /// Where that is, mm.
    pub weakest_point_mm: [f64; 3],
    /// Yield strength over that stress.
    pub factor_of_safety: f64,
    /// How the solver ended.
    pub solver: Solved,
}

/// Why a mesh cannot be certified at all.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The progress callback said stop.
    #[error("certification was cancelled")]
    Cancelled,
    /// The mesh leaves the brief's envelope or is empty.
    #[error("mesh does not belong to this brief: {problem}")]
    ForeignMesh {
        /// What does not fit.
        problem: String,
    },
    /// Supports or loads find no material.
    #[error("part cannot be analysed")]
    Model(#[from] ModelError),
    /// Displacements could not be computed.
    #[error("load case `{case}` cannot be analysed")]
    Solve {
        /// The load's name.
        case: String,
        /// Why.
        #[source]
        source: SolveError,
    },
}

/// Voxelises the final mesh, analyses it under every load of the brief and judges the result.
///
/// # Errors
/// If the mesh does not fit the brief, is not held, or the analysis is cancelled or fails.
pub fn certify_mesh(
    mesh: &Mesh,
    brief: &Brief,
    progress: Progress<'_>,
) -> Result<Certificate, CertificateError> {
    let space = brief.design_space();
    check_bounds(mesh, space.envelope)?;
    let h = brief.optimise.voxel_mm;
    let voxels = voxelise(mesh, brief.counts(), space.envelope.min, h);
    certify_voxels(mesh, &voxels, brief, progress)
}

/// The same of voxels that somebody has looked at more closely.
pub(crate) fn certify_voxels(
    mesh: &Mesh,
    voxels: &Voxels,
    brief: &Brief,
    progress: Progress<'_>,
) -> Result<Certificate, CertificateError> {
    let (space, h) = (brief.design_space(), voxels.voxel_mm);
    let model = Model::new(brief, voxels)?;
    let preconditioner = Multigrid::new(&model.grid, &model.e);
    let mut load_cases = Vec::new();
    for n in 0..model.cases.len() {
        if progress(n as f64 / model.cases.len() as f64) == ControlFlow::Break(()) {
            return Err(CertificateError::Cancelled);
        }
        load_cases.push(analyse(
            &model,
            &preconditioner,
            n,
            brief.material.yield_mpa,
        )?);
    }
    let worst =
        |value: fn(&LoadCaseResult) -> f64| load_cases.iter().map(value).fold(0.0, f64::max);
    let volume_mm3 = mesh.volume_mm3();
    let max_von_mises_mpa = worst(|c| c.max_von_mises_mpa);
    let elements = model.solid.iter().filter(|&&s| s).count();
    let mut certificate = Certificate {
        compliance_n_mm: load_cases.iter().map(|c| c.compliance_n_mm).sum(),
        max_displacement_mm: worst(|c| c.max_displacement_mm),
        max_von_mises_mpa,
        factor_of_safety: brief.material.yield_mpa / max_von_mises_mpa.max(f64::MIN_POSITIVE),
        required_fos: brief.required_fos,
        mass_g: volume_mm3 / 1000.0 * brief.material.density_g_cm3,
        volume_mm3,
        volume_fraction: volume_mm3 / space.size().iter().product::<f64>(),
        watertight: mesh.check(),
        elements,
        voxel_mm: h,
        solver: Solved {
            iterations: load_cases
                .iter()
                .map(|c| c.solver.iterations)
                .max()
                .unwrap_or(0),
            residual: worst(|c| c.solver.residual),
        },
        load_cases,
        holds: false,
        reasons: Vec::new(),
    };
    certificate.judge(model.loose, elements as f64 * h.powi(3));
    if progress(1.0) == ControlFlow::Break(()) {
        return Err(CertificateError::Cancelled);
    }
    Ok(certificate)
}

impl Certificate {
    fn judge(&mut self, loose: usize, analysed_mm3: f64) {
        let reasons = &mut self.reasons;
        if self.factor_of_safety.is_nan() || self.factor_of_safety < self.required_fos {
            reasons.push(format!(
                "factor of safety {:.2} is below the required {:.2}",
                self.factor_of_safety, self.required_fos
            ));
        }
        if !self.watertight.is_closed() {
            reasons.push("the mesh is not closed".into());
        }
        if self.watertight.components != 1 {
            reasons.push(format!(
                "the mesh has {} pieces",
                self.watertight.components
            ));
        }
        if loose > 0 {
            reasons.push(format!("{loose} voxels hang free of the supports"));
        }
        if (analysed_mm3 / self.volume_mm3 - 1.0).abs() > VOLUME_MISMATCH {
            reasons.push(format!(
                "the analysed volume of {analysed_mm3:.0} mm³ differs from the mesh's {:.0} mm³; \
                 use smaller voxels",
                self.volume_mm3
            ));
        }
        self.holds = reasons.is_empty();
    }
}

fn check_bounds(mesh: &Mesh, envelope: crate::mesh::Bounds) -> Result<(), CertificateError> {
    let foreign = |problem: String| Err(CertificateError::ForeignMesh { problem });
    let Some(bounds) = mesh.bounds() else {
        return foreign("it has no vertices".into());
    };
    for a in 0..3 {
        let (low, high) = (bounds.min[a], bounds.max[a]);
        if !(low >= envelope.min[a] - 1e-3 && high <= envelope.max[a] + 1e-3) {
            return foreign(format!(
                "it spans {low:.2} to {high:.2} mm along {}, the envelope {:.2} to {:.2} mm",
                ["x", "y", "z"][a],
                envelope.min[a],
                envelope.max[a]
            ));
        }
    }
    Ok(())
}

fn analyse(
    model: &Model,
    preconditioner: &Multigrid<'_>,
    case: usize,
    yield_mpa: f64,
) -> Result<LoadCaseResult, CertificateError> {
    let (load, force) = &model.cases[case];
    let grid = &model.grid;
    let mut u = vec![0.0; force.len()];
    let solver = solve(
        grid,
        preconditioner,
        &model.e,
        force,
        &mut u,
        TOLERANCE,
        LIMIT,
    )
    .map_err(|source| CertificateError::Solve {
        case: load.name.clone(),
        source,
    })?;
    let nodes = grid.nodes();
    let mut touched = vec![false; nodes];
    for (element, _) in model.solid.iter().enumerate().filter(|(_, solid)| **solid) {
        for n in grid.element_nodes(element) {
            touched[n] = true;
        }
    }
    let max_displacement_mm = (0..nodes)
        .filter(|&n| touched[n])
        .map(|n| (0..3).map(|c| u[c * nodes + n].powi(2)).sum::<f64>().sqrt())
        .fold(0.0, f64::max);
    let (mut weakest, mut stress) = (0, 0.0);
    for (element, &s) in von_mises(grid, &model.e, &u).iter().enumerate() {
        if model.solid[element] && s > stress {
            (weakest, stress) = (element, s);
        }
    }
    let at = grid.element_position(weakest);
    Ok(LoadCaseResult {
        name: load.name.clone(),
        at: load.at.clone(),
        force_n: load.force_n,
        compliance_n_mm: dot(force, &u),
        max_displacement_mm,
        max_von_mises_mpa: stress,
        weakest_point_mm: [0, 1, 2].map(|a| model.origin[a] + (at[a] as f64 + 0.5) * grid.voxel_mm),
        factor_of_safety: yield_mpa / stress.max(f64::MIN_POSITIVE),
        solver,
    })
}
