//! Joins what a part must have by upright ribs: a wall from the bed up to the line from each place that is held to each
//! that is pulled at. Nothing of it overhangs, and a rib is as thick as a beam of its height has to be.
//!
//! In reading order: [`field`] says what is inside the part, [`surface`] draws its skin, and here is how thick the ribs are.

use plugin_sdk::artifacts;
use plugin_sdk::design::{Candidate, PluginError, Region, Task, Vec3};
use plugin_sdk::info;

pub mod field;
pub mod surface;

use field::{Part, Rib};
use surface::Skin;

/// A beam knows nothing of notches: the candidates are so much thicker than it has to be.
const THICKER: [f64; 4] = [1.0, 1.5, 2.2, 3.2];
/// Of a rib's height, what is left beside a bolt.
const SOUND_HEIGHT: f64 = 0.5;

struct Ribs;

impl plugin_sdk::Designer for Ribs {
    fn generate(task: Task, max_candidates: u32) -> Result<Vec<Candidate>, PluginError> {
        info!("designs a part of {}", task.asset.id);
        let grid = match field::Grid::of(&task.envelope) {
            Ok(grid) => grid,
            Err(field::NoGrid::NoVolume) => return Err(invalid("the envelope has no volume")),
            Err(field::NoGrid::TooLarge) => {
                let why = "the envelope is too large for cells of two millimetres";
                return Err(PluginError::Unsupported(why.to_owned()));
            }
        };
        if task.fixed.is_empty() || task.loads.is_empty() {
            let why = "ribs go from what is held to what is pulled at, and one of them is missing";
            return Err(PluginError::Unsupported(why.to_owned()));
        }
        let density = task.material.density;
        if !(density.is_finite() && density > 0.0) {
            return Err(invalid("the material has no mass"));
        }
        let thin = thickness(&task).ok_or_else(|| invalid("a strength or a force is none"))?;
        // Anything thinner would fall through the grid.
        let least = task.process.min_wall.max(2.0 * grid.cell);
        let (mut candidates, mut lightest) = (Vec::new(), f64::INFINITY);
        for thicker in THICKER.into_iter().take(max_candidates as usize) {
            let thick = thin.max(least) * thicker;
            let skin = Skin::of(&part(&task, thick), &grid);
            // Cubic millimetres times grams per cubic centimetre.
            let mass = skin.volume() * density / 1_000.0;
            lightest = mass.min(lightest);
            // Not a number, or nothing at all, is not light.
            if !(mass > 0.0 && mass <= task.max_mass) {
                continue;
            }
            let name = format!("ribs-{thick:.1}.stl");
            candidates.push(Candidate {
                mesh: artifacts::write(&name, "model/stl", &skin.stl())?,
                mass,
                build_direction: (0.0, 0.0, 1.0),
                scores: vec![("lightness".to_owned(), 1.0 - mass / task.max_mass)],
                notes: format!("ribs of {thick:.1} mm"),
            });
        }
        if candidates.is_empty() && max_candidates > 0 {
            let why = format!(
                "the lightest part with ribs weighs {lightest:.1} g, at most {:.1} g are wanted",
                task.max_mass
            );
            return Err(PluginError::Unsupported(why));
        }
        Ok(candidates)
    }
}

plugin_sdk::designer!(Ribs);

fn invalid(why: &str) -> PluginError {
    PluginError::InvalidInput(why.to_owned())
}

/// How thick a rib has to be if all of them share the greatest load as beams that are held at one end, in millimetres:
/// the bending stress 6 F l / (n b h²) is at most the strength over the factor of safety.
fn thickness(task: &Task) -> Option<f64> {
    let strength = task
        .material
        .yield_strength
        .min(task.material.yield_strength_across);
    let floor = task.envelope.min.2;
    let mut thick = 0.0_f64;
    for load in &task.loads {
        let (x, y, z) = load.force;
        let force = (x * x + y * y + z * z).sqrt();
        let to = centre(&load.region);
        for fixed in &task.fixed {
            let from = centre(fixed);
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            let height = SOUND_HEIGHT * (from.2 - floor).max(to.2 - floor);
            let ribs = task.fixed.len() as f64;
            let allowed = strength / task.min_safety_factor;
            thick = thick.max(6.0 * force * length / (ribs * height * height * allowed));
        }
    }
    (thick.is_finite() && thick > 0.0).then_some(thick)
}

/// The part with ribs of one thickness.
fn part(task: &Task, thick: f64) -> Part<'_> {
    let mut ribs: Vec<Rib> = Vec::new();
    for load in &task.loads {
        for fixed in &task.fixed {
            let (from, to) = (centre(fixed), centre(&load.region));
            let rib = Rib { from, to, thick };
            // Loads often act at one place.
            if !ribs.contains(&rib) {
                ribs.push(rib);
            }
        }
    }
    Part { task, ribs }
}

fn centre(region: &Region) -> Vec3 {
    let (a, b) = match region {
        Region::Box(place) => (place.min, place.max),
        Region::Cylinder(place) => (place.start, place.end),
    };
    (
        f64::midpoint(a.0, b.0),
        f64::midpoint(a.1, b.1),
        f64::midpoint(a.2, b.2),
    )
}
