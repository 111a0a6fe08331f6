//! Voxels back to a closed, smooth mesh: surface nets on a cell set made manifold first.
//!
//! The cells are classified as inside or outside, then repaired until no two inside cells meet in
//! an edge or a corner only (a *well-composed* set; Latecki 1997 shows that exactly then the
//! boundary is a 2-manifold). Every corner with both kinds around it gets one vertex, and the cells
//! alone say which vertices make a face: the mesh is closed and manifold by construction, and stays
//! so wherever its vertices are moved.
//!
//! That no two vertices meet is a matter of where they lie. The mean of the zero crossings around a
//! corner stays within the corner's own cell of the dual grid; so does what the relaxation evens out
//! over optimised material. A vertex on exact faces may leave its cell, for a face can pass just
//! outside; where that squeezes both halvings of a quad flat, `release_squeezed` takes its vertices
//! back into their cells.

use super::Voxels;
use super::composed::composed;
use super::part::Part;
use super::relax::{REACH, relax};
use crate::families::DesignSpace;
use crate::mesh::{Mesh, cross, dot, length, sub};

/// Why no surface could be made.
#[derive(Debug, thiserror::Error)]
pub enum SurfaceError {
    /// No cell is inside.
    #[error("the density field has no material above the threshold")]
    Empty,
}

/// Extracts the part from optimised densities: smoothed, rounded towards keep-outs, blended into the
/// frozen shapes, whose faces and edges come out exact; islands dropped and cavities filled.
///
/// The threshold is chosen so that the part keeps the densities' volume.
///
/// # Errors
/// If there is no material at all.
pub fn part_surface(density: &Voxels, space: &DesignSpace) -> Result<Mesh, SurfaceError> {
    let part = Part::new(density, space);
    let mut net = Net::new(&part.field())?;
    relax(&mut net, &part);
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

/// A surface net: vertices on the dual grid, quads between them.
pub(super) struct Net {
    /// The cells: padded, in one piece and well-composed.
    pub(super) field: Voxels,
    /// Lattice corner of each vertex.
    corners: Vec<[usize; 3]>,
    pub(super) vertices: Vec<[f64; 3]>,
    pub(super) quads: Vec<Quad>,
}

/// The face between a cell inside and one outside.
pub(super) struct Quad {
    /// Counter-clockwise seen from outside, to be split from the first to the third.
    pub(super) corners: [u32; 4],
    pub(super) inside: usize,
    pub(super) outside: usize,
}

impl Net {
    fn new(field: &Voxels) -> Result<Self, SurfaceError> {
        let field = composed(field)?;
        let [nx, ny, nz] = field.counts;
        let inside = |i: usize, j: usize, k: usize| field.fill[field.index(i, j, k)] > 0.0;
        let (mut corners, mut vertices) = (Vec::new(), Vec::new());
        let mut quads = Vec::new();
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
                        id[slot([i, j, k])] = vertices.len() as u32;
                        corners.push([i, j, k]);
                        vertices.push(crossing_mean(&field, [i, j, k]));
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
                        let cells = [
                            field.index(i, j, k),
                            field.index(below[0], below[1], below[2]),
                        ];
                        let (turned, [inside, outside]) = if here {
                            ([quad[0], quad[3], quad[2], quad[1]], cells)
                        } else {
                            (quad, [cells[1], cells[0]])
                        };
                        quads.push(Quad {
                            corners: shorter_first(&vertices, turned),
                            inside,
                            outside,
                        });
                    }
                }
            }
        }
        Ok(Self {
            field,
            corners,
            vertices,
            quads,
        })
    }

    /// A position for vertex `v`, kept within a share of a cell from its corner.
    pub(super) fn within(&self, v: usize, wanted: [f64; 3], share: f64) -> [f64; 3] {
        let (h, origin) = (self.field.voxel_mm, self.field.origin);
        [0, 1, 2].map(|a| {
            let corner = origin[a] + self.corners[v][a] as f64 * h;
            wanted[a].clamp(corner - share * h, corner + share * h)
        })
    }

    /// Rounds to f32, as STL will, so that the mesh in memory is the mesh in the file.
    fn into_mesh(self) -> Mesh {
        let vertices = self
            .vertices
            .iter()
            .map(|v| v.map(|x| f64::from(x as f32)))
            .collect();
        let halves = |quad: Quad| {
            let [a, b, c, d] = quad.corners;
            [[a, b, c], [a, c, d]]
        };
        Mesh {
            vertices,
            triangles: self.quads.into_iter().flat_map(halves).collect(),
        }
    }
}

/// The quad turned so that its first diagonal is the shorter.
fn shorter_first(vertices: &[[f64; 3]], [a, b, c, d]: [u32; 4]) -> [u32; 4] {
    let apart = |v: u32, w: u32| length(sub(vertices[v as usize], vertices[w as usize]));
    if apart(a, c) <= apart(b, d) {
        [a, b, c, d]
    } else {
        [b, c, d, a]
    }
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
    use crate::families::bracket::Bracket;
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

    /// Blobs of material, different for every seed.
    fn blobs(seed: u64) -> Voxels {
        let mut rng = Rng::new(seed);
        let mut density = Voxels::uniform([30, 20, 20], [0.0; 3], 2.0, 0.0);
        let blobs: Vec<[f64; 4]> = (0..14)
            .map(|_| [60.0, 40.0, 40.0, 9.0].map(|most| most * rng.uniform()))
            .collect();
        for n in 0..density.fill.len() {
            let p = density.centre(n);
            let inside = |b: &[f64; 4]| b[3] - length(sub(p, [b[0], b[1], b[2]]));
            let depth = blobs.iter().map(inside).fold(-9.0, f64::max);
            density.fill[n] = (0.5 + 0.25 * depth).clamp(0.0, 1.0);
        }
        density
    }

    #[test]
    fn random_densities_give_one_closed_manifold_around_frozen_shapes() {
        let space = Bracket::default().design_space();
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let mut density = Voxels::uniform([15, 10, 10], [0.0; 3], 4.0, 0.0);
            for value in &mut density.fill {
                let noise = rng.uniform();
                *value = if seed % 2 == 0 { noise } else { noise.round() };
            }
            assert_sound(&part_surface(&density, &space).unwrap());
            assert_sound(&part_surface(&blobs(seed), &space).unwrap());
        }
    }

    #[test]
    fn no_keep_out_is_entered_and_the_envelope_is_not_left() {
        let space = Bracket::default().design_space();
        let mut worst: f64 = 0.0;
        for seed in 0..12 {
            for v in part_surface(&blobs(seed), &space).unwrap().vertices {
                let into = space.voids.iter().map(|s| s.depth(v));
                worst = into.fold(worst.max(-space.envelope_depth(v)), f64::max);
            }
        }
        assert!(worst < 0.02, "{worst} mm into a keep-out");
    }

    #[test]
    fn the_rim_of_the_boss_is_a_circle() {
        let bracket = Bracket::default();
        let mut density = Voxels::uniform([30, 20, 20], [0.0; 3], 2.0, 0.0);
        for n in 0..density.fill.len() {
            density.fill[n] = f64::from(u8::from(density.centre(n)[2] < 6.0));
        }
        let mesh = part_surface(&density, &bracket.design_space()).unwrap();
        assert_sound(&mesh);
        let mut rim = 0;
        for v in &mesh.vertices {
            let radius = (v[0] - bracket.boss_mm[0]).hypot(v[1] - bracket.boss_mm[1]);
            if v[2] > bracket.boss_height_mm - 0.2 && radius > 11.8 && radius < 12.2 {
                rim += 1;
                let off = (radius - 12.0).hypot(v[2] - 16.0);
                assert!(off < 0.02, "{v:?} is {off} mm off the rim");
            }
        }
        assert!(rim > 90, "{rim} vertices on the rim");
    }

    #[test]
    fn the_mesh_does_not_depend_on_the_number_of_threads() {
        let space = Bracket::default().design_space();
        let density = blobs(3);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            pool.install(|| part_surface(&density, &space).unwrap())
        };
        assert_eq!(with(1), with(5));
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
