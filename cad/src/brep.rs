//! Parametric solids as boundary representation: to a mesh and to STEP (the only file that names
//! truck).
//!
//! The bracket is one solid: the L-shaped profile of plate and wall is extruded, the boss is glued
//! on and the holes are cut by adding their circles as inner boundaries of the faces they meet. No
//! boolean operation is used, because those of truck fail on flush faces. What is exported is this
//! parametric bracket, the part as first designed; an optimised part has no such description.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use truck_meshalgo::prelude::*;
use truck_modeling::{
    Edge, Face, Point3, Rad, Shell, Solid, Vector3, Wire, builder, topology::ShellCondition,
};
use truck_stepio::out::{CompleteStepDisplay, StepHeaderDescriptor, StepModel};

use crate::families::bracket::Bracket;
use crate::mesh::{Mesh, length, sub};

/// Greatest distance between a curved face and its triangles, mm.
const CHORD_MM: f64 = 0.02;
/// Points closer than this are one, mm.
const WELD_MM: f64 = 1e-3;

/// Why a solid could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BrepError {
    /// Faces that do not fit together.
    #[error("solid of the {what} does not close: {problem}")]
    Open {
        /// Which solid.
        what: &'static str,
        /// What the modeller says.
        problem: String,
    },
    /// The modeller gave up.
    #[error("solid modeller failed on the {what}")]
    Kernel {
        /// Which solid.
        what: &'static str,
    },
}

/// A closed mesh of the parametric bracket; cylinders are within 0.02 mm.
///
/// # Errors
/// If the parameters give no closed solid.
pub fn bracket_mesh(bracket: &Bracket) -> Result<Mesh, BrepError> {
    guarded(|| {
        let solid = bracket_solid(bracket)?;
        let polygon = solid.triangulation(CHORD_MM).to_polygon();
        let mut mesh = Mesh::default();
        let mut weld = Weld::default();
        let ids: Vec<u32> = polygon
            .positions()
            .iter()
            .map(|p| weld.vertex([p.x, p.y, p.z], &mut mesh.vertices))
            .collect();
        for triangle in polygon.faces().triangle_iter() {
            let [a, b, c] = triangle.map(|v| ids[v.pos]);
            if a != b && b != c && c != a {
                mesh.triangles.push([a, b, c]);
            }
        }
        let report = mesh.check();
        if !report.is_closed() {
            return Err(BrepError::Open {
                what: "bracket",
                problem: format!("{report:?}"),
            });
        }
        Ok(mesh)
    })
}

/// STEP text of the parametric bracket, one closed solid; the same bytes for the same parameters.
///
/// # Errors
/// If the parameters give no closed solid.
pub fn bracket_step(bracket: &Bracket) -> Result<String, BrepError> {
    guarded(|| {
        let solid = bracket_solid(bracket)?.compress();
        let header = StepHeaderDescriptor {
            file_name: "bracket.step".into(),
            // Fixed: a file that knows when it was written differs every time.
            time_stamp: "2000-01-01T00:00:00".into(),
            authors: Vec::new(),
            organization: Vec::new(),
            organization_system: "forewright".into(),
            authorization: String::new(),
        };
        Ok(CompleteStepDisplay::new(StepModel::from(&solid), header).to_string())
    })
}

/// Joins points that differ by round-off only: faces are meshed one by one.
#[derive(Default)]
struct Weld {
    cells: HashMap<[i64; 3], u32>,
}

impl Weld {
    /// The vertex at `p`, an old one if there is one nearby.
    fn vertex(&mut self, p: [f64; 3], vertices: &mut Vec<[f64; 3]>) -> u32 {
        let cell = p.map(|x| (x / WELD_MM).floor() as i64);
        for n in 0..27 {
            let shift = [n % 3 - 1, n / 3 % 3 - 1, n / 9 - 1];
            let near = [0, 1, 2].map(|a| cell[a] + shift[a]);
            if let Some(&v) = self.cells.get(&near)
                && length(sub(vertices[v as usize], p)) < WELD_MM
            {
                return v;
            }
        }
        let v = vertices.len() as u32;
        vertices.push(p.map(|x| f64::from(x as f32)));
        self.cells.insert(cell, v);
        v
    }
}

/// The modeller may panic; that must not take anything else down.
fn guarded<T>(work: impl FnOnce() -> Result<T, BrepError>) -> Result<T, BrepError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(BrepError::Kernel { what: "bracket" }))
}

fn bracket_solid(b: &Bracket) -> Result<Solid, BrepError> {
    let (length, width, height) = (b.length_mm, b.width_mm, b.height_mm);
    let (plate, wall) = (b.plate_mm, b.wall_mm);
    // Counter-clockwise about +y, the direction it is extruded along; the other way round the solid
    // would be inside out.
    let profile = [
        [0.0, 0.0],
        [0.0, height],
        [wall, height],
        [wall, plate],
        [length, plate],
        [length, 0.0],
    ];
    let corners: Vec<_> = profile
        .iter()
        .map(|&[x, z]| builder::vertex(Point3::new(x, 0.0, z)))
        .collect();
    let edges: Vec<Edge> = (0..corners.len())
        .map(|n| builder::line(&corners[n], &corners[(n + 1) % corners.len()]))
        .collect();
    let face = plane(&[Wire::from_iter(edges)])?;
    let mut shell = boundary(builder::tsweep(&face, Vector3::new(0.0, width, 0.0)))?;

    // The boss: its bottom becomes a hole in the plate's top, the rest is added.
    let [x, y] = b.boss_mm;
    let axis = Vector3::unit_z();
    let foot = Point3::new(x, y, plate);
    let boss = cylinder(
        foot,
        axis,
        b.boss_diameter_mm / 2.0,
        b.boss_height_mm - plate,
    )?;
    let top = face_on(&mut shell, |p| p.z == plate)?;
    top.add_boundary(boss[0].boundaries()[0].clone());
    shell.extend(boss.into_iter().skip(1));

    let bore = cylinder(
        Point3::new(x, y, 0.0),
        axis,
        b.bore_diameter_mm / 2.0,
        b.boss_height_mm,
    )?;
    drill(
        &mut shell,
        bore,
        |p| p.z == 0.0,
        |p| p.z == b.boss_height_mm,
    )?;
    for &[y, z] in &b.bolts_mm {
        let start = Point3::new(0.0, y, z);
        let hole = cylinder(start, Vector3::unit_x(), b.bolt_diameter_mm / 2.0, wall)?;
        drill(&mut shell, hole, |p| p.x == 0.0, |p| p.x == wall)?;
    }
    let condition = shell.shell_condition();
    if condition != ShellCondition::Closed {
        return Err(open(&format!("{condition:?}")));
    }
    Solid::try_new(vec![shell]).map_err(|e| open(&e.to_string()))
}

/// A closed cylinder: bottom, side, top.
fn cylinder(from: Point3, axis: Vector3, radius: f64, length: f64) -> Result<Shell, BrepError> {
    let across = if axis.x.abs() > 0.5 {
        Vector3::unit_y()
    } else {
        Vector3::unit_x()
    };
    let start = builder::vertex(from + across * radius);
    // Anything beyond a full turn closes the circle.
    let circle = builder::rsweep(&start, from, axis, Rad(7.0));
    boundary(builder::tsweep(&plane(&[circle])?, axis * length))
}

/// Cuts a cylinder out between two faces it is flush with.
fn drill(
    shell: &mut Shell,
    hole: Shell,
    near: impl Fn(Point3) -> bool,
    far: impl Fn(Point3) -> bool,
) -> Result<(), BrepError> {
    let last = hole.len() - 1;
    face_on(shell, near)?.add_boundary(hole[0].boundaries()[0].inverse());
    face_on(shell, far)?.add_boundary(hole[last].boundaries()[0].inverse());
    shell.extend(
        hole.into_iter()
            .take(last)
            .skip(1)
            .map(|face| face.inverse()),
    );
    Ok(())
}

/// The face all of whose outer corners satisfy `on`.
fn face_on(shell: &mut Shell, on: impl Fn(Point3) -> bool) -> Result<&mut Face, BrepError> {
    shell
        .iter_mut()
        .find(|face| face.boundaries()[0].vertex_iter().all(|v| on(v.point())))
        .ok_or_else(|| open("a face is missing"))
}

fn plane(wires: &[Wire]) -> Result<Face, BrepError> {
    builder::try_attach_plane(wires).map_err(|e| open(&e.to_string()))
}

fn boundary(solid: Solid) -> Result<Shell, BrepError> {
    solid
        .into_boundaries()
        .pop()
        .ok_or_else(|| open("no boundary"))
}

fn open(problem: &str) -> BrepError {
    BrepError::Open {
        what: "bracket",
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bracket_is_one_closed_solid_with_its_volume() {
        let bracket = Bracket::default();
        let mesh = bracket_mesh(&bracket).unwrap();
        let report = mesh.check();
        assert!(report.is_closed() && report.components == 1, "{report:?}");
        let expected = bracket.solid_volume_mm3();
        // Chords cut a little off the boss and leave a little in the holes.
        let error = mesh.volume_mm3() / expected - 1.0;
        assert!(
            error.abs() < 0.003,
            "{} is not {expected}",
            mesh.volume_mm3()
        );
        let bounds = mesh.bounds().unwrap();
        assert_eq!((bounds.min, bounds.max), ([0.0; 3], [60.0, 40.0, 40.0]));
    }

    #[test]
    fn step_is_reproducible_and_holds_one_solid_with_round_faces() {
        let bracket = Bracket::default();
        let step = bracket_step(&bracket).unwrap();
        assert_eq!(bracket_step(&bracket).unwrap(), step);
        assert!(step.starts_with("ISO-10303-21;"));
        assert_eq!(step.matches("MANIFOLD_SOLID_BREP(").count(), 1);
        assert!(step.contains("2000-01-01"));
    }

    #[test]
    fn other_parameters_close_too() {
        let mut bracket = Bracket {
            length_mm: 80.0,
            wall_mm: 4.0,
            ..Bracket::default()
        };
        bracket.bolts_mm = vec![[20.0, 28.0]];
        bracket.boss_mm = [60.0, 17.0];
        assert!(bracket_mesh(&bracket).is_ok());
    }
}
