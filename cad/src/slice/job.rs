//! Slicing from end to end: a mesh, a printer and settings in, G-code and estimate out.

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::Progress;
use crate::mesh::Mesh;
use crate::slice::estimate::Estimate;
use crate::slice::gcode;
use crate::slice::layer::{Solid, SolidError};
use crate::slice::plan::{self, Layer};
use crate::slice::polygon::Region;
use crate::slice::printer::Printer;
use crate::slice::settings::{Settings, SettingsError};

/// Layers computed between two looks at the caller's wish to stop.
const BATCH: usize = 16;

/// A sliced part.
#[derive(Debug, Clone, PartialEq)]
pub struct Sliced {
    /// The program for the printer.
    pub gcode: String,
    /// Time and material.
    pub estimate: Estimate,
    /// Where the part stands: add this to a mesh coordinate to get the bed coordinate, mm.
    pub placed: [f64; 3],
}

impl Sliced {
    /// The mesh where it is printed, in bed coordinates.
    #[must_use]
    pub fn place(&self, mesh: &Mesh) -> Mesh {
        let moved = |v: &[f64; 3]| [0, 1, 2].map(|axis| v[axis] + self.placed[axis]);
        Mesh {
            vertices: mesh.vertices.iter().map(moved).collect(),
            triangles: mesh.triangles.clone(),
        }
    }
}

/// Why a part cannot be sliced.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The mesh does not bound a solid.
    #[error(transparent)]
    Solid(#[from] SolidError),
    /// The settings do not fit the printer.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The part does not fit on the printer.
    #[error(
        "part is {size_mm:.1} mm along {axis}{}, printer `{printer}` has {limit_mm:.1} mm",
        if *skirt_mm > 0.0 { format!(" with its skirt ({skirt_mm:.1} mm on each side)") } else { String::new() }
    )]
    TooLarge {
        /// `x`, `y` or `z`.
        axis: char,
        /// Size, skirt included.
        size_mm: f64,
        /// Room on each side taken by the skirt.
        skirt_mm: f64,
        /// What the printer offers.
        limit_mm: f64,
        /// Name of the printer.
        printer: String,
    },
    /// The part is lower than half a layer, or touches the bed in a point only.
    #[error("part leaves nothing to print on the first layer; give it a flat foot of some mm²")]
    NoFoot,
    /// The caller asked to stop.
    #[error("slicing was cancelled")]
    Cancelled,
}

/// Slices a mesh, standing as it is, in the middle of the printer's bed.
///
/// The same arguments give the same bytes whatever the number of threads.
///
/// # Errors
/// If the mesh is no solid, does not fit, or the settings break a limit of the printer; or if
/// `progress` asked to stop.
///
/// ```
/// use std::ops::ControlFlow;
/// use cad::mesh::Mesh;
/// use cad::slice::{check, printer::Printer, settings::Settings, slice};
///
/// let corners = (0..8u8).map(|i| [0, 1, 2].map(|a| if i >> a & 1 == 1 { 8.0 } else { 0.0 }));
/// let faces = [[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
///              [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5]];
/// let cube = Mesh { vertices: corners.collect(), triangles: faces.to_vec() };
/// let printer = Printer::named("generic_marlin")?;
/// let sliced = slice(&cube, &printer, &Settings::default(), &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(sliced.estimate.layers, 40);
/// assert!(check::lint(&sliced.gcode, &printer).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn slice(
    mesh: &Mesh,
    printer: &Printer,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<Sliced, SliceError> {
    let material = settings.resolve(printer)?;
    let (placed, height) = place(mesh, printer, settings)?;
    let solid = Solid::new(mesh, placed)?;
    let (first, step) = (settings.first_layer_height.0, settings.layer_height.0);
    let mut heights = Vec::new();
    let mut planes = Vec::new();
    let mut top = 0.0;
    loop {
        let (thickness, count) = if heights.is_empty() {
            (first, 0)
        } else {
            (step, heights.len())
        };
        // A layer exists if the part reaches its middle; counted, not summed, to stay exact.
        let below = if count == 0 {
            0.0
        } else {
            first + (count - 1) as f64 * step
        };
        if below + thickness / 2.0 >= height {
            break;
        }
        planes.push(below + thickness / 2.0);
        top = below + thickness;
        heights.push((top, thickness));
    }
    let limit_mm = printer.bed.z_mm;
    if top > limit_mm {
        let printer = printer.name.clone();
        return Err(SliceError::TooLarge {
            axis: 'z',
            size_mm: top,
            skirt_mm: 0.0,
            limit_mm,
            printer,
        });
    }
    let crossings = solid.crossings(&planes);
    let outlines: Vec<Region> = batched(planes.len(), 0.0, 0.3, progress, |i| {
        solid.region(planes[i], &crossings[i])
    })?;
    if outlines.first().is_none_or(Vec::is_empty) {
        return Err(SliceError::NoFoot);
    }
    let mut strokes = batched(planes.len(), 0.3, 0.9, progress, |i| {
        let mut strokes = plan::strokes(settings, &outlines, i, heights[i].1);
        if i == 0 {
            strokes.extend(plan::skirt(settings, &outlines[0], heights[0].1));
        }
        strokes
    })?;
    let mut head = [0.0, 0.0];
    let mut layers = Vec::with_capacity(strokes.len());
    for (strokes, &(z, height)) in strokes.drain(..).zip(&heights) {
        layers.push(Layer {
            z,
            height,
            strokes: plan::order(strokes, &mut head),
        });
    }
    if progress(0.95).is_break() {
        return Err(SliceError::Cancelled);
    }
    let (gcode, estimate) = gcode::write(
        &gcode::Job {
            printer,
            settings,
            material,
        },
        &layers,
    );
    Ok(Sliced {
        gcode,
        estimate,
        placed,
    })
}

/// Where the part goes, and how high it is.
fn place(
    mesh: &Mesh,
    printer: &Printer,
    settings: &Settings,
) -> Result<([f64; 3], f64), SliceError> {
    let bounds = mesh.bounds().ok_or(SolidError::Empty)?;
    if let Some(vertex) = mesh
        .vertices
        .iter()
        .position(|v| !v.iter().all(|x| x.is_finite()))
    {
        return Err(SolidError::NotFinite { vertex }.into());
    }
    let skirt_mm = match settings.skirt_loops {
        0 => 0.0,
        loops => settings.skirt_gap.0 + loops as f64 * settings.width.0,
    };
    let bed = [printer.bed.x_mm, printer.bed.y_mm, printer.bed.z_mm];
    let size: [f64; 3] = [0, 1, 2].map(|axis| bounds.max[axis] - bounds.min[axis]);
    for (axis, name) in ['x', 'y', 'z'].into_iter().enumerate() {
        let skirt_mm = if axis == 2 { 0.0 } else { skirt_mm };
        let size_mm = size[axis] + 2.0 * skirt_mm;
        if size_mm > bed[axis] {
            let (limit_mm, printer) = (bed[axis], printer.name.clone());
            return Err(SliceError::TooLarge {
                axis: name,
                size_mm,
                skirt_mm,
                limit_mm,
                printer,
            });
        }
    }
    // Whole micrometres, so that the place is the same number in every file it is written to.
    let middle = |axis: usize| {
        let shift = (bed[axis] - bounds.min[axis] - bounds.max[axis]) / 2.0;
        (shift * 1e3).round() / 1e3
    };
    Ok(([middle(0), middle(1), -bounds.min[2]], size[2]))
}

/// Runs `work` for `0..count` on all threads, results in order, asking between batches.
fn batched<T: Send>(
    count: usize,
    from: f64,
    to: f64,
    progress: Progress<'_>,
    work: impl Fn(usize) -> T + Sync,
) -> Result<Vec<T>, SliceError> {
    let mut results = Vec::with_capacity(count);
    while results.len() < count {
        let done = results.len();
        if let ControlFlow::Break(()) = progress(from + (to - from) * done as f64 / count as f64) {
            return Err(SliceError::Cancelled);
        }
        let end = (done + BATCH).min(count);
        let batch: Vec<T> = (done..end).into_par_iter().map(&work).collect();
        results.extend(batch);
    }
    Ok(results)
}
