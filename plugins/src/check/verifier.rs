//! What a verifier meets.

use super::kit::Case;
use super::samples::{STRANGE, artifact, garbage, open_mesh, pixel, scan, stl, tetrahedron};
use crate::call::Request;
use crate::v1::types::{ArtifactRef, Vec3};
use crate::v1::verify::{self, Observation, Pixels, Placement, Pose};

const TOLERANCE: f64 = 0.2;

pub(super) fn cases() -> Vec<Case> {
    let seen = |observations: Vec<Observation>| of(mesh(&tetrahedron()), observations, TOLERANCE);
    let expected = |bytes: &[u8]| of(mesh(bytes), vec![scanned(&scan())], TOLERANCE);
    let within = |tolerance: f64| of(mesh(&tetrahedron()), vec![scanned(&scan())], tolerance);
    let scanned_as = |media_type: &str| {
        let artifact = ArtifactRef {
            media_type: media_type.to_owned(),
            ..ply(&scan())
        };
        seen(vec![Observation {
            artifact,
            ..scanned(&scan())
        }])
    };
    let placed = |placement: Placement| {
        seen(vec![Observation {
            placement,
            ..scanned(&scan())
        }])
    };
    let turned = |rotation| {
        placed(Placement::Pose(Pose {
            rotation,
            translation: NOWHERE,
        }))
    };
    let moved = |translation| {
        placed(Placement::Pose(Pose {
            rotation: UPRIGHT,
            translation,
        }))
    };
    let shown = |placement: Placement| {
        seen(vec![Observation {
            placement,
            ..imaged(&pixel(), 0.2)
        }])
    };
    let pixels = |right, down| {
        shown(Placement::Pixels(Pixels {
            origin: (0.0, 0.0, 0.2),
            right,
            down,
        }))
    };
    let sure = |uncertainty| {
        seen(vec![Observation {
            uncertainty,
            ..scanned(&scan())
        }])
    };
    let mistake = "a mistake upstream";
    let bytes = "bytes are not what they are called";
    vec![
        Case::new(
            "plain",
            "a scan and an image",
            seen(vec![scanned(&scan()), imaged(&pixel(), 0.2)]),
        ),
        Case::new(
            "a scan only",
            "whatever was seen",
            seen(vec![scanned(&scan())]),
        ),
        Case::new(
            "an image only",
            "whatever was seen",
            seen(vec![imaged(&pixel(), 0.2)]),
        ),
        Case::new("nothing was seen", "that is inconclusive", seen(Vec::new())),
        Case::new(
            "a hundred images",
            "one for each layer",
            seen(
                (0..100)
                    .map(|n| imaged(&pixel(), f64::from(n) * 0.2))
                    .collect(),
            ),
        ),
        Case::new(
            "the same scan twice",
            "things are looked at again",
            seen(vec![scanned(&scan()); 2]),
        ),
        Case::new(
            "a scan that is none",
            bytes,
            seen(vec![scanned(&garbage())]),
        ),
        Case::new("an empty scan", bytes, seen(vec![scanned(&[])])),
        Case::new(
            "a scan that is an image",
            bytes,
            seen(vec![scanned(&pixel())]),
        ),
        Case::new(
            "an image that is none",
            bytes,
            seen(vec![imaged(&garbage(), 0.2)]),
        ),
        Case::new("an empty image", bytes, seen(vec![imaged(&[], 0.2)])),
        Case::new(
            "an image that is a mesh",
            bytes,
            seen(vec![imaged(&tetrahedron(), 0.2)]),
        ),
        Case::new(
            "a scan in another format",
            "the grant may not cover it",
            scanned_as("model/obj"),
        ),
        Case::new(
            "a scan without a format",
            "the grant may not cover it",
            scanned_as(""),
        ),
        Case::new(
            "a scan from nobody knows where",
            "calibration may be missing",
            placed(Placement::Unknown),
        ),
        Case::new(
            "an image from nobody knows where",
            "calibration may be missing",
            shown(Placement::Unknown),
        ),
        Case::new(
            "a scan placed like an image",
            mistake,
            placed(Placement::Pixels(PLAIN_PIXELS)),
        ),
        Case::new(
            "a rotation of no length",
            mistake,
            turned((0.0, 0.0, 0.0, 0.0)),
        ),
        Case::new(
            "a rotation that is no number",
            mistake,
            turned((f64::NAN, 0.0, 0.0, 1.0)),
        ),
        Case::new(
            "half a turn",
            "parts lie upside down",
            turned((1.0, 0.0, 0.0, 0.0)),
        ),
        Case::new(
            "a kilometre away",
            "nothing of it is near",
            moved((1e6, 0.0, 0.0)),
        ),
        Case::new(
            "a place that is no number",
            mistake,
            moved((0.0, f64::NAN, 0.0)),
        ),
        Case::new("pixels of no size", mistake, pixels(NOWHERE, NOWHERE)),
        Case::new(
            "pixels on a line",
            mistake,
            pixels((0.1, 0.0, 0.0), (0.1, 0.0, 0.0)),
        ),
        Case::new(
            "pixels that are no number",
            mistake,
            pixels((f64::NAN, 0.0, 0.0), (0.0, 0.1, 0.0)),
        ),
        Case::new(
            "a layer above the part",
            mistake,
            seen(vec![imaged(&pixel(), 1e6)]),
        ),
        Case::new(
            "a measurement without doubt",
            "nothing is that exact",
            sure(Some(0.0)),
        ),
        Case::new(
            "a measurement of nothing but doubt",
            "then nothing is known",
            sure(Some(1e6)),
        ),
        Case::new("a doubt that is no number", mistake, sure(Some(f64::NAN))),
        Case::new(
            "a design without facets",
            "a mesh is read before it is trusted",
            expected(&stl(&[])),
        ),
        Case::new(
            "a design that is open",
            "a mesh is read before it is trusted",
            expected(&open_mesh()),
        ),
        Case::new("a design that is none", bytes, expected(&garbage())),
        Case::new("an empty design", bytes, expected(&[])),
        Case::new("no tolerance", "nothing is that exact", within(0.0)),
        Case::new("a tolerance below nothing", mistake, within(-1.0)),
        Case::new("any tolerance", "everything is near enough", within(1e9)),
        Case::new("a tolerance that is no number", mistake, within(f64::NAN)),
        Case::new(
            "a strange name",
            "names are any text",
            of(
                artifact(STRANGE, "model/stl", &tetrahedron()),
                vec![scanned(&scan())],
                TOLERANCE,
            ),
        ),
    ]
}

const NOWHERE: Vec3 = (0.0, 0.0, 0.0);
/// The rotation that turns nothing.
const UPRIGHT: (f64, f64, f64, f64) = (0.0, 0.0, 0.0, 1.0);
/// A tenth of a millimetre each, in the plane of the layers.
const PLAIN_PIXELS: Pixels = Pixels {
    origin: NOWHERE,
    right: (0.1, 0.0, 0.0),
    down: (0.0, -0.1, 0.0),
};

fn of(expected: ArtifactRef, observations: Vec<Observation>, tolerance: f64) -> Request {
    Request::Verify(verify::Request {
        expected,
        observations,
        tolerance,
    })
}

fn mesh(bytes: &[u8]) -> ArtifactRef {
    artifact("part.stl", "model/stl", bytes)
}

fn ply(bytes: &[u8]) -> ArtifactRef {
    artifact("scan.ply", "model/ply", bytes)
}

fn scanned(bytes: &[u8]) -> Observation {
    let placement = Placement::Pose(Pose {
        rotation: UPRIGHT,
        translation: NOWHERE,
    });
    Observation {
        artifact: ply(bytes),
        placement,
        uncertainty: Some(0.02),
    }
}

/// An image of the layer at a height.
fn imaged(bytes: &[u8], z: f64) -> Observation {
    let placement = Placement::Pixels(Pixels {
        origin: (0.0, 0.0, z),
        ..PLAIN_PIXELS
    });
    Observation {
        artifact: artifact("layer.png", "image/png", bytes),
        placement,
        uncertainty: None,
    }
}
