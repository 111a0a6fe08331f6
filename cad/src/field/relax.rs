//! Smooths a surface net without blurring it: exact faces, and the edges between them, stay sharp.
//!
//! Taubin's filter (1995), except that a vertex on exact faces stays on them, and that one where
//! such faces meet evens out with its neighbours on the same edge only. Optimised material has no
//! sharp edges; its vertices end on its own surface.

use rayon::prelude::*;

use super::faces::Face;
use super::part::Part;
use super::surface::{Net, Quad};
use crate::mesh::{cross, dot, length, sub};

/// A vertex may move this share of a cell from its corner, so that neighbours stay apart.
pub(super) const REACH: f64 = 0.48;
/// A vertex on exact faces may go this far: a face or edge can pass just outside its cell.
const FACE_REACH: f64 = 0.75;
/// Faces whose normals have a greater cosine continue one another.
const SMOOTH: f64 = 0.94;
/// A cell's centre may lie on a face up to rounding; then it counts as inside, mm.
const TIE: f64 = 1e-6;
/// Passes of the filter, every other one swelling what the one before shrank.
const PASSES: usize = 16;
/// Passes that even out and return to the surface: the filter alone wears thin rims down.
const RETURNS: usize = 3;

/// Puts the vertices of a part's net onto the part's faces and evens them out along these.
pub(super) fn relax(net: &mut Net, part: &Part<'_>) {
    let holds = holds(net, part);
    for (vertex, hold) in net.vertices.iter_mut().zip(&holds) {
        *vertex = hold.start;
    }
    let links = links(net, &holds);
    for pass in 0..PASSES + RETURNS {
        let returns = pass >= PASSES;
        let factor = match pass % 2 {
            _ if returns => 0.3,
            0 => 0.5,
            _ => -0.52,
        };
        let before = &net.vertices;
        let moved = |v: usize| {
            let (here, hold) = (before[v], &holds[v]);
            let mean = mean_of(before, &links[v]).unwrap_or(here);
            let wanted = [0, 1, 2].map(|a| here[a] + factor * (mean[a] - here[a]));
            if !hold.faces.is_empty() {
                return hold.placed(net, v, wanted);
            }
            let wanted = if returns {
                part.towards_surface(wanted)
            } else {
                wanted
            };
            net.within(v, part.allowed(wanted), REACH)
        };
        net.vertices = (0..holds.len()).into_par_iter().map(moved).collect();
    }
    release_squeezed(net);
    let quads = net.quads.par_iter();
    net.quads = quads.map(|quad| split(net, &holds, quad)).collect();
}

/// What a vertex lies on.
struct Hold {
    /// At most three exact faces that differ in direction; none for optimised material.
    faces: Vec<Face>,
    /// Mean of the crossings around it.
    start: [f64; 3],
}

impl Hold {
    /// The place nearest to `wanted` on all faces, as far as the vertex can reach.
    fn placed(&self, net: &Net, v: usize, wanted: [f64; 3]) -> [f64; 3] {
        // Faces at right angles are met at once, others in turns.
        let rounds = if self.faces.len() > 1 { 8 } else { 1 };
        let mut p = net.within(v, wanted, REACH);
        for _ in 0..rounds {
            p = self.faces.iter().fold(p, |p, face| face.nearest(p));
        }
        net.within(v, p, FACE_REACH)
    }

    fn is_on_all_of(&self, other: &Self) -> bool {
        other.faces.iter().all(|f| self.faces.contains(f))
    }

    /// Whether the line to another vertex can lie on the surface.
    fn sees(&self, other: &Self) -> bool {
        self.faces.is_empty() && other.faces.is_empty()
            || self.faces.iter().any(|f| other.faces.contains(f))
    }
}

/// A point of the part's surface, and what it is a point of.
type Crossing = ([f64; 3], Face);

/// Finds the faces around every vertex where the lines between its cells cross the surface.
fn holds(net: &Net, part: &Part<'_>) -> Vec<Hold> {
    let centre = |cell: usize| net.field.centre(cell);
    let crossings: Vec<Option<Crossing>> = net
        .quads
        .par_iter()
        .map(|quad| crossing(part, centre(quad.inside), centre(quad.outside)))
        .collect();
    let mut around: Vec<Vec<Option<Crossing>>> = vec![Vec::new(); net.vertices.len()];
    for (quad, &crossing) in net.quads.iter().zip(&crossings) {
        for v in quad.corners {
            around[v as usize].push(crossing);
        }
    }
    around
        .into_par_iter()
        .zip(&net.vertices)
        .map(|(around, &vertex)| {
            let known: Option<Vec<Crossing>> = around.into_iter().collect();
            known.map_or(
                Hold {
                    faces: Vec::new(),
                    start: vertex,
                },
                |crossings| Hold {
                    faces: distinct(&crossings),
                    start: [0, 1, 2].map(|a| {
                        let sum: f64 = crossings.iter().map(|(p, _)| p[a]).sum();
                        sum / crossings.len() as f64
                    }),
                },
            )
        })
        .collect()
}

/// Where the surface crosses the line between two cells, by bisection, and the face there; none
/// where the net's cells were repaired and it does not.
fn crossing(part: &Part<'_>, mut inside: [f64; 3], mut outside: [f64; 3]) -> Option<Crossing> {
    if part.at(inside).mm <= -TIE || part.at(outside).mm > TIE {
        return None;
    }
    let middle = |a: [f64; 3], b: [f64; 3]| [0, 1, 2].map(|n| 0.5 * (a[n] + b[n]));
    for _ in 0..7 {
        let m = middle(inside, outside);
        if part.at(m).mm > -TIE {
            inside = m;
        } else {
            outside = m;
        }
    }
    // Just outside, the face that was crossed decides, even where another passes as near.
    Some((middle(inside, outside), part.at(outside).face))
}

/// The exact faces that differ in direction, those met most often first; none next to optimised
/// material, which is rounded where it ends on a face.
fn distinct(crossings: &[Crossing]) -> Vec<Face> {
    let mut found: Vec<(Face, [f64; 3], usize)> = Vec::new();
    for &(p, face) in crossings {
        match (found.iter_mut().find(|f| f.0 == face), face.normal(p)) {
            (_, None) => return Vec::new(),
            (Some(known), _) => known.2 += 1,
            (None, Some(normal)) => found.push((face, normal, 1)),
        }
    }
    // Stable, so that of equals the first stays the first.
    found.sort_by_key(|f| usize::MAX - f.2);
    let mut kept: Vec<(Face, [f64; 3])> = Vec::new();
    for (face, normal, _) in found {
        if kept.len() < 3 && kept.iter().all(|k| dot(k.1, normal).abs() < SMOOTH) {
            kept.push((face, normal));
        }
    }
    kept.into_iter().map(|k| k.0).collect()
}

/// The neighbours each vertex evens out with: on an edge only those on the same edge.
fn links(net: &Net, holds: &[Hold]) -> Vec<Vec<u32>> {
    let mut links = vec![Vec::new(); holds.len()];
    for quad in &net.quads {
        let [a, b, c, d] = quad.corners;
        // Every edge is met once in either direction; collect it once per vertex.
        for (v, w) in [(a, b), (b, c), (c, d), (d, a)] {
            let (own, other) = (&holds[v as usize], &holds[w as usize]);
            if own.faces.len() < 2 || other.is_on_all_of(own) {
                links[v as usize].push(w);
            }
        }
    }
    for (hold, links) in holds.iter().zip(&mut links) {
        // The end of an edge stays where it is.
        if hold.faces.len() > 1 && links.len() < 2 {
            links.clear();
        }
    }
    links
}

fn mean_of(vertices: &[[f64; 3]], of: &[u32]) -> Option<[f64; 3]> {
    let sum = |a: usize| of.iter().map(|&n| vertices[n as usize][a]).sum::<f64>();
    (!of.is_empty()).then(|| [0, 1, 2].map(|a| sum(a) / of.len() as f64))
}

/// Edges and folds can squeeze a triangle to nothing; its vertices go back towards their cells.
fn release_squeezed(net: &mut Net) {
    let least = 1e-4 * net.field.voxel_mm.powi(2);
    for round in 0..8 {
        let mut squeezed = vec![false; net.vertices.len()];
        for quad in &net.quads {
            let [a, b, c, d] = quad.corners;
            let [p, q, r, s] = quad.corners.map(|v| net.vertices[v as usize]);
            // The split takes the other diagonal where one leaves nothing.
            let flat = |t: [[f64; 3]; 3]| doubled_area(t) < least;
            let halves = [[[p, q, r], [p, r, s]], [[p, q, s], [q, r, s]]];
            if halves.iter().all(|both| both.iter().any(|&t| flat(t))) {
                for v in [a, b, c, d] {
                    squeezed[v as usize] = true;
                }
            }
        }
        if !squeezed.contains(&true) {
            return;
        }
        let reach = REACH * (1.0 - 0.1 * f64::from(round));
        for v in (0..squeezed.len()).filter(|&v| squeezed[v]) {
            net.vertices[v] = net.within(v, net.vertices[v], reach);
        }
    }
}

fn doubled_area([a, b, c]: [[f64; 3]; 3]) -> f64 {
    length(cross(sub(b, a), sub(c, a)))
}

/// The quad turned so that its first diagonal is the one to split along: it can lie on a face of
/// the part, and its triangles are the less slender.
fn split(net: &Net, holds: &[Hold], quad: &Quad) -> Quad {
    let [a, b, c, d] = quad.corners;
    let merit = |[a, b, c, d]: [u32; 4]| {
        let [p, q, r, s] = [a, b, c, d].map(|v| net.vertices[v as usize]);
        let on_face = holds[a as usize].sees(&holds[c as usize]);
        let fullness = fullness([p, q, r]).min(fullness([p, r, s]));
        (fullness > 1e-3, on_face, fullness)
    };
    let turned = [b, c, d, a];
    let corners = if merit(turned) > merit(quad.corners) {
        turned
    } else {
        quad.corners
    };
    Quad { corners, ..*quad }
}

/// Doubled area over the square of the longest side: 0 for a needle, 0.87 for equal sides.
fn fullness(corners: [[f64; 3]; 3]) -> f64 {
    let [a, b, c] = corners;
    let square = |side: [f64; 3]| dot(side, side);
    let longest = square(sub(b, a))
        .max(square(sub(c, b)))
        .max(square(sub(a, c)));
    doubled_area(corners) / longest.max(1e-18)
}
