//! Faults of a print, injected into the execution of a program, for cells that only simulate.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Progress;
use crate::mesh::dot;
use crate::slice::deposit::{self, Deposit, DepositError, DepositOptions, FAR_UM, Room};
use crate::slice::machine::Bead;
use crate::slice::rng::Rng;
use crate::slice::surface::{self, SurfacePoint};

/// Half the width of a bump, mm.
const BUMP_RADIUS_MM: f64 = 3.0;
/// Its height, mm.
const BUMP_HEIGHT_MM: f64 = 1.5;
/// Radius of the ball in which a clogged nozzle gives nothing, mm.
const HOLE_RADIUS_MM: f64 = 3.5;
/// How deep below the surface its centre lies, mm.
const HOLE_DEPTH_MM: f64 = 1.0;
/// How far a lost step moves the layers above, mm.
const SHIFT_MM: f64 = 1.0;

/// What goes wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// Nothing.
    #[default]
    None,
    /// A blob of plastic stuck to a surface, 6 mm wide and 1.5 mm high.
    Bump,
    /// The nozzle is clogged near a place on the surface and leaves a crater.
    Hole,
    /// The x axis loses steps: from some layer on, everything is 1 mm off.
    Shift,
}

impl FromStr for Defect {
    type Err = UnknownDefect;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "bump" => Ok(Self::Bump),
            "hole" => Ok(Self::Hole),
            "shift" => Ok(Self::Shift),
            _ => Err(UnknownDefect(name.to_owned())),
        }
    }
}

/// No defect has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown defect `{0}`; known are none, bump, hole, shift")]
pub struct UnknownDefect(pub String);

/// Executes a program on a machine with a fault; where and how it strikes follows from the seed.
///
/// # Errors
/// As [`deposit::deposit`].
pub fn deposit_with_defect(
    gcode: &str,
    options: &DepositOptions,
    defect: Defect,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Deposit, DepositError> {
    let beads = deposit::execute(gcode, options)?;
    let mut rng = Rng::new(seed, 7);
    match defect {
        Defect::None => deposit::lay(&beads, options, Room::default(), progress),
        Defect::Shift => {
            let beads = shifted(&beads, &mut rng);
            deposit::lay(&beads, options, Room::default(), progress)
        }
        Defect::Hole => {
            let sound = deposit::lay(&beads, options, Room::default(), &mut |f| progress(f / 2.0))?;
            let Some((place, normal)) = place(&sound, seed, &mut rng) else {
                return Ok(sound);
            };
            let centre = [0, 1, 2].map(|i| place.at[i] - HOLE_DEPTH_MM * normal[i]);
            drop(sound);
            let beads = clogged(&beads, centre);
            deposit::lay(&beads, options, Room::default(), &mut |f| {
                progress(0.5 + f / 2.0)
            })
        }
        Defect::Bump => {
            let room = Room {
                sides: BUMP_HEIGHT_MM,
                above: BUMP_HEIGHT_MM + 0.4,
            };
            let mut deposit = deposit::lay(&beads, options, room, progress)?;
            if let Some((place, normal)) = place(&deposit, seed, &mut rng) {
                bump(&mut deposit, place.at, normal);
            }
            Ok(deposit)
        }
    }
}

/// A place in the middle of a broad, even face that is not on the bed.
fn place(deposit: &Deposit, seed: u64, rng: &mut Rng) -> Option<(SurfacePoint, [f64; 3])> {
    let points = surface::thin(&deposit.visible_surface(seed), 1.5, seed);
    if points.is_empty() {
        return None;
    }
    let first = rng.below(points.len());
    // The thinned points come in random order; the first that lies broadly enough will do.
    for (radius, least) in [(4.0, 0.98), (3.0, 0.95), (2.0, 0.9), (1.0, -1.0)] {
        let mut candidates = points[first..].iter().chain(&points[..first]);
        let broad = candidates.find_map(|p| {
            let normal = deposit.normal_at(p, radius);
            let fits = p.at[2] > 0.5 && normal[2] > -0.5 && dot(normal, p.face) > least;
            fits.then_some((*p, normal))
        });
        if broad.is_some() {
            return broad;
        }
    }
    None
}

fn shifted(beads: &[Bead], rng: &mut Rng) -> Vec<Bead> {
    let mut tops: Vec<f64> = beads.iter().map(|bead| bead.top).collect();
    tops.sort_unstable_by(f64::total_cmp);
    tops.dedup();
    let from = tops[(tops.len() as f64 * rng.between(0.25, 0.75)) as usize];
    let by = if rng.unit() < 0.5 {
        SHIFT_MM
    } else {
        -SHIFT_MM
    };
    let moved = |p: [f64; 2]| [p[0] + by, p[1]];
    beads
        .iter()
        .map(|&bead| {
            if bead.top < from {
                bead
            } else {
                Bead {
                    from: moved(bead.from),
                    to: moved(bead.to),
                    ..bead
                }
            }
        })
        .collect()
}

/// The beads without what lies inside a ball: there the nozzle moves on but gives nothing.
fn clogged(beads: &[Bead], centre: [f64; 3]) -> Vec<Bead> {
    let mut kept = Vec::with_capacity(beads.len());
    for &bead in beads {
        let dz = bead.top - centre[2];
        let square = HOLE_RADIUS_MM * HOLE_RADIUS_MM - dz * dz;
        let d = [bead.to[0] - bead.from[0], bead.to[1] - bead.from[1]];
        let e = [bead.from[0] - centre[0], bead.from[1] - centre[1]];
        // |e + t d|² = square, for t from 0 to 1.
        let (a, b, c) = (
            d[0] * d[0] + d[1] * d[1],
            e[0] * d[0] + e[1] * d[1],
            e[0] * e[0] + e[1] * e[1] - square,
        );
        let root = b * b - a * c;
        if square <= 0.0 || (a > 0.0 && root <= 0.0) || (a == 0.0 && c > 0.0) {
            kept.push(bead);
            continue;
        }
        if a == 0.0 {
            continue;
        }
        let (enter, leave) = ((-b - root.sqrt()) / a, (-b + root.sqrt()) / a);
        let at = |t: f64| [bead.from[0] + t * d[0], bead.from[1] + t * d[1]];
        for (from, to) in [(0.0, enter.min(1.0)), (leave.max(0.0), 1.0)] {
            if to - from > 1e-9 {
                let volume = bead.volume * (to - from);
                kept.push(Bead {
                    from: at(from),
                    to: at(to),
                    volume,
                    ..bead
                });
            }
        }
    }
    kept
}

/// Adds a cap of a ball to the surface at `at`.
fn bump(deposit: &mut Deposit, at: [f64; 3], normal: [f64; 3]) {
    let (a, h) = (BUMP_RADIUS_MM, BUMP_HEIGHT_MM);
    let radius = (a * a + h * h) / (2.0 * h);
    let centre = [0, 1, 2].map(|i| at[i] - (radius - h) * normal[i]);
    let (origin, voxel, size) = (deposit.origin, deposit.voxel_mm, deposit.size);
    for (slab, cells) in deposit.slabs.iter().zip(&mut deposit.field) {
        let dz = (slab.bottom + slab.top) / 2.0 - centre[2];
        let square = radius * radius - dz * dz;
        if square <= 0.0 || slab.bottom < 0.0 {
            continue;
        }
        let disc = square.sqrt();
        for (i, value) in cells.iter_mut().enumerate() {
            let x = origin[0] + ((i % size.x) as f64 + 0.5) * voxel - centre[0];
            let y = origin[1] + ((i / size.x) as f64 + 0.5) * voxel - centre[1];
            let um = (x.hypot(y) - disc) * 1e3;
            if um < f64::from(*value) {
                *value = um.max(-f64::from(FAR_UM)) as i16;
            }
        }
    }
}
