//! A closed mesh to voxels: rays along z, counted with their direction.

use super::Voxels;
use crate::mesh::Mesh;

/// Rays per voxel edge; the fill of a voxel is exact along z and sampled 4 × 4 across.
const RAYS: usize = 4;
/// Crossings closer than this are at one place, mm.
const SAME_MM: f64 = 1e-6;

/// Where a ray crosses a mesh, by height, and whether it goes in (1) or out (-1).
type Crossings = Vec<(f64, i32)>;

/// Rays along z through a grid.
struct Rays {
    step: f64,
    columns: [usize; 2],
}

/// Shifts of the rays well below half a step, different per axis.
const SHIFT: [f64; 2] = [0.012_345_678_912_3, -0.009_876_543_217_9];

impl Rays {
    fn new(counts: [usize; 3], voxel_mm: f64) -> Self {
        Self {
            step: voxel_mm / RAYS as f64,
            columns: [counts[0] * RAYS, counts[1] * RAYS],
        }
    }

    /// The rays that go through the box around a triangle's shadow, along one axis.
    fn range(&self, corners: [[f64; 3]; 3], axis: usize) -> std::ops::Range<usize> {
        let along = corners.map(|corner| corner[axis]);
        let least = along.into_iter().fold(f64::INFINITY, f64::min);
        let greatest = along.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let from = (least / self.step - 0.5 - SHIFT[axis]).ceil().max(0.0) as usize;
        let to = (greatest / self.step - 0.5 - SHIFT[axis]).floor();
        if to < 0.0 {
            return 0..0;
        }
        from..(to as usize + 1).min(self.columns[axis])
    }

    fn at(&self, n: usize, axis: usize) -> f64 {
        (n as f64 + 0.5 + SHIFT[axis]) * self.step
    }

    /// Every crossing of every ray, from the bottom up.
    fn cast(&self, mesh: &Mesh, origin: [f64; 3]) -> Vec<Crossings> {
        let mut hits: Vec<Crossings> = vec![Vec::new(); self.columns[0] * self.columns[1]];
        for t in 0..mesh.triangles.len() {
            let [a, b, c] = local(mesh, t, origin);
            let area = cross2(a, b, c);
            if area == 0.0 {
                continue;
            }
            for row in self.range([a, b, c], 1) {
                for column in self.range([a, b, c], 0) {
                    let p = [self.at(column, 0), self.at(row, 1), 0.0];
                    let u = cross2(p, b, c) / area;
                    let v = cross2(a, p, c) / area;
                    let w = 1.0 - u - v;
                    if u >= 0.0 && v >= 0.0 && w >= 0.0 {
                        let z = u * a[2] + v * b[2] + w * c[2];
                        // A face that looks down is entered by a ray going up.
                        let way = if area < 0.0 { 1 } else { -1 };
                        hits[row * self.columns[0] + column].push((z, way));
                    }
                }
            }
        }
        for column in &mut hits {
            column.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        hits
    }
}

fn local(mesh: &Mesh, t: usize, origin: [f64; 3]) -> [[f64; 3]; 3] {
    mesh.corners(t)
        .map(|p| [0, 1, 2].map(|axis| p[axis] - origin[axis]))
}

/// How many crossings [`voxelise`] looks for at most: what it takes of time and, times 16 bytes, of memory.
#[must_use]
pub fn effort(mesh: &Mesh, counts: [usize; 3], origin: [f64; 3], voxel_mm: f64) -> usize {
    let rays = Rays::new(counts, voxel_mm);
    let of = |t| {
        let corners = local(mesh, t, origin);
        1 + rays.range(corners, 0).len() * rays.range(corners, 1).len()
    };
    (0..mesh.triangles.len())
        .map(of)
        .fold(0, usize::saturating_add)
}

/// Fills a grid with the share of each voxel that lies inside `mesh`.
///
/// The winding number decides, so overlapping closed shells count once. Rays are shifted off the
/// grid by an irrational share of their spacing, so they do not run along edges of aligned meshes.
#[must_use]
pub fn voxelise(mesh: &Mesh, counts: [usize; 3], origin: [f64; 3], voxel_mm: f64) -> Voxels {
    let rays = Rays::new(counts, voxel_mm);
    fill(&rays.cast(mesh, origin), counts, origin, voxel_mm)
}

/// The same of a mesh that nowhere overlaps itself or is inside out; none of any other.
#[must_use]
pub fn voxelise_simple(
    mesh: &Mesh,
    counts: [usize; 3],
    origin: [f64; 3],
    voxel_mm: f64,
) -> Option<Voxels> {
    let rays = Rays::new(counts, voxel_mm);
    let hits = rays.cast(mesh, origin);
    let simple = hits.iter().all(|column| is_simple(column));
    simple.then(|| fill(&hits, counts, origin, voxel_mm))
}

/// Whether a ray is in the part or out of it everywhere, and out of it in the end. Crossings at one place come in any order.
fn is_simple(column: &[(f64, i32)]) -> bool {
    let mut winding = 0;
    for (n, (z, way)) in column.iter().enumerate() {
        winding += way;
        let next = column.get(n + 1).map_or(f64::INFINITY, |next| next.0);
        let fits = match n + 1 < column.len() {
            true => (0..=1).contains(&winding),
            false => winding == 0,
        };
        if !fits && next - z > SAME_MM {
            return false;
        }
    }
    true
}

fn fill(hits: &[Crossings], counts: [usize; 3], origin: [f64; 3], voxel_mm: f64) -> Voxels {
    let mut voxels = Voxels::uniform(counts, origin, voxel_mm, 0.0);
    let columns_x = counts[0] * RAYS;
    let share = 1.0 / (RAYS * RAYS) as f64;
    for (n, column) in hits.iter().enumerate() {
        let (i, j) = (n % columns_x / RAYS, n / columns_x / RAYS);
        let mut winding = 0;
        for pair in 0..column.len() {
            winding += column[pair].1;
            if winding > 0 && pair + 1 < column.len() {
                let (from, to) = (column[pair].0 / voxel_mm, column[pair + 1].0 / voxel_mm);
                let first = from.floor().max(0.0) as usize;
                for k in first..counts[2] {
                    let inside = to.min(k as f64 + 1.0) - from.max(k as f64);
                    if inside <= 0.0 {
                        break;
                    }
                    let index = voxels.index(i, j, k);
                    voxels.fill[index] += inside * share;
                }
            }
        }
    }
    voxels
}

/// Twice the signed area of the triangle's shadow on the xy plane.
fn cross2(a: [f64; 3], b: [f64; 3], c: [f64; 3]) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::cuboid;

    #[test]
    fn an_aligned_box_fills_its_voxels_and_a_shifted_one_keeps_its_volume() {
        let voxels = voxelise(&cuboid([4.0, 2.0, 2.0]), [6, 2, 3], [0.0; 3], 1.0);
        for (n, fill) in voxels.fill.iter().enumerate() {
            let [i, _, k] = voxels.cell(n);
            let expected = if i < 4 && k < 2 { 1.0 } else { 0.0 };
            assert!((fill - expected).abs() < 1e-12, "voxel {n}: {fill}");
        }
        let mut moved = cuboid([2.0, 2.0, 2.0]);
        for v in &mut moved.vertices {
            *v = [v[0] + 0.25, v[1] + 0.5, v[2] + 0.3];
        }
        let voxels = voxelise(&moved, [4, 4, 4], [0.0; 3], 1.0);
        assert!(
            (voxels.volume_mm3() - 8.0).abs() < 1e-9,
            "{}",
            voxels.volume_mm3()
        );
    }
}
