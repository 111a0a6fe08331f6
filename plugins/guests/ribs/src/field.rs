//! What is inside a part: how deep a point lies in it, in millimetres, and a grid to look at it on.

use plugin_sdk::design::{Box3, Region, Task, Vec3};

/// How many cells a part is looked at in, about.
const CELLS: f64 = 400_000.0;
/// Cells are no smaller and no larger than this, in millimetres.
const SIZES: (f64, f64) = (0.4, 2.0);
/// Where in its first cell the envelope begins, so that no face of a part meets the corners of cells.
const SHIFT: f64 = 1.37;

/// A wall from the bed up to the line between two points.
#[derive(Debug, Clone, PartialEq)]
pub struct Rib {
    /// Where it is held.
    pub from: Vec3,
    /// Where it is pulled at.
    pub to: Vec3,
    /// In millimetres.
    pub thick: f64,
}

/// Everything a part is made of.
#[derive(Debug)]
pub struct Part<'a> {
    /// What is asked for.
    pub task: &'a Task,
    /// What joins it.
    pub ribs: Vec<Rib>,
}

/// Corners of cells, a cell and more around an envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Its first corner, in millimetres.
    pub origin: [f64; 3],
    /// Corners along each axis.
    pub counts: [usize; 3],
    /// The edge of a cell, in millimetres.
    pub cell: f64,
}

/// Why there is no grid around an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoGrid {
    /// The envelope has no volume.
    NoVolume,
    /// It would have too many corners.
    TooLarge,
}

impl Grid {
    /// A grid around an envelope.
    ///
    /// # Errors
    ///
    /// If that is none, or too large.
    pub fn of(Box3 { min, max }: &Box3) -> Result<Self, NoGrid> {
        let (min, size) = (
            [min.0, min.1, min.2],
            [max.0 - min.0, max.1 - min.1, max.2 - min.2],
        );
        let solid = min.iter().all(|at| at.is_finite())
            && size.iter().all(|side| side.is_finite() && *side > 0.0);
        if !solid {
            return Err(NoGrid::NoVolume);
        }
        let volume: f64 = size.iter().product();
        let cell = (volume / CELLS).cbrt().clamp(SIZES.0, SIZES.1);
        let counts = size.map(|side| (side / cell).ceil() + 4.0);
        if counts.iter().product::<f64>() > 10.0 * CELLS {
            return Err(NoGrid::TooLarge);
        }
        Ok(Self {
            origin: min.map(|at| at - SHIFT * cell),
            counts: counts.map(|count| count as usize),
            cell,
        })
    }

    /// Where a corner is.
    #[must_use]
    pub fn at(&self, corner: [usize; 3]) -> [f64; 3] {
        [0, 1, 2].map(|a| self.origin[a] + corner[a] as f64 * self.cell)
    }
}

impl Part<'_> {
    /// How deep a point lies in the part; negative outside.
    #[must_use]
    pub fn depth(&self, at: [f64; 3]) -> f64 {
        let floor = self.task.envelope.min.2;
        let kept = self.task.keep_in.iter().map(|place| region(place, at));
        let ribs = self.ribs.iter().map(|rib| rib.depth(at, floor));
        let solid = kept.chain(ribs).fold(f64::NEG_INFINITY, f64::max);
        let empty = self.task.keep_out.iter().map(|place| -region(place, at));
        empty.fold(solid.min(cuboid(&self.task.envelope, at)), f64::min)
    }
}

impl Rib {
    fn depth(&self, [x, y, z]: [f64; 3], floor: f64) -> f64 {
        let (dx, dy) = (self.to.0 - self.from.0, self.to.1 - self.from.1);
        let length = dx.hypot(dy).max(1e-9);
        let along = ((x - self.from.0) * dx + (y - self.from.1) * dy) / length;
        let beside = ((x - self.from.0) * dy - (y - self.from.1) * dx).abs() / length;
        let top = self.from.2 + (self.to.2 - self.from.2) * (along / length).clamp(0.0, 1.0);
        [
            self.thick / 2.0 - beside,
            along,
            length - along,
            z - floor,
            top - z,
        ]
        .into_iter()
        .fold(f64::INFINITY, f64::min)
    }
}

fn region(place: &Region, at: [f64; 3]) -> f64 {
    match place {
        Region::Box(place) => cuboid(place, at),
        Region::Cylinder(place) => {
            let from = [place.start.0, place.start.1, place.start.2];
            let axis = [
                place.end.0 - from[0],
                place.end.1 - from[1],
                place.end.2 - from[2],
            ];
            let length = axis.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-9);
            let off = [0, 1, 2].map(|a| at[a] - from[a]);
            let along = (0..3).map(|a| off[a] * axis[a]).sum::<f64>() / length;
            let away = off.iter().map(|a| a * a).sum::<f64>() - along * along;
            let radial = place.radius - away.max(0.0).sqrt();
            radial.min(along).min(length - along)
        }
    }
}

fn cuboid(Box3 { min, max }: &Box3, [x, y, z]: [f64; 3]) -> f64 {
    [
        x - min.0,
        max.0 - x,
        y - min.1,
        max.1 - y,
        z - min.2,
        max.2 - z,
    ]
    .into_iter()
    .fold(f64::INFINITY, f64::min)
}
