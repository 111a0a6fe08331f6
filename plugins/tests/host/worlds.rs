//! All six worlds are bound and called, each with a guest that does nothing but trap.

use std::sync::Arc;

use plugins::call::Request;
use plugins::componentize::componentize;
use plugins::contract;
use plugins::doors::Nowhere;
use plugins::failure::Code;
use plugins::grants::Grants;
use plugins::limits::Limits;
use plugins::v1::types::{ArtifactRef, Asset, Box3, Region};
use plugins::v1::{design, detect, predict, schedule, verify};
use plugins::world::{Capability, World};
use wit_parser::ManglingAndAbi;

use crate::world::{TIMED, context, everything};

/// A core module with every export of the author's world, and nothing in them.
pub(crate) fn dummy(world: World, asked: &[Capability]) -> Vec<u8> {
    let (resolve, id) = contract::resolve(world, asked);
    wit_component::dummy_module(
        &resolve,
        id,
        ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync),
    )
}

fn asset() -> Asset {
    Asset {
        id: "fan-1".into(),
        kind: "fan_tray".into(),
        labels: vec![("row".into(), "1".into())],
    }
}

fn artifact() -> ArtifactRef {
    let digest = plugins::bundle::digest(b"");
    ArtifactRef {
        digest,
        media_type: "model/stl".into(),
        size: 0,
        name: "part.stl".into(),
    }
}

fn request(world: World) -> Request {
    match world {
        World::Predictor => {
            let column = predict::Column {
                metric: "vibration".into(),
                unit: "mm/s".into(),
                values: vec![1.0, f64::NAN],
            };
            let history = predict::History {
                asset: asset(),
                installed: None,
                start: 0.0,
                step: 1_000.0,
                columns: vec![column],
            };
            Request::Predict(predict::Request {
                histories: vec![history],
                horizons: vec![86_400_000.0],
                model: Some(artifact()),
            })
        }
        World::Detector => Request::Detect(detect::Request {
            asset: asset(),
            series: Vec::new(),
            since: 0.0,
        }),
        World::Designer => Request::Design {
            task: Box::new(task()),
            most: 3,
        },
        World::Verifier => {
            let observation = verify::Observation {
                artifact: artifact(),
                placement: verify::Placement::Unknown,
                uncertainty: None,
            };
            Request::Verify(verify::Request {
                expected: artifact(),
                observations: vec![observation],
                tolerance: 0.2,
            })
        }
        World::Scheduler => {
            let calendar = vec![schedule::Span {
                start: 0.0,
                end: 1.0,
            }];
            let worker = schedule::Worker {
                id: "ann".into(),
                skills: vec!["fans".into()],
                calendar,
            };
            Request::Schedule(schedule::Request {
                tasks: Vec::new(),
                workers: vec![worker],
                agreed: Vec::new(),
            })
        }
        World::Action => Request::Act {
            input: "{}".into(),
            key: "k".into(),
        },
    }
}

fn task() -> design::Task {
    let corner = (0.0, 0.0, 0.0);
    let body = Box3 {
        min: corner,
        max: (50.0, 20.0, 10.0),
    };
    design::Task {
        asset: asset(),
        source: Some(artifact()),
        envelope: body,
        keep_in: vec![Region::Box(body)],
        keep_out: Vec::new(),
        fixed: vec![Region::Box(body)],
        loads: vec![design::LoadCase {
            name: "spin".into(),
            force: (0.0, 0.0, -5.0),
            region: Region::Box(body),
        }],
        material: design::Material {
            name: "petg".into(),
            density: 1.27,
            stiffness: 2_000.0,
            poisson_ratio: 0.4,
            yield_strength: 30.0,
            yield_strength_across: 20.0,
        },
        process: design::Process {
            layer_height: 0.2,
            min_wall: 0.8,
            max_overhang: 45.0,
        },
        max_mass: 40.0,
        min_safety_factor: 2.0,
    }
}

#[test]
fn every_world_is_bound_and_called() {
    for world in World::ALL {
        let component =
            componentize(&dummy(world, &Capability::ALL), world, &Capability::ALL).unwrap();
        let plugin = TIMED.prepare(
            &component,
            world,
            Grants::all(&everything()),
            &Limits::default(),
        );
        let plugin = plugin.unwrap_or_else(|e| panic!("{world}: {e:?}"));
        let asked = request(world);
        assert_eq!((plugin.world(), asked.world()), (world, world));
        let failure = plugin
            .call(&asked, &context(), Arc::new(Nowhere))
            .result
            .unwrap_err();
        assert_eq!(failure.code, Code::Trap, "{world}: {failure}");
        // A request of another world is refused without a guest.
        let other = World::ALL[(world as usize + 1) % World::ALL.len()];
        let failure = plugin
            .call(&request(other), &context(), Arc::new(Nowhere))
            .result
            .unwrap_err();
        assert_eq!(failure.code, Code::InvalidInput);
    }
}
