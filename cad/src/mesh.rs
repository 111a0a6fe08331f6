//! Indexed triangle mesh: bounds, volume, and whether it is a closed 2-manifold.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A triangle mesh in millimetres; triangles are counter-clockwise seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mesh {
    /// Corner positions, mm.
    pub vertices: Vec<[f64; 3]>,
    /// Vertex indices, three per triangle.
    pub triangles: Vec<[u32; 3]>,
}

/// Axis-aligned box, mm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Smallest coordinates.
    pub min: [f64; 3],
    /// Largest coordinates.
    pub max: [f64; 3],
}

/// What is wrong with a mesh, counted; every count is zero for a closed, oriented 2-manifold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshReport {
    /// Edges with one triangle.
    pub boundary_edges: usize,
    /// Edges with more than two triangles.
    pub non_manifold_edges: usize,
    /// Edges whose two triangles run along them in the same direction.
    pub inconsistent_edges: usize,
    /// Triangles without area or with a repeated vertex.
    pub degenerate_triangles: usize,
    /// Separate connected pieces.
    pub components: usize,
}

impl MeshReport {
    /// Whether the mesh bounds a solid.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.boundary_edges == 0
            && self.non_manifold_edges == 0
            && self.inconsistent_edges == 0
            && self.degenerate_triangles == 0
    }
}

impl Mesh {
    /// The three corners of triangle `t`, mm.
    #[must_use]
    pub fn corners(&self, t: usize) -> [[f64; 3]; 3] {
        self.triangles[t].map(|v| self.vertices[v as usize])
    }

    /// The smallest box around all vertices, or `None` for an empty mesh.
    #[must_use]
    pub fn bounds(&self) -> Option<Bounds> {
        let first = *self.vertices.first()?;
        let mut bounds = Bounds {
            min: first,
            max: first,
        };
        for v in &self.vertices {
            for (axis, &x) in v.iter().enumerate() {
                bounds.min[axis] = bounds.min[axis].min(x);
                bounds.max[axis] = bounds.max[axis].max(x);
            }
        }
        Some(bounds)
    }

    /// Enclosed volume in mm³ (divergence theorem); negative if the mesh is inside out.
    #[must_use]
    pub fn volume_mm3(&self) -> f64 {
        (0..self.triangles.len())
            .map(|t| {
                let [a, b, c] = self.corners(t);
                dot(a, cross(b, c)) / 6.0
            })
            .sum()
    }

    /// Surface area in mm².
    #[must_use]
    pub fn area_mm2(&self) -> f64 {
        (0..self.triangles.len())
            .map(|t| length(self.area_vector(t)))
            .sum()
    }

    /// Unit normal of triangle `t`, or zero if it has no area.
    #[must_use]
    pub fn normal(&self, t: usize) -> [f64; 3] {
        let n = self.area_vector(t);
        let l = length(n);
        if l == 0.0 { [0.0; 3] } else { n.map(|x| x / l) }
    }

    /// Counts everything that keeps the mesh from bounding a solid.
    #[must_use]
    pub fn check(&self) -> MeshReport {
        let mut report = MeshReport::default();
        // (lower vertex, higher vertex) → triangles running lower→higher and higher→lower.
        let mut edges: HashMap<(u32, u32), (u32, u32)> = HashMap::new();
        let mut parent: Vec<u32> = (0..self.vertices.len() as u32).collect();
        for (t, &[a, b, c]) in self.triangles.iter().enumerate() {
            if a == b || b == c || c == a || length(self.area_vector(t)) == 0.0 {
                report.degenerate_triangles += 1;
            }
            for (from, to) in [(a, b), (b, c), (c, a)] {
                let runs = edges.entry((from.min(to), from.max(to))).or_default();
                if from < to {
                    runs.0 += 1
                } else {
                    runs.1 += 1
                }
                let (x, y) = (root(&mut parent, from), root(&mut parent, to));
                parent[x as usize] = y;
            }
        }
        for &(forward, backward) in edges.values() {
            match forward + backward {
                1 => report.boundary_edges += 1,
                2 if forward != backward => report.inconsistent_edges += 1,
                2 => {}
                _ => report.non_manifold_edges += 1,
            }
        }
        let mut used = vec![false; self.vertices.len()];
        for &v in self.triangles.iter().flatten() {
            used[v as usize] = true;
        }
        report.components = (0..self.vertices.len() as u32)
            .filter(|&v| used[v as usize] && root(&mut parent, v) == v)
            .count();
        report
    }

    /// Half the cross product of two edges: length is the area, direction the outward normal.
    fn area_vector(&self, t: usize) -> [f64; 3] {
        let [a, b, c] = self.corners(t);
        cross(sub(b, a), sub(c, a)).map(|x| x / 2.0)
    }
}

fn root(parent: &mut [u32], mut v: u32) -> u32 {
    while parent[v as usize] != v {
        parent[v as usize] = parent[parent[v as usize] as usize];
        v = parent[v as usize];
    }
    v
}

/// `a - b`.
#[must_use]
pub fn sub(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// Scalar product.
#[must_use]
pub fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Vector product.
#[must_use]
pub fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

/// Euclidean length.
#[must_use]
pub fn length(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An axis-aligned box from the origin, used by tests all over the room.
    pub(crate) fn cuboid(size: [f64; 3]) -> Mesh {
        let vertices = (0..8)
            .map(|i| [0, 1, 2].map(|axis| if i >> axis & 1 == 1 { size[axis] } else { 0.0 }))
            .collect();
        let triangles = vec![
            [0, 2, 1],
            [1, 2, 3],
            [4, 5, 6],
            [5, 7, 6],
            [0, 1, 4],
            [1, 5, 4],
            [2, 6, 3],
            [3, 6, 7],
            [0, 4, 2],
            [2, 4, 6],
            [1, 3, 5],
            [3, 7, 5],
        ];
        Mesh {
            vertices,
            triangles,
        }
    }

    #[test]
    fn a_box_is_closed_and_has_its_volume_and_area() {
        let mesh = cuboid([2.0, 3.0, 4.0]);
        assert!(mesh.check().is_closed());
        assert_eq!(mesh.check().components, 1);
        assert!((mesh.volume_mm3() - 24.0).abs() < 1e-12);
        assert!((mesh.area_mm2() - 52.0).abs() < 1e-12);
    }

    #[test]
    fn a_missing_and_a_flipped_triangle_are_counted() {
        let mut open = cuboid([1.0; 3]);
        open.triangles.pop();
        assert_eq!(open.check().boundary_edges, 3);
        let mut flipped = cuboid([1.0; 3]);
        flipped.triangles[0].swap(0, 1);
        assert_eq!(flipped.check().inconsistent_edges, 3);
    }
}
