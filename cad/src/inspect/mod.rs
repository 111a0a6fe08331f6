//! Measuring a scan against a mesh and judging it.
//!
//! The order matters: coarse pose, robust fine pose, datum alignment, and only then the judgement, because a
//! least-squares pose would be pulled by the very defect it is to show.

mod datum;
mod deviation;
pub mod picture;
pub mod plan;
mod pose;
mod register;
pub mod scan;
mod surface;
mod uncertainty;
pub mod verdict;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Progress;
use crate::inspect::deviation::{Band, Patch, Patches};
use crate::inspect::plan::{DatumFace, VerificationPlan};
use crate::inspect::pose::{Rigid, add, unit};
use crate::inspect::register::{Candidates, Fit};
use crate::inspect::scan::{Ordered, Scan};
use crate::inspect::surface::{Sample, Surface};
use crate::inspect::verdict::{
    Disposition, Pose, Reason, ReasonCode, Region, Side, Sign, Verdict, rounded,
};
use crate::mesh::{Mesh, MeshReport, dot, length, sub};

pub use crate::inspect::datum::DatumReport;

/// Fewer points than this place nothing.
const MIN_POINTS: usize = 60;
/// Share of the seen surface outside tolerance from which it is another part.
const WRONG_PART_SHARE: f64 = 0.35;

/// Why a scan could not be inspected at all.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InspectError {
    /// There is not a single point.
    #[error("the scan is empty")]
    EmptyScan,
    /// Too few points to find a pose.
    #[error("the scan has {count} points, at least {MIN_POINTS} are needed")]
    TooFewPoints {
        /// How many there are.
        count: usize,
    },
    /// A point or a normal is NaN or infinite.
    #[error("scan point {index} is not finite")]
    NotFinite {
        /// Which point.
        index: usize,
    },
    /// The numbers of points and normals differ.
    #[error("the scan has {points} points but {normals} normals")]
    NormalCount {
        /// How many points.
        points: usize,
        /// How many normals.
        normals: usize,
    },
    /// The scan is in another unit than the mesh.
    #[error(
        "the scan is {ratio:.3} times as large as the mesh: it seems to be in {unit}, not in millimetres"
    )]
    UnitMismatch {
        /// Size of the scan over the size of the mesh.
        ratio: f64,
        /// What the scan seems to be in.
        unit: &'static str,
    },
    /// The mesh does not bound a solid, so there is no inside.
    #[error("the mesh does not bound a solid: {0:?}")]
    OpenMesh(MeshReport),
    /// A field of the plan makes no sense.
    #[error("verification plan field `{field}`: {problem}")]
    Plan {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A datum face is not part of the mesh.
    #[error("datum face `{name}` does not lie on the mesh")]
    DatumOffMesh {
        /// Its name in the plan.
        name: String,
    },
    /// The caller stopped it.
    #[error("the inspection was cancelled")]
    Cancelled,
}

/// The deviation at places spread evenly over the mesh, for pictures and further analysis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviationField {
    /// Places on the mesh, mm.
    pub points: Vec<[f64; 3]>,
    /// Outward normals there.
    pub normals: Vec<[f64; 3]>,
    /// Deviation averaged over a patch, mm; `None` where the scan shows nothing.
    pub values: Vec<Option<f64>>,
    /// Distance between neighbouring places, mm.
    pub spacing_mm: f64,
    /// Tolerance of the plan, mm.
    pub tolerance_mm: f64,
}

/// A verdict with the field it was drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The judgement.
    pub verdict: Verdict,
    /// Deviation over the surface.
    pub field: DeviationField,
}

/// Judges a scan of a finished part against its design.
///
/// # Errors
/// Refuses an empty or unusable scan, another unit, a mesh without an inside and a plan that makes no sense; a scan
/// that merely cannot decide is no error but [`Disposition::Inconclusive`].
pub fn inspect(
    scan: &Scan,
    mesh: &Mesh,
    plan: &VerificationPlan,
    progress: Progress<'_>,
) -> Result<Verdict, InspectError> {
    measure(scan, mesh, plan, progress).map(|inspection| inspection.verdict)
}

/// Like [`inspect`], and keeps the deviation field.
///
/// # Errors
/// As [`inspect`].
pub fn measure(
    scan: &Scan,
    mesh: &Mesh,
    plan: &VerificationPlan,
    progress: Progress<'_>,
) -> Result<Inspection, InspectError> {
    let mut tell = |share: f64| match progress(share) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(InspectError::Cancelled),
    };
    check_scan(scan)?;
    if let Some((field, problem)) = plan.fault() {
        return Err(InspectError::Plan { field, problem });
    }
    let surface = Surface::new(mesh).map_err(InspectError::OpenMesh)?;
    let samples = surface.samples(deviation::spacing(plan, surface.area_mm2));
    let datums = datums_on(&samples, plan, surface.centre)?;
    check_unit(&samples, scan)?;
    let reach = company(plan, &surface, scan);
    let ordered = Ordered::new(scan, reach);
    if ordered.points.len() < MIN_POINTS {
        return Err(InspectError::TooFewPoints {
            count: ordered.points.len(),
        });
    }
    tell(0.1)?;

    let Some(candidates) = register::coarse(&surface, &samples, &ordered, false) else {
        return Err(InspectError::TooFewPoints {
            count: scan.points.len(),
        });
    };
    tell(0.35)?;
    let fit = register::fine(&surface, &ordered, candidates.best, scan.sigma_mm);
    tell(0.6)?;
    let (pose, datum_reports) = align_to_datums(&ordered, &fit.pose, &datums);
    let scale = register::scale(&surface, &ordered, &fit);
    tell(0.7)?;

    let feet = deviation::feet(&surface, &ordered, &pose);
    tell(0.8)?;
    let field = deviation::patches(&surface, &samples, &feet, plan, fit.sigma, &fit.covariance);
    let regions = deviation::regions(&surface, &field, &feet, plan);
    tell(0.9)?;

    let mut evidence = Evidence::new(&field);
    let rejected = regions
        .iter()
        .any(|r| r.out_area_mm2 >= plan.min_region_area_mm2);
    if rejected {
        let build = unit(plan.build_direction);
        evidence.shift = deviation::layer_shift(&feet, build, plan.tolerance_mm)
            .map(|(height, step)| (height + dot(surface.centre, build), step));
        if evidence.out_share > 0.03 {
            evidence.mirrored = mirror_fits(&surface, &samples, scan, reach, (&ordered, &pose));
        }
    }
    let (disposition, reasons) = decide(
        plan,
        &surface,
        &regions,
        &evidence,
        &candidates,
        scale,
        &datum_reports,
    );
    let verdict = Verdict {
        disposition,
        reasons,
        tolerance_mm: plan.tolerance_mm,
        coverage: rounded(evidence.coverage),
        excluded_share: rounded(evidence.excluded),
        sigma_mm: rounded(fit.sigma),
        expanded_uncertainty_mm: rounded(evidence.uncertainty),
        pose: report_pose(&pose, &fit, &surface, &ordered, candidates.symmetric),
        scale: rounded(scale),
        deviation: deviation::statistics(
            field
                .patches
                .iter()
                .filter(|p| judged(p) && p.band != Band::Unseen),
        ),
        regions,
        sides: evidence.sides,
        datums: datum_reports.iter().map(rounded_datum).collect(),
        inlier_share: rounded(fit.inlier_share),
        points: scan.points.len(),
        outliers: scan.points.len() - ordered.points.len(),
    };
    tell(1.0)?;
    Ok(Inspection {
        verdict,
        field: report_field(&field, &surface, plan),
    })
}

/// What the decision rests on besides the regions.
struct Evidence {
    coverage: f64,
    excluded: f64,
    /// Share of the seen surface that is outside.
    out_share: f64,
    /// Whether more of the surface is wrong or not there than a defect explains.
    wrong_part: bool,
    /// Median over the seen patches, mm.
    uncertainty: f64,
    sides: Vec<Side>,
    /// Height and size of a layer shift, mm.
    shift: Option<(f64, f64)>,
    mirrored: bool,
}

impl Evidence {
    fn new(field: &Patches) -> Self {
        let all = field.patches.len().max(1) as f64;
        let judged: Vec<&Patch> = field.patches.iter().filter(|p| judged(p)).collect();
        let seen: Vec<&Patch> = judged
            .iter()
            .copied()
            .filter(|p| p.band != Band::Unseen)
            .collect();
        let share = |part: usize, whole: usize| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        let mut uncertainties: Vec<f64> = seen.iter().map(|p| p.uncertainty).collect();
        uncertainties.sort_by(f64::total_cmp);
        let names = ["+x", "-x", "+y", "-y", "+z", "-z"];
        let sides = names
            .iter()
            .enumerate()
            .filter_map(|(k, name)| {
                let all = judged.iter().filter(|p| side(p.sample.normal) == k).count();
                let seen: Vec<&Patch> = seen
                    .iter()
                    .copied()
                    .filter(|p| side(p.sample.normal) == k)
                    .collect();
                (all > 0).then(|| Side {
                    name: (*name).to_owned(),
                    area_mm2: rounded(all as f64 * field.area),
                    coverage: rounded(share(seen.len(), all)),
                    deviation: deviation::statistics(seen.into_iter()),
                })
            })
            .collect();
        let out = seen.iter().filter(|p| p.band == Band::Out).count();
        let out_share = share(out, seen.len());
        let astray = share(out + judged.len() - seen.len(), judged.len());
        Self {
            coverage: share(seen.len(), judged.len()),
            excluded: 1.0 - judged.len() as f64 / all,
            out_share,
            wrong_part: out_share > WRONG_PART_SHARE || (out_share > 0.1 && astray > 0.5),
            uncertainty: uncertainties
                .get(uncertainties.len() / 2)
                .copied()
                .unwrap_or_default(),
            sides,
            shift: None,
            mirrored: false,
        }
    }
}

/// Turns the evidence into a disposition, by rules that read in the order they apply.
fn decide(
    plan: &VerificationPlan,
    surface: &Surface,
    regions: &[Region],
    evidence: &Evidence,
    candidates: &Candidates,
    scale: f64,
    datums: &[DatumReport],
) -> (Disposition, Vec<Reason>) {
    let tolerance = plan.tolerance_mm;
    let mut reasons = Vec::new();
    let mut say = |code, message: String| reasons.push(Reason { code, message });
    let low_coverage = (evidence.coverage < plan.required_coverage).then(|| {
        let (seen, required) = (evidence.coverage * 100.0, plan.required_coverage * 100.0);
        format!("{seen:.1} % of the surface was seen, {required:.1} % are required")
    });
    // Poses that fit equally badly say nothing about each other.
    if candidates.ambiguous > 0 && !evidence.wrong_part {
        say(
            ReasonCode::AmbiguousPose,
            format!(
                "{} other poses fit the scan as well, and the part is not symmetric",
                candidates.ambiguous
            ),
        );
        if let Some(message) = low_coverage {
            say(ReasonCode::LowCoverage, message);
        }
        return (Disposition::Inconclusive, reasons);
    }
    let out: Vec<&Region> = regions
        .iter()
        .filter(|r| r.out_area_mm2 >= plan.min_region_area_mm2)
        .collect();
    if !out.is_empty() {
        if evidence.mirrored {
            say(
                ReasonCode::Mirror,
                "the mirror image of the scan fits the design".to_owned(),
            );
        }
        if evidence.wrong_part {
            say(
                ReasonCode::WrongPart,
                format!(
                    "{:.0} % of the surface is not where the design has it",
                    evidence.out_share * 100.0
                ),
            );
        }
        if let Some((height, step)) = evidence.shift {
            say(
                ReasonCode::LayerShift,
                format!("the layers above {height:.1} mm are displaced sideways by {step:.2} mm"),
            );
        }
        if (scale - 1.0).abs() * surface.half.into_iter().fold(0.0, f64::max) > 0.5 * tolerance {
            say(
                ReasonCode::Scale,
                format!("the part is {:+.2} % off in size", (scale - 1.0) * 100.0),
            );
        }
        for (code, word) in [
            (ReasonCode::MissingFeature, "material is missing"),
            (ReasonCode::Oversize, "excess material"),
            (ReasonCode::Undersize, "the surface lies too deep"),
        ] {
            let of_code = |r: &&&Region| code_of(r, tolerance) == code;
            let area: f64 = out.iter().filter(of_code).map(|r| r.out_area_mm2).sum();
            if let Some(worst) = out
                .iter()
                .filter(of_code)
                .max_by(|a, b| a.peak_mm.abs().total_cmp(&b.peak_mm.abs()))
            {
                let c = worst.centroid;
                say(
                    code,
                    format!(
                        "{word}: {area:.1} mm² outside ±{tolerance} mm, worst {:+.2} mm near [{:.1}, {:.1}, {:.1}]",
                        worst.peak_mm, c[0], c[1], c[2]
                    ),
                );
            }
        }
        let removable = regions
            .iter()
            .all(|r| r.sign == Sign::Excess && r.machinable);
        let whole = !evidence.mirrored && evidence.shift.is_none() && !evidence.wrong_part;
        let seen = evidence.coverage >= plan.required_coverage;
        let disposition = if removable && whole && seen {
            Disposition::Rework
        } else {
            Disposition::Reject
        };
        return (disposition, reasons);
    }
    if let Some(message) = low_coverage {
        say(ReasonCode::LowCoverage, message);
    }
    let area: f64 = evidence.sides.iter().map(|s| s.area_mm2).sum();
    for side in &evidence.sides {
        if side.area_mm2 > 0.05 * area && side.coverage < 0.5 * plan.required_coverage {
            say(
                ReasonCode::LowCoverage,
                format!(
                    "only {:.1} % of side {} was seen",
                    side.coverage * 100.0,
                    side.name
                ),
            );
        }
    }
    for datum in datums.iter().filter(|d| d.points == 0) {
        say(
            ReasonCode::LowCoverage,
            format!("datum face `{}` was not seen", datum.name),
        );
    }
    for region in regions {
        let c = region.centroid;
        say(
            ReasonCode::Uncertain,
            format!(
                "{:.1} mm² near [{:.1}, {:.1}, {:.1}] deviate by up to {:+.2} mm, too near ±{tolerance} mm to tell",
                region.area_mm2, c[0], c[1], c[2], region.peak_mm
            ),
        );
    }
    if !reasons.is_empty() {
        return (Disposition::Inconclusive, reasons);
    }
    let message = format!(
        "no region of {} mm² or more is outside ±{tolerance} mm",
        plan.min_region_area_mm2
    );
    (
        Disposition::Accept,
        vec![Reason {
            code: ReasonCode::WithinTolerance,
            message,
        }],
    )
}

/// What a region outside tolerance is called.
fn code_of(region: &Region, tolerance: f64) -> ReasonCode {
    match region.sign {
        Sign::Excess => ReasonCode::Oversize,
        Sign::Missing if region.peak_mm.abs() > 3.0 * tolerance => ReasonCode::MissingFeature,
        Sign::Missing => ReasonCode::Undersize,
    }
}

fn check_scan(scan: &Scan) -> Result<(), InspectError> {
    let count = scan.points.len();
    if count == 0 {
        return Err(InspectError::EmptyScan);
    }
    if let Some(normals) = &scan.normals
        && normals.len() != count
    {
        return Err(InspectError::NormalCount {
            points: count,
            normals: normals.len(),
        });
    }
    let finite = |v: &[f64; 3]| v.iter().all(|x| x.is_finite() && x.abs() < 1e12);
    let normals = scan.normals.as_deref().unwrap_or_default();
    let bad = scan
        .points
        .iter()
        .position(|p| !finite(p))
        .or_else(|| normals.iter().position(|n| !finite(n)));
    if let Some(index) = bad {
        return Err(InspectError::NotFinite { index });
    }
    if count < MIN_POINTS {
        return Err(InspectError::TooFewPoints { count });
    }
    Ok(())
}

/// Within what distance a surface point has others about it, mm.
fn company(plan: &VerificationPlan, surface: &Surface, scan: &Scan) -> f64 {
    plan.patch_radius_mm
        .max(2.0 * (surface.area_mm2 / scan.points.len() as f64).sqrt())
}

/// Compares the sizes, which do not depend on the pose.
fn check_unit(samples: &[Sample], scan: &Scan) -> Result<(), InspectError> {
    let places: Vec<[f64; 3]> = samples.iter().map(|s| s.point).collect();
    let ratio = spread(&scan.points) / spread(&places).max(1e-12);
    for (expected, unit) in [
        (1.0 / 25.4, "inches"),
        (25.4, "1/25.4 mm"),
        (1e-3, "metres"),
        (1e3, "micrometres"),
    ] {
        if (ratio / expected).ln().abs() < 0.5 {
            return Err(InspectError::UnitMismatch { ratio, unit });
        }
    }
    Ok(())
}

/// Root-mean-square distance from the centroid.
fn spread(points: &[[f64; 3]]) -> f64 {
    let n = points.len().max(1) as f64;
    let centre = points
        .iter()
        .fold([0.0; 3], |sum, &p| add(sum, p))
        .map(|x| x / n);
    (points
        .iter()
        .map(|p| length(sub(*p, centre)).powi(2))
        .sum::<f64>()
        / n)
        .sqrt()
}

/// The datum faces in re-centred coordinates, each checked to lie on the mesh.
fn datums_on(
    samples: &[Sample],
    plan: &VerificationPlan,
    centre: [f64; 3],
) -> Result<Vec<DatumFace>, InspectError> {
    plan.datums
        .iter()
        .map(|datum| {
            let face = DatumFace {
                point: sub(datum.point, centre),
                normal: unit(datum.normal),
                ..datum.clone()
            };
            let on_face = |s: &Sample| {
                let d = sub(s.point, face.point);
                let height = dot(d, face.normal);
                dot(s.normal, face.normal) > 0.9
                    && height.abs() < 0.3
                    && dot(d, d) - height * height < face.extent_mm * face.extent_mm
            };
            if samples.iter().any(on_face) {
                Ok(face)
            } else {
                Err(InspectError::DatumOffMesh {
                    name: datum.name.clone(),
                })
            }
        })
        .collect()
}

fn align_to_datums(
    scan: &Ordered,
    pose: &Rigid,
    datums: &[DatumFace],
) -> (Rigid, Vec<DatumReport>) {
    if datums.is_empty() {
        return (*pose, Vec::new());
    }
    let placed: Vec<[f64; 3]> = scan.points.iter().map(|p| pose.apply(*p)).collect();
    let (motion, reports) = datum::align(&placed, datums);
    (motion.after(pose), reports)
}

/// Whether the mirror image of the scan fits much better than the scan.
fn mirror_fits(
    surface: &Surface,
    samples: &[Sample],
    scan: &Scan,
    reach: f64,
    (ordered, pose): (&Ordered, &Rigid),
) -> bool {
    let flip = |v: &[f64; 3]| [-v[0], v[1], v[2]];
    let image = Scan {
        points: scan.points.iter().map(flip).collect(),
        normals: scan
            .normals
            .as_ref()
            .map(|normals| normals.iter().map(flip).collect()),
        sigma_mm: scan.sigma_mm,
    };
    let image = Ordered::new(&image, reach);
    register::coarse(surface, samples, &image, true).is_some_and(|candidates| {
        let theirs = register::misfit(surface, &image, &candidates.best);
        theirs < 0.6 * register::misfit(surface, ordered, pose)
    })
}

fn judged(patch: &Patch) -> bool {
    patch.band != Band::Excluded
}

/// Index of the dominant direction of a normal.
fn side(n: [f64; 3]) -> usize {
    let axis = (0..3).fold(0, |best, k| {
        if n[k].abs() > n[best].abs() + 1e-9 {
            k
        } else {
            best
        }
    });
    2 * axis + usize::from(n[axis] < 0.0)
}

fn report_pose(
    pose: &Rigid,
    fit: &Fit,
    surface: &Surface,
    scan: &Ordered,
    symmetric_poses: usize,
) -> Pose {
    let translation = add(
        sub(pose.translation, pose.turn(scan.centre)),
        surface.centre,
    );
    let precise = |x: f64| (x * 1e12).round() / 1e12 + 0.0;
    Pose {
        rotation: pose
            .rotation
            .map(|row| row.map(|x| (x * 1e9).round() / 1e9 + 0.0)),
        translation: translation.map(rounded),
        covariance: [0, 1, 2, 3, 4, 5]
            .map(|a| [0, 1, 2, 3, 4, 5].map(|b| precise(fit.covariance[(a, b)]))),
        symmetric_poses,
    }
}

fn rounded_datum(datum: &DatumReport) -> DatumReport {
    DatumReport {
        offset_mm: rounded(datum.offset_mm),
        tilt_deg: rounded(datum.tilt_deg),
        form_sigma_mm: rounded(datum.form_sigma_mm),
        ..datum.clone()
    }
}

fn report_field(field: &Patches, surface: &Surface, plan: &VerificationPlan) -> DeviationField {
    DeviationField {
        points: field
            .patches
            .iter()
            .map(|p| add(p.sample.point, surface.centre))
            .collect(),
        normals: field.patches.iter().map(|p| p.sample.normal).collect(),
        values: field
            .patches
            .iter()
            .map(|p| (p.band != Band::Unseen && p.count > 0).then_some(p.mean))
            .collect(),
        spacing_mm: field.spacing,
        tolerance_mm: plan.tolerance_mm,
    }
}

#[cfg(test)]
pub(crate) mod tests;
