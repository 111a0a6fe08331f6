//! Cutting a mesh into plane regions, one per layer, by walking from triangle to triangle.

use std::collections::HashMap;

use crate::mesh::Mesh;
use crate::slice::polygon::{self, Contour, Region};

/// Contours are thinned to this deviation: below what any printer resolves, mm.
const RESOLUTION_MM: f64 = 0.005;

/// Why a mesh cannot be sliced: it does not bound a solid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SolidError {
    /// There are no triangles.
    #[error("mesh has no triangles")]
    Empty,
    /// A coordinate is NaN or infinite.
    #[error("vertex {vertex} of the mesh is not finite")]
    NotFinite {
        /// Index of the vertex.
        vertex: usize,
    },
    /// A triangle names a vertex that does not exist.
    #[error("triangle {triangle} names a vertex beyond the mesh's {vertices}")]
    BadIndex {
        /// Index of the triangle.
        triangle: usize,
        /// Number of vertices.
        vertices: usize,
    },
    /// An edge has no partner: the mesh has a hole.
    #[error("mesh is open: edge {}–{} of triangle {triangle} has no neighbour; close the hole", edge[0], edge[1])]
    Open {
        /// Index of the triangle.
        triangle: usize,
        /// The edge's vertices, in the triangle's direction.
        edge: [u32; 2],
    },
    /// The triangles at an edge do not alternate in direction.
    #[error(
        "mesh is dirty: {forward} triangles run along edge {}–{} and {backward} against it (one is triangle {triangle})",
        edge[0], edge[1]
    )]
    Unbalanced {
        /// Index of one of the triangles.
        triangle: usize,
        /// The edge's vertices, lower index first.
        edge: [u32; 2],
        /// Triangles from lower to higher index.
        forward: usize,
        /// Triangles from higher to lower index.
        backward: usize,
    },
    /// The normals point inwards.
    #[error("mesh is inside out: its volume is {volume_mm3:.1} mm³; flip the triangles")]
    InsideOut {
        /// The negative volume.
        volume_mm3: f64,
    },
}

/// A closed mesh, ready for cutting: every half-edge knows its twin.
pub(crate) struct Solid {
    vertices: Vec<[f64; 3]>,
    triangles: Vec<[u32; 3]>,
    /// Half-edge `3 * t + e` runs from corner `e` of triangle `t` to the next one.
    twins: Vec<u32>,
}

impl Solid {
    /// Moves the mesh by `shift`, welds equal vertices and pairs all edges.
    ///
    /// Edges shared by four or more triangles are accepted as long as the directions balance: two
    /// solids touching in an edge are still cut into a valid region.
    pub(crate) fn new(mesh: &Mesh, shift: [f64; 3]) -> Result<Self, SolidError> {
        if mesh.triangles.is_empty() {
            return Err(SolidError::Empty);
        }
        if let Some(vertex) = mesh
            .vertices
            .iter()
            .position(|v| !v.iter().all(|x| x.is_finite()))
        {
            return Err(SolidError::NotFinite { vertex });
        }
        let count = mesh.vertices.len();
        if let Some(triangle) = mesh
            .triangles
            .iter()
            .position(|t| t.iter().any(|&v| v as usize >= count))
        {
            return Err(SolidError::BadIndex {
                triangle,
                vertices: count,
            });
        }
        let volume_mm3 = mesh.volume_mm3();
        if volume_mm3 < 0.0 {
            return Err(SolidError::InsideOut { volume_mm3 });
        }
        let mut first: HashMap<[u64; 3], u32> = HashMap::with_capacity(count);
        // Adding zero turns -0.0 into 0.0, so that both weld.
        let welded: Vec<u32> = (0u32..)
            .zip(&mesh.vertices)
            .map(|(i, v)| *first.entry(v.map(|x| (x + 0.0).to_bits())).or_insert(i))
            .collect();
        let vertices = mesh
            .vertices
            .iter()
            .map(|v| [0, 1, 2].map(|axis| v[axis] + shift[axis]))
            .collect();
        let original: Vec<usize> = (0..mesh.triangles.len())
            .filter(|&t| {
                let [a, b, c] = mesh.triangles[t].map(|v| welded[v as usize]);
                a != b && b != c && c != a
            })
            .collect();
        let triangles: Vec<[u32; 3]> = original
            .iter()
            .map(|&t| mesh.triangles[t].map(|v| welded[v as usize]))
            .collect();
        let twins = pair_edges(&triangles, &original)?;
        Ok(Self {
            vertices,
            triangles,
            twins,
        })
    }

    /// For each plane, the triangles it crosses, in ascending order; `planes` ascend.
    pub(crate) fn crossings(&self, planes: &[f64]) -> Vec<Vec<u32>> {
        let mut crossings = vec![Vec::new(); planes.len()];
        for (t, triangle) in (0u32..).zip(&self.triangles) {
            let z = triangle.map(|v| self.vertices[v as usize][2]);
            let (low, high) = (z[0].min(z[1]).min(z[2]), z[0].max(z[1]).max(z[2]));
            // A corner on the plane counts as above it (see `contours`): low < plane <= high.
            let from = planes.partition_point(|&p| p <= low);
            let to = planes.partition_point(|&p| p <= high);
            for crossing in &mut crossings[from..to.max(from)] {
                crossing.push(t);
            }
        }
        crossings
    }

    /// The region inside the solid at height `z`; `crossing` are the triangles the plane crosses.
    pub(crate) fn region(&self, z: f64, crossing: &[u32]) -> Region {
        let contours = self
            .contours(z, crossing)
            .iter()
            .map(|c| polygon::simplify(c, RESOLUTION_MM))
            .filter(|c| c.len() > 2)
            .collect();
        polygon::union(&contours)
    }

    /// The closed contours at height `z`, solid on the left.
    ///
    /// A corner exactly on the plane counts as above it, everywhere: the plane is cut an infinitely
    /// small step below, so no vertex ever lies on it and every crossed triangle has one edge going
    /// up through the plane and one coming down. The twin of the first is the second of the
    /// neighbour; following them closes every contour.
    pub(crate) fn contours(&self, z: f64, crossing: &[u32]) -> Vec<Contour> {
        let mut done = vec![false; crossing.len()];
        let mut contours = Vec::new();
        for start in 0..crossing.len() {
            if done[start] {
                continue;
            }
            let mut contour = Contour::new();
            let mut at = start;
            while !done[at] {
                done[at] = true;
                let up = self.edge_up(crossing[at], z);
                let point = self.cut(up, z);
                if contour.last() != Some(&point) {
                    contour.push(point);
                }
                let Ok(next) = crossing.binary_search(&(self.twins[up as usize] / 3)) else {
                    break;
                };
                at = next;
            }
            while contour.len() > 1 && contour.first() == contour.last() {
                contour.pop();
            }
            contours.push(contour);
        }
        contours
    }

    /// The half-edge of triangle `t` that goes from below the plane to above.
    fn edge_up(&self, t: u32, z: f64) -> u32 {
        let above = self.triangles[t as usize].map(|v| self.vertices[v as usize][2] >= z);
        let e = (0..3)
            .find(|&e| !above[e] && above[(e + 1) % 3])
            .unwrap_or(0);
        3 * t + e as u32
    }

    /// Where a half-edge meets the plane, computed alike from both sides.
    fn cut(&self, half_edge: u32, z: f64) -> [f64; 2] {
        let (t, e) = ((half_edge / 3) as usize, (half_edge % 3) as usize);
        let (a, b) = (self.triangles[t][e], self.triangles[t][(e + 1) % 3]);
        let [p, q] = [a.min(b), a.max(b)].map(|v| self.vertices[v as usize]);
        let share = (z - p[2]) / (q[2] - p[2]);
        [p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])]
    }
}

/// For each half-edge the one running the other way in the neighbouring triangle.
fn pair_edges(triangles: &[[u32; 3]], original: &[usize]) -> Result<Vec<u32>, SolidError> {
    let mut edges: Vec<(u32, u32, bool, u32)> = Vec::with_capacity(3 * triangles.len());
    for (t, corners) in (0u32..).zip(triangles) {
        for e in 0..3 {
            let (a, b) = (corners[e], corners[(e + 1) % 3]);
            edges.push((a.min(b), a.max(b), a > b, 3 * t + e as u32));
        }
    }
    edges.sort_unstable();
    let mut twins = vec![0; edges.len()];
    for group in edges.chunk_by(|x, y| (x.0, x.1) == (y.0, y.1)) {
        let forward = group.iter().filter(|edge| !edge.2).count();
        let backward = group.len() - forward;
        if forward != backward {
            let (low, high, reversed, half_edge) = group[0];
            let triangle = original[(half_edge / 3) as usize];
            let edge = if reversed { [high, low] } else { [low, high] };
            return Err(if group.len() == 1 {
                SolidError::Open { triangle, edge }
            } else {
                SolidError::Unbalanced {
                    triangle,
                    edge: [low, high],
                    forward,
                    backward,
                }
            });
        }
        for i in 0..forward {
            let (a, b) = (group[i].3, group[forward + i].3);
            twins[a as usize] = b;
            twins[b as usize] = a;
        }
    }
    Ok(twins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::cuboid;

    fn region_at(mesh: &Mesh, z: f64) -> Region {
        let solid = Solid::new(mesh, [0.0; 3]).unwrap();
        let crossings = solid.crossings(&[z]);
        solid.region(z, &crossings[0])
    }

    #[test]
    fn a_box_is_cut_into_its_rectangle_even_through_its_vertices() {
        let mesh = cuboid([2.0, 3.0, 4.0]);
        for z in [0.1, 2.0, 4.0] {
            assert!(
                (polygon::area(&region_at(&mesh, z)) - 6.0).abs() < 1e-5,
                "at {z}"
            );
        }
        for z in [0.0, -0.1, 4.1] {
            assert!(region_at(&mesh, z).is_empty(), "at {z}");
        }
    }

    #[test]
    fn planes_through_vertices_cut_an_octahedron_into_closed_squares() {
        let vertices = vec![
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [-1.0, 0.0, 0.0],
            [0.0, -1.0, 0.0],
            [0.0, 0.0, 1.0],
            [0.0, 0.0, -1.0],
        ];
        let triangles = vec![
            [0, 1, 4],
            [1, 2, 4],
            [2, 3, 4],
            [3, 0, 4],
            [1, 0, 5],
            [2, 1, 5],
            [3, 2, 5],
            [0, 3, 5],
        ];
        let mesh = Mesh {
            vertices,
            triangles,
        };
        assert!((polygon::area(&region_at(&mesh, 0.0)) - 2.0).abs() < 1e-5);
        assert!((polygon::area(&region_at(&mesh, 0.5)) - 0.5).abs() < 1e-5);
    }

    #[test]
    fn a_triangle_soup_is_welded() {
        let mesh = cuboid([1.0; 3]);
        let vertices = (0..mesh.triangles.len())
            .flat_map(|t| mesh.corners(t))
            .collect();
        let triangles = (0..mesh.triangles.len() as u32).map(|t| [3 * t, 3 * t + 1, 3 * t + 2]);
        let soup = Mesh {
            vertices,
            triangles: triangles.collect(),
        };
        assert!((polygon::area(&region_at(&soup, 0.5)) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn open_dirty_and_broken_meshes_are_named() {
        let solid = |mesh: &Mesh| Solid::new(mesh, [0.0; 3]).err();
        assert_eq!(solid(&Mesh::default()), Some(SolidError::Empty));
        let mut open = cuboid([1.0; 3]);
        open.triangles.pop();
        assert!(matches!(solid(&open), Some(SolidError::Open { .. })));
        let mut flipped = cuboid([1.0; 3]);
        flipped.triangles[0].swap(0, 1);
        assert!(matches!(
            solid(&flipped),
            Some(
                SolidError::Unbalanced { forward: 2, .. }
                    | SolidError::Unbalanced { backward: 2, .. }
            )
        ));
        let mut inside_out = cuboid([1.0; 3]);
        inside_out.triangles.iter_mut().for_each(|t| t.swap(0, 1));
        assert!(matches!(
            solid(&inside_out),
            Some(SolidError::InsideOut { .. })
        ));
        let mut nan = cuboid([1.0; 3]);
        nan.vertices[3][1] = f64::NAN;
        assert_eq!(solid(&nan), Some(SolidError::NotFinite { vertex: 3 }));
        let mut index = cuboid([1.0; 3]);
        index.triangles[2][0] = 8;
        assert_eq!(
            solid(&index),
            Some(SolidError::BadIndex {
                triangle: 2,
                vertices: 8
            })
        );
    }
}
