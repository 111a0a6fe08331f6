//! Alignment to the faces that locate the part: three, two and one degree of freedom.

use nalgebra::{Matrix3, SymmetricEigen, Vector3};
use serde::{Deserialize, Serialize};

use crate::inspect::plan::DatumFace;
use crate::inspect::pose::{Rigid, add, scaled, unit};
use crate::inspect::register::{robust_sigma, tukey};
use crate::mesh::{cross, dot, length, sub};

/// Fewest points that define a datum face.
const MIN_POINTS: usize = 40;
/// Shortest root-mean-square half width from which a face may set a direction, mm.
const MIN_LEVER_MM: f64 = 3.0;

/// How a datum face was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatumReport {
    /// Name in the plan.
    pub name: String,
    /// Scan points that define it.
    pub points: usize,
    /// Offset of the face before the alignment, along its normal, mm.
    pub offset_mm: f64,
    /// Angle between the face and the design before the alignment, degrees.
    pub tilt_deg: f64,
    /// Robust standard deviation of the face about its own plane, mm.
    pub form_sigma_mm: f64,
    /// Degrees of freedom it fixed.
    pub fixed: u8,
}

/// A plane fitted to the points of one face.
struct Plane {
    point: [f64; 3],
    normal: [f64; 3],
    sigma: f64,
    /// Root-mean-square extent along the two principal directions in the plane, largest first.
    extents: [f64; 2],
    directions: [[f64; 3]; 2],
    points: usize,
}

/// Moves the points, already near the mesh, onto the datum faces; returns the motion and one report per face.
///
/// The faces are given in the same re-centred coordinates as the points.
pub(crate) fn align(points: &[[f64; 3]], datums: &[DatumFace]) -> (Rigid, Vec<DatumReport>) {
    let mut motion = Rigid::IDENTITY;
    let mut reports = Vec::with_capacity(datums.len());
    let mut normals: Vec<[f64; 3]> = Vec::new();
    for datum in datums {
        let normal = unit(datum.normal);
        let mut report = DatumReport {
            name: datum.name.clone(),
            points: 0,
            offset_mm: 0.0,
            tilt_deg: 0.0,
            form_sigma_mm: 0.0,
            fixed: 0,
        };
        let Some(plane) = fit(points, datum, normal, &motion) else {
            reports.push(report);
            continue;
        };
        report.points = plane.points;
        report.form_sigma_mm = plane.sigma;
        report.tilt_deg = length(cross(plane.normal, normal)).asin().to_degrees();
        report.offset_mm = dot(sub(plane.point, datum.point), plane.normal);

        // Turn: the first face may set both tilts, the second the remaining spin, later ones nothing.
        let turn = match normals.len() {
            0 if plane.extents[1] >= MIN_LEVER_MM => cross(plane.normal, normal),
            // A long narrow face fixes only the tilt along its length.
            0 if plane.extents[0] >= MIN_LEVER_MM => {
                let axis = cross(normal, plane.directions[0]);
                scaled(axis, dot(cross(plane.normal, normal), axis))
            }
            1 => {
                let axis = normals[0];
                let across = unit(cross(axis, normal));
                let lever: f64 = (0..2)
                    .map(|k| (plane.extents[k] * dot(plane.directions[k], across)).powi(2))
                    .sum::<f64>()
                    .sqrt();
                if lever >= MIN_LEVER_MM {
                    scaled(axis, dot(cross(plane.normal, normal), axis))
                } else {
                    [0.0; 3]
                }
            }
            _ => [0.0; 3],
        };
        let step = Rigid::about(plane.point, turn, [0.0; 3]);
        // Shift: only in a direction no earlier face has fixed.
        let free = normals
            .iter()
            .fold(normal, |v, n| sub(v, scaled(*n, dot(v, *n))));
        let along = dot(free, normal);
        let mut shift = [0.0; 3];
        if normals.len() < 3 && along > 0.1 {
            let gap = dot(sub(datum.point, plane.point), normal);
            shift = scaled(free, gap / along);
            report.fixed = [3, 2, 1][normals.len()];
            normals.push(unit(free));
        }
        motion = Rigid {
            translation: add(step.translation, shift),
            ..step
        }
        .after(&motion);
        reports.push(report);
    }
    (motion, reports)
}

/// Fits a plane to the points over a face, with Tukey weights and a scale from the data.
fn fit(points: &[[f64; 3]], datum: &DatumFace, normal: [f64; 3], motion: &Rigid) -> Option<Plane> {
    // Near an edge a printed bead is round and other faces are near, so the rim is left out.
    let reach = (datum.extent_mm - 0.75).max(0.6 * datum.extent_mm);
    let members: Vec<[f64; 3]> = points
        .iter()
        .map(|p| motion.apply(*p))
        .filter(|p| {
            let d = sub(*p, datum.point);
            let height = dot(d, normal);
            height.abs() < 1.0 && dot(d, d) - height * height < reach * reach
        })
        .collect();
    if members.len() < MIN_POINTS {
        return None;
    }
    let (mut point, mut plane_normal) = (datum.point, normal);
    let mut sigma = f64::INFINITY;
    let mut extents = [0.0; 2];
    let mut directions = [[0.0; 3]; 2];
    // Centre the first weights on the median, since the face may be off as a whole.
    let mut heights: Vec<f64> = members
        .iter()
        .map(|p| dot(sub(*p, point), normal))
        .collect();
    let middle = heights.len() / 2;
    let median = *heights.select_nth_unstable_by(middle, f64::total_cmp).1;
    point = add(point, scaled(normal, median));
    for _ in 0..20 {
        let mut residuals: Vec<f64> = members
            .iter()
            .map(|p| dot(sub(*p, point), plane_normal))
            .collect();
        sigma = robust_sigma(&mut residuals).max(1e-6);
        let weights: Vec<f64> = members
            .iter()
            .map(|p| tukey(dot(sub(*p, point), plane_normal), 4.0 * sigma))
            .collect();
        let total: f64 = weights.iter().sum();
        if total < 3.0 {
            return None;
        }
        let sum = members
            .iter()
            .zip(&weights)
            .fold([0.0; 3], |sum, (p, &w)| add(sum, scaled(*p, w)));
        let centre = scaled(sum, 1.0 / total);
        let mut moments = Matrix3::zeros();
        for (p, &w) in members.iter().zip(&weights) {
            let d = Vector3::from(sub(*p, centre));
            moments += d * d.transpose() * w;
        }
        let eigen = SymmetricEigen::new(moments);
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let axis = |k: usize| {
            let v = eigen.eigenvectors.column(order[k]);
            [v[0], v[1], v[2]]
        };
        let next = if dot(axis(2), normal) < 0.0 {
            scaled(axis(2), -1.0)
        } else {
            axis(2)
        };
        let moved =
            length(sub(next, plane_normal)) * datum.extent_mm + dot(sub(centre, point), next).abs();
        (point, plane_normal) = (centre, next);
        extents = [0, 1].map(|k| (eigen.eigenvalues[order[k]] / total).max(0.0).sqrt());
        directions = [axis(0), axis(1)];
        if moved < 1e-7 {
            break;
        }
    }
    // A face more than twenty degrees off is not the face.
    if dot(plane_normal, normal) < 0.94 {
        return None;
    }
    Some(Plane {
        point,
        normal: plane_normal,
        sigma,
        extents,
        directions,
        points: members.len(),
    })
}
