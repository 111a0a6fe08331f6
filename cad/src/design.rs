//! From a brief to a proven part: optimise, mesh, certify, and again with more material if the
//! strength does not suffice.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::Progress;
use crate::brief::{Brief, BriefError};
use crate::certificate::{Certificate, CertificateError, certify_mesh};
use crate::families::{DesignSpace, Interface, InterfaceKind};
use crate::fem::model::{Model, ModelError};
use crate::field::Voxels;
use crate::field::surface::{SurfaceError, part_surface, unsupported_area_mm2};
use crate::inspect::plan::{DatumFace, VerificationPlan};
use crate::mesh::Mesh;
use crate::topology::optimise::{
    Case, IterationRecord, OptimiseError, Problem, Role, Settings, optimise,
};

/// More material per attempt, as a factor.
const MORE: f64 = 1.25;
/// Attempts before giving up.
const ATTEMPTS: usize = 6;
/// Overhangs beyond this angle from the vertical need support.
const OVERHANG_LIMIT_DEG: f64 = 50.0;

/// A redesigned, proven part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// The part, closed and in one piece; +z is up on the printer's bed.
    pub mesh: Mesh,
    /// Its proof.
    pub certificate: Certificate,
    /// The surfaces other parts touch, exact in the mesh: datums for measuring.
    pub interfaces: Vec<Interface>,
    /// How to build it.
    pub orientation: Orientation,
    /// What was asked for.
    pub brief: Brief,
    /// Every design iteration of every attempt; none of a part that somebody else designed.
    pub history: Vec<IterationRecord>,
    /// The share of the envelope that the last attempt could use, or that a part has which somebody else designed.
    pub volume_fraction: f64,
    /// Optimised densities, or what the analysis took for full.
    pub voxels: Voxels,
}

/// The build direction and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orientation {
    /// Unit vector away from the bed, in part coordinates.
    pub up: [f64; 3],
    /// Area that overhangs more than 50 degrees from the vertical, not counting the bed, mm².
    pub unsupported_mm2: f64,
    /// Why this direction.
    pub reason: String,
}

/// Why there is no design.
#[derive(Debug, thiserror::Error)]
pub enum DesignError {
    /// The brief contradicts itself.
    #[error(transparent)]
    Brief(#[from] BriefError),
    /// The progress callback said stop.
    #[error("redesign was cancelled")]
    Cancelled,
    /// No allowed amount of material is strong enough.
    #[error(
        "required factor of safety {required:.2} is unreachable: the best of {attempts} attempts \
         reached {best:.2} at volume fraction {volume_fraction:.2}; enlarge the part, choose a \
         stronger material or lower `required_fos`"
    )]
    FosUnreachable {
        /// What was asked for.
        required: f64,
        /// The best seen.
        best: f64,
        /// The volume fraction it was seen at.
        volume_fraction: f64,
        /// How many were made.
        attempts: usize,
    },
    /// Supports or loads find no frozen material.
    #[error("part cannot be analysed")]
    Model(#[from] ModelError),
    /// The optimiser failed.
    #[error("optimisation failed")]
    Optimise(#[source] OptimiseError),
    /// No surface came out.
    #[error("no part came out of the optimisation")]
    Surface(#[from] SurfaceError),
    /// The final mesh could not be analysed.
    #[error("optimised part cannot be certified")]
    Certificate(#[source] CertificateError),
    /// The certificate does not hold for another reason than strength.
    #[error("optimised part is not sound: {reasons}")]
    Unsound {
        /// All reasons.
        reasons: String,
    },
}

impl Orientation {
    /// That of a part made to be built along +z; the other directions are measured to say what that is worth.
    #[must_use]
    pub fn along_z(mesh: &Mesh, why: &str) -> Self {
        let area = |up: [f64; 3]| unsupported_area_mm2(mesh, up, OVERHANG_LIMIT_DEG);
        let up = [0.0, 0.0, 1.0];
        let unsupported_mm2 = area(up);
        let others: [(&str, [f64; 3]); 5] = [
            ("-z", [0.0, 0.0, -1.0]),
            ("+x", [1.0, 0.0, 0.0]),
            ("-x", [-1.0, 0.0, 0.0]),
            ("+y", [0.0, 1.0, 0.0]),
            ("-y", [0.0, -1.0, 0.0]),
        ];
        let (name, least) = others
            .iter()
            .map(|&(name, up)| (name, area(up)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or(("-z", f64::INFINITY));
        let reason = format!(
            "{why}: {unsupported_mm2:.0} mm² are steeper than {OVERHANG_LIMIT_DEG:.0}, the next best direction {name} \
             has {least:.0} mm²"
        );
        Self {
            up,
            unsupported_mm2,
            reason,
        }
    }
}

impl Design {
    /// What a build must measure up to: the flat faces that mate are its datums.
    #[must_use]
    pub fn verification_plan(&self) -> VerificationPlan {
        let flat = |i: &&Interface| i.kind == InterfaceKind::Plane;
        let datum = |i: &Interface| DatumFace {
            name: i.name.clone(),
            point: i.point,
            normal: i.normal,
            extent_mm: i.extent.outer_mm,
        };
        VerificationPlan {
            datums: self.interfaces.iter().filter(flat).map(datum).collect(),
            build_direction: self.orientation.up,
            ..VerificationPlan::default()
        }
    }
}

/// Designs the part a brief asks for.
///
/// The method is deterministic and starts from uniform material, so `seed` changes nothing; it is
/// in the signature because designers that search at random stand behind the same call.
///
/// # Errors
/// If the brief is invalid, the strength unreachable, the computation cancelled or the part unsound.
pub fn redesign(brief: &Brief, seed: u64, progress: Progress<'_>) -> Result<Design, DesignError> {
    let _ = seed;
    brief.validate()?;
    let space = brief.design_space();
    let problem = problem(brief, &space)?;
    let mut settings = settings(brief);
    let mut history = Vec::new();
    let mut start: Option<Vec<f64>> = None;
    let (mut best, mut best_fraction) = (0.0, settings.volume_fraction);
    let mut done = 0.0;
    for attempt in 1..=ATTEMPTS {
        // Each attempt takes most of what is left, so that the share only grows.
        let span = (1.0 - done) * if attempt == 1 { 0.9 } else { 0.5 };
        let optimum = optimise(&problem, &settings, start.as_deref(), &mut |share| {
            progress(done + span * 0.85 * share)
        })
        .map_err(|e| match e {
            OptimiseError::Cancelled => DesignError::Cancelled,
            other => DesignError::Optimise(other),
        })?;
        history.extend_from_slice(&optimum.history);
        let mut voxels = Voxels::uniform(
            brief.counts(),
            space.envelope.min,
            brief.optimise.voxel_mm,
            0.0,
        );
        voxels.fill = optimum.density;
        let mesh = part_surface(&voxels, &space)?;
        let from = done + span * 0.85;
        let certificate = certify_mesh(&mesh, brief, &mut |share| {
            progress(from + span * 0.15 * share)
        })
        .map_err(|e| match e {
            CertificateError::Cancelled => DesignError::Cancelled,
            other => DesignError::Certificate(other),
        })?;
        done += span;
        if certificate.holds {
            if progress(1.0) == ControlFlow::Break(()) {
                return Err(DesignError::Cancelled);
            }
            return Ok(Design {
                orientation: Orientation::along_z(
                    &mesh,
                    "optimised to build along +z with overhangs below 45 degrees",
                ),
                mesh,
                certificate,
                interfaces: space.interfaces,
                brief: brief.clone(),
                history,
                volume_fraction: settings.volume_fraction,
                voxels,
            });
        }
        if certificate.factor_of_safety > best {
            (best, best_fraction) = (certificate.factor_of_safety, settings.volume_fraction);
        }
        let strong = certificate.factor_of_safety >= brief.required_fos;
        let most = settings.volume_fraction >= brief.optimise.max_volume_fraction;
        if most || attempt == ATTEMPTS {
            return Err(if strong {
                DesignError::Unsound {
                    reasons: certificate.reasons.join("; "),
                }
            } else {
                DesignError::FosUnreachable {
                    required: brief.required_fos,
                    best,
                    volume_fraction: best_fraction,
                    attempts: attempt,
                }
            });
        }
        settings.volume_fraction =
            (settings.volume_fraction * MORE).min(brief.optimise.max_volume_fraction);
        // Later attempts continue from the last design, which is most of the way there.
        settings.iterations = (brief.optimise.iterations / 2).max(8);
        start = Some(optimum.design);
    }
    unreachable!("the last attempt returns")
}

/// Roles, supports and loads on the voxels of the envelope.
fn problem(brief: &Brief, space: &DesignSpace) -> Result<Problem, ModelError> {
    let mut voxels = Voxels::uniform(
        brief.counts(),
        space.envelope.min,
        brief.optimise.voxel_mm,
        0.0,
    );
    let roles: Vec<Role> = (0..voxels.fill.len())
        .map(|n| {
            let centre = voxels.centre(n);
            if space.is_void(centre) {
                Role::Void
            } else if space.is_solid(centre) {
                Role::Solid
            } else {
                Role::Free
            }
        })
        .collect();
    // Pads and boss are not connected yet; the supports must still see all of the frozen material.
    for (fill, role) in voxels.fill.iter_mut().zip(&roles) {
        *fill = if *role == Role::Void { 0.0 } else { 1.0 };
    }
    let model = Model::new(brief, &voxels)?;
    let cases = model
        .cases
        .into_iter()
        .map(|(load, force)| Case {
            force,
            weight: load.weight,
        })
        .collect();
    Ok(Problem {
        grid: model.grid,
        e_mpa: brief.material.e_mpa,
        roles,
        cases,
    })
}

fn settings(brief: &Brief) -> Settings {
    let optimise = &brief.optimise;
    Settings {
        volume_fraction: optimise.volume_fraction,
        iterations: optimise.iterations,
        penalty: 3.0,
        radius: (optimise.r_min_mm / optimise.voxel_mm).max(1.2),
        step: 0.2,
        e_min: 1e-6,
        overhang: true,
        beta: 16.0,
        // Sensitivities need no more; the certificate solves to 1e-8.
        tolerance: 1e-3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brief::tests::BRACKET;

    const GO: fn(f64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

    #[test]
    fn a_bracket_is_redesigned_and_proven_with_exact_interfaces() {
        let brief = Brief::from_toml(BRACKET).unwrap();
        let mut shares = Vec::new();
        let design = redesign(&brief, 1, &mut |share| {
            shares.push(share);
            ControlFlow::Continue(())
        })
        .unwrap();
        println!("{:#?} {:?}", design.certificate, design.orientation);
        assert!(shares.windows(2).all(|w| w[0] <= w[1]), "{shares:?}");
        assert_eq!(shares.last(), Some(&1.0));
        let report = design.mesh.check();
        assert!(report.is_closed() && report.components == 1, "{report:?}");
        assert!(design.certificate.holds);
        assert!(design.certificate.volume_fraction < 0.3);
        for interface in &design.interfaces {
            assert_exact(&design.mesh, interface);
        }
        let certificate = certify_mesh(&design.mesh, &brief, &mut { GO }).unwrap();
        assert_eq!(certificate, design.certificate);
    }

    /// Vertices near an interface lie on it, and there are enough of them to measure against.
    fn assert_exact(mesh: &Mesh, interface: &Interface) {
        let (axis, extent) = (interface.axis(), interface.extent);
        let (mut count, mut worst) = (0, 0.0f64);
        for &v in &mesh.vertices {
            let along = (v[axis] - interface.point[axis]) * interface.normal[axis].signum();
            let radius = interface.radius_of(v);
            let error = match interface.kind {
                InterfaceKind::Plane => {
                    let within = radius > extent.inner_mm - 0.1 && radius < extent.outer_mm - 1.0;
                    (within && along.abs() < 0.45).then_some(along)
                }
                InterfaceKind::Bore => {
                    let within = along > -0.1 && along < extent.depth_mm + 0.1;
                    (within && radius < extent.inner_mm + 0.3).then_some(radius - extent.inner_mm)
                }
            };
            count += usize::from(error.is_some());
            worst = worst.max(error.unwrap_or(0.0).abs());
        }
        assert!(count >= 24, "{}: {count} vertices", interface.name);
        // Coordinates are rounded to 32 bits.
        assert!(worst < 1e-5, "{}: off by {worst}", interface.name);
    }

    #[test]
    fn neither_seed_nor_threads_change_the_part_but_the_load_does() {
        let coarse = "voxel_mm = 4.0\niterations = 10\nr_min_mm = 6.0\nvolume_fraction = 0.3";
        let text = BRACKET.replace("voxel_mm = 2.0", coarse);
        let run = |text: &str, seed: u64, threads: usize| {
            let brief = Brief::from_toml(text).unwrap();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| redesign(&brief, seed, &mut { GO }).unwrap())
        };
        let first = run(&text, 1, 1);
        let second = run(&text, 2, 3);
        assert_eq!(first, second);
        let heavier = run(&text.replace("30.0, 0.0]", "45.0, 0.0]"), 1, 2);
        assert_ne!(first.mesh, heavier.mesh);
    }

    #[test]
    fn an_unreachable_factor_of_safety_says_the_best_seen() {
        let text = BRACKET.replace("-120.0", "-12000.0").replace(
            "voxel_mm = 2.0",
            "voxel_mm = 4.0\niterations = 8\nr_min_mm = 6.0",
        );
        let brief = Brief::from_toml(&text).unwrap();
        let error = redesign(&brief, 1, &mut { GO }).unwrap_err();
        assert!(
            matches!(error, DesignError::FosUnreachable { .. }),
            "{error}"
        );
    }

    #[test]
    fn break_cancels() {
        let brief = Brief::from_toml(BRACKET).unwrap();
        let error = redesign(&brief, 1, &mut |_| ControlFlow::Break(())).unwrap_err();
        assert!(matches!(error, DesignError::Cancelled));
    }
}
