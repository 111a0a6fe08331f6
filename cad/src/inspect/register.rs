//! Bringing the scan onto the mesh: a coarse pose from many starts, then a robust point-to-plane fit.
//!
//! The robust scale comes from the data at every step, so no constant has to be picked for a defect size.

use nalgebra::{Matrix3, Matrix6, SymmetricEigen, Vector6};
use rayon::prelude::*;

use crate::inspect::pose::{Rigid, add, product, scaled, transpose, unit};
use crate::inspect::scan::Ordered;
use crate::inspect::surface::{Foot, Sample, Surface};
use crate::mesh::{cross, dot, length, sub};

/// Points of the finest level: more would cost time and gain nothing against the texture of a print.
const FINE_POINTS: usize = 24_000;
/// Points that decide between two poses.
const DUEL_POINTS: usize = 6_000;
/// Turns a median absolute deviation into a standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Tukey's cut-off in standard deviations, wide while approaching and narrow to end with.
const WIDE: f64 = 4.685;
const NARROW: f64 = 3.0;
/// Largest step of the end, mm at the edge of the part.
const STEP_MM: f64 = 2e-6;

/// A scan brought onto the mesh; all lengths re-centred, mm.
#[derive(Debug, Clone)]
pub(crate) struct Fit {
    /// From scan to mesh.
    pub(crate) pose: Rigid,
    /// Robust standard deviation of the distances.
    pub(crate) sigma: f64,
    /// Covariance of a small turn (about the origin) and shift.
    pub(crate) covariance: Matrix6<f64>,
    /// Share of the points within the cut-off.
    pub(crate) inlier_share: f64,
}

/// The best coarse pose and its rivals that fit as well.
#[derive(Debug, Clone)]
pub(crate) struct Candidates {
    /// The one to go on with.
    pub(crate) best: Rigid,
    /// Poses that fit as well and that map the mesh onto itself: a symmetry of the part.
    pub(crate) symmetric: usize,
    /// Poses that fit as well but do not: the scan cannot tell which is right.
    pub(crate) ambiguous: usize,
}

/// Finds the pose up to the last millimetre from principal axes and from the axes of the scanner.
pub(crate) fn coarse(
    surface: &Surface,
    samples: &[Sample],
    scan: &Ordered,
    mirrored: bool,
) -> Option<Candidates> {
    let few = scan.points.len().min(160);
    let some = scan.points.len().min(320);
    let many = scan.points.len().min(1_500);
    let mut starts: Vec<(f64, Rigid)> = starts(samples, scan, mirrored)
        .into_par_iter()
        .map(|pose| (trimmed(surface, &scan.points[..few], &pose), pose))
        .collect();
    starts.sort_by(|a, b| a.0.total_cmp(&b.0));
    starts.truncate(20);
    let mut refined: Vec<(f64, Rigid)> = starts
        .into_par_iter()
        .map(|(_, pose)| {
            let pose = approach(surface, scan, some, pose, 8);
            (trimmed(surface, &scan.points[..some], &pose), pose)
        })
        .collect();
    refined.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut distinct: Vec<Rigid> = Vec::new();
    for (_, pose) in refined {
        if distinct.len() < 6
            && distinct
                .iter()
                .all(|other| apart(surface, &pose, other) > 0.05)
        {
            distinct.push(pose);
        }
    }
    let mut ends: Vec<(f64, Rigid)> = distinct
        .into_par_iter()
        .map(|pose| {
            let pose = approach(surface, scan, many, pose, 16);
            (mean(&misfits(surface, &scan.points[..many], &pose)), pose)
        })
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut poses: Vec<Rigid> = Vec::new();
    for (_, pose) in ends {
        if poses
            .iter()
            .all(|other| apart(surface, &pose, other) > 0.05)
        {
            poses.push(pose);
        }
    }
    let duel = &scan.points[..scan.points.len().min(DUEL_POINTS)];
    let mut scored: Vec<(Vec<f64>, Rigid)> = poses
        .iter()
        .take(4)
        .map(|pose| (misfits(surface, duel, pose), *pose))
        .collect();
    scored.sort_by(|a, b| mean(&a.0).total_cmp(&mean(&b.0)));
    let ((own, best), rivals) = scored.split_first()?;
    let (mut symmetric, mut ambiguous) = (0, 0);
    for (theirs, pose) in rivals {
        if as_good(own, theirs) {
            if maps_onto_itself(surface, samples, &pose.after(&best.inverse())) {
                symmetric += 1;
            } else {
                ambiguous += 1;
            }
        }
    }
    Some(Candidates {
        best: *best,
        symmetric,
        ambiguous,
    })
}

/// Robust point-to-plane fit with a Tukey weight whose scale is estimated anew at every step.
pub(crate) fn fine(surface: &Surface, scan: &Ordered, start: Rigid, floor_mm: f64) -> Fit {
    let levels = [
        scan.points.len().min(3_000),
        scan.points.len().min(FINE_POINTS),
    ];
    let mut pose = start;
    let mut fit = None;
    for (level, &count) in levels.iter().enumerate() {
        let last = level + 1 == levels.len();
        let limit = if last { 60 } else { 25 };
        let mut matcher = Matcher::new(scan, count);
        let mut cut = WIDE;
        for _ in 0..limit {
            matcher.update(surface, &pose);
            let sigma = matcher.sigma().max(floor_mm).max(1e-6);
            let system = matcher.system(&pose, |d| tukey(d, cut * sigma));
            let (turn, shift, inverse) = system.solve();
            pose = Rigid::about([0.0; 3], turn, shift).after(&pose);
            let step = length(turn) * surface.radius() + length(shift);
            let narrow = cut == NARROW;
            if last {
                // Neighbouring points of a print share its texture: one square millimetre counts once.
                let independent = system.weight.min(surface.area_mm2).max(1.0);
                fit = Some(Fit {
                    pose,
                    sigma,
                    covariance: inverse * (sigma * sigma * system.weight / independent),
                    inlier_share: system.inliers as f64 / count.max(1) as f64,
                });
            }
            if narrow && step < STEP_MM {
                break;
            }
            if !narrow && step < if last { 0.02 } else { 0.005 } {
                if !last {
                    break;
                }
                cut = NARROW;
            }
        }
    }
    fit.unwrap_or(Fit {
        pose,
        sigma: floor_mm,
        covariance: Matrix6::zeros(),
        inlier_share: 0.0,
    })
}

/// Size of the part relative to the mesh, fitted with the pose free, from the points near the surface.
pub(crate) fn scale(surface: &Surface, scan: &Ordered, fit: &Fit) -> f64 {
    let mut matcher = Matcher::new(scan, scan.points.len().min(6_000));
    let (mut pose, mut scale) = (fit.pose, 1.0);
    for _ in 0..12 {
        matcher.update_scaled(surface, &pose, scale);
        let sigma = matcher.sigma().max(fit.sigma);
        let mut h = nalgebra::SMatrix::<f64, 7, 7>::zeros();
        let mut g = nalgebra::SVector::<f64, 7>::zeros();
        for (p, foot) in matcher.pairs() {
            let w = tukey(foot.distance, WIDE * sigma);
            let q = scaled(pose.apply(p), scale);
            let n = foot.face_normal;
            let t = cross(q, n);
            let j =
                nalgebra::SVector::<f64, 7>::from([t[0], t[1], t[2], n[0], n[1], n[2], dot(q, n)]);
            h += j * j.transpose() * w;
            g += j * (w * dot(sub(q, foot.point), n));
        }
        for k in 0..7 {
            h[(k, k)] += 1e-6 * h[(k, k)].max(1e-9);
        }
        let Some(cholesky) = h.cholesky() else { break };
        let d = cholesky.solve(&-g);
        // The scale comes after the pose: turns and shifts are of the scaled point.
        let step = Rigid::about(
            [0.0; 3],
            [d[0], d[1], d[2]],
            scaled([d[3], d[4], d[5]], 1.0 / scale),
        );
        pose = step.after(&pose);
        scale *= 1.0 + d[6].clamp(-0.05, 0.05);
        if d.norm() < 1e-7 {
            break;
        }
    }
    1.0 / scale
}

/// How well the poses of a mirrored scan fit, as a mean cut-off distance in mm.
pub(crate) fn misfit(surface: &Surface, scan: &Ordered, pose: &Rigid) -> f64 {
    mean(&misfits(
        surface,
        &scan.points[..scan.points.len().min(DUEL_POINTS)],
        pose,
    ))
}

/// Weight of a distance: one at zero, none from the cut-off on.
pub(crate) fn tukey(distance: f64, cut: f64) -> f64 {
    let x = distance / cut;
    if x.abs() < 1.0 {
        (1.0 - x * x) * (1.0 - x * x)
    } else {
        0.0
    }
}

/// Median of the absolute values, as a standard deviation.
pub(crate) fn robust_sigma(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter_mut().for_each(|x| *x = x.abs());
    let middle = values.len() / 2;
    MAD_TO_SIGMA * *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Pairs a prefix of the scan with its feet; remembers where each foot was.
struct Matcher<'a> {
    points: &'a [[f64; 3]],
    normals: Option<&'a [[f64; 3]]>,
    feet: Vec<Option<Foot>>,
}

impl<'a> Matcher<'a> {
    fn new(scan: &'a Ordered, count: usize) -> Self {
        Self {
            points: &scan.points[..count],
            normals: scan.normals.as_deref().map(|n| &n[..count]),
            feet: vec![None; count],
        }
    }

    fn update(&mut self, surface: &Surface, pose: &Rigid) {
        self.update_scaled(surface, pose, 1.0);
    }

    fn update_scaled(&mut self, surface: &Surface, pose: &Rigid, scale: f64) {
        let (points, normals) = (self.points, self.normals);
        self.feet
            .par_iter_mut()
            .enumerate()
            .with_min_len(512)
            .for_each(|(i, foot)| {
                let facing = normals.map(|n| pose.turn(n[i]));
                let hint = foot.map(|f| f.triangle);
                *foot = surface.closest(scaled(pose.apply(points[i]), scale), facing, hint);
            });
    }

    /// Pairs that pull: a foot on a sharp edge has no plane to pull towards.
    fn pairs(&self) -> impl Iterator<Item = ([f64; 3], &Foot)> {
        self.points.iter().zip(&self.feet).filter_map(|(p, foot)| {
            let foot = foot.as_ref()?;
            let blunt = !foot.on_edge || dot(foot.normal, foot.face_normal) > 0.95;
            blunt.then_some((*p, foot))
        })
    }

    fn sigma(&self) -> f64 {
        let mut distances: Vec<f64> = self.pairs().map(|(_, f)| f.distance).collect();
        robust_sigma(&mut distances)
    }

    fn system(&self, pose: &Rigid, weigh: impl Fn(f64) -> f64) -> System {
        let mut system = System::default();
        for (p, foot) in self.pairs() {
            let w = weigh(foot.distance);
            if w > 0.0 {
                system.add(pose.apply(p), foot, w);
            }
        }
        system
    }
}

/// Normal equations of a small turn about the origin and a small shift.
struct System {
    h: [[f64; 6]; 6],
    g: [f64; 6],
    /// Sum of the weights.
    weight: f64,
    inliers: usize,
}

impl Default for System {
    fn default() -> Self {
        Self {
            h: [[0.0; 6]; 6],
            g: [0.0; 6],
            weight: 0.0,
            inliers: 0,
        }
    }
}

impl System {
    fn add(&mut self, q: [f64; 3], foot: &Foot, w: f64) {
        let n = foot.face_normal;
        let t = cross(q, n);
        let j = [t[0], t[1], t[2], n[0], n[1], n[2]];
        let r = w * dot(sub(q, foot.point), n);
        for a in 0..6 {
            self.g[a] += j[a] * r;
            let wj = w * j[a];
            for (sum, x) in self.h[a].iter_mut().zip(j).skip(a) {
                *sum += wj * x;
            }
        }
        self.weight += w;
        self.inliers += 1;
    }

    /// The step and the inverse matrix, both without the directions in which the part is symmetric.
    fn solve(&self) -> ([f64; 3], [f64; 3], Matrix6<f64>) {
        let matrix = Matrix6::from_fn(|a, b| self.h[a.min(b)][a.max(b)]);
        // Turns are measured in units of the lever, so that turn and shift compare.
        let lever = ((matrix[(0, 0)] + matrix[(1, 1)] + matrix[(2, 2)]) / self.weight.max(1e-12))
            .sqrt()
            .max(1e-6);
        let unit = Matrix6::from_diagonal(&Vector6::from([
            1.0 / lever,
            1.0 / lever,
            1.0 / lever,
            1.0,
            1.0,
            1.0,
        ]));
        let eigen = SymmetricEigen::new(unit * matrix * unit);
        let largest = eigen.eigenvalues.max().max(1e-12);
        let mut inverse = Matrix6::zeros();
        for k in 0..6 {
            let value = eigen.eigenvalues[k];
            if value > 1e-6 * largest {
                let v = eigen.eigenvectors.column(k);
                inverse += v * v.transpose() / value;
            }
        }
        let inverse = unit * inverse * unit;
        let d = inverse * -Vector6::from(self.g);
        ([d[0], d[1], d[2]], [d[3], d[4], d[5]], inverse)
    }
}

/// All starts: the principal axes and the axes of the scanner, each turned 24 ways, centroid on centroid.
fn starts(samples: &[Sample], scan: &Ordered, mirrored: bool) -> Vec<Rigid> {
    let prefix = &scan.points[..scan.points.len().min(4_000)];
    let places: Vec<[f64; 3]> = samples.iter().map(|s| s.point).collect();
    let (mesh_centre, mesh_axes) = principal_axes(&places);
    let (scan_centre, scan_axes) = principal_axes(prefix);
    let mut starts = Vec::with_capacity(73);
    let mut push = |rotation: [[f64; 3]; 3], from: [f64; 3], to: [f64; 3]| {
        let turn = Rigid {
            rotation,
            translation: [0.0; 3],
        };
        starts.push(Rigid {
            translation: sub(to, turn.turn(from)),
            ..turn
        });
    };
    for turn in quarter_turns() {
        // Axes are the rows, hence `mesh axes transposed · turn · scan axes`.
        push(
            product(transpose(mesh_axes), product(turn, scan_axes)),
            scan_centre,
            mesh_centre,
        );
        push(turn, scan_centre, mesh_centre);
        // A half seen part has its centroid elsewhere, but often its bounding box.
        if !mirrored {
            push(turn, [0.0; 3], [0.0; 3]);
        }
    }
    starts
}

/// Centroid and right-handed principal axes, as rows.
fn principal_axes(points: &[[f64; 3]]) -> ([f64; 3], [[f64; 3]; 3]) {
    let n = points.len().max(1) as f64;
    let centre = scaled(points.iter().fold([0.0; 3], |sum, &p| add(sum, p)), 1.0 / n);
    let mut moments = Matrix3::zeros();
    for &p in points {
        let d = nalgebra::Vector3::from(sub(p, centre));
        moments += d * d.transpose();
    }
    let eigen = SymmetricEigen::new(moments);
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let axis = |k: usize| {
        let v = eigen.eigenvectors.column(k);
        unit([v[0], v[1], v[2]])
    };
    let (first, second) = (axis(order[0]), axis(order[1]));
    (centre, [first, second, unit(cross(first, second))])
}

/// The 24 proper rotations of a cube.
fn quarter_turns() -> Vec<[[f64; 3]; 3]> {
    let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let mut turns = Vec::with_capacity(24);
    for a in 0..3 {
        for b in (0..3).filter(|&b| b != a) {
            for (s, t) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
                let (x, y) = (scaled(axes[a], s), scaled(axes[b], t));
                turns.push([x, y, cross(x, y)]);
            }
        }
    }
    turns
}

/// A few steps of a fit that trusts the nearer 80 % of a prefix of the scan.
fn approach(
    surface: &Surface,
    scan: &Ordered,
    count: usize,
    mut pose: Rigid,
    steps: usize,
) -> Rigid {
    let mut feet: Vec<Option<Foot>> = vec![None; count];
    for _ in 0..steps {
        for (i, foot) in feet.iter_mut().enumerate() {
            let facing = scan.normals.as_ref().map(|n| pose.turn(n[i]));
            *foot = surface.closest(pose.apply(scan.points[i]), facing, foot.map(|f| f.triangle));
        }
        let mut distances: Vec<f64> = feet.iter().flatten().map(|f| f.distance.abs()).collect();
        if distances.len() < 6 {
            break;
        }
        let at = (distances.len() * 4 / 5).min(distances.len() - 1);
        let cut = *distances.select_nth_unstable_by(at, f64::total_cmp).1;
        let mut system = System::default();
        for (p, foot) in scan.points.iter().zip(&feet) {
            if let Some(foot) = foot.filter(|f| f.distance.abs() <= cut) {
                system.add(pose.apply(*p), &foot, 1.0);
            }
        }
        let (turn, shift, _) = system.solve();
        // A linear step is trusted for half a radian.
        let shorten = (0.5 / length(turn).max(1e-12)).min(1.0);
        pose = Rigid::about([0.0; 3], scaled(turn, shorten), scaled(shift, shorten)).after(&pose);
        if length(turn) * surface.radius() + length(shift) < 1e-3 {
            break;
        }
    }
    pose
}

/// Mean distance of the nearest 70 %.
fn trimmed(surface: &Surface, points: &[[f64; 3]], pose: &Rigid) -> f64 {
    let mut distances: Vec<f64> = points
        .iter()
        .filter_map(|p| surface.closest(pose.apply(*p), None, None))
        .map(|f| f.distance.abs())
        .collect();
    distances.sort_by(f64::total_cmp);
    distances.truncate((distances.len() * 7).div_ceil(10));
    mean(&distances)
}

/// Distances cut off at two millimetres, so that a feature in the wrong place counts but does not rule.
fn misfits(surface: &Surface, points: &[[f64; 3]], pose: &Rigid) -> Vec<f64> {
    points
        .par_iter()
        .with_min_len(512)
        .map(|p| {
            surface
                .closest(pose.apply(*p), None, None)
                .map_or(2.0, |f| f.distance.abs().min(2.0))
        })
        .collect()
}

/// Whether a paired comparison cannot tell the second set of misfits from the first.
fn as_good(own: &[f64], theirs: &[f64]) -> bool {
    let differences: Vec<f64> = own.iter().zip(theirs).map(|(a, b)| b - a).collect();
    let n = differences.len().max(1) as f64;
    let m = mean(&differences);
    let variance = differences.iter().map(|d| (d - m) * (d - m)).sum::<f64>() / n;
    m <= 4.0 * (variance / n).sqrt() + 1e-4
}

fn maps_onto_itself(surface: &Surface, samples: &[Sample], motion: &Rigid) -> bool {
    let stride = samples.len().div_ceil(4_000).max(1);
    let mut distances: Vec<f64> = samples
        .iter()
        .step_by(stride)
        .filter_map(|s| surface.closest(motion.apply(s.point), None, None))
        .map(|f| f.distance.abs())
        .collect();
    distances.sort_by(f64::total_cmp);
    // The pose is coarse still; a feature in the wrong place is farther off than that.
    distances
        .get(distances.len() * 99 / 100)
        .is_some_and(|&d| d < 0.2)
}

/// How far two poses put the edge of the part apart, in radii.
fn apart(surface: &Surface, a: &Rigid, b: &Rigid) -> f64 {
    let between = a.after(&b.inverse());
    between.angle() + length(between.translation) / surface.radius().max(1e-9)
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        f64::INFINITY
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}
