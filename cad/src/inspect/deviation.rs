//! The deviation field: the signed distances of the scan, averaged over patches of the mesh's surface.
//!
//! Patches live on the mesh, so both directions are covered: a patch without points was not seen, and points
//! inside the part give the patch above them a negative value.

use nalgebra::Matrix6;
use rayon::prelude::*;

use crate::inspect::plan::VerificationPlan;
use crate::inspect::pose::{Rigid, add, scaled};
use crate::inspect::scan::{Ordered, extent};
use crate::inspect::surface::{Foot, Sample, Surface};
use crate::inspect::uncertainty::{expanded, pose_variance};
use crate::inspect::verdict::{Deviation, Region, Sign, rounded};
use crate::mesh::{dot, sub};

/// Patches beyond this many cost time and show nothing more.
const MAX_PATCHES: f64 = 150_000.0;
/// Fewest points that make a patch seen.
const MIN_POINTS: usize = 3;
/// A patch with fewer points is widened, up to twice its radius.
const GOOD_POINTS: usize = 10;

/// How a patch stands against the tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Band {
    /// Within, uncertainty included.
    In,
    /// Neither within nor outside for certain.
    Doubt,
    /// Outside, uncertainty included.
    Out,
    /// Too few points.
    Unseen,
    /// Not judged, by plan.
    Excluded,
}

/// A small piece of the surface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patch {
    /// Its middle, re-centred.
    pub(crate) sample: Sample,
    /// Robust mean of the signed distances, mm.
    pub(crate) mean: f64,
    /// Points in it.
    pub(crate) count: usize,
    /// Expanded uncertainty of the mean, mm.
    pub(crate) uncertainty: f64,
    /// How it stands.
    pub(crate) band: Band,
}

/// All patches of one inspection.
pub(crate) struct Patches {
    pub(crate) patches: Vec<Patch>,
    /// Distance between neighbours, mm.
    pub(crate) spacing: f64,
    /// Area each stands for, mm².
    pub(crate) area: f64,
}

/// Distance between patches that suits a plan and a surface, mm.
pub(crate) fn spacing(plan: &VerificationPlan, area_mm2: f64) -> f64 {
    (0.64 * plan.patch_radius_mm).max((area_mm2 / MAX_PATCHES).sqrt())
}

/// Signed distances of the whole scan, in its order.
pub(crate) fn feet(surface: &Surface, scan: &Ordered, pose: &Rigid) -> Vec<Foot> {
    (0..scan.points.len())
        .into_par_iter()
        .with_min_len(512)
        .filter_map(|i| {
            let p = pose.apply(scan.points[i]);
            let facing = scan.normals.as_ref().map(|n| pose.turn(n[i]));
            surface
                .closest(p, facing, None)
                .or_else(|| surface.closest(p, None, None))
        })
        .collect()
}

/// Averages the distances over patches and judges each against the tolerance.
pub(crate) fn patches(
    surface: &Surface,
    samples: &[Sample],
    feet: &[Foot],
    plan: &VerificationPlan,
    sigma: f64,
    covariance: &Matrix6<f64>,
) -> Patches {
    let radius = plan.patch_radius_mm;
    let spacing = spacing(plan, surface.area_mm2);
    let radius = radius.max(spacing);
    let places: Vec<[f64; 3]> = feet.iter().map(|f| f.point).collect();
    let grid = Grid::new(&places, radius);
    let patches = samples
        .par_iter()
        .with_min_len(256)
        .map_init(Vec::new, |values, sample| {
            let mut reach = radius;
            gather(&grid, feet, sample, reach, values);
            if values.len() < GOOD_POINTS {
                reach = 2.0 * radius;
                let narrow = values.len();
                gather(&grid, feet, sample, reach, values);
                // What is seen only from afar is not seen.
                if narrow == 0 {
                    values.clear();
                }
            }
            let count = values.len();
            let (mean, sd) = robust_mean(values, sigma);
            let uncertainty = expanded(
                sd.max(sigma.min(0.05)),
                count,
                reach,
                pose_variance(covariance, sample.point, sample.normal),
                plan.calibration_mm,
            );
            let band = if plan.excludes(add(sample.point, surface.centre)) {
                Band::Excluded
            } else if count < MIN_POINTS {
                Band::Unseen
            } else if mean.abs() + uncertainty <= plan.tolerance_mm {
                Band::In
            } else if mean.abs() - uncertainty > plan.tolerance_mm {
                Band::Out
            } else {
                Band::Doubt
            };
            Patch {
                sample: *sample,
                mean,
                count,
                uncertainty,
                band,
            }
        })
        .collect();
    Patches {
        patches,
        spacing,
        area: surface.area_mm2 / samples.len().max(1) as f64,
    }
}

/// Connected regions that are outside or in doubt and large enough to count, largest first.
pub(crate) fn regions(
    surface: &Surface,
    field: &Patches,
    feet: &[Foot],
    plan: &VerificationPlan,
) -> Vec<Region> {
    let suspects: Vec<&Patch> = field
        .patches
        .iter()
        .filter(|p| matches!(p.band, Band::Out | Band::Doubt))
        .collect();
    let places: Vec<[f64; 3]> = suspects.iter().map(|p| p.sample.point).collect();
    let reach = 1.7 * field.spacing;
    let grid = Grid::new(&places, reach);
    let foot_places: Vec<[f64; 3]> = feet.iter().map(|f| f.point).collect();
    let foot_grid = if suspects.is_empty() {
        None
    } else {
        Some(Grid::new(&foot_places, field.spacing))
    };
    let mut counted = vec![false; feet.len()];
    let mut visited = vec![false; suspects.len()];
    let mut regions = Vec::new();
    for first in 0..suspects.len() {
        if visited[first] {
            continue;
        }
        visited[first] = true;
        let excess = suspects[first].mean > 0.0;
        let mut members = vec![first];
        let mut at = 0;
        while let Some(&member) = members.get(at) {
            at += 1;
            grid.within(places[member], reach, |next| {
                if !visited[next] && (suspects[next].mean > 0.0) == excess {
                    visited[next] = true;
                    members.push(next);
                }
            });
        }
        let mut count = 0;
        if let Some(foot_grid) = &foot_grid {
            for &member in &members {
                foot_grid.within(places[member], field.spacing, |i| {
                    let d = feet[i].distance;
                    if !counted[i] && (d > 0.0) == excess && d.abs() > 0.5 * plan.tolerance_mm {
                        counted[i] = true;
                        count += 1;
                    }
                });
            }
        }
        let area = members.len() as f64 * field.area;
        if area < plan.min_region_area_mm2 || count < plan.min_region_points {
            continue;
        }
        let out = members
            .iter()
            .filter(|&&m| suspects[m].band == Band::Out)
            .count();
        let sum = members.iter().fold([0.0; 3], |sum, &m| add(sum, places[m]));
        let centroid = add(scaled(sum, 1.0 / members.len() as f64), surface.centre);
        let peak = members
            .iter()
            .map(|&m| suspects[m].mean)
            .fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
        regions.push(Region {
            centroid: centroid.map(rounded),
            area_mm2: rounded(area),
            out_area_mm2: rounded(out as f64 * field.area),
            peak_mm: rounded(peak),
            sign: if excess { Sign::Excess } else { Sign::Missing },
            count,
            machinable: members
                .iter()
                .all(|&m| plan.allows_machining(add(places[m], surface.centre))),
        });
    }
    regions.sort_by(|a, b| {
        b.out_area_mm2
            .total_cmp(&a.out_area_mm2)
            .then_with(|| b.area_mm2.total_cmp(&a.area_mm2))
    });
    regions
}

/// Mean, spread and extremes of the seen patches.
pub(crate) fn statistics<'a>(patches: impl Iterator<Item = &'a Patch>) -> Deviation {
    let mut values: Vec<f64> = patches.map(|p| p.mean).collect();
    if values.is_empty() {
        return Deviation::default();
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    values.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    Deviation {
        mean: rounded(mean),
        sd: rounded(variance.sqrt()),
        p95: rounded(values[(values.len() * 95 / 100).min(values.len() - 1)].abs()),
        peak: rounded(values[values.len() - 1]),
    }
}

/// Height (along `build`) and displacement of a step between two stacks of layers, if there is one.
///
/// The sideways displacement of each slab follows from its side faces; a shift is a step of these
/// displacements with steady values below and above it.
pub(crate) fn layer_shift(feet: &[Foot], build: [f64; 3], tolerance_mm: f64) -> Option<(f64, f64)> {
    let seed = if build[0].abs() < 0.9 {
        [1.0, 0.0, 0.0]
    } else {
        [0.0, 1.0, 0.0]
    };
    let u = crate::inspect::pose::unit(crate::mesh::cross(build, seed));
    let v = crate::mesh::cross(build, u);
    let sides: Vec<(f64, &Foot)> = feet
        .iter()
        .filter(|f| dot(f.face_normal, build).abs() < 0.3 && f.distance.abs() < 4.0)
        .map(|f| (dot(f.point, build), f))
        .collect();
    let low = sides.iter().map(|s| s.0).fold(f64::INFINITY, f64::min);
    let high = sides.iter().map(|s| s.0).fold(f64::NEG_INFINITY, f64::max);
    if !(high - low).is_finite() || high - low < 2.0 {
        return None;
    }
    let count = (((high - low) / 0.8) as usize).clamp(4, 60);
    // Sums of uu, uv, vv, du, dv and the number, per slab.
    let mut sums = vec![[0.0_f64; 6]; count];
    for (height, foot) in &sides {
        let slab = (((height - low) / (high - low) * count as f64) as usize).min(count - 1);
        let (a, b) = (dot(foot.face_normal, u), dot(foot.face_normal, v));
        let d = foot.distance;
        for (sum, x) in sums[slab]
            .iter_mut()
            .zip([a * a, a * b, b * b, a * d, b * d, 1.0])
        {
            *sum += x;
        }
    }
    let offsets: Vec<(usize, [f64; 2])> = sums
        .iter()
        .enumerate()
        .filter_map(|(k, s)| {
            let determinant = s[0] * s[2] - s[1] * s[1];
            let trace = s[0] + s[2];
            (s[5] >= 20.0 && determinant > 0.01 * trace * trace).then(|| {
                (
                    k,
                    [
                        (s[2] * s[3] - s[1] * s[4]) / determinant,
                        (s[0] * s[4] - s[1] * s[3]) / determinant,
                    ],
                )
            })
        })
        .collect();
    let spread = |part: &[(usize, [f64; 2])]| -> ([f64; 2], f64) {
        let n = part.len() as f64;
        let mean = [0, 1].map(|k| part.iter().map(|p| p.1[k]).sum::<f64>() / n);
        (
            mean,
            part.iter()
                .map(|p| (p.1[0] - mean[0]).powi(2) + (p.1[1] - mean[1]).powi(2))
                .sum(),
        )
    };
    let mut best: Option<(f64, usize, f64)> = None;
    for cut in 2..offsets.len().saturating_sub(1) {
        let (below, error_below) = spread(&offsets[..cut]);
        let (above, error_above) = spread(&offsets[cut..]);
        let step = (above[0] - below[0]).hypot(above[1] - below[1]);
        let error = error_below + error_above;
        if best.is_none_or(|b| error < b.0) {
            best = Some((error, cut, step));
        }
    }
    let (error, cut, step) = best?;
    let scatter = (error / offsets.len() as f64).sqrt();
    let height = low + (high - low) * offsets[cut].0 as f64 / count as f64;
    (step > tolerance_mm && scatter < 0.35 * step).then_some((height, step))
}

/// The distances of the points whose foot is in a patch and on its side of the part.
fn gather(grid: &Grid<'_>, feet: &[Foot], sample: &Sample, reach: f64, values: &mut Vec<f64>) {
    values.clear();
    grid.within(sample.point, reach, |i| {
        let foot = &feet[i];
        if dot(foot.normal, sample.normal) > 0.5 {
            values.push(foot.distance);
        }
    });
}

/// Mean and standard deviation without the values far from the median.
fn robust_mean(values: &mut [f64], sigma: f64) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    values.sort_unstable_by(f64::total_cmp);
    let median = 0.5 * (values[(values.len() - 1) / 2] + values[values.len() / 2]);
    let mut off: Vec<f64> = values.iter().map(|x| x - median).collect();
    let cut = 3.0 * super::register::robust_sigma(&mut off).max(sigma).max(1e-9);
    let kept = values.iter().filter(|x| (*x - median).abs() <= cut);
    let n = kept.clone().count().max(1) as f64;
    let mean = kept.clone().sum::<f64>() / n;
    let variance = kept.map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, variance.sqrt())
}

/// Places sorted into cubes, to find those near one.
pub(crate) struct Grid<'a> {
    places: &'a [[f64; 3]],
    low: [f64; 3],
    cell: f64,
    size: [usize; 3],
    starts: Vec<u32>,
    order: Vec<u32>,
}

impl<'a> Grid<'a> {
    /// Sorts the places into cubes about `cell` wide, fewer than four million of them.
    pub(crate) fn new(places: &'a [[f64; 3]], cell: f64) -> Self {
        let (low, high) = extent(places);
        let span = sub(high, low);
        let mut cell = cell;
        let size_at = |cell: f64| [0, 1, 2].map(|k| (span[k] / cell) as usize + 1);
        while size_at(cell).iter().map(|&n| n as f64).product::<f64>() > 4e6 {
            cell *= 1.5;
        }
        let size = size_at(cell);
        let mut grid = Self {
            places,
            low,
            cell,
            size,
            starts: vec![0; size.iter().product::<usize>() + 1],
            order: Vec::new(),
        };
        for &p in places {
            let at = grid.index(p);
            grid.starts[at + 1] += 1;
        }
        for k in 1..grid.starts.len() {
            grid.starts[k] += grid.starts[k - 1];
        }
        let mut next = grid.starts.clone();
        grid.order = vec![0; places.len()];
        for (i, &p) in places.iter().enumerate() {
            let at = grid.index(p);
            grid.order[next[at] as usize] = i as u32;
            next[at] += 1;
        }
        grid
    }

    /// Calls `visit` with the index of every place within `reach` of `p`, in an order that depends on the places alone.
    pub(crate) fn within(&self, p: [f64; 3], reach: f64, mut visit: impl FnMut(usize)) {
        if self.places.is_empty() {
            return;
        }
        let bound = |k: usize, x: f64| {
            ((x - self.low[k]) / self.cell).clamp(0.0, (self.size[k] - 1) as f64) as usize
        };
        let low = [0, 1, 2].map(|k| bound(k, p[k] - reach));
        let high = [0, 1, 2].map(|k| bound(k, p[k] + reach));
        for z in low[2]..=high[2] {
            for y in low[1]..=high[1] {
                let row = (z * self.size[1] + y) * self.size[0];
                let range =
                    self.starts[row + low[0]] as usize..self.starts[row + high[0] + 1] as usize;
                for &i in &self.order[range] {
                    let d = sub(self.places[i as usize], p);
                    if dot(d, d) <= reach * reach {
                        visit(i as usize);
                    }
                }
            }
        }
    }

    fn index(&self, p: [f64; 3]) -> usize {
        let at =
            [0, 1, 2].map(|k| (((p[k] - self.low[k]) / self.cell) as usize).min(self.size[k] - 1));
        (at[2] * self.size[1] + at[1]) * self.size[0] + at[0]
    }
}
