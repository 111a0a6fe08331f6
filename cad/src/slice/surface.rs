//! What a scanner sees of a deposit: points on its outer surface, in a frame of the scanner's own.

use rayon::prelude::*;

use crate::inspect::scan::Scan;
use crate::mesh::{dot, length, sub};
use crate::slice::deposit::{Deposit, SEAM_UM, Slab};
use crate::slice::rng::Rng;
use crate::slice::runs::Runs;

/// Openings narrower than twice this are too narrow to look into, µm.
const PROBE_UM: i16 = 300;
/// How far from the open a surface may lie, mm: the probe and the cells' diagonal.
const VISIBLE_MM: f64 = 0.6;
/// Normals are taken from the material within this distance, mm.
const NORMAL_RADIUS_MM: f64 = 0.8;
/// The part lies in the scanner turned by up to this from where it was printed, degrees.
const MOST_TURN_DEG: f64 = 8.0;
/// And moved by up to this, mm.
const MOST_SHIFT_MM: f64 = 4.0;

/// Bins while thinning.
const MOST_BINS: f64 = 4e6;

/// A point of the surface and the face of the cell it lies on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SurfacePoint {
    pub(crate) at: [f64; 3],
    pub(crate) face: [f64; 3],
}

/// A rigid motion: `x ↦ rotation * (x - centre) + centre + shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScannerPose {
    /// Rotation matrix, rows first.
    pub rotation: [[f64; 3]; 3],
    /// What it turns about, mm.
    pub centre: [f64; 3],
    /// What it moves by, mm.
    pub shift: [f64; 3],
}

impl ScannerPose {
    /// A direction, turned.
    #[must_use]
    pub fn turn(&self, v: [f64; 3]) -> [f64; 3] {
        self.rotation.map(|row| dot(row, v))
    }

    /// A point, moved.
    #[must_use]
    pub fn apply(&self, p: [f64; 3]) -> [f64; 3] {
        let turned = self.turn(sub(p, self.centre));
        [0, 1, 2].map(|i| turned[i] + self.centre[i] + self.shift[i])
    }
}

impl Deposit {
    /// Scans the part: points about `spacing_mm` apart on every surface that can be seen from
    /// outside, each coordinate with normal noise of `noise_sigma_mm`, in the frame of
    /// [`Deposit::scanner_pose`].
    #[must_use]
    pub fn surface_points(&self, seed: u64, spacing_mm: f64, noise_sigma_mm: f64) -> Scan {
        let all = self.visible_surface(seed);
        let chosen = thin(&all, spacing_mm, seed);
        let pose = self.scanner_pose(seed);
        let normals: Vec<[f64; 3]> = chosen
            .par_iter()
            .map(|p| pose.turn(self.normal_at(p, NORMAL_RADIUS_MM)))
            .collect();
        let mut rng = Rng::new(seed, 3);
        let points = chosen
            .iter()
            .map(|p| pose.apply(p.at).map(|x| x + noise_sigma_mm * rng.normal()))
            .collect();
        Scan {
            points,
            normals: Some(normals),
            sigma_mm: noise_sigma_mm,
        }
    }

    /// How the part lies in the scanner: somewhat turned and moved, as whoever put it there left it.
    #[must_use]
    pub fn scanner_pose(&self, seed: u64) -> ScannerPose {
        let mut rng = Rng::new(seed, 1);
        let angle = rng.between(0.25, 1.0) * MOST_TURN_DEG.to_radians();
        let [x, y, z] = rng.direction();
        let (sin, cos) = angle.sin_cos();
        let rest = 1.0 - cos;
        let rotation = [
            [
                cos + x * x * rest,
                x * y * rest - z * sin,
                x * z * rest + y * sin,
            ],
            [
                y * x * rest + z * sin,
                cos + y * y * rest,
                y * z * rest - x * sin,
            ],
            [
                z * x * rest - y * sin,
                z * y * rest + x * sin,
                cos + z * z * rest,
            ],
        ];
        let far = rng.between(0.25, 1.0) * MOST_SHIFT_MM;
        let shift = rng.direction().map(|v| v * far);
        ScannerPose {
            rotation,
            centre: self.middle(),
            shift,
        }
    }

    /// Every place where the surface seen from outside crosses between two cells, scattered
    /// within the cells' faces.
    pub(crate) fn visible_surface(&self, seed: u64) -> Vec<SurfacePoint> {
        let seen = self.seen();
        (0..self.size.z)
            .into_par_iter()
            .flat_map_iter(|slab| self.surface_of_slab(slab, &seen, seed))
            .collect()
    }

    /// Outward direction at a surface point, from the material around it.
    pub(crate) fn normal_at(&self, point: &SurfacePoint, radius: f64) -> [f64; 3] {
        let cell = |axis: usize, off: f64, cells: usize| {
            let i = (point.at[axis] + off - self.origin[axis]) / self.voxel_mm;
            (i.max(0.0) as usize).min(cells)
        };
        let xs = cell(0, -radius, self.size.x)..cell(0, radius, self.size.x);
        let ys = cell(1, -radius, self.size.y)..cell(1, radius, self.size.y);
        let low = self.slabs.partition_point(|s| s.top < point.at[2] - radius);
        let high = self
            .slabs
            .partition_point(|s| s.bottom < point.at[2] + radius);
        let mut sum = [0.0; 3];
        for slab in low..high {
            // Slabs are cut off at the ball: on one side only there would be a bias.
            let Slab { bottom, top } = self.slabs[slab];
            let (bottom, top) = (
                bottom.max(point.at[2] - radius),
                top.min(point.at[2] + radius),
            );
            for y in ys.clone() {
                for x in xs.clone() {
                    if !self.is_solid(slab, y * self.size.x + x) {
                        continue;
                    }
                    let [px, py, _] = self.centre(x, y, slab);
                    let d = sub([px, py, (bottom + top) / 2.0], point.at);
                    if dot(d, d) < radius * radius {
                        (0..3).for_each(|axis| sum[axis] -= d[axis] * (top - bottom));
                    }
                }
            }
        }
        let size = length(sum);
        if size > 0.0 {
            sum.map(|v| v / size)
        } else {
            point.face
        }
    }

    /// Empty cells within reach of the open: connected to outside through openings the probe
    /// passes, or a short way from there on the level. Pits between beads of a flat skin are
    /// thinner than the probe and only open upwards, so they stay dark, as they do for a scanner.
    fn seen(&self) -> Vec<Vec<bool>> {
        let size = self.size;
        let mut seen = vec![vec![false; size.x * size.y]; size.z];
        let open = Runs::of(size, |slab, cell| self.field[slab][cell] > PROBE_UM);
        let Some(outside) = open.first() else {
            return seen;
        };
        for (slab, row, run) in open.all().filter(|(.., run)| run.piece == outside) {
            seen[slab][row * size.x..][run.from..run.to].fill(true);
        }
        let steps = (VISIBLE_MM / self.voxel_mm).ceil() as usize;
        let mut edge: Vec<(usize, usize)> = Vec::new();
        for slab in 0..size.z {
            for cell in 0..size.x * size.y {
                if seen[slab][cell] {
                    self.for_neighbours(slab, cell, |s, c| {
                        if s == slab && !seen[s][c] && self.field[s][c] > SEAM_UM {
                            edge.push((s, c));
                        }
                    });
                }
            }
        }
        for _ in 0..steps {
            let mut next = Vec::new();
            for (slab, cell) in edge {
                if std::mem::replace(&mut seen[slab][cell], true) {
                    continue;
                }
                self.for_neighbours(slab, cell, |s, c| {
                    if s == slab && !seen[s][c] && self.field[s][c] > SEAM_UM {
                        next.push((s, c));
                    }
                });
            }
            edge = next;
        }
        seen
    }

    fn for_neighbours(&self, slab: usize, cell: usize, mut visit: impl FnMut(usize, usize)) {
        let width = self.size.x;
        let x = cell % width;
        if x > 0 {
            visit(slab, cell - 1);
        }
        if x + 1 < width {
            visit(slab, cell + 1);
        }
        if cell >= width {
            visit(slab, cell - width);
        }
        if cell + width < width * self.size.y {
            visit(slab, cell + width);
        }
        if slab > 0 {
            visit(slab - 1, cell);
        }
        if slab + 1 < self.size.z {
            visit(slab + 1, cell);
        }
    }

    fn surface_of_slab(&self, slab: usize, seen: &[Vec<bool>], seed: u64) -> Vec<SurfacePoint> {
        let width = self.size.x;
        let mut rng = Rng::new(seed, 0x5_0000 + slab as u64);
        let mut points = Vec::new();
        let Slab { bottom, top } = self.slabs[slab];
        // Level faces narrower than the scatter below are edges, not faces.
        let inset = (0.36 * self.voxel_mm * 1e3) as i16;
        for (cell, &um) in self.field[slab].iter().enumerate() {
            if um > SEAM_UM {
                continue;
            }
            let centre = self.centre(cell % width, cell / width, slab);
            self.for_neighbours(slab, cell, |s, c| {
                if !seen[s][c] {
                    return;
                }
                let outside = self.field[s][c];
                let mut at = centre;
                let mut face = [0.0; 3];
                if s == slab {
                    // Where the distance is zero on the way from this cell to the other.
                    let (inner, outer) = (f64::from(um.min(-1)), f64::from(outside.max(1)));
                    let way = self.voxel_mm * inner / (inner - outer);
                    let axis = usize::from(c.abs_diff(cell) != 1);
                    face[axis] = if c > cell { 1.0 } else { -1.0 };
                    at[axis] += face[axis] * way;
                    at[2] = rng.between(bottom, top);
                } else {
                    if um > -inset || outside < inset {
                        return;
                    }
                    face[2] = if s > slab { 1.0 } else { -1.0 };
                    at[2] = if s > slab { top } else { bottom };
                    at[0] += self.voxel_mm * rng.between(-0.25, 0.25);
                    at[1] += self.voxel_mm * rng.between(-0.25, 0.25);
                }
                points.push(SurfacePoint { at, face });
            });
        }
        points
    }

    /// The middle of the box around the part.
    fn middle(&self) -> [f64; 3] {
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for slab in 0..self.size.z {
            for row in 0..self.size.y {
                let cells = &self.field[slab][row * self.size.x..][..self.size.x];
                let Some(first) = cells.iter().position(|&um| um <= SEAM_UM) else {
                    continue;
                };
                let last = cells.iter().rposition(|&um| um <= SEAM_UM).unwrap_or(first);
                for p in [self.centre(first, row, slab), self.centre(last, row, slab)] {
                    for axis in 0..3 {
                        low[axis] = low[axis].min(p[axis]);
                        high[axis] = high[axis].max(p[axis]);
                    }
                }
            }
        }
        [0, 1, 2].map(|axis| {
            if low[axis] <= high[axis] {
                (low[axis] + high[axis]) / 2.0
            } else {
                0.0
            }
        })
    }
}

/// Leaves no two points closer than `spacing`, taking them in a seeded random order.
pub(crate) fn thin(points: &[SurfacePoint], spacing: f64, seed: u64) -> Vec<SurfacePoint> {
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    let mut rng = Rng::new(seed, 2);
    for i in (1..order.len()).rev() {
        order.swap(i, rng.below(i + 1));
    }
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for p in points {
        for axis in 0..3 {
            low[axis] = low[axis].min(p.at[axis]);
            high[axis] = high[axis].max(p.at[axis]);
        }
    }
    // Bins at least one spacing wide, so that close points are in neighbouring ones; not too many.
    let spacing = spacing.max(1e-3);
    let room: f64 = (0..3)
        .map(|axis| (high[axis] - low[axis]).max(spacing))
        .product();
    let pitch = spacing.max((room / MOST_BINS).cbrt());
    let bin = |p: [f64; 3]| [0, 1, 2].map(|axis| 1 + ((p[axis] - low[axis]) / pitch) as usize);
    let [nx, ny, nz] = if points.is_empty() {
        [1; 3]
    } else {
        bin(high).map(|n| n + 2)
    };
    // For each bin the last point taken there, for each point the one before it.
    let mut last = vec![u32::MAX; nx * ny * nz];
    let mut before = vec![u32::MAX; points.len()];
    let mut chosen = Vec::new();
    for i in order {
        let p = points[i as usize].at;
        let [x, y, z] = bin(p);
        let close = (0..27).any(|k| {
            let near = ((z + k / 9 - 1) * ny + y + k / 3 % 3 - 1) * nx + x + k % 3 - 1;
            let mut other = last[near];
            while other != u32::MAX {
                if length(sub(points[other as usize].at, p)) < spacing {
                    return true;
                }
                other = before[other as usize];
            }
            false
        });
        if !close {
            let here = &mut last[(z * ny + y) * nx + x];
            before[i as usize] = std::mem::replace(here, i);
            chosen.push(points[i as usize]);
        }
    }
    chosen
}
