//! Closest points on a mesh, with the sign from angle-weighted pseudonormals.
//!
//! The sign is right at edges and corners too (Bærentzen and Aanæs, 2005), which face normals alone cannot give.

use std::collections::HashMap;

use crate::inspect::pose::{add, scaled, unit};
use crate::mesh::{Mesh, MeshReport, cross, dot, length, sub};

/// Triangles in a leaf of the tree.
const LEAF: usize = 4;
/// Buckets of the surface area heuristic.
const BINS: usize = 16;

/// A closed mesh ready to be measured against, re-centred on the middle of its bounding box.
#[derive(Debug)]
pub(crate) struct Surface {
    nodes: Vec<Node>,
    /// In the order of the leaves.
    triangles: Vec<Triangle>,
    /// What was subtracted from the vertices, mm.
    pub(crate) centre: [f64; 3],
    /// Half the bounding box, mm.
    pub(crate) half: [f64; 3],
    /// Surface area, mm².
    pub(crate) area_mm2: f64,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    min: [f64; 3],
    max: [f64; 3],
    /// First triangle of a leaf, or the second child of a branch (the first follows its parent).
    at: u32,
    /// Triangles of a leaf; 0 for a branch.
    count: u32,
}

#[derive(Debug, Clone, Copy)]
struct Triangle {
    a: [f64; 3],
    ab: [f64; 3],
    ac: [f64; 3],
    normal: [f64; 3],
    /// Pseudonormals of the edges ab, bc, ca.
    edges: [[f64; 3]; 3],
    /// Pseudonormals of the corners.
    corners: [[f64; 3]; 3],
}

/// The nearest place on the surface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foot {
    /// Where it is, mm, re-centred.
    pub(crate) point: [f64; 3],
    /// Pseudonormal there, one long.
    pub(crate) normal: [f64; 3],
    /// Normal of the triangle it lies in.
    pub(crate) face_normal: [f64; 3],
    /// Distance, positive outside, mm.
    pub(crate) distance: f64,
    /// Index to start the next search of the same point from.
    pub(crate) triangle: u32,
    /// Whether it lies on an edge or a corner.
    pub(crate) on_edge: bool,
}

/// A place on the surface that stands for an equal share of its area.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Where it is, mm, re-centred.
    pub(crate) point: [f64; 3],
    /// Outward normal.
    pub(crate) normal: [f64; 3],
}

impl Surface {
    /// Welds, checks and indexes a mesh.
    ///
    /// An open, inconsistent or inside-out mesh has no inside, hence no sign: it is refused with its report.
    pub(crate) fn new(mesh: &Mesh) -> Result<Self, MeshReport> {
        let mesh = weld(mesh);
        let report = mesh.check();
        let closed = MeshReport {
            degenerate_triangles: 0,
            ..report
        }
        .is_closed();
        let Some(bounds) = mesh.bounds() else {
            return Err(report);
        };
        if !closed || mesh.triangles.is_empty() || mesh.volume_mm3() <= 0.0 {
            return Err(report);
        }
        let centre = [0, 1, 2].map(|k| 0.5 * (bounds.min[k] + bounds.max[k]));
        let half = [0, 1, 2].map(|k| 0.5 * (bounds.max[k] - bounds.min[k]));
        let area_mm2 = mesh.area_mm2();

        let normals: Vec<[f64; 3]> = (0..mesh.triangles.len()).map(|t| mesh.normal(t)).collect();
        let mut corner_sums = vec![[0.0; 3]; mesh.vertices.len()];
        let mut edge_sums: HashMap<(u32, u32), [f64; 3]> =
            HashMap::with_capacity(mesh.triangles.len() * 3 / 2);
        for (t, corners) in mesh.triangles.iter().enumerate() {
            let positions = mesh.corners(t);
            for k in 0..3 {
                let to = sub(positions[(k + 1) % 3], positions[k]);
                let from = sub(positions[(k + 2) % 3], positions[k]);
                let angle = length(cross(to, from)).atan2(dot(to, from));
                let sum = &mut corner_sums[corners[k] as usize];
                *sum = add(*sum, scaled(normals[t], angle));
                let sum = edge_sums
                    .entry(edge(corners[k], corners[(k + 1) % 3]))
                    .or_default();
                *sum = add(*sum, normals[t]);
            }
        }
        let mut triangles: Vec<Triangle> = mesh
            .triangles
            .iter()
            .enumerate()
            .filter(|&(t, _)| normals[t] != [0.0; 3])
            .map(|(t, corners)| {
                let [a, b, c] = mesh.corners(t);
                Triangle {
                    a: sub(a, centre),
                    ab: sub(b, a),
                    ac: sub(c, a),
                    normal: normals[t],
                    edges: [0, 1, 2].map(|k| {
                        let sum = edge_sums.get(&edge(corners[k], corners[(k + 1) % 3]));
                        unit(sum.copied().unwrap_or(normals[t]))
                    }),
                    corners: corners.map(|v| unit(corner_sums[v as usize])),
                }
            })
            .collect();
        let mut order: Vec<u32> = (0..triangles.len() as u32).collect();
        let boxes: Vec<([f64; 3], [f64; 3])> = triangles.iter().map(Triangle::bounds).collect();
        let mut nodes = Vec::with_capacity(triangles.len());
        build(&mut nodes, &boxes, &mut order, 0);
        triangles = order.iter().map(|&t| triangles[t as usize]).collect();
        Ok(Self {
            nodes,
            triangles,
            centre,
            half,
            area_mm2,
        })
    }

    /// Half the diagonal of the bounding box, mm.
    pub(crate) fn radius(&self) -> f64 {
        length(self.half)
    }

    /// The nearest foot of `p`; `hint` is the triangle of an earlier answer nearby.
    ///
    /// With `facing`, triangles that look the other way are passed over, so that the far side of a thin wall is
    /// not mistaken for the near one; `None` then means that no triangle looks the right way.
    pub(crate) fn closest(
        &self,
        p: [f64; 3],
        facing: Option<[f64; 3]>,
        hint: Option<u32>,
    ) -> Option<Foot> {
        let facing = facing.filter(|n| *n != [0.0; 3]);
        let admits = |t: &Triangle| facing.is_none_or(|n| dot(n, t.normal) > -0.5);
        let mut best = f64::INFINITY;
        let mut found: Option<(u32, [f64; 3], u8)> = None;
        if let Some(t) = hint {
            let triangle = &self.triangles[t as usize];
            if admits(triangle) {
                let (q, part) = triangle.closest(p);
                best = squared(sub(p, q));
                found = Some((t, q, part));
            }
        }
        let mut stack = [(0_u32, 0.0_f64); 128];
        let mut depth = 0;
        let mut node = 0_u32;
        loop {
            let n = &self.nodes[node as usize];
            if n.count > 0 {
                for t in n.at..n.at + n.count {
                    let triangle = &self.triangles[t as usize];
                    // The plane is never farther than the triangle: a cheap way to pass it over.
                    let height = dot(sub(p, triangle.a), triangle.normal);
                    if height * height >= best || !admits(triangle) {
                        continue;
                    }
                    let (q, part) = triangle.closest(p);
                    let d = squared(sub(p, q));
                    if d < best {
                        best = d;
                        found = Some((t, q, part));
                    }
                }
            } else {
                let (first, second) = (node + 1, n.at);
                let (a, b) = (
                    self.nodes[first as usize].distance(p),
                    self.nodes[second as usize].distance(p),
                );
                let ((near, d_near), (far, d_far)) = if a <= b {
                    ((first, a), (second, b))
                } else {
                    ((second, b), (first, a))
                };
                if d_near < best {
                    if d_far < best {
                        stack[depth] = (far, d_far);
                        depth += 1;
                    }
                    node = near;
                    continue;
                }
            }
            loop {
                if depth == 0 {
                    return found.map(|(t, q, part)| self.foot(p, t, q, part, best));
                }
                depth -= 1;
                if stack[depth].1 < best {
                    node = stack[depth].0;
                    break;
                }
            }
        }
    }

    fn foot(&self, p: [f64; 3], t: u32, q: [f64; 3], part: u8, best: f64) -> Foot {
        let triangle = &self.triangles[t as usize];
        let normal = match part {
            0 => triangle.normal,
            1..=3 => triangle.edges[usize::from(part) - 1],
            _ => triangle.corners[usize::from(part) - 4],
        };
        let sign = if dot(sub(p, q), normal) < 0.0 {
            -1.0
        } else {
            1.0
        };
        Foot {
            point: q,
            normal,
            face_normal: triangle.normal,
            distance: sign * best.sqrt(),
            triangle: t,
            on_edge: part != 0,
        }
    }

    /// Places spread evenly over the surface, about `spacing_mm` apart, always the same ones.
    pub(crate) fn samples(&self, spacing_mm: f64) -> Vec<Sample> {
        let share = self.area_mm2 / (self.area_mm2 / (spacing_mm * spacing_mm)).ceil().max(1.0);
        let mut out = Vec::new();
        let (mut area, mut taken) = (0.0, 0_u64);
        for t in &self.triangles {
            area += 0.5 * length(cross(t.ab, t.ac));
            let until = (area / share + 0.5).floor() as u64;
            let mut k = 0_u32;
            while taken < until {
                // The plastic sequence fills the unit square evenly; folding it fills the triangle.
                taken += 1;
                k += 1;
                let (mut u, mut v) = if until - taken + u64::from(k) == 1 {
                    (1.0 / 3.0, 1.0 / 3.0)
                } else {
                    let k = f64::from(k);
                    (
                        (0.5 + 0.754_877_666_246_692_8 * k).fract(),
                        (0.5 + 0.569_840_290_998_053_3 * k).fract(),
                    )
                };
                if u + v > 1.0 {
                    (u, v) = (1.0 - u, 1.0 - v);
                }
                out.push(Sample {
                    point: add(t.a, add(scaled(t.ab, u), scaled(t.ac, v))),
                    normal: t.normal,
                });
            }
        }
        out
    }
}

impl Triangle {
    fn bounds(&self) -> ([f64; 3], [f64; 3]) {
        let corners = [self.a, add(self.a, self.ab), add(self.a, self.ac)];
        super::scan::extent(&corners)
    }

    /// The closest point and where it lies: 0 face, 1–3 edges ab, bc, ca, 4–6 corners (Ericson, 5.1.5).
    fn closest(&self, p: [f64; 3]) -> ([f64; 3], u8) {
        let (ab, ac) = (self.ab, self.ac);
        let ap = sub(p, self.a);
        let (d1, d2) = (dot(ab, ap), dot(ac, ap));
        if d1 <= 0.0 && d2 <= 0.0 {
            return (self.a, 4);
        }
        let bp = sub(ap, ab);
        let (d3, d4) = (dot(ab, bp), dot(ac, bp));
        if d3 >= 0.0 && d4 <= d3 {
            return (add(self.a, ab), 5);
        }
        let vc = d1 * d4 - d3 * d2;
        if vc <= 0.0 && d1 >= 0.0 && d3 <= 0.0 {
            return (add(self.a, scaled(ab, d1 / (d1 - d3))), 1);
        }
        let cp = sub(ap, ac);
        let (d5, d6) = (dot(ab, cp), dot(ac, cp));
        if d6 >= 0.0 && d5 <= d6 {
            return (add(self.a, ac), 6);
        }
        let vb = d5 * d2 - d1 * d6;
        if vb <= 0.0 && d2 >= 0.0 && d6 <= 0.0 {
            return (add(self.a, scaled(ac, d2 / (d2 - d6))), 3);
        }
        let va = d3 * d6 - d5 * d4;
        if va <= 0.0 && d4 - d3 >= 0.0 && d5 - d6 >= 0.0 {
            let w = (d4 - d3) / ((d4 - d3) + (d5 - d6));
            return (add(self.a, add(scaled(ab, 1.0 - w), scaled(ac, w))), 2);
        }
        let scale = 1.0 / (va + vb + vc);
        (
            add(self.a, add(scaled(ab, vb * scale), scaled(ac, vc * scale))),
            0,
        )
    }
}

impl Node {
    /// Squared distance from a point to the box.
    fn distance(&self, p: [f64; 3]) -> f64 {
        let gap = |k: usize| (self.min[k] - p[k]).max(p[k] - self.max[k]).max(0.0);
        let (x, y, z) = (gap(0), gap(1), gap(2));
        x * x + y * y + z * z
    }
}

/// Appends the tree over `order`, whose first triangle has index `first`.
fn build(nodes: &mut Vec<Node>, boxes: &[([f64; 3], [f64; 3])], order: &mut [u32], first: u32) {
    let (min, max) = union(order.iter().map(|&t| boxes[t as usize]));
    let at = nodes.len();
    nodes.push(Node {
        min,
        max,
        at: first,
        count: order.len() as u32,
    });
    if order.len() <= LEAF {
        return;
    }
    let middle = split(boxes, order);
    let (left, right) = order.split_at_mut(middle);
    nodes[at].count = 0;
    build(nodes, boxes, left, first);
    nodes[at].at = nodes.len() as u32;
    build(nodes, boxes, right, first + middle as u32);
}

/// Sorts `order` so that a cut at the returned place is cheap to search; both sides hold something.
fn split(boxes: &[([f64; 3], [f64; 3])], order: &mut [u32]) -> usize {
    let middle = |t: u32, axis: usize| {
        let (min, max) = boxes[t as usize];
        min[axis] + max[axis]
    };
    let (low, high) = union(order.iter().map(|&t| {
        let m = [0, 1, 2].map(|axis| middle(t, axis));
        (m, m)
    }));
    let mut best: Option<(f64, usize, usize)> = None;
    for axis in 0..3 {
        let width = high[axis] - low[axis];
        if width <= 0.0 {
            continue;
        }
        let mut counts = [0_usize; BINS];
        let mut bounds = [([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]); BINS];
        for &t in order.iter() {
            let bin = bin_of(middle(t, axis), low[axis], width);
            counts[bin] += 1;
            bounds[bin] = union([bounds[bin], boxes[t as usize]].into_iter());
        }
        for cut in 1..BINS {
            let (n, m) = (
                counts[..cut].iter().sum::<usize>(),
                counts[cut..].iter().sum::<usize>(),
            );
            if n == 0 || m == 0 {
                continue;
            }
            let cost = n as f64 * half_area(union(bounds[..cut].iter().copied()))
                + m as f64 * half_area(union(bounds[cut..].iter().copied()));
            if best.is_none_or(|b| cost < b.0) {
                best = Some((cost, axis, cut));
            }
        }
    }
    // A lopsided cut could make the tree as deep as it is long; the stack of a search is not.
    if let Some((_, axis, cut)) = best {
        let width = high[axis] - low[axis];
        order.sort_by_key(|&t| bin_of(middle(t, axis), low[axis], width) >= cut);
        let at = order.partition_point(|&t| bin_of(middle(t, axis), low[axis], width) < cut);
        if at.min(order.len() - at) * 8 >= order.len() {
            return at;
        }
        order.sort_by(|&s, &t| middle(s, axis).total_cmp(&middle(t, axis)));
    }
    order.len() / 2
}

fn bin_of(x: f64, low: f64, width: f64) -> usize {
    (((x - low) / width * BINS as f64) as usize).min(BINS - 1)
}

fn union(boxes: impl Iterator<Item = ([f64; 3], [f64; 3])>) -> ([f64; 3], [f64; 3]) {
    boxes.fold(
        ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]),
        |(min, max), (low, high)| {
            (
                [0, 1, 2].map(|k| low[k].min(min[k])),
                [0, 1, 2].map(|k| high[k].max(max[k])),
            )
        },
    )
}

fn half_area((min, max): ([f64; 3], [f64; 3])) -> f64 {
    let d = sub(max, min);
    if d[0] < 0.0 {
        0.0
    } else {
        d[0] * d[1] + d[1] * d[2] + d[2] * d[0]
    }
}

fn squared(v: [f64; 3]) -> f64 {
    dot(v, v)
}

fn edge(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

/// The same mesh with equal corners made one, as a triangle soup needs before it can be checked.
fn weld(mesh: &Mesh) -> Mesh {
    let mut seen: HashMap<[u64; 3], u32> = HashMap::with_capacity(mesh.vertices.len());
    let mut vertices = Vec::new();
    let index: Vec<u32> = mesh
        .vertices
        .iter()
        .map(|v| {
            // Adding zero makes minus zero and zero the same.
            *seen
                .entry(v.map(|x| (x + 0.0).to_bits()))
                .or_insert_with(|| {
                    vertices.push(*v);
                    vertices.len() as u32 - 1
                })
        })
        .collect();
    let triangles = mesh
        .triangles
        .iter()
        .map(|t| t.map(|v| index[v as usize]))
        .filter(|&[a, b, c]| a != b && b != c && c != a)
        .collect();
    Mesh {
        vertices,
        triangles,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::tests::{Rng, bracket};
    use crate::mesh::tests::cuboid;

    #[test]
    fn distances_to_a_box_are_exact_inside_at_edges_and_at_corners() {
        let surface = Surface::new(&cuboid([2.0, 4.0, 6.0])).unwrap();
        let exact = |p: [f64; 3]| {
            let q = [p[0].abs() - 1.0, p[1].abs() - 2.0, p[2].abs() - 3.0];
            length(q.map(|x| x.max(0.0))) + q[0].max(q[1]).max(q[2]).min(0.0)
        };
        let mut rng = Rng(3);
        for _ in 0..20_000 {
            let p = [4.0, 7.0, 9.0].map(|s| (rng.uniform() - 0.5) * s);
            let foot = surface.closest(p, None, None).unwrap();
            assert!((foot.distance - exact(p)).abs() < 1e-12, "{p:?}");
        }
    }

    #[test]
    fn the_tree_agrees_with_trying_every_triangle() {
        let surface = Surface::new(&bracket()).unwrap();
        let mut rng = Rng(5);
        for _ in 0..3_000 {
            let p = surface.half.map(|h| (rng.uniform() - 0.5) * 3.0 * h);
            let brute = surface
                .triangles
                .iter()
                .map(|t| squared(sub(p, t.closest(p).0)))
                .fold(f64::INFINITY, f64::min)
                .sqrt();
            let hint = (rng.uniform() * surface.triangles.len() as f64) as u32;
            for hint in [None, Some(hint)] {
                let foot = surface.closest(p, None, hint).unwrap();
                assert!((foot.distance.abs() - brute).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn samples_share_the_area_evenly() {
        let surface = Surface::new(&bracket()).unwrap();
        let samples = surface.samples(1.0);
        assert!((samples.len() as f64 - surface.area_mm2).abs() < 2.0);
        assert!(
            samples
                .iter()
                .all(|s| surface.closest(s.point, None, None).unwrap().distance.abs() < 1e-9)
        );
    }

    #[test]
    fn a_mesh_without_an_inside_is_refused() {
        let mut open = cuboid([1.0; 3]);
        open.triangles.pop();
        assert_eq!(Surface::new(&open).unwrap_err().boundary_edges, 3);
        let mut inverted = cuboid([1.0; 3]);
        inverted.triangles.iter_mut().for_each(|t| t.swap(0, 1));
        assert!(Surface::new(&inverted).is_err());
        assert!(Surface::new(&Mesh::default()).is_err());
    }
}
