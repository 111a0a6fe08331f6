//! Makes a solid block that fills its envelope, if it is not too heavy.
//!
//! Begin with `generate`, which sees the task and says what was made. The contract's types and their units are in
//! `wit/deps/forewright-plugin/designer.wit`.

use plugin_sdk::artifacts;
use plugin_sdk::design::{Box3, Candidate, PluginError, Task, Vec3};
use plugin_sdk::info;

struct Block;

impl plugin_sdk::Designer for Block {
    fn generate(task: Task, max_candidates: u32) -> Result<Vec<Candidate>, PluginError> {
        info!("designs a part of {}", task.asset.id);
        if max_candidates == 0 {
            return Ok(Vec::new());
        }
        if !task.keep_out.is_empty() {
            return Err(PluginError::Unsupported(
                "this designer cuts no holes".to_owned(),
            ));
        }
        let Some(volume) = volume(&task.envelope) else {
            return Err(PluginError::InvalidInput(
                "the envelope has no volume".to_owned(),
            ));
        };
        // Cubic millimetres times grams per cubic centimetre.
        let mass = volume * task.material.density / 1_000.0;
        if mass.is_nan() || mass <= 0.0 {
            return Err(PluginError::InvalidInput(
                "the material has no mass".to_owned(),
            ));
        }
        if !(mass.is_finite() && mass <= task.max_mass) {
            return Err(PluginError::Unsupported(
                "a solid block is too heavy".to_owned(),
            ));
        }
        let mesh = artifacts::write("block.stl", "model/stl", &stl(&task.envelope))?;
        Ok(vec![Candidate {
            mesh,
            mass,
            build_direction: (0.0, 0.0, 1.0),
            scores: vec![("solidity".to_owned(), 1.0)],
            notes: "a solid block".to_owned(),
        }])
    }
}

plugin_sdk::designer!(Block);

/// Of a box, in cubic millimetres, if it is one.
fn volume(Box3 { min, max }: &Box3) -> Option<f64> {
    let sides = [max.0 - min.0, max.1 - min.1, max.2 - min.2];
    let solid = sides.iter().all(|side| side.is_finite() && *side > 0.0);
    solid.then(|| sides.iter().product())
}

/// A box as a binary STL: a header of 80 bytes, the number of triangles, and 50 bytes for each.
fn stl(Box3 { min, max }: &Box3) -> Vec<u8> {
    // A corner's bits say in which axes it is at the greater end. Each face goes around counterclockwise seen from
    // outside, which is what tells in from out.
    const FACES: [([usize; 4], Vec3); 6] = [
        ([0, 4, 6, 2], (-1.0, 0.0, 0.0)),
        ([1, 3, 7, 5], (1.0, 0.0, 0.0)),
        ([0, 1, 5, 4], (0.0, -1.0, 0.0)),
        ([2, 6, 7, 3], (0.0, 1.0, 0.0)),
        ([0, 2, 3, 1], (0.0, 0.0, -1.0)),
        ([4, 5, 7, 6], (0.0, 0.0, 1.0)),
    ];
    let corner = |at: usize| {
        let end = |axis: usize, min: f64, max: f64| if at >> axis & 1 == 1 { max } else { min };
        (
            end(0, min.0, max.0),
            end(1, min.1, max.1),
            end(2, min.2, max.2),
        )
    };
    let mut bytes = vec![0; 80];
    bytes.extend((2 * FACES.len() as u32).to_le_bytes());
    for ([a, b, c, d], normal) in FACES {
        for triangle in [[a, b, c], [a, c, d]] {
            for (x, y, z) in [normal].into_iter().chain(triangle.map(corner)) {
                bytes.extend([x, y, z].into_iter().flat_map(|v| (v as f32).to_le_bytes()));
            }
            bytes.extend([0; 2]);
        }
    }
    bytes
}
