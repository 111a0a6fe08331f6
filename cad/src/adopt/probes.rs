//! Rays through the surfaces that something else touches: each has to meet the part where the surface is, and nothing near it.

use std::f64::consts::TAU;

use super::{FACE_TOLERANCE_MM, place};
use crate::families::{Interface, InterfaceKind};
use crate::mesh::{Bounds, Mesh, cross, dot, sub};

/// A bore may be off by this, mm: the chords of a coarse mesh are, and so is the first layer of any printer.
const BORE_TOLERANCE_MM: f64 = 0.25;
/// How far behind a surface there is material, and how far before a face there is none, mm.
const BEHIND_MM: f64 = 0.9;
const BEFORE_MM: f64 = 2.0;
/// Where a surface is looked at: shares of its width or depth, none near its rims, which may be broken, and turns around it.
const SHARES: [f64; 5] = [0.25, 0.4, 0.5, 0.6, 0.75];
const TURNS: u32 = 24;
/// Crossings closer than this are one, through an edge that two triangles share, mm.
const SAME_MM: f64 = 1e-6;

/// What is wrong with a surface that something else touches.
pub(super) fn interface_reason(mesh: &Mesh, interface: &Interface) -> Option<String> {
    let reach = interface.extent.outer_mm + interface.extent.depth_mm + BEFORE_MM;
    let near = Bounds {
        min: interface.point.map(|x| x - reach),
        max: interface.point.map(|x| x + reach),
    };
    let close: Vec<[[f64; 3]; 3]> = (0..mesh.triangles.len())
        .map(|t| mesh.corners(t))
        .filter(|corners| meets(corners, near))
        .collect();
    let probes = probes(interface);
    let lost: Vec<&Probe> = probes.iter().filter(|probe| !probe.finds(&close)).collect();
    let first = lost.first()?;
    let (kind, off) = match interface.kind {
        InterfaceKind::Plane => ("face", FACE_TOLERANCE_MM),
        InterfaceKind::Bore => ("bore", BORE_TOLERANCE_MM),
    };
    Some(format!(
        "{kind} `{}` is off by more than {off} mm, or something is near it, in {} of {} places, first at {}",
        interface.name,
        lost.len(),
        probes.len(),
        place(first.at())
    ))
}

/// A ray that has to leave or enter the part at a distance, and cross nothing else on its way.
struct Probe {
    from: [f64; 3],
    direction: [f64; 3],
    distance: f64,
    tolerance: f64,
    /// Where it ends.
    length: f64,
    /// Out of the material, or into it.
    leaves: bool,
}

impl Probe {
    fn at(&self) -> [f64; 3] {
        [0, 1, 2].map(|a| self.from[a] + self.distance * self.direction[a])
    }

    fn finds(&self, triangles: &[[[f64; 3]; 3]]) -> bool {
        let mut found = false;
        for (at, leaves) in triangles.iter().filter_map(|one| self.crossing(one)) {
            if !(-SAME_MM..=self.length).contains(&at) {
                continue;
            }
            if leaves != self.leaves || (at - self.distance).abs() > self.tolerance {
                return false;
            }
            found = true;
        }
        found
    }

    /// Where the ray crosses a triangle, and whether it leaves there (Möller and Trumbore 1997).
    fn crossing(&self, [a, b, c]: &[[f64; 3]; 3]) -> Option<(f64, bool)> {
        let (ab, ac) = (sub(*b, *a), sub(*c, *a));
        let p = cross(self.direction, ac);
        // Negative where the triangle looks along the ray, that is, where the ray leaves.
        let facing = dot(ab, p);
        if facing == 0.0 {
            return None;
        }
        let s = sub(self.from, *a);
        let q = cross(s, ab);
        let (u, v) = (dot(s, p) / facing, dot(self.direction, q) / facing);
        let edge = -1e-9;
        let within = u >= edge && v >= edge && u + v <= 1.0 - edge;
        within.then(|| (dot(ac, q) / facing, facing < 0.0))
    }
}

fn probes(interface: &Interface) -> Vec<Probe> {
    let axis = interface.axis();
    let (b, c) = ((axis + 1) % 3, (axis + 2) % 3);
    let extent = interface.extent;
    let mut probes = Vec::new();
    for share in SHARES {
        for turn in 0..TURNS {
            // Not the same turns everywhere.
            let turn = f64::from(turn) + 0.3 + share;
            let (sine, cosine) = (TAU * turn / f64::from(TURNS)).sin_cos();
            let mut radial = [0.0; 3];
            (radial[b], radial[c]) = (cosine, sine);
            let along = |from: [f64; 3], direction: [f64; 3], by: f64| {
                [0, 1, 2].map(|a| from[a] + by * direction[a])
            };
            probes.push(match interface.kind {
                InterfaceKind::Plane => {
                    let radius = extent.inner_mm + share * (extent.outer_mm - extent.inner_mm);
                    let at = along(interface.point, radial, radius);
                    Probe {
                        from: along(at, interface.normal, -BEHIND_MM),
                        direction: interface.normal,
                        distance: BEHIND_MM,
                        tolerance: FACE_TOLERANCE_MM,
                        length: BEHIND_MM + BEFORE_MM,
                        leaves: true,
                    }
                }
                InterfaceKind::Bore => Probe {
                    from: along(interface.point, interface.normal, share * extent.depth_mm),
                    direction: radial,
                    distance: extent.inner_mm,
                    tolerance: BORE_TOLERANCE_MM,
                    length: extent.inner_mm + BEHIND_MM,
                    leaves: false,
                },
            });
        }
    }
    probes
}

fn meets(corners: &[[f64; 3]; 3], bounds: Bounds) -> bool {
    (0..3).all(|axis| {
        let along = corners.map(|corner| corner[axis]);
        let least = along.into_iter().fold(f64::INFINITY, f64::min);
        let greatest = along.into_iter().fold(f64::NEG_INFINITY, f64::max);
        least <= bounds.max[axis] && greatest >= bounds.min[axis]
    })
}
