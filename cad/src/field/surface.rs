//! Voxels back to a closed, smooth mesh: surface nets on a cell set made manifold first.
//!
//! The cells are classified as inside or outside, then repaired until no two inside cells meet in
//! an edge or a corner only (a *well-composed* set; Latecki 1997 shows that exactly then the
//! boundary is a 2-manifold). Every corner with both kinds around it gets one vertex, placed at the
//! mean of the zero crossings around it and never leaving its own cell of the dual grid; hence no
//! two vertices meet, the mesh is closed and manifold by construction.

use super::{Voxels, components};
use crate::families::{DesignSpace, Interface, InterfaceKind};
use crate::mesh::{Mesh, cross, dot, length, sub};

/// A vertex may move this share of a cell from its corner, so that neighbours stay apart.
const REACH: f64 = 0.48;

/// Why no surface could be made.
#[derive(Debug, thiserror::Error)]
pub enum SurfaceError {
    /// No cell is inside.
    #[error("the density field has no material above the threshold")]
    Empty,
}

/// Extracts the part from optimised densities: smoothed, merged with the frozen shapes, holes cut,
/// interfaces put exactly on their plane or cylinder, islands dropped and cavities filled.
///
/// The threshold is chosen so that the free material keeps its volume under smoothing.
///
/// # Errors
/// If there is no material at all.
pub fn part_surface(density: &Voxels, space: &DesignSpace) -> Result<Mesh, SurfaceError> {
    let fine = refine(density, space);
    let mut net = Net::new(&fine)?;
    net.relax(space);
    Ok(net.into_mesh())
}

/// Extracts the zero level of a field of signed values (positive inside) given per cell.
///
/// Islands are dropped and cavities filled, so the mesh is one closed shell.
///
/// # Errors
/// If no value is positive.
pub fn surface(field: &Voxels) -> Result<Mesh, SurfaceError> {
    Ok(Net::new(field)?.into_mesh())
}

/// Signed field on cells of half the size, padded by two empty cells on every side.
fn refine(density: &Voxels, space: &DesignSpace) -> Voxels {
    let h = density.voxel_mm / 2.0;
    let pad = 2;
    let counts = density.counts.map(|n| 2 * n + 2 * pad);
    let origin = density.origin.map(|x| x - pad as f64 * h);
    let mut fine = Voxels::uniform(counts, origin, h, 0.0);
    for n in 0..fine.fill.len() {
        fine.fill[n] = sample(density, fine.centre(n));
    }
    let target: f64 = fine.fill.iter().filter(|&&d| d > 0.5).count() as f64;
    for _ in 0..2 {
        fine = blur(&fine);
    }
    let iso = level_with_count(&fine.fill, target);
    let limit = density.voxel_mm;
    for n in 0..fine.fill.len() {
        let p = fine.centre(n);
        let mut value = ((fine.fill[n] - iso) * 2.0 * limit).clamp(-limit, limit);
        for shape in &space.solids {
            value = value.max(shape.depth(p).min(limit));
        }
        for shape in &space.voids {
            value = value.min((-shape.depth(p)).max(-limit));
        }
        fine.fill[n] = value.min(space.envelope_depth(p).max(-limit));
    }
    fine
}

/// Trilinear interpolation between voxel centres, constant beyond the outermost.
fn sample(voxels: &Voxels, p: [f64; 3]) -> f64 {
    let mut low = [0; 3];
    let mut high = [0; 3];
    let mut share = [0.0; 3];
    for (a, &p) in p.iter().enumerate() {
        let last = (voxels.counts[a] - 1) as f64;
        let x = ((p - voxels.origin[a]) / voxels.voxel_mm - 0.5).clamp(0.0, last);
        low[a] = x.floor() as usize;
        high[a] = (low[a] + 1).min(voxels.counts[a] - 1);
        share[a] = x - x.floor();
    }
    let mut sum = 0.0;
    for corner in 0..8usize {
        let mut weight = 1.0;
        let cell = [0, 1, 2].map(|a| {
            if corner >> a & 1 == 1 {
                weight *= share[a];
                high[a]
            } else {
                weight *= 1.0 - share[a];
                low[a]
            }
        });
        sum += weight * voxels.fill[voxels.index(cell[0], cell[1], cell[2])];
    }
    sum
}

/// One binomial (1 2 1) pass along each axis.
fn blur(voxels: &Voxels) -> Voxels {
    let mut out = voxels.clone();
    let [nx, ny, _] = voxels.counts;
    for (axis, stride) in [1, nx, nx * ny].into_iter().enumerate() {
        let from = out.fill.clone();
        for n in 0..from.len() {
            let at = out.cell(n)[axis];
            let before = if at > 0 { from[n - stride] } else { from[n] };
            let after = if at + 1 < out.counts[axis] {
                from[n + stride]
            } else {
                from[n]
            };
            out.fill[n] = 0.25 * before + 0.5 * from[n] + 0.25 * after;
        }
    }
    out
}

/// The level that `count` values exceed, kept between 0.3 and 0.7.
fn level_with_count(values: &[f64], count: f64) -> f64 {
    let (mut low, mut high) = (0.3, 0.7);
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        if values.iter().filter(|&&v| v > middle).count() as f64 > count {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// A surface net: vertices on the dual grid, quads between them.
struct Net {
    h: f64,
    /// Lattice corner of each vertex.
    corners: Vec<[usize; 3]>,
    origin: [f64; 3],
    vertices: Vec<[f64; 3]>,
    triangles: Vec<[u32; 3]>,
}

impl Net {
    fn new(field: &Voxels) -> Result<Self, SurfaceError> {
        let mut field = padded(field);
        one_solid_piece(&mut field)?;
        make_well_composed(&mut field);
        let [nx, ny, nz] = field.counts;
        let inside = |i: usize, j: usize, k: usize| field.fill[field.index(i, j, k)] > 0.0;
        let mut net = Self {
            h: field.voxel_mm,
            corners: Vec::new(),
            origin: field.origin,
            vertices: Vec::new(),
            triangles: Vec::new(),
        };
        // Lattice corner (i, j, k) touches cells i-1..=i, j-1..=j, k-1..=k.
        let mut id = vec![u32::MAX; (nx + 1) * (ny + 1) * (nz + 1)];
        let slot = |c: [usize; 3]| (c[2] * (ny + 1) + c[1]) * (nx + 1) + c[0];
        for k in 1..nz {
            for j in 1..ny {
                for i in 1..nx {
                    let mixed = (1..8usize).any(|n| {
                        inside(i - (n & 1), j - (n >> 1 & 1), k - (n >> 2)) != inside(i, j, k)
                    });
                    if mixed {
                        id[slot([i, j, k])] = net.vertices.len() as u32;
                        net.corners.push([i, j, k]);
                        net.vertices.push(crossing_mean(&field, [i, j, k]));
                    }
                }
            }
        }
        for k in 1..nz {
            for j in 1..ny {
                for i in 1..nx {
                    let here = inside(i, j, k);
                    for axis in 0..3 {
                        let mut below = [i, j, k];
                        below[axis] -= 1;
                        if inside(below[0], below[1], below[2]) == here {
                            continue;
                        }
                        // The face between the two cells, corners counter-clockwise about +axis.
                        let (b, c) = ((axis + 1) % 3, (axis + 2) % 3);
                        let quad = [(0, 0), (1, 0), (1, 1), (0, 1)].map(|(u, v)| {
                            let mut corner = [i, j, k];
                            corner[b] += u;
                            corner[c] += v;
                            id[slot(corner)]
                        });
                        let quad = if here {
                            [quad[0], quad[3], quad[2], quad[1]]
                        } else {
                            quad
                        };
                        net.push_quad(quad);
                    }
                }
            }
        }
        Ok(net)
    }

    /// Splits along the shorter diagonal.
    fn push_quad(&mut self, [a, b, c, d]: [u32; 4]) {
        let at = |v: u32| self.vertices[v as usize];
        if length(sub(at(a), at(c))) <= length(sub(at(b), at(d))) {
            self.triangles.extend([[a, b, c], [a, c, d]]);
        } else {
            self.triangles.extend([[a, b, d], [b, c, d]]);
        }
    }

    /// Taubin smoothing within reach of each corner; interfaces and envelope faces stay exact.
    fn relax(&mut self, space: &DesignSpace) {
        let neighbours = self.neighbours();
        let holds: Vec<Hold> = self
            .vertices
            .iter()
            .map(|&p| Hold::of(p, space, self.h))
            .collect();
        for pass in 0..16 {
            let factor = if pass % 2 == 0 { 0.5 } else { -0.52 };
            let before = self.vertices.clone();
            for v in 0..before.len() {
                let mean = self.mean_of(&before, &neighbours[v]);
                self.vertices[v] =
                    self.within_reach(v, |a| before[v][a] + factor * (mean[a] - before[v][a]));
                holds[v].apply(&mut self.vertices[v], space);
            }
        }
        self.release_folded(&holds, &neighbours);
    }

    /// A snap onto a cylinder can fold a triangle over; such vertices go back to the net.
    fn release_folded(&mut self, holds: &[Hold], neighbours: &[Vec<u32>]) {
        for _ in 0..4 {
            let mut folded = vec![false; self.vertices.len()];
            let mut any = false;
            for t in &self.triangles {
                let [a, b, c] = t.map(|v| self.vertices[v as usize]);
                let n = cross(sub(b, a), sub(c, a));
                if length(n) < 1e-6 * self.h * self.h {
                    for &v in t {
                        folded[v as usize] |= holds[v as usize].bore.is_some();
                        any |= folded[v as usize];
                    }
                }
            }
            if !any {
                return;
            }
            for v in 0..folded.len() {
                if folded[v] {
                    let mean = self.mean_of(&self.vertices, &neighbours[v]);
                    let here = self.vertices[v];
                    self.vertices[v] = self.within_reach(v, |a| 0.5 * (mean[a] + here[a]));
                }
            }
        }
    }

    fn mean_of(&self, vertices: &[[f64; 3]], of: &[u32]) -> [f64; 3] {
        [0, 1, 2]
            .map(|a| of.iter().map(|&n| vertices[n as usize][a]).sum::<f64>() / of.len() as f64)
    }

    /// A position for vertex `v`, kept in its cell of the dual grid.
    fn within_reach(&self, v: usize, wanted: impl Fn(usize) -> f64) -> [f64; 3] {
        let reach = REACH * self.h;
        [0, 1, 2].map(|a| {
            let corner = self.origin[a] + self.corners[v][a] as f64 * self.h;
            wanted(a).clamp(corner - reach, corner + reach)
        })
    }

    fn neighbours(&self) -> Vec<Vec<u32>> {
        let mut out = vec![Vec::new(); self.vertices.len()];
        for &[a, b, c] in &self.triangles {
            for (v, w) in [(a, b), (b, c), (c, a)] {
                // Each edge is met once in either direction; collect it once per vertex.
                out[v as usize].push(w);
            }
        }
        out
    }

    /// Rounds to f32, as STL will, so that the mesh in memory is the mesh in the file.
    fn into_mesh(self) -> Mesh {
        let vertices = self
            .vertices
            .iter()
            .map(|v| v.map(|x| f64::from(x as f32)))
            .collect();
        Mesh {
            vertices,
            triangles: self.triangles,
        }
    }
}

/// What keeps a vertex from moving freely: planes by axis, and at most one bore.
#[derive(Default, Clone, Copy)]
struct Hold {
    plane: [Option<f64>; 3],
    bore: Option<usize>,
}

impl Hold {
    fn of(p: [f64; 3], space: &DesignSpace, h: f64) -> Self {
        let mut hold = Self::default();
        for (a, &x) in p.iter().enumerate() {
            for wall in [space.envelope.min[a], space.envelope.max[a]] {
                if (x - wall).abs() < 0.51 * h {
                    hold.plane[a] = Some(wall);
                }
            }
        }
        for (n, interface) in space.interfaces.iter().enumerate() {
            let (axis, radius) = (interface.axis(), interface.radius_of(p));
            let extent = interface.extent;
            let along = (p[axis] - interface.point[axis]) * interface.normal[axis].signum();
            match interface.kind {
                InterfaceKind::Plane => {
                    let within =
                        radius > extent.inner_mm - 0.7 * h && radius < extent.outer_mm + 0.3 * h;
                    if within && along.abs() < 0.51 * h {
                        hold.plane[axis] = Some(interface.point[axis]);
                    }
                }
                InterfaceKind::Bore => {
                    let within = along > -0.6 * h && along < extent.depth_mm + 0.6 * h;
                    if within && (radius - extent.inner_mm).abs() < 0.6 * h {
                        hold.bore = Some(n);
                    }
                }
            }
        }
        hold
    }

    fn apply(&self, p: &mut [f64; 3], space: &DesignSpace) {
        for (x, plane) in p.iter_mut().zip(self.plane) {
            *x = plane.unwrap_or(*x);
        }
        if let Some(bore) = self.bore.map(|n| &space.interfaces[n]) {
            onto_cylinder(p, bore);
        }
    }
}

fn onto_cylinder(p: &mut [f64; 3], bore: &Interface) {
    let radius = bore.radius_of(*p);
    if radius > 0.0 {
        let (b, c) = ((bore.axis() + 1) % 3, (bore.axis() + 2) % 3);
        for a in [b, c] {
            p[a] = bore.point[a] + (p[a] - bore.point[a]) * bore.extent.inner_mm / radius;
        }
    }
}

/// Adds a layer of empty cells on every side, so that the surface closes inside the grid.
fn padded(field: &Voxels) -> Voxels {
    let counts = field.counts.map(|n| n + 2);
    let origin = field.origin.map(|x| x - field.voxel_mm);
    let mut out = Voxels::uniform(counts, origin, field.voxel_mm, -field.voxel_mm);
    for n in 0..field.fill.len() {
        let [i, j, k] = field.cell(n);
        let slot = out.index(i + 1, j + 1, k + 1);
        // A value that is not a number is no material.
        out.fill[slot] = if field.fill[n].is_nan() {
            -field.voxel_mm
        } else {
            field.fill[n]
        };
    }
    out
}

/// Keeps the largest inside component and fills what the outside cannot reach.
fn one_solid_piece(field: &mut Voxels) -> Result<(), SurfaceError> {
    let small = 1e-3 * field.voxel_mm;
    let inside: Vec<bool> = field.fill.iter().map(|&v| v > 0.0).collect();
    let (label, found) = components(field.counts, &inside);
    if found == 0 {
        return Err(SurfaceError::Empty);
    }
    let mut sizes = vec![0usize; found as usize + 1];
    for &l in &label {
        sizes[l as usize] += 1;
    }
    // The first of equals, so that the choice does not depend on anything else.
    let keep = (1..sizes.len())
        .rev()
        .max_by_key(|&l| sizes[l])
        .unwrap_or(1) as u32;
    for (value, &l) in field.fill.iter_mut().zip(&label) {
        if l != 0 && l != keep {
            *value = -small;
        }
    }
    let outside: Vec<bool> = field.fill.iter().map(|&v| v <= 0.0).collect();
    let (label, _) = components(field.counts, &outside);
    for (value, &l) in field.fill.iter_mut().zip(&label) {
        // Cell 0 is padding, so its component is the outside.
        if l != 0 && l != label[0] {
            *value = small;
        }
    }
    Ok(())
}

/// Fills cells until no two inside cells meet in an edge or corner only, and no two outside ones.
///
/// Filling only ever adds cells and the outermost layer never needs it, so it ends; cells that were
/// nearest to the surface are chosen.
fn make_well_composed(field: &mut Voxels) {
    let small = 1e-3 * field.voxel_mm;
    loop {
        let mut changed = false;
        let [nx, ny, nz] = field.counts;
        for k in 0..nz - 1 {
            for j in 0..ny - 1 {
                for i in 0..nx - 1 {
                    while let Some(cell) = critical(field, [i, j, k]) {
                        field.fill[cell] = small;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            return;
        }
        // Filling can close off a cavity.
        if one_solid_piece(field).is_err() {
            return;
        }
    }
}

/// The outside cell to fill in a critical 2 × 2 × 2 block, if the block is critical.
fn critical(field: &Voxels, at: [usize; 3]) -> Option<usize> {
    let cell = |n: usize| field.index(at[0] + (n & 1), at[1] + (n >> 1 & 1), at[2] + (n >> 2));
    let inside = |n: usize| field.fill[cell(n)] > 0.0;
    let nearest = |candidates: &[usize]| {
        candidates
            .iter()
            .map(|&n| cell(n))
            .max_by(|&a, &b| field.fill[a].total_cmp(&field.fill[b]).then(b.cmp(&a)))
    };
    for axis in 0..3usize {
        let (u, v) = (1 << ((axis + 1) % 3), 1 << ((axis + 2) % 3));
        for base in [0, 1 << axis] {
            let [a, b, c, d] = [base, base + u, base + u + v, base + v];
            if inside(a) == inside(c) && inside(b) == inside(d) && inside(a) != inside(b) {
                return if inside(a) {
                    nearest(&[b, d])
                } else {
                    nearest(&[a, c])
                };
            }
        }
    }
    let full: usize = (0..8).filter(|&n| inside(n)).count();
    for n in 0..4 {
        let opposite = 7 - n;
        if full == 2 && inside(n) && inside(opposite) {
            let rest: Vec<usize> = (0..8).filter(|&m| m != n && m != opposite).collect();
            return nearest(&rest);
        }
        if full == 6 && !inside(n) && !inside(opposite) {
            return nearest(&[n, opposite]);
        }
    }
    None
}

/// Mean of the zero crossings on the twelve cell-to-cell lines around a lattice corner.
fn crossing_mean(field: &Voxels, corner: [usize; 3]) -> [f64; 3] {
    let at = |n: usize| {
        let cell = [0, 1, 2].map(|a| corner[a] - 1 + (n >> a & 1));
        field.fill[field.index(cell[0], cell[1], cell[2])]
    };
    let (mut sum, mut count) = ([0.0; 3], 0.0);
    for n in 0..8usize {
        for axis in 0..3 {
            if n >> axis & 1 == 1 {
                continue;
            }
            let (low, high) = (at(n), at(n | 1 << axis));
            if (low > 0.0) == (high > 0.0) {
                continue;
            }
            let share = (low / (low - high)).clamp(0.02, 0.98);
            for (a, total) in sum.iter_mut().enumerate() {
                *total += if a == axis {
                    share
                } else {
                    (n >> a & 1) as f64
                } - 0.5;
            }
            count += 1.0;
        }
    }
    [0, 1, 2].map(|a| {
        let shift = (sum[a] / count).clamp(-REACH, REACH);
        field.origin[a] + (corner[a] as f64 + shift) * field.voxel_mm
    })
}

/// Area in mm² of faces that look down more steeply than `limit_deg` from the vertical.
///
/// `up` is the build direction; faces on the bed do not count.
#[must_use]
pub fn unsupported_area_mm2(mesh: &Mesh, up: [f64; 3], limit_deg: f64) -> f64 {
    let floor = mesh
        .vertices
        .iter()
        .map(|&v| dot(v, up))
        .fold(f64::INFINITY, f64::min);
    let steep = -limit_deg.to_radians().sin();
    let mut area = 0.0;
    for t in 0..mesh.triangles.len() {
        let [a, b, c] = mesh.corners(t);
        let on_bed = [a, b, c].iter().all(|&p| dot(p, up) < floor + 1e-3);
        if !on_bed && dot(mesh.normal(t), up) < steep {
            area += length(cross(sub(b, a), sub(c, a))) / 2.0;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rng::Rng;

    /// Closed, one piece, every vertex fan a single disc, nothing meets after rounding to f32.
    fn assert_sound(mesh: &Mesh) {
        let report = mesh.check();
        assert!(report.is_closed(), "{report:?}");
        assert_eq!(report.components, 1);
        let bits: HashSet<_> = mesh
            .vertices
            .iter()
            .map(|v| v.map(|x| (x as f32).to_bits()))
            .collect();
        assert_eq!(bits.len(), mesh.vertices.len(), "vertices meet");
        assert!(mesh.volume_mm3() > 0.0);
        let euler = mesh.vertices.len() as i64 - mesh.triangles.len() as i64 / 2;
        assert!(
            euler <= 2 && euler % 2 == 0,
            "Euler number {euler} of one closed surface"
        );
    }

    #[test]
    fn random_fields_give_one_closed_manifold() {
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let counts = [0; 3].map(|_| 3 + (rng.next_u64() % 8) as usize);
            let mut field = Voxels::uniform(counts, [0.0; 3], 1.0, 0.0);
            for value in &mut field.fill {
                *value = rng.uniform() - 0.45;
            }
            assert_sound(&surface(&field).unwrap());
        }
    }

    #[test]
    fn a_ball_has_its_volume() {
        let mut field = Voxels::uniform([24; 3], [-12.0; 3], 1.0, 0.0);
        for n in 0..field.fill.len() {
            field.fill[n] = 9.3 - length(field.centre(n));
        }
        let mesh = surface(&field).unwrap();
        assert_sound(&mesh);
        let ball = 4.0 / 3.0 * std::f64::consts::PI * 9.3f64.powi(3);
        // The mean of crossings cuts the bulge by about h² / 4R, and volume by 3 / R of that.
        assert!(
            (mesh.volume_mm3() / ball - 1.0).abs() < 0.015,
            "{}",
            mesh.volume_mm3() / ball
        );
    }

    #[test]
    fn an_empty_field_is_refused() {
        assert!(surface(&Voxels::uniform([3; 3], [0.0; 3], 1.0, -1.0)).is_err());
    }
}
