//! What ends up on the bed: every extruding move of a program laid down as a bead.
//!
//! Space is cut into slabs, one per printed layer, and each slab into square cells. A cell holds
//! the signed distance of its centre from the nearest bead's edge, so the surface is known far more
//! finely than the cells are small. In a slab a bead is a straight-walled capsule whose width
//! follows from the plastic pushed out: `width = volume / (length * height)`.

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::Progress;
use crate::mesh::Mesh;
use crate::slice::layer::{Solid, SolidError};
use crate::slice::machine::{self, Bead};
use crate::slice::polygon::Region;
use crate::slice::runs::{Runs, Size};

/// Distances are kept up to this far from an edge, µm.
pub(crate) const FAR_UM: i16 = 500;
/// Beads this close touch: coordinates in G-code are rounded, µm.
pub(crate) const SEAM_UM: i16 = 5;
/// No bead hangs lower than this below the nozzle, mm.
const TALLEST_BEAD_MM: f64 = 1.0;
/// No bead is wider than this to each side of its path, mm.
const WIDEST_MM: f64 = 5.0;
/// What a deposit may occupy.
const MOST_BYTES: u64 = 768 << 20;
/// Bytes per cell: two for the distance, two while the surface is looked for.
const BYTES_PER_CELL: u64 = 4;

/// How finely to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepositOptions {
    /// Edge of a cell, mm.
    pub voxel_mm: f64,
    /// Filament diameter, mm.
    pub filament_d: f64,
}

impl Default for DepositOptions {
    fn default() -> Self {
        Self {
            voxel_mm: 0.2,
            filament_d: 1.75,
        }
    }
}

/// Why a program cannot be executed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DepositError {
    /// A line is no G-code.
    #[error("line {line}: {message}")]
    Syntax {
        /// Line of the file, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A command the model cannot follow.
    #[error("line {line}: `{command}` {what}, which this machine cannot do")]
    Unsupported {
        /// Line of the file, from 1.
        line: usize,
        /// The command.
        command: String,
        /// What it does.
        what: &'static str,
    },
    /// An option is out of its range.
    #[error("option `{field}` is {value}, but must be from {low} to {high}")]
    Option {
        /// Name of the option.
        field: &'static str,
        /// What it is.
        value: f64,
        /// Least allowed.
        low: f64,
        /// Most allowed.
        high: f64,
    },
    /// The program lays down nothing.
    #[error("program lays down no plastic")]
    Nothing,
    /// The model would not fit in memory.
    #[error(
        "deposit needs {needed_mib} MiB for {cells} cells, the limit is {limit_mib} MiB; use larger voxels"
    )]
    TooMuchMemory {
        /// Memory needed.
        needed_mib: u64,
        /// Number of cells.
        cells: u64,
        /// Memory allowed.
        limit_mib: u64,
    },
    /// The caller asked to stop.
    #[error("execution was cancelled")]
    Cancelled,
}

/// Room for a defect around what the program lays down.
#[derive(Clone, Copy, Default)]
pub(crate) struct Room {
    /// To each side, mm.
    pub(crate) sides: f64,
    /// Above, mm.
    pub(crate) above: f64,
}

/// The height range of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slab {
    pub(crate) bottom: f64,
    pub(crate) top: f64,
}

/// The material a program leaves on the bed, in bed coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct Deposit {
    /// Corner of the first cell, mm.
    pub(crate) origin: [f64; 2],
    /// Edge of a cell, mm.
    pub(crate) voxel_mm: f64,
    /// Cells along x and y, and slabs.
    pub(crate) size: Size,
    /// From the bed up; the first lies below the bed and the last above the part, both empty.
    pub(crate) slabs: Vec<Slab>,
    /// Distance of each cell's centre from the nearest edge, inside negative, µm; slab by slab.
    pub(crate) field: Vec<Vec<i16>>,
    /// Everything the nozzle gave, mm³.
    extruded_mm3: f64,
}

/// Executes a program move by move.
///
/// The part is the largest connected piece; a skirt and loose drops stay on the bed.
///
/// # Errors
/// If a line cannot be read or followed, nothing is laid down, or the model does not fit in memory.
pub fn deposit(
    gcode: &str,
    options: &DepositOptions,
    progress: Progress<'_>,
) -> Result<Deposit, DepositError> {
    let beads = execute(gcode, options)?;
    lay(&beads, options, Room::default(), progress)
}

/// The beads of a program, options checked.
pub(crate) fn execute(gcode: &str, options: &DepositOptions) -> Result<Vec<Bead>, DepositError> {
    let check = |field, value: f64, low: f64, high: f64| {
        if value >= low && value <= high {
            return Ok(());
        }
        Err(DepositError::Option {
            field,
            value,
            low,
            high,
        })
    };
    check("voxel_mm", options.voxel_mm, 0.02, 0.5)?;
    check("filament_d", options.filament_d, 1.0, 4.0)?;
    let filament_mm2 = std::f64::consts::FRAC_PI_4 * options.filament_d * options.filament_d;
    let beads = machine::execute(gcode, filament_mm2)?;
    if beads.is_empty() {
        Err(DepositError::Nothing)
    } else {
        Ok(beads)
    }
}

/// Lays beads into slabs and keeps the largest piece.
pub(crate) fn lay(
    beads: &[Bead],
    options: &DepositOptions,
    room: Room,
    progress: Progress<'_>,
) -> Result<Deposit, DepositError> {
    let mut deposit = lay_all(beads, options, room, progress)?;
    deposit.keep_largest_piece();
    Ok(deposit)
}

/// Lays beads into slabs; `room` is kept free around them.
pub(crate) fn lay_all(
    beads: &[Bead],
    options: &DepositOptions,
    room: Room,
    progress: Progress<'_>,
) -> Result<Deposit, DepositError> {
    let (slabs, slab_of) = slabs(beads, room.above);
    let mut by_slab: Vec<Vec<Capsule>> = vec![Vec::new(); slabs.len()];
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for (bead, &slab) in beads.iter().zip(&slab_of) {
        let capsule = Capsule::new(bead, slabs[slab].top - slabs[slab].bottom);
        for axis in 0..2 {
            low[axis] = low[axis].min(bead.from[axis].min(bead.to[axis]) - capsule.radius);
            high[axis] = high[axis].max(bead.from[axis].max(bead.to[axis]) + capsule.radius);
        }
        by_slab[slab].push(capsule);
    }
    let voxel = options.voxel_mm;
    let pad = room.sides + f64::from(FAR_UM) / 1e3 + 2.0 * voxel;
    let origin = low.map(|v| ((v - pad) / voxel).floor() * voxel);
    let cells = |axis: usize| ((high[axis] + pad - origin[axis]) / voxel).ceil();
    let total = cells(0) * cells(1) * slabs.len() as f64;
    if total * BYTES_PER_CELL as f64 > MOST_BYTES as f64 {
        return Err(DepositError::TooMuchMemory {
            needed_mib: (total * BYTES_PER_CELL as f64 / f64::from(1u32 << 20)) as u64,
            cells: total as u64,
            limit_mib: MOST_BYTES >> 20,
        });
    }
    let size = Size {
        x: cells(0) as usize,
        y: cells(1) as usize,
        z: slabs.len(),
    };
    let mut field = Vec::with_capacity(size.z);
    for batch in by_slab.chunks(16) {
        if let ControlFlow::Break(()) = progress(field.len() as f64 / size.z as f64) {
            return Err(DepositError::Cancelled);
        }
        let done: Vec<Vec<i16>> = batch
            .par_iter()
            .map(|capsules| {
                let mut slab = vec![FAR_UM; size.x * size.y];
                for capsule in capsules {
                    capsule.stamp(&mut slab, size, origin, voxel);
                }
                slab
            })
            .collect();
        field.extend(done);
    }
    let extruded_mm3 = beads.iter().map(|bead| bead.volume).sum();
    Ok(Deposit {
        origin,
        voxel_mm: voxel,
        size,
        slabs,
        field,
        extruded_mm3,
    })
}

/// The slabs between the heights at which the nozzle extruded, and the slab of each bead.
fn slabs(beads: &[Bead], above: f64) -> (Vec<Slab>, Vec<usize>) {
    let micron = |bead: &Bead| (bead.top * 1e3).round() as i64;
    let mut tops: Vec<i64> = beads.iter().map(micron).collect();
    tops.sort_unstable();
    tops.dedup();
    let mut slabs = vec![Slab {
        bottom: -0.2,
        top: 0.0,
    }];
    let mut below = 0.0f64;
    for &top in &tops {
        let top = top as f64 / 1e3;
        slabs.push(Slab {
            bottom: below.max(top - TALLEST_BEAD_MM),
            top,
        });
        below = top;
    }
    let end = below + above.max(0.2);
    while below < end {
        slabs.push(Slab {
            bottom: below,
            top: below + 0.2,
        });
        below += 0.2;
    }
    let slab_of = beads
        .iter()
        .map(|bead| 1 + tops.partition_point(|&top| top < micron(bead)))
        .collect();
    (slabs, slab_of)
}

/// A bead seen from above.
#[derive(Debug, Clone, Copy)]
struct Capsule {
    from: [f64; 2],
    to: [f64; 2],
    radius: f64,
}

impl Capsule {
    fn new(bead: &Bead, height: f64) -> Self {
        let length = (bead.to[0] - bead.from[0]).hypot(bead.to[1] - bead.from[1]);
        let radius = if length > 1e-3 {
            bead.volume / length / height / 2.0
        } else {
            (bead.volume / height / std::f64::consts::PI).sqrt()
        };
        Self {
            from: bead.from,
            to: bead.to,
            radius: radius.min(WIDEST_MM),
        }
    }

    /// Lowers the distances around the capsule to the distance from its edge.
    fn stamp(&self, slab: &mut [i16], size: Size, origin: [f64; 2], voxel: f64) {
        let reach = self.radius + f64::from(FAR_UM) / 1e3;
        let ([x0, y0], [x1, y1]) = (self.from, self.to);
        let (dx, dy) = (x1 - x0, y1 - y0);
        let square = dx * dx + dy * dy;
        let per_square = if square > 0.0 { 1.0 / square } else { 0.0 };
        let cell = |v: f64, axis: usize, cells: usize| {
            (((v - origin[axis]) / voxel - 0.5).ceil().max(0.0) as usize).min(cells)
        };
        let centre = |i: usize, axis: usize| origin[axis] + (i as f64 + 0.5) * voxel;
        for row in cell(y0.min(y1) - reach, 1, size.y)..cell(y0.max(y1) + reach, 1, size.y) {
            let y = centre(row, 1);
            // Only the stretch of the path within reach of this row matters.
            let (mut from, mut to) = (0.0f64, 1.0f64);
            if dy.abs() > 1e-9 {
                let (a, b) = ((y - reach - y0) / dy, (y + reach - y0) / dy);
                from = from.max(a.min(b));
                to = to.min(a.max(b));
            }
            let (a, b) = (x0 + from * dx, x0 + to * dx);
            let columns = cell(a.min(b) - reach, 0, size.x)..cell(a.max(b) + reach, 0, size.x);
            let first = columns.start;
            for (i, value) in slab[row * size.x..][columns].iter_mut().enumerate() {
                let x = centre(first + i, 0);
                let t = (((x - x0) * dx + (y - y0) * dy) * per_square).clamp(0.0, 1.0);
                let (ex, ey) = (x - x0 - t * dx, y - y0 - t * dy);
                let edge = self.radius + f64::from(*value) / 1e3;
                let away = ex * ex + ey * ey;
                if edge > 0.0 && away < edge * edge {
                    let um = ((away.sqrt() - self.radius) * 1e3).round();
                    *value = (um as i16).max(-FAR_UM).min(*value);
                }
            }
        }
    }
}

impl Deposit {
    /// Volume of the part, mm³.
    #[must_use]
    pub fn volume_mm3(&self) -> f64 {
        let cells = |slab: &Vec<i16>| slab.iter().filter(|&&um| um <= SEAM_UM).count() as f64;
        let area = self.voxel_mm * self.voxel_mm;
        self.slabs
            .iter()
            .zip(&self.field)
            .map(|(s, f)| cells(f) * area * (s.top - s.bottom))
            .sum()
    }

    /// Plastic that left the nozzle, skirt and drops included, mm³.
    #[must_use]
    pub const fn extruded_mm3(&self) -> f64 {
        self.extruded_mm3
    }

    /// Number of cells and the edge of one, mm.
    #[must_use]
    pub const fn cells(&self) -> (usize, f64) {
        (self.size.x * self.size.y * self.size.z, self.voxel_mm)
    }

    /// Shared volume over joint volume of the part and a mesh in bed coordinates
    /// (`Sliced::place`), 0 to 1.
    ///
    /// # Errors
    /// If the mesh does not bound a solid.
    pub fn try_iou_with(&self, mesh: &Mesh) -> Result<f64, SolidError> {
        let solid = Solid::new(mesh, [0.0; 3])?;
        let highest = mesh.bounds().map_or(0.0, |b| b.max[2]);
        // Two planes per slab, neither of them where the slicer looked.
        let mut planes = Vec::new();
        for (i, slab) in self.slabs.iter().enumerate() {
            let h = slab.top - slab.bottom;
            planes.extend([0.25, 0.75].map(|t| (slab.bottom + t * h, h / 2.0, Some(i))));
        }
        let mut z = self.slabs.last().map_or(0.0, |s| s.top);
        while z < highest {
            planes.push((z + 0.05, 0.1, None));
            z += 0.1;
        }
        let heights: Vec<f64> = planes.iter().map(|p| p.0).collect();
        let crossings = solid.crossings(&heights);
        let counts: Vec<[f64; 2]> = planes
            .par_iter()
            .zip(&crossings)
            .map(|(&(z, thickness, slab), crossing)| {
                let region = solid.region(z, crossing);
                self.compare(&region, slab.map(|i| &self.field[i]))
                    .map(|n| n as f64 * thickness)
            })
            .collect();
        let sum = |k: usize| counts.iter().map(|c| c[k]).sum::<f64>();
        Ok(if sum(1) > 0.0 { sum(0) / sum(1) } else { 0.0 })
    }

    /// As [`Deposit::try_iou_with`]; zero if the mesh does not bound a solid.
    #[must_use]
    pub fn iou_with(&self, mesh: &Mesh) -> f64 {
        self.try_iou_with(mesh).unwrap_or(0.0)
    }

    /// Cells in both, and cells in either, of a region and a slab.
    fn compare(&self, region: &Region, slab: Option<&Vec<i16>>) -> [u64; 2] {
        let (voxel, origin) = (self.voxel_mm, self.origin);
        // Outside the grid the mesh has cells too: rows and columns go on with the same pitch.
        let mut cuts: Vec<(i64, f64)> = Vec::new();
        for contour in region.iter().flatten() {
            for (i, &a) in contour.iter().enumerate() {
                let b = contour[(i + 1) % contour.len()];
                let (low, high) = if a[1] < b[1] { (a, b) } else { (b, a) };
                let row = |y: f64| ((y - origin[1]) / voxel - 0.5).ceil() as i64;
                for k in row(low[1])..row(high[1]) {
                    let y = origin[1] + (k as f64 + 0.5) * voxel;
                    cuts.push((
                        k,
                        low[0] + (y - low[1]) / (high[1] - low[1]) * (high[0] - low[0]),
                    ));
                }
            }
        }
        cuts.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let solid = |um: &&i16| **um <= SEAM_UM;
        let part = slab.map_or(0, |cells| cells.iter().filter(solid).count() as u64);
        let (mut both, mut mesh) = (0, 0);
        for pair in cuts.chunks_exact(2).filter(|pair| pair[0].0 == pair[1].0) {
            let column = |x: f64| ((x - origin[0]) / voxel - 0.5).ceil() as i64;
            let (from, to) = (column(pair[0].1), column(pair[1].1));
            mesh += (to - from).max(0) as u64;
            let clamp = |v: i64| v.clamp(0, self.size.x as i64) as usize;
            if let (Some(cells), Ok(row)) = (slab, usize::try_from(pair[0].0))
                && row < self.size.y
                && from < to
            {
                let row = &cells[row * self.size.x..][..self.size.x];
                both += row[clamp(from)..clamp(to)].iter().filter(solid).count() as u64;
            }
        }
        [both, mesh + part - both]
    }

    /// Whether a cell lies inside the part, or no farther outside than rounding.
    pub(crate) fn is_solid(&self, slab: usize, cell: usize) -> bool {
        self.field[slab][cell] <= SEAM_UM
    }

    /// The middle of a cell.
    pub(crate) fn centre(&self, x: usize, y: usize, slab: usize) -> [f64; 3] {
        let at = |i: usize, axis: usize| self.origin[axis] + (i as f64 + 0.5) * self.voxel_mm;
        let slab = self.slabs[slab];
        [at(x, 0), at(y, 1), (slab.bottom + slab.top) / 2.0]
    }

    /// Empties every cell that is not connected to the largest piece.
    pub(crate) fn keep_largest_piece(&mut self) {
        let runs = Runs::of(self.size, |slab, cell| self.is_solid(slab, cell));
        let area = self.voxel_mm * self.voxel_mm;
        let slabs = &self.slabs;
        let volume = |slab: usize, cells: usize| {
            cells as f64 * area * (slabs[slab].top - slabs[slab].bottom)
        };
        let Some(largest) = runs.heaviest(volume) else {
            return;
        };
        let width = self.size.x;
        for (slab, row, run) in runs.all().filter(|(.., run)| run.piece != largest) {
            self.field[slab][row * width..][run.from..run.to].fill(FAR_UM);
        }
    }
}
