//! What an answer of a designer has to hold to; whether its meshes are parts is for the geometry to say.

use std::collections::BTreeMap;

use super::bindings::design::Candidate;
use super::bindings::types::ArtifactRef;
use super::judge::{Judgement, finite};

/// What a candidate's mesh is.
const MESH: &str = "model/stl";
/// How far from 1 the length of a direction may be.
const NEAR: f64 = 1e-6;
/// The most scores of one candidate.
const MOST_SCORES: usize = 64;

pub(crate) fn judge(
    most: u32,
    answer: &[Candidate],
    artifacts: &BTreeMap<String, ArtifactRef>,
) -> Judgement {
    if answer.len() > most as usize {
        return Err(format!("{} candidates; {most} are the most", answer.len()));
    }
    for candidate in answer {
        of_candidate(candidate, artifacts)?;
    }
    Ok(())
}

fn of_candidate(candidate: &Candidate, artifacts: &BTreeMap<String, ArtifactRef>) -> Judgement {
    // As the host knows it: what a guest says of its name and its format is not taken for true.
    match artifacts.get(&candidate.mesh.digest) {
        Some(known) if *known == candidate.mesh && known.media_type == MESH => {}
        Some(_) => return Err(format!("a candidate is not the `{MESH}` that was kept")),
        None => {
            return Err(
                "a candidate's mesh was neither given to the call nor made by it".to_owned(),
            );
        }
    }
    if !(candidate.mass.is_finite() && candidate.mass > 0.0) {
        return Err(format!("a mass of {} g", candidate.mass));
    }
    let (x, y, z) = candidate.build_direction;
    let length = (x * x + y * y + z * z).sqrt();
    let off = (length - 1.0).abs();
    if off.is_nan() || off > NEAR {
        return Err(format!("a build direction of length {length}"));
    }
    if candidate.scores.len() > MOST_SCORES {
        return Err(format!(
            "{} scores; {MOST_SCORES} are the most",
            candidate.scores.len()
        ));
    }
    for (name, score) in &candidate.scores {
        finite(&format!("the score `{name}`"), *score)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_few_weigh_something_and_have_a_mesh_the_call_knows() {
        let mesh = |digest: &str| ArtifactRef {
            digest: digest.to_owned(),
            media_type: "model/stl".to_owned(),
            size: 84,
            name: "part.stl".to_owned(),
        };
        let known = BTreeMap::from([("sha256:a".to_owned(), mesh("sha256:a"))]);
        let candidate = |digest, mass, score| Candidate {
            mesh: mesh(digest),
            mass,
            build_direction: (0.0, 0.6, 0.8),
            scores: vec![("stiffness".to_owned(), score)],
            notes: String::new(),
        };
        let sound = candidate("sha256:a", 12.5, 1.0);
        assert_eq!(judge(1, std::slice::from_ref(&sound), &known), Ok(()));
        assert_eq!(judge(0, &[], &known), Ok(()));
        let renamed = ArtifactRef {
            name: "../part.stl".to_owned(),
            ..mesh("sha256:a")
        };
        let cases = [
            (vec![sound.clone(), sound.clone()], "2 candidates"),
            (
                vec![candidate("sha256:b", 12.5, 1.0)],
                "neither given to the call nor made by it",
            ),
            (
                vec![Candidate {
                    mesh: renamed,
                    ..sound.clone()
                }],
                "not the `model/stl` that was kept",
            ),
            (vec![candidate("sha256:a", 0.0, 1.0)], "a mass of 0 g"),
            (
                vec![candidate("sha256:a", f64::NAN, 1.0)],
                "a mass of NaN g",
            ),
            (
                vec![Candidate {
                    build_direction: (0.0, 0.0, 2.0),
                    ..sound.clone()
                }],
                "of length 2",
            ),
            (
                vec![Candidate {
                    build_direction: (0.0, 0.0, f64::NAN),
                    ..sound
                }],
                "of length NaN",
            ),
            (
                vec![candidate("sha256:a", 12.5, f64::INFINITY)],
                "the score `stiffness` is inf",
            ),
        ];
        for (candidates, said) in cases {
            let why = judge(1, &candidates, &known).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
