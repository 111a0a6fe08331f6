//! The role `designer`: parts that plugins propose for a brief. Whoever asked checks them.

use ::plugins::call::{Answer, Request};
use ::plugins::v1::design::{Candidate, LoadCase, Material, Process, Task};
use ::plugins::v1::types::{Box3, Cylinder, Region};
use ::plugins::world::World;
use cad::brief::Brief;
use cad::families::{DesignSpace, Interface, InterfaceRole, Shape};
use cad::mesh::Bounds;
use cad::slice::printer::Printer;
use cad::slice::settings::Settings;
use tracing::warn;
use workflows::model::{Asset, PluginUse, Proposal};

use super::panel::{Panel, is_for, told_asset};
use super::predictor::About;
use crate::plugins::{Member, NoAnswer, Plugins, Question};
use crate::store::StoreError;

/// The most parts that one may propose: each is analysed like one of our own.
const MOST: u32 = 4;
/// How far into the part a face is held or pulled at, mm.
const INTO_MM: f64 = 1.0;
/// A wall of fewer lines than this is a gap.
const LINES: f64 = 2.0;
/// How far from the vertical a wall may lean without support, degrees, on any of our printers.
const MAX_OVERHANG_DEG: f64 = 45.0;

/// Everybody who designs, as they stand at one moment.
pub(super) struct Designers(Panel);

impl Designers {
    pub(super) async fn now(plugins: &Plugins) -> Result<Self, StoreError> {
        Panel::now(plugins, World::Designer).await.map(Self)
    }

    /// Whether anybody has anything to do with a kind of asset.
    pub(super) fn know(&self, kind: &str) -> bool {
        self.0.about(kind).next().is_some()
    }

    /// What the first one proposes who serves and has anything. Nobody has to have an answer, for the part can be designed
    /// without.
    pub(super) async fn serving(&self, asset: &Asset, task: &Task, about: &About) -> Vec<Proposal> {
        let serving = self.0.serving(&asset.kind);
        for member in serving.filter(|member| is_for(member, &asset.id)) {
            let proposals = self.proposed(member, task, about).await;
            if !proposals.is_empty() {
                return proposals;
            }
        }
        Vec::new()
    }

    /// The best of each who is only compared.
    pub(super) async fn compared(
        &self,
        asset: &Asset,
        task: &Task,
        about: &About,
    ) -> Vec<Proposal> {
        let mut best = Vec::new();
        for member in self.0.compared(&asset.kind) {
            let found = self.proposed(member, task, about).await;
            best.extend(found.into_iter().next());
        }
        best
    }

    async fn proposed(&self, member: &Member, task: &Task, about: &About) -> Vec<Proposal> {
        match self.ask(member, task, about).await {
            Ok(proposals) => proposals,
            Err(error) => {
                warn!(plugin = %member.row.plugin, "{error}");
                Vec::new()
            }
        }
    }

    async fn ask(
        &self,
        member: &Member,
        task: &Task,
        about: &About,
    ) -> Result<Vec<Proposal>, NoAnswer> {
        let purpose = format!("design a part for {}", task.asset.id);
        let question = Question {
            member,
            purpose: &purpose,
            request: Request::Design {
                task: Box::new(task.clone()),
                most: MOST,
            },
            now_ms: about.now_ms,
            seed: about.seed,
        };
        let told = self.0.plugins.ask(question).await?;
        let Answer::Design(candidates) = told.answer else {
            let why = anyhow::anyhow!("a designer answered as a plugin of another world");
            return Err(NoAnswer::Trouble(why));
        };
        let proposal = |candidate| proposal(candidate, told.by.clone());
        Ok(candidates.into_iter().map(proposal).collect())
    }
}

fn proposal(candidate: Candidate, plugin: PluginUse) -> Proposal {
    let (x, y, z) = candidate.build_direction;
    Proposal {
        mesh: candidate.mesh.digest,
        mass_g: candidate.mass,
        build_direction: [x, y, z],
        scores: candidate.scores.into_iter().collect(),
        notes: candidate.notes,
        plugin,
    }
}

/// A brief as designers are told of it.
pub(super) fn task(asset: &Asset, brief: &Brief, printer: &Printer) -> Task {
    let space = brief.design_space();
    let regions = |shapes: &[Shape]| {
        let region = |shape: &Shape| region(shape, space.envelope);
        shapes.iter().map(region).collect()
    };
    let volume_cm3 = space.size().iter().product::<f64>() / 1_000.0;
    let density = brief.material.density_g_cm3;
    let supports = |face: &&Interface| face.role == InterfaceRole::Support;
    Task {
        asset: told_asset(asset),
        source: None,
        envelope: Box3 {
            min: tuple(space.envelope.min),
            max: tuple(space.envelope.max),
        },
        keep_in: regions(&space.solids),
        keep_out: regions(&space.voids),
        fixed: space.interfaces.iter().filter(supports).map(held).collect(),
        loads: loads(brief, &space),
        material: Material {
            name: brief.material.name.clone(),
            density,
            stiffness: brief.material.e_mpa,
            poisson_ratio: brief.material.nu,
            yield_strength: brief.material.yield_mpa,
            // A brief knows of one strength, that of the printed material where it is weakest.
            yield_strength_across: brief.material.yield_mpa,
        },
        process: Process {
            layer_height: Settings::default().layer_height.0,
            min_wall: LINES * printer.nozzle_mm,
            max_overhang: MAX_OVERHANG_DEG,
        },
        max_mass: brief.optimise.max_volume_fraction * volume_cm3 * density,
        min_safety_factor: brief.required_fos,
    }
}

fn loads(brief: &Brief, space: &DesignSpace) -> Vec<LoadCase> {
    let case = |load: &cad::brief::Load| {
        Some(LoadCase {
            name: load.name.clone(),
            force: tuple(load.force_n),
            region: held(space.interface(&load.at)?),
        })
    };
    brief.loads.iter().filter_map(case).collect()
}

/// What of a part lies under a face that is held or pulled at.
fn held(face: &Interface) -> Region {
    let into = [0, 1, 2].map(|a| face.point[a] - INTO_MM * face.normal[a]);
    Region::Cylinder(Cylinder {
        start: tuple(into),
        end: tuple(face.point),
        radius: face.extent.outer_mm,
    })
}

/// A shape as far as it lies within the envelope, beyond which there is nothing.
fn region(shape: &Shape, envelope: Bounds) -> Region {
    let within = |x: f64, axis: usize| x.clamp(envelope.min[axis], envelope.max[axis]);
    match *shape {
        Shape::Cuboid { min, max } => Region::Box(Box3 {
            min: tuple([0, 1, 2].map(|a| within(min[a], a))),
            max: tuple([0, 1, 2].map(|a| within(max[a], a))),
        }),
        Shape::Cylinder {
            axis,
            centre,
            radius,
            from,
            to,
        } => {
            let at = |along: f64| {
                let mut point = centre;
                point[axis] = within(along, axis);
                tuple(point)
            };
            Region::Cylinder(Cylinder {
                start: at(from),
                end: at(to),
                radius,
            })
        }
    }
}

fn tuple([x, y, z]: [f64; 3]) -> (f64, f64, f64) {
    (x, y, z)
}

#[cfg(test)]
mod tests {
    use workflows::demo::Hall;

    use super::*;

    #[test]
    fn designers_are_told_all_that_their_parts_are_held_to() {
        let hall = Hall::built_in().unwrap();
        let twin = hall.twin();
        let asset = &twin.assets["fan-r01-01"];
        let brief = Brief::from_toml(&hall.parts[0].brief).unwrap();
        let printer = Printer::named(&brief.printer).unwrap();
        let told = task(asset, &brief, &printer);
        assert_eq!(told.asset.kind, "fan_tray");
        assert_eq!(told.envelope.max, (60.0, 40.0, 40.0));
        assert_eq!(told.loads.len(), brief.loads.len());
        assert_eq!(told.fixed.len(), 2, "two bolts");
        let Region::Cylinder(bolt) = &told.fixed[0] else {
            panic!("{:?}", told.fixed);
        };
        assert_eq!(
            (bolt.start, bolt.end),
            ((1.0, 10.0, 28.0), (0.0, 10.0, 28.0))
        );
        // Holes that go on for ever end where the part may.
        for place in &told.keep_out {
            let Region::Cylinder(hole) = place else {
                panic!("{place:?}");
            };
            for (x, y, z) in [hole.start, hole.end] {
                assert!((0.0..=60.0).contains(&x), "{hole:?}");
                assert!((0.0..=40.0).contains(&y) && (0.0..=40.0).contains(&z));
            }
        }
        let most = brief.optimise.max_volume_fraction * 96.0 * brief.material.density_g_cm3;
        assert!((told.max_mass - most).abs() < 1e-9);
    }
}
