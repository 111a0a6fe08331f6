//! What a designer meets.

use super::kit::Case;
use super::samples::{STRANGE, artifact, asset, garbage, open_mesh, stl, tetrahedron};
use crate::call::Request;
use crate::v1::design::{LoadCase, Material, Process, Task};
use crate::v1::types::{ArtifactRef, Asset, Box3, Cylinder, Region, Vec3};

/// The most shapes that are asked for, where a case says nothing else.
const MOST: u32 = 3;

pub(super) fn cases() -> Vec<Case> {
    let with = |change: fn(&mut Task)| {
        let mut task = task();
        change(&mut task);
        of(task, MOST)
    };
    let source = |bytes: &[u8]| {
        of(
            Task {
                source: Some(mesh(bytes)),
                ..task()
            },
            MOST,
        )
    };
    let of_kind = |media_type: &str| {
        let source = ArtifactRef {
            media_type: media_type.to_owned(),
            ..mesh(&tetrahedron())
        };
        of(
            Task {
                source: Some(source),
                ..task()
            },
            MOST,
        )
    };
    vec![
        Case::new("plain", "a bracket with one load", of(task(), MOST)),
        Case::new(
            "one candidate",
            "at most as many as asked for",
            of(task(), 1),
        ),
        Case::new(
            "no candidate",
            "at most as many as asked for",
            of(task(), 0),
        ),
        Case::new(
            "any number of candidates",
            "at most as many as asked for",
            of(task(), u32::MAX),
        ),
        Case::new(
            "a present part",
            "a mesh to begin with",
            source(&tetrahedron()),
        ),
        Case::new(
            "a part without facets",
            "a mesh is read before it is trusted",
            source(&stl(&[])),
        ),
        Case::new(
            "a part that is open",
            "a mesh is read before it is trusted",
            source(&open_mesh()),
        ),
        Case::new(
            "a part that is none",
            "bytes are not what they are called",
            source(&garbage()),
        ),
        Case::new(
            "an empty part",
            "bytes are not what they are called",
            source(&[]),
        ),
        Case::new(
            "a part in another format",
            "the grant may not cover it",
            of_kind("model/3mf"),
        ),
        Case::new(
            "no loads",
            "a part may only have to be there",
            with(|task| task.loads.clear()),
        ),
        Case::new(
            "a hundred loads",
            "each has to be held",
            with(|task| {
                task.loads = (0..100)
                    .map(|n| load(&format!("l{n}"), (f64::from(n), 0.0, -1.0)))
                    .collect();
            }),
        ),
        Case::new(
            "a load of nothing",
            "forces are any vectors",
            with(|task| task.loads = vec![load("l", (0.0, 0.0, 0.0))]),
        ),
        Case::new(
            "a load beyond all bounds",
            "no part holds it",
            with(|task| task.loads = vec![load("l", (0.0, 0.0, -1e12))]),
        ),
        Case::new(
            "a load that is no number",
            "a mistake upstream",
            with(|task| task.loads = vec![load("l", (f64::NAN, 0.0, 0.0))]),
        ),
        Case::new(
            "nothing is held",
            "a part that hangs on nothing cannot carry",
            with(|task| task.fixed.clear()),
        ),
        Case::new(
            "nothing to keep",
            "interfaces may be missing",
            with(|task| task.keep_in.clear()),
        ),
        Case::new(
            "a place to keep empty",
            "a screwdriver has to get there",
            with(|task| task.keep_out = vec![solid(20.0, 30.0)]),
        ),
        Case::new(
            "a hole through what is kept",
            "bolts go there",
            with(|task| task.keep_out = vec![hole(1.5)]),
        ),
        Case::new(
            "a hole without a radius",
            "a mistake upstream",
            with(|task| task.keep_out = vec![hole(0.0)]),
        ),
        Case::new(
            "a hole wider than the part",
            "no part fits",
            with(|task| task.keep_out = vec![hole(1e3)]),
        ),
        Case::new(
            "kept and empty at once",
            "no part can do both",
            with(|task| task.keep_out = task.keep_in.clone()),
        ),
        Case::new(
            "nothing but emptiness",
            "no part fits",
            with(|task| task.keep_out = vec![Region::Box(task.envelope)]),
        ),
        Case::new(
            "an envelope without volume",
            "no part fits",
            with(|task| task.envelope = cube(1.0, 1.0)),
        ),
        Case::new(
            "a flat envelope",
            "no part fits",
            with(|task| task.envelope.max.2 = task.envelope.min.2),
        ),
        Case::new(
            "an envelope of a kilometre",
            "grids have an end",
            with(|task| task.envelope = cube(0.0, 1e6)),
        ),
        Case::new(
            "an envelope of a micrometre",
            "nozzles have a width",
            with(|task| task.envelope = cube(0.0, 0.001)),
        ),
        Case::new(
            "far from the origin",
            "frames are any frames",
            with(|task| task.envelope = cube(1e7, 1e7 + 50.0)),
        ),
        Case::new(
            "negative coordinates",
            "frames are any frames",
            with(|task| task.envelope = cube(-50.0, 0.0)),
        ),
        Case::new(
            "no mass",
            "no part weighs nothing",
            with(|task| task.max_mass = 0.0),
        ),
        Case::new(
            "a mass without end",
            "as heavy as it likes",
            with(|task| task.max_mass = f64::MAX),
        ),
        Case::new(
            "a safety beyond all bounds",
            "no part is that safe",
            with(|task| task.min_safety_factor = 1e9),
        ),
        Case::new(
            "a material without stiffness",
            "a mistake upstream",
            with(|task| task.material.stiffness = 0.0),
        ),
        Case::new(
            "a material without mass",
            "a mistake upstream",
            with(|task| task.material.density = 0.0),
        ),
        Case::new(
            "walls thicker than the part",
            "no part fits",
            with(|task| task.process.min_wall = 1e3),
        ),
        Case::new(
            "no overhang",
            "every wall stands upright",
            with(|task| task.process.max_overhang = 0.0),
        ),
        Case::new(
            "any overhang",
            "no wall needs support",
            with(|task| task.process.max_overhang = 90.0),
        ),
        Case::new(
            "a strange name",
            "names are any text",
            of(
                Task {
                    asset: Asset {
                        labels: Vec::new(),
                        ..asset(STRANGE)
                    },
                    ..task()
                },
                MOST,
            ),
        ),
    ]
}

fn of(task: Task, most: u32) -> Request {
    Request::Design {
        task: Box::new(task),
        most,
    }
}

fn mesh(bytes: &[u8]) -> ArtifactRef {
    artifact("part.stl", "model/stl", bytes)
}

fn cube(from: f64, to: f64) -> Box3 {
    Box3 {
        min: (from, from, from),
        max: (to, to, to),
    }
}

fn solid(from: f64, to: f64) -> Region {
    Region::Box(cube(from, to))
}

/// A hole through the envelope, along z.
fn hole(radius: f64) -> Region {
    let (start, end) = ((5.0, 5.0, 0.0), (5.0, 5.0, 50.0));
    Region::Cylinder(Cylinder { start, end, radius })
}

fn load(name: &str, force: Vec3) -> LoadCase {
    LoadCase {
        name: name.to_owned(),
        force,
        region: solid(40.0, 50.0),
    }
}

fn task() -> Task {
    Task {
        asset: asset("fan-1"),
        source: None,
        envelope: cube(0.0, 50.0),
        keep_in: vec![solid(0.0, 10.0)],
        keep_out: Vec::new(),
        fixed: vec![solid(0.0, 5.0)],
        loads: vec![load("spin", (0.0, 0.0, -20.0))],
        material: Material {
            name: "petg".to_owned(),
            density: 1.27,
            stiffness: 2_000.0,
            poisson_ratio: 0.4,
            yield_strength: 30.0,
            yield_strength_across: 20.0,
        },
        process: Process {
            layer_height: 0.2,
            min_wall: 0.8,
            max_overhang: 45.0,
        },
        max_mass: 60.0,
        min_safety_factor: 2.0,
    }
}
