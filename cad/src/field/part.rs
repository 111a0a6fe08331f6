//! The part as one signed function: optimised material, frozen shapes united, keep-outs cut out.

use rayon::prelude::*;

use super::Voxels;
use super::faces::{Face, Side, least, most, nearest_face};
use super::material::{Material, sample};
use crate::families::{DesignSpace, Shape};
use crate::mesh::{dot, length};

/// Radius of the edge where optimised material meets a keep-out, in cells. A finer edge comes out
/// as rags of the mesh and as a burr from the printer; slivers thinner than half of it vanish.
const ROUND: f64 = 2.25;
/// Radius of the fillet where optimised material meets a frozen shape, in cells.
const FILLET: f64 = 2.25;

/// The part to be meshed.
pub(super) struct Part<'a> {
    /// Distance to the surface of the optimised material, mm, positive inside; it goes on straight
    /// into frozen shapes and keep-outs. Its cells are the surface's.
    free: Voxels,
    space: &'a DesignSpace,
    envelope: Shape,
}

impl<'a> Part<'a> {
    /// Smooths the densities and finds the level between 0.3 and 0.7 that keeps their volume.
    pub(super) fn new(density: &Voxels, space: &'a DesignSpace) -> Self {
        let material = Material::new(density, space);
        let envelope = Shape::Cuboid {
            min: space.envelope.min,
            max: space.envelope.max,
        };
        let (mut low, mut high) = (0.3, 0.7);
        let mut part = Self {
            free: material.distance(0.5 * (low + high)),
            space,
            envelope,
        };
        let centres: Vec<[f64; 3]> = (0..part.free.fill.len())
            .map(|n| part.free.centre(n))
            .collect();
        let solid: Vec<bool> = centres.par_iter().map(|&p| space.is_solid(p)).collect();
        let target = density.volume_mm3() / part.free.cell_mm3();
        for _ in 0..6 {
            if part.filled(&solid) > target {
                low = 0.5 * (low + high);
            } else {
                high = 0.5 * (low + high);
            }
            part.free = material.distance(0.5 * (low + high));
        }
        part
    }

    /// How many cells are material, with shares for those on the optimised surface.
    fn filled(&self, solid: &[bool]) -> f64 {
        let h = self.free.voxel_mm;
        let share = |n: usize| {
            let free = self.free.fill[n];
            if solid[n] || free < -0.5 * h {
                return f64::from(u8::from(solid[n]));
            }
            let depth = self.rounded(self.free.centre(n), free);
            (0.5 + depth / h).clamp(0.0, 1.0)
        };
        let shares: Vec<f64> = (0..solid.len()).into_par_iter().map(share).collect();
        // In order, so that the sum does not depend on the number of threads.
        shares.iter().sum()
    }

    /// The signed depth at every cell, mm.
    pub(super) fn field(&self) -> Voxels {
        let mut field = self.free.clone();
        field.fill = (0..field.fill.len())
            .into_par_iter()
            .map(|n| self.at(field.centre(n)).mm)
            .collect();
        field
    }

    /// The signed depth at a point; exact shapes win ties with optimised material.
    pub(super) fn at(&self, p: [f64; 3]) -> Side {
        let soft = Side {
            mm: self.filleted(p),
            face: Face::Soft,
        };
        let solids = self.space.solids.iter().map(|s| nearest_face(s, p));
        let filled = solids.fold(soft, |a, b| most(b, a));
        self.walls(p).fold(filled, |a, b| least(b, a))
    }

    /// One of Newton's steps from a point to the part's surface.
    pub(super) fn towards_surface(&self, p: [f64; 3]) -> [f64; 3] {
        let slope = gradient(p, 0.25 * self.free.voxel_mm, |p| self.at(p).mm);
        // Blends are flatter than distances; a flat spot says nothing about where the surface is.
        let step = self.at(p).mm / dot(slope, slope).max(0.05);
        [0, 1, 2].map(|a| p[a] - step * slope[a])
    }

    /// The point moved out of every keep-out and into the envelope.
    pub(super) fn allowed(&self, p: [f64; 3]) -> [f64; 3] {
        let beyond = self.walls(p).filter(|wall| wall.mm < 0.0);
        beyond.fold(p, |p, wall| wall.face.nearest(p))
    }

    /// The keep-outs and the envelope seen from where material may be.
    fn walls(&self, p: [f64; 3]) -> impl Iterator<Item = Side> + '_ {
        let voids = self.space.voids.iter();
        voids
            .map(move |s| nearest_face(s, p).turned())
            .chain([nearest_face(&self.envelope, p)])
    }

    /// Depth in the optimised material with fillets towards the frozen shapes it meets, mm.
    fn filleted(&self, p: [f64; 3]) -> f64 {
        let soft = self.soft(p);
        let (radius, step) = (FILLET * self.free.voxel_mm, 0.25 * self.free.voxel_mm);
        let mut filleted = soft;
        for solid in &self.space.solids {
            let depth = solid.depth(p);
            if soft.abs().max(depth.abs()) < radius {
                let normals = [
                    unit(gradient(p, step, |p| self.soft(p))),
                    unit(gradient(p, step, |p| solid.depth(p))),
                ];
                // Surfaces that go on in the same direction leave no corner to fill.
                let corner = (1.0 - dot(normals[0], normals[1])).min(1.0);
                filleted = filleted.max(either(soft, depth, radius * corner));
            }
        }
        filleted
    }

    /// Depth in the optimised material alone, mm.
    fn soft(&self, p: [f64; 3]) -> f64 {
        self.rounded(p, sample(&self.free, p))
    }

    /// Depth in material cut by keep-outs and the envelope with rounded edges, mm.
    fn rounded(&self, p: [f64; 3], free: f64) -> f64 {
        let radius = ROUND * self.free.voxel_mm;
        // No rounding adds material, so far outside only the sign matters.
        if free < -radius {
            return free;
        }
        let voids = self.space.voids.iter().map(|s| -s.depth(p));
        let walls = voids.chain([self.envelope.depth(p)]);
        walls.fold(free, |a, b| both(a, b, radius))
    }
}

/// Depth in the intersection of two shapes with its edge rounded to a radius, mm; never more than
/// either depth. `fOpIntersectionRound` of the `hg_sdf` library (Mercury 2015), positive inside.
fn both(a: f64, b: f64, radius: f64) -> f64 {
    if a.max(b) >= radius {
        return a.min(b);
    }
    radius - (radius - a).hypot(radius - b)
}

/// Depth in the union of two shapes with a fillet of a radius, mm: `fOpUnionRound` of `hg_sdf`.
fn either(a: f64, b: f64, radius: f64) -> f64 {
    -both(-a, -b, radius)
}

/// Change per mm along each axis, by central differences.
fn gradient(p: [f64; 3], step: f64, of: impl Fn([f64; 3]) -> f64) -> [f64; 3] {
    [0, 1, 2].map(|a| {
        let (mut low, mut high) = (p, p);
        low[a] -= step;
        high[a] += step;
        (of(high) - of(low)) / (2.0 * step)
    })
}

fn unit(a: [f64; 3]) -> [f64; 3] {
    let l = length(a).max(1e-12);
    a.map(|x| x / l)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_edge_stays_within_both_shapes_and_slivers_vanish() {
        for n in 0..400 {
            let (a, b) = (f64::from(n % 20) / 5.0 - 1.0, f64::from(n / 20) / 5.0 - 1.0);
            assert!(both(a, b, 1.5) <= a.min(b) + 1e-12);
            assert!(either(a, b, 1.5) >= a.max(b) - 1e-12);
        }
        // Far from the edge nothing changes.
        assert_eq!(both(0.5, 9.0, 1.5), 0.5);
        assert_eq!(either(-0.5, -9.0, 1.5), -0.5);
        // Half way through a sheet, 0.8 mm and 1 mm thick.
        assert!(both(0.4, 0.4, 1.5) < 0.0);
        assert!(both(0.5, 0.5, 1.5) > 0.0);
    }
}
