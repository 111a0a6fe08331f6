//! The skin of a part, closed and in one piece: each cell is cut into six tetrahedra, and each of those by the skin
//! (Doi and Koide 1991).

use std::collections::HashMap;

use crate::field::{Grid, Part};

/// A corner is no nearer to the skin than this, in millimetres, so that no triangle is a point in single precision.
const NEAR: f64 = 2e-3;

/// How often an edge is halved to find the skin: to less than a thousandth of a cell.
const HALVES: u32 = 12;

/// The corners of the six tetrahedra around the diagonal of a cell; a corner's bits say in which axes it is at the far end.
const TETRAHEDRA: [[usize; 4]; 6] = [
    [0, 1, 3, 7],
    [0, 3, 2, 7],
    [0, 2, 6, 7],
    [0, 6, 4, 7],
    [0, 4, 5, 7],
    [0, 5, 1, 7],
];

/// The steps along the edges of tetrahedra, one way.
const EDGES: [usize; 7] = [1, 2, 3, 4, 5, 6, 7];

/// A closed mesh.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Skin {
    /// In millimetres.
    pub vertices: Vec<[f32; 3]>,
    /// Counterclockwise seen from outside.
    pub triangles: Vec<[u32; 3]>,
}

impl Skin {
    /// The skin of a part.
    #[must_use]
    pub fn of(part: &Part<'_>, grid: &Grid) -> Self {
        let depths = depths(part, grid);
        let mut drawing = Drawing {
            part,
            grid,
            depths: &depths,
            known: HashMap::new(),
            skin: Self::default(),
        };
        let [nx, ny, nz] = grid.counts;
        for k in 0..nz - 1 {
            for j in 0..ny - 1 {
                for i in 0..nx - 1 {
                    drawing.cell(index(grid, [i, j, k]));
                }
            }
        }
        drawing.skin
    }

    /// In cubic millimetres.
    #[must_use]
    pub fn volume(&self) -> f64 {
        let six = self.triangles.iter().map(|triangle| {
            let [a, b, c] = triangle.map(|n| self.vertices[n as usize].map(f64::from));
            a[0] * (b[1] * c[2] - b[2] * c[1])
                + a[1] * (b[2] * c[0] - b[0] * c[2])
                + a[2] * (b[0] * c[1] - b[1] * c[0])
        });
        six.sum::<f64>() / 6.0
    }

    /// As a binary STL: a header of 80 bytes, the number of triangles, and 50 bytes for each.
    #[must_use]
    pub fn stl(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(84 + 50 * self.triangles.len());
        bytes.resize(80, 0);
        bytes.extend((self.triangles.len() as u32).to_le_bytes());
        for triangle in &self.triangles {
            let corners = triangle.map(|n| self.vertices[n as usize]);
            let [a, b, c] = corners;
            let (u, v) = (
                [0, 1, 2].map(|n| b[n] - a[n]),
                [0, 1, 2].map(|n| c[n] - a[n]),
            );
            let normal = [
                u[1] * v[2] - u[2] * v[1],
                u[2] * v[0] - u[0] * v[2],
                u[0] * v[1] - u[1] * v[0],
            ];
            let length = normal.iter().map(|x| x * x).sum::<f32>().sqrt();
            for point in [normal.map(|x| x / length)].into_iter().chain(corners) {
                bytes.extend(point.into_iter().flat_map(f32::to_le_bytes));
            }
            bytes.extend([0; 2]);
        }
        bytes
    }
}

struct Drawing<'a> {
    part: &'a Part<'a>,
    grid: &'a Grid,
    depths: &'a [f64],
    known: HashMap<(usize, usize), u32>,
    skin: Skin,
}

impl Drawing<'_> {
    fn cell(&mut self, first: usize) {
        for tetrahedron in TETRAHEDRA {
            let corners = tetrahedron.map(|bits| first + step(self.grid, bits));
            self.tetrahedron(corners);
        }
    }

    /// Draws what of the skin goes through a tetrahedron. Its corners are right-handed: seen from the last, the others go
    /// around counterclockwise.
    fn tetrahedron(&mut self, corners: [usize; 4]) {
        let inside = corners.map(|corner| self.depths[corner] > 0.0);
        let count = inside.iter().filter(|inside| **inside).count();
        match count {
            1 | 3 => {
                // The one that is alone, and the others in an order that leaves the hand as it is.
                let alone = (0..4).find(|n| inside[*n] == (count == 1)).unwrap_or(0);
                let [a, b, c] = match alone {
                    0 => [1, 2, 3],
                    1 => [0, 3, 2],
                    2 => [0, 1, 3],
                    _ => [0, 2, 1],
                };
                let [p, q, r] = [a, b, c].map(|other| self.vertex(corners[alone], corners[other]));
                self.triangle([p, q, r], count == 3);
            }
            2 => {
                let pairs: [([usize; 2], [usize; 2]); 6] = [
                    ([0, 1], [2, 3]),
                    ([0, 2], [3, 1]),
                    ([0, 3], [1, 2]),
                    ([1, 2], [0, 3]),
                    ([1, 3], [2, 0]),
                    ([2, 3], [0, 1]),
                ];
                let two = pairs.iter().find(|([a, b], _)| inside[*a] && inside[*b]);
                let Some(&([a, b], [c, d])) = two else { return };
                let [p, q, r, s] = [(a, c), (a, d), (b, d), (b, c)]
                    .map(|(inner, outer)| self.vertex(corners[inner], corners[outer]));
                self.triangle([p, q, r], false);
                self.triangle([p, r, s], false);
            }
            _ => {}
        }
    }

    fn triangle(&mut self, [a, b, c]: [u32; 3], turned: bool) {
        let triangle = if turned { [a, c, b] } else { [a, b, c] };
        self.skin.triangles.push(triangle);
    }

    fn vertex(&mut self, a: usize, b: usize) -> u32 {
        let edge = (a.min(b), a.max(b));
        if let Some(known) = self.known.get(&edge) {
            return *known;
        }
        let at = self.crossing(edge);
        let vertices = &mut self.skin.vertices;
        vertices.push(at.map(|x| x as f32));
        let number = vertices.len() as u32 - 1;
        self.known.insert(edge, number);
        number
    }

    /// Where the skin crosses an edge, by halves: depths are straight lines but for the edges of the part.
    fn crossing(&self, (a, b): (usize, usize)) -> [f64; 3] {
        let (from, to) = (place(self.grid, a), place(self.grid, b));
        let at = |share: f64| [0, 1, 2].map(|n| from[n] + share * (to[n] - from[n]));
        let inside = self.depths[a] > 0.0;
        // Where a corner was put on the other side, the skin goes by that corner.
        let (mut near, mut far) = (0.0, 1.0);
        for _ in 0..HALVES {
            let middle = f64::midpoint(near, far);
            if (self.part.depth(at(middle)) > 0.0) == inside {
                near = middle;
            } else {
                far = middle;
            }
        }
        let closest = NEAR / self.grid.cell;
        at(near.clamp(closest, 1.0 - closest))
    }
}

fn index(grid: &Grid, [i, j, k]: [usize; 3]) -> usize {
    (k * grid.counts[1] + j) * grid.counts[0] + i
}

fn step(grid: &Grid, bits: usize) -> usize {
    index(grid, [bits & 1, bits >> 1 & 1, bits >> 2 & 1])
}

fn place(grid: &Grid, corner: usize) -> [f64; 3] {
    let [nx, ny, _] = grid.counts;
    grid.at([corner % nx, corner / nx % ny, corner / nx / ny])
}

/// How deep each corner lies, where the part is one piece without hollows: what hangs free is left out, hollows are filled.
fn depths(part: &Part<'_>, grid: &Grid) -> Vec<f64> {
    let count = grid.counts.iter().product();
    let off = |depth: f64| {
        if depth > 0.0 {
            depth.max(NEAR)
        } else {
            depth.min(-NEAR)
        }
    };
    let depth = |corner| off(part.depth(place(grid, corner)));
    let mut depths: Vec<f64> = (0..count).map(depth).collect();
    let largest = largest(&depths, grid);
    for (depth, largest) in depths.iter_mut().zip(largest) {
        if *depth > 0.0 && !largest {
            *depth = -NEAR;
        }
    }
    let outside = reached(&depths, grid, 0);
    for (depth, outside) in depths.iter_mut().zip(outside) {
        if *depth < 0.0 && !outside {
            *depth = NEAR;
        }
    }
    depths
}

/// The largest piece.
fn largest(depths: &[f64], grid: &Grid) -> Vec<bool> {
    let mut best = (0, vec![false; depths.len()]);
    let mut seen = vec![false; depths.len()];
    for corner in 0..depths.len() {
        if depths[corner] > 0.0 && !seen[corner] {
            let piece = reached(depths, grid, corner);
            let mut size = 0;
            for (seen, piece) in seen.iter_mut().zip(&piece) {
                *seen |= piece;
                size += usize::from(*piece);
            }
            if size > best.0 {
                best = (size, piece);
            }
        }
    }
    best.1
}

/// What can be reached from a corner along edges without crossing the skin.
fn reached(depths: &[f64], grid: &Grid, from: usize) -> Vec<bool> {
    let inside = depths[from] > 0.0;
    let mut reached = vec![false; depths.len()];
    reached[from] = true;
    let mut todo = vec![from];
    let [nx, ny, nz] = grid.counts;
    while let Some(corner) = todo.pop() {
        let at = [corner % nx, corner / nx % ny, corner / nx / ny];
        for bits in EDGES {
            let by = [bits & 1, bits >> 1 & 1, bits >> 2 & 1];
            let fits = |a: usize| at[a] + by[a] < [nx, ny, nz][a];
            let forth = (0..3).all(fits).then(|| corner + step(grid, bits));
            let back = (0..3)
                .all(|a| at[a] >= by[a])
                .then(|| corner - step(grid, bits));
            for next in [forth, back].into_iter().flatten() {
                if !reached[next] && (depths[next] > 0.0) == inside {
                    reached[next] = true;
                    todo.push(next);
                }
            }
        }
    }
    reached
}
