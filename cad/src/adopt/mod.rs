//! A part that somebody else designed: taken if it is as sound as one of our own, and only then.
//!
//! Whoever designed it is believed nothing, and may mean ill. `cells` looks at every place in it, `probes` at the faces
//! that others touch.

mod cells;
mod probes;

use std::ops::ControlFlow;

use cells::Cells;
use probes::interface_reason;

use crate::brief::Brief;
use crate::certificate::{CertificateError, certify_voxels};
use crate::design::{Design, Orientation};
use crate::families::DesignSpace;
use crate::field::voxelise::{effort, voxelise};
use crate::mesh::{Mesh, dot};
use crate::{Progress, error_chain};

/// The most triangles looked at; a finer mesh shows nothing that can be made.
const MAX_TRIANGLES: usize = 500_000;
/// The most crossings of rays that are looked for along one axis: some hundred MB.
const MAX_EFFORT: usize = 20_000_000;
/// A face that others touch may be off by this, mm: a tenth of what a build may be.
const FACE_TOLERANCE_MM: f64 = 0.05;
/// How far the build direction may lean from +z.
const LEAN_DEG: f64 = 1.0;
/// The share of the part's footprint that may overhang: we print without supports, and holes have roofs.
const OVERHANG: f64 = 0.2;

/// Why there is no part of it.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The progress callback said stop.
    #[error("the check of a part was cancelled")]
    Cancelled,
    /// It is not what the brief asks for.
    #[error("{}", reasons.join("; "))]
    Refused {
        /// Everything that is wrong with it, as far as it was looked at.
        reasons: Vec<String>,
    },
}

/// Takes a part with all its proofs, or says everything that is wrong with it.
///
/// It has to be one closed piece within the envelope that nowhere overlaps itself, is solid and empty where the brief says
/// so, has its faces and bores where they belong, is built along +z without supports, weighs no more than it may, and
/// holds. Gaps narrower than a voxel count as if they were as wide as one.
///
/// `up` is the direction it is meant to be built in, of any length; `progress` is told shares of the whole.
///
/// # Errors
/// If the part is refused, or the check cancelled.
pub fn adopt(
    mesh: Mesh,
    brief: &Brief,
    up: [f64; 3],
    progress: Progress<'_>,
) -> Result<Design, AdoptError> {
    let space = brief.design_space();
    let mut reasons = shape_reasons(&mesh, &space);
    if !reasons.is_empty() {
        // What is no solid has no inside to look for.
        return Err(AdoptError::Refused { reasons });
    }
    go_on(progress, 0.02)?;
    let orientation = Orientation::along_z(&mesh, "asked to be built along +z");
    reasons.extend(direction_reason(up));
    reasons.extend(overhang_reason(&orientation, &space));
    let cells = match Cells::of(&mesh, &space, brief.optimise.voxel_mm) {
        Ok(cells) => cells,
        Err(why) => {
            reasons.push(why);
            return Err(AdoptError::Refused { reasons });
        }
    };
    go_on(progress, 0.1)?;
    reasons.extend(cells.region_reasons(&space));
    for (n, interface) in space.interfaces.iter().enumerate() {
        reasons.extend(interface_reason(&mesh, interface));
        go_on(
            progress,
            0.1 + 0.1 * n as f64 / space.interfaces.len() as f64,
        )?;
    }
    let h = brief.optimise.voxel_mm;
    let mut voxels = voxelise(&mesh, brief.counts(), space.envelope.min, h);
    cells.open_gaps(&mut voxels, &space);
    let certified = certify_voxels(&mesh, &voxels, brief, &mut |share| {
        progress(0.2 + 0.8 * share)
    });
    let certificate = match certified {
        Ok(certificate) => certificate,
        Err(CertificateError::Cancelled) => return Err(AdoptError::Cancelled),
        Err(error) => {
            reasons.push(format!("it cannot be analysed: {}", error_chain(&error)));
            return Err(AdoptError::Refused { reasons });
        }
    };
    reasons.extend(certificate.reasons.iter().cloned());
    let most = brief.optimise.max_volume_fraction;
    if certificate.volume_fraction > most {
        reasons.push(format!(
            "it fills {:.3} of the envelope, at most {most:.3} may be filled",
            certificate.volume_fraction
        ));
    }
    if !reasons.is_empty() {
        return Err(AdoptError::Refused { reasons });
    }
    Ok(Design {
        orientation,
        voxels,
        volume_fraction: certificate.volume_fraction,
        certificate,
        interfaces: space.interfaces,
        brief: brief.clone(),
        history: Vec::new(),
        mesh,
    })
}

fn go_on(progress: Progress<'_>, share: f64) -> Result<(), AdoptError> {
    match progress(share) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(AdoptError::Cancelled),
    }
}

/// What keeps the mesh from being one solid of this size.
fn shape_reasons(mesh: &Mesh, space: &DesignSpace) -> Vec<String> {
    let triangles = mesh.triangles.len();
    if triangles > MAX_TRIANGLES {
        return vec![format!(
            "the mesh has {triangles} triangles, at most {MAX_TRIANGLES} are looked at; simplify it"
        )];
    }
    let outside = mesh
        .vertices
        .iter()
        .find(|&&v| space.envelope_depth(v) < -1e-3);
    if let Some(at) = outside {
        return vec![format!("it leaves the envelope at {}", place(*at))];
    }
    let report = mesh.check();
    let mut reasons = Vec::new();
    if !report.is_closed() {
        reasons.push("the mesh is not closed".to_owned());
    }
    if report.components != 1 {
        reasons.push(format!("the mesh has {} pieces", report.components));
    }
    if mesh.volume_mm3() <= 0.0 {
        reasons.push("the mesh is inside out".to_owned());
    }
    reasons
}

fn direction_reason(up: [f64; 3]) -> Option<String> {
    let cosine = up[2] / dot(up, up).sqrt();
    (cosine.is_nan() || cosine < LEAN_DEG.to_radians().cos()).then(|| {
        format!(
            "it is to be built along {}, and this part stands on the bed along +z",
            place(up)
        )
    })
}

fn overhang_reason(orientation: &Orientation, space: &DesignSpace) -> Option<String> {
    let size = space.size();
    let (mm2, most) = (orientation.unsupported_mm2, OVERHANG * size[0] * size[1]);
    (mm2 > most).then(|| {
        format!(
            "{mm2:.0} mm² of it overhang, at most {most:.0} mm² may where nothing supports them"
        )
    })
}

fn place([x, y, z]: [f64; 3]) -> String {
    format!("({x:.2}, {y:.2}, {z:.2})")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::brief::tests::BRACKET;
    use crate::design::redesign;

    const GO: fn(f64) -> ControlFlow<()> = |_| ControlFlow::Continue(());
    const UP: [f64; 3] = [0.0, 0.0, 1.0];

    fn brief() -> Brief {
        let coarse = "voxel_mm = 2.0\niterations = 15";
        Brief::from_toml(&BRACKET.replace("voxel_mm = 2.0", coarse)).unwrap()
    }

    fn reasons(mesh: Mesh, brief: &Brief, up: [f64; 3]) -> Vec<String> {
        match adopt(mesh, brief, up, &mut { GO }) {
            Err(AdoptError::Refused { reasons }) => reasons,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn block(min: [f64; 3], max: [f64; 3]) -> Mesh {
        let corner = |n: usize| [0, 1, 2].map(|a| if n >> a & 1 == 0 { min[a] } else { max[a] });
        let quads = [
            [0, 2, 3, 1],
            [4, 5, 7, 6],
            [0, 1, 5, 4],
            [2, 6, 7, 3],
            [0, 4, 6, 2],
            [1, 3, 7, 5],
        ];
        Mesh {
            vertices: (0..8).map(corner).collect(),
            triangles: quads
                .iter()
                .flat_map(|&[a, b, c, d]| [[a, b, c], [a, c, d]])
                .collect(),
        }
    }

    #[test]
    fn our_own_part_is_adopted_with_the_same_proof_and_a_spoilt_one_is_not() {
        let brief = brief();
        let own = redesign(&brief, 1, &mut { GO }).unwrap();
        let taken = adopt(own.mesh.clone(), &brief, [0.0, 0.0, 2.0], &mut { GO }).unwrap();
        assert_eq!(taken.certificate, own.certificate);
        assert_eq!(taken.mesh, own.mesh);
        assert_eq!(taken.verification_plan(), own.verification_plan());

        let lying = reasons(own.mesh.clone(), &brief, [1.0, 0.0, 0.0]);
        assert_eq!(
            lying,
            [
                "it is to be built along (1.00, 0.00, 0.00), and this part stands on the bed along +z"
            ]
        );

        let mut open = own.mesh.clone();
        open.triangles.pop();
        assert_eq!(reasons(open, &brief, UP), ["the mesh is not closed"]);

        // A bolt face that stands a tenth of a millimetre back.
        let mut back = own.mesh.clone();
        for v in &mut back.vertices {
            if v[0] < 0.05 {
                v[0] = 0.1;
            }
        }
        let found = reasons(back, &brief, UP);
        assert!(
            found.iter().any(|r| r.starts_with("face `bolt_1` is off")),
            "{found:?}"
        );

        let strong = Brief {
            required_fos: own.certificate.factor_of_safety * 1.5,
            ..brief.clone()
        };
        let weak = reasons(own.mesh.clone(), &strong, UP);
        assert!(weak[0].contains("below the required"), "{weak:?}");
        let mut light = brief.clone();
        light.optimise.max_volume_fraction = own.certificate.volume_fraction * 0.9;
        let heavy = reasons(own.mesh, &light, UP);
        assert!(heavy[0].contains("of the envelope"), "{heavy:?}");
    }

    #[test]
    fn a_block_fills_what_must_be_empty_and_two_are_two() {
        let brief = brief();
        let bounds = brief.design_space().envelope;
        let found = reasons(block(bounds.min, bounds.max), &brief, UP);
        assert!(
            found[0].starts_with("it is solid where it must be empty"),
            "{found:?}"
        );
        assert!(
            found.iter().any(|r| r.starts_with("bore `bore` is off")),
            "{found:?}"
        );
        let small = block([0.0; 3], [10.0; 3]);
        let found = reasons(small, &brief, UP);
        assert!(
            found.iter().any(|r| r.starts_with("it is empty where")),
            "{found:?}"
        );
        let beyond = block([0.0; 3], [1.0, 1.0, bounds.max[2] + 1.0]);
        assert!(reasons(beyond, &brief, UP)[0].starts_with("it leaves the envelope"));
        let mut inside_out = block([0.0; 3], [10.0; 3]);
        for triangle in &mut inside_out.triangles {
            triangle.swap(0, 1);
        }
        assert_eq!(reasons(inside_out, &brief, UP), ["the mesh is inside out"]);
        let mut two = block([0.0; 3], [10.0; 3]);
        let other = block([20.0; 3], [30.0; 3]);
        two.vertices.extend(other.vertices);
        two.triangles
            .extend(other.triangles.iter().map(|t| t.map(|v| v + 8)));
        assert_eq!(reasons(two, &brief, UP), ["the mesh has 2 pieces"]);
    }

    #[test]
    fn break_cancels() {
        let brief = brief();
        let small = block([0.0; 3], [10.0; 3]);
        let error = adopt(small, &brief, UP, &mut |_| ControlFlow::Break(()));
        assert!(matches!(error, Err(AdoptError::Cancelled)));
    }
}
