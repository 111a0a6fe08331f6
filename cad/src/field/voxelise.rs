//! A closed mesh to voxels: rays along z, counted with their direction.

use super::Voxels;
use crate::mesh::Mesh;

/// Rays per voxel edge; the fill of a voxel is exact along z and sampled 4 × 4 across.
const RAYS: usize = 4;

/// Fills a grid with the share of each voxel that lies inside `mesh`.
///
/// The winding number decides, so overlapping closed shells count once. Rays are shifted off the
/// grid by an irrational share of their spacing, so they do not run along edges of aligned meshes.
#[must_use]
pub fn voxelise(mesh: &Mesh, counts: [usize; 3], origin: [f64; 3], voxel_mm: f64) -> Voxels {
    let mut voxels = Voxels::uniform(counts, origin, voxel_mm, 0.0);
    let step = voxel_mm / RAYS as f64;
    let (columns_x, columns_y) = (counts[0] * RAYS, counts[1] * RAYS);
    let ray = |n: usize, shift: f64| (n as f64 + 0.5 + shift) * step;
    // Shifts well below half a step, different per axis.
    let (shift_x, shift_y) = (0.012_345_678_912_3, -0.009_876_543_217_9);
    let mut hits: Vec<Vec<(f64, i32)>> = vec![Vec::new(); columns_x * columns_y];
    for t in 0..mesh.triangles.len() {
        let [a, b, c] = mesh
            .corners(t)
            .map(|p| [0, 1, 2].map(|axis| p[axis] - origin[axis]));
        let area = cross2(a, b, c);
        if area == 0.0 {
            continue;
        }
        let range = |axis: usize, shift: f64, columns: usize| {
            let least = a[axis].min(b[axis]).min(c[axis]);
            let greatest = a[axis].max(b[axis]).max(c[axis]);
            let from = (least / step - 0.5 - shift).ceil().max(0.0) as usize;
            let to = (greatest / step - 0.5 - shift).floor();
            from..if to < 0.0 {
                0
            } else {
                (to as usize + 1).min(columns)
            }
        };
        for row in range(1, shift_y, columns_y) {
            for column in range(0, shift_x, columns_x) {
                let p = [ray(column, shift_x), ray(row, shift_y), 0.0];
                let u = cross2(p, b, c) / area;
                let v = cross2(a, p, c) / area;
                let w = 1.0 - u - v;
                if u >= 0.0 && v >= 0.0 && w >= 0.0 {
                    let z = u * a[2] + v * b[2] + w * c[2];
                    // A face that looks down is entered by a ray going up.
                    hits[row * columns_x + column].push((z, if area < 0.0 { 1 } else { -1 }));
                }
            }
        }
    }
    let share = 1.0 / (RAYS * RAYS) as f64;
    for (n, column) in hits.iter_mut().enumerate() {
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
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
