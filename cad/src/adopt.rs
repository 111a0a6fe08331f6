//! A part that somebody else designed: taken if it is as sound as one of our own, and only then.

use std::f64::consts::TAU;
use std::ops::ControlFlow;

use crate::Progress;
use crate::brief::Brief;
use crate::certificate::{CertificateError, certify_mesh};
use crate::design::{Design, Orientation};
use crate::families::{DesignSpace, Interface, InterfaceKind};
use crate::field::voxelise::voxelise;
use crate::mesh::{Bounds, Mesh, cross, dot, sub};

/// The most triangles looked at; a finer mesh shows nothing that can be made.
const MAX_TRIANGLES: usize = 1_000_000;
/// The most cells that frozen and empty regions are looked at in.
const MAX_CELLS: f64 = 2e6;
/// The share of a cell that may be otherwise.
const EDGE: f64 = 0.1;
/// A face that others touch may be off by this, mm: a tenth of what a build may be.
const FACE_TOLERANCE_MM: f64 = 0.05;
/// A bore may be off by this, mm: the chords of a coarse mesh are, and so is the first layer of any printer.
const BORE_TOLERANCE_MM: f64 = 0.25;
/// How far the build direction may lean from +z.
const LEAN_DEG: f64 = 1.0;

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
/// It has to be one closed piece within the envelope that is solid and empty where the brief says so, has its faces and
/// bores where they belong, is built along +z, weighs no more than it may, and holds.
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
    reasons.extend(direction_reason(up));
    reasons.extend(region_reasons(&mesh, &space, brief.optimise.voxel_mm));
    reasons.extend(
        space
            .interfaces
            .iter()
            .filter_map(|i| interface_reason(&mesh, i)),
    );
    if progress(0.2) == ControlFlow::Break(()) {
        return Err(AdoptError::Cancelled);
    }
    let certified = certify_mesh(&mesh, brief, &mut |share| progress(0.2 + 0.8 * share));
    let certificate = match certified {
        Ok(certificate) => certificate,
        Err(CertificateError::Cancelled) => return Err(AdoptError::Cancelled),
        Err(error) => {
            reasons.push(format!("it cannot be analysed: {}", chain(&error)));
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
    let h = brief.optimise.voxel_mm;
    Ok(Design {
        orientation: Orientation::along_z(&mesh, "asked to be built along +z"),
        voxels: voxelise(&mesh, brief.counts(), space.envelope.min, h),
        volume_fraction: certificate.volume_fraction,
        certificate,
        interfaces: space.interfaces,
        brief: brief.clone(),
        history: Vec::new(),
        mesh,
    })
}

/// What keeps the mesh from being one solid of this size.
fn shape_reasons(mesh: &Mesh, space: &DesignSpace) -> Vec<String> {
    let triangles = mesh.triangles.len();
    if triangles > MAX_TRIANGLES {
        return vec![format!(
            "the mesh has {triangles} triangles, at most {MAX_TRIANGLES} are looked at; simplify it"
        )];
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
    let outside = mesh
        .vertices
        .iter()
        .find(|&&v| space.envelope_depth(v) < -1e-3);
    if let Some(at) = outside {
        reasons.push(format!("it leaves the envelope at {}", place(*at)));
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

/// What is solid where it must be empty, or empty where it must be solid, further than a cell from the border.
fn region_reasons(mesh: &Mesh, space: &DesignSpace, voxel_mm: f64) -> Vec<String> {
    let size = space.size();
    let cell = (voxel_mm / 4.0).max((size.iter().product::<f64>() / MAX_CELLS).cbrt());
    // Half the diagonal of a cell, so that all of it is beyond the border.
    let margin = cell * 3f64.sqrt() / 2.0 + FACE_TOLERANCE_MM;
    let counts = size.map(|s| (s / cell - 1e-9).ceil() as usize);
    let voxels = voxelise(mesh, counts, space.envelope.min, cell);
    let mut filled = Wrong::default();
    let mut missing = Wrong::default();
    for (n, &fill) in voxels.fill.iter().enumerate() {
        let at = voxels.centre(n);
        let deepest = |shapes: &[crate::families::Shape]| {
            let depths = shapes.iter().map(|shape| shape.depth(at));
            depths.fold(f64::NEG_INFINITY, f64::max)
        };
        let void = deepest(&space.voids);
        if void > margin {
            filled.add(fill, at);
        } else if void < -margin && deepest(&space.solids).min(space.envelope_depth(at)) > margin {
            missing.add(1.0 - fill, at);
        }
    }
    let cell_mm3 = voxels.cell_mm3();
    [
        (filled, "is solid where it must be empty"),
        (missing, "is empty where it must be solid"),
    ]
    .into_iter()
    .filter_map(|(wrong, what)| {
        let at = wrong.first?;
        let mm3 = wrong.cells * cell_mm3;
        Some(format!("it {what}: {mm3:.1} mm³, first at {}", place(at)))
    })
    .collect()
}

/// Cells that are not as they must be.
#[derive(Default)]
struct Wrong {
    cells: f64,
    first: Option<[f64; 3]>,
}

impl Wrong {
    /// A share that neither rounding nor the broken edge of a coarse mesh explains counts.
    fn add(&mut self, share: f64, at: [f64; 3]) {
        if share > EDGE {
            self.cells += share;
            self.first.get_or_insert(at);
        }
    }
}

/// What is wrong with a surface that something else touches: it is looked at in places all over it.
fn interface_reason(mesh: &Mesh, interface: &Interface) -> Option<String> {
    let reach = interface.extent.outer_mm + interface.extent.depth_mm + 2.0;
    let near = Bounds {
        min: interface.point.map(|x| x - reach),
        max: interface.point.map(|x| x + reach),
    };
    let close: Vec<[[f64; 3]; 3]> = (0..mesh.triangles.len())
        .map(|t| mesh.corners(t))
        .filter(|corners| meets(corners, near))
        .collect();
    let probes = probes(interface);
    let found = |probe: &&Probe| close.iter().any(|corners| probe.finds(corners));
    let lost: Vec<&Probe> = probes.iter().filter(|probe| !found(probe)).collect();
    let first = lost.first()?;
    let (kind, off) = match interface.kind {
        InterfaceKind::Plane => ("face", FACE_TOLERANCE_MM),
        InterfaceKind::Bore => ("bore", BORE_TOLERANCE_MM),
    };
    Some(format!(
        "{kind} `{}` is off by more than {off} mm in {} of {} places, first at {}",
        interface.name,
        lost.len(),
        probes.len(),
        place(first.at())
    ))
}

/// A ray that has to leave or enter the part at a distance.
struct Probe {
    from: [f64; 3],
    direction: [f64; 3],
    distance: f64,
    tolerance: f64,
    /// Out of the material, or into it.
    leaves: bool,
}

impl Probe {
    fn at(&self) -> [f64; 3] {
        [0, 1, 2].map(|a| self.from[a] + self.distance * self.direction[a])
    }

    /// Whether the ray crosses a triangle where and how it should (Möller and Trumbore 1997).
    fn finds(&self, [a, b, c]: &[[f64; 3]; 3]) -> bool {
        let (ab, ac) = (sub(*b, *a), sub(*c, *a));
        let p = cross(self.direction, ac);
        let facing = dot(ab, p);
        // Negative where the triangle looks along the ray, that is, where the ray leaves.
        if facing == 0.0 || (facing < 0.0) != self.leaves {
            return false;
        }
        let s = sub(self.from, *a);
        let q = cross(s, ab);
        let (u, v) = (dot(s, p) / facing, dot(self.direction, q) / facing);
        let edge = -1e-9;
        let t = dot(ac, q) / facing;
        u >= edge && v >= edge && u + v <= 1.0 - edge && (t - self.distance).abs() <= self.tolerance
    }
}

/// Places all over an interface, and none near its rims, which may be broken.
fn probes(interface: &Interface) -> Vec<Probe> {
    let axis = interface.axis();
    let (b, c) = ((axis + 1) % 3, (axis + 2) % 3);
    let extent = interface.extent;
    let mut probes = Vec::new();
    for share in [0.3, 0.5, 0.7] {
        for turn in 0..12 {
            let (sine, cosine) = (TAU * (f64::from(turn) + 0.3) / 12.0).sin_cos();
            let mut radial = [0.0; 3];
            (radial[b], radial[c]) = (cosine, sine);
            let along = |from: [f64; 3], direction: [f64; 3], by: f64| {
                [0, 1, 2].map(|a| from[a] + by * direction[a])
            };
            probes.push(match interface.kind {
                InterfaceKind::Plane => {
                    let radius = extent.inner_mm + share * (extent.outer_mm - extent.inner_mm);
                    let at = along(interface.point, radial, radius);
                    Probe {
                        from: along(at, interface.normal, -1.0),
                        direction: interface.normal,
                        distance: 1.0,
                        tolerance: FACE_TOLERANCE_MM,
                        leaves: true,
                    }
                }
                InterfaceKind::Bore => Probe {
                    from: along(interface.point, interface.normal, share * extent.depth_mm),
                    direction: radial,
                    distance: extent.inner_mm,
                    tolerance: BORE_TOLERANCE_MM,
                    leaves: false,
                },
            });
        }
    }
    probes
}

fn meets(corners: &[[f64; 3]; 3], bounds: Bounds) -> bool {
    (0..3).all(|axis| {
        let least = corners
            .iter()
            .map(|p| p[axis])
            .fold(f64::INFINITY, f64::min);
        let greatest = corners
            .iter()
            .map(|p| p[axis])
            .fold(f64::NEG_INFINITY, f64::max);
        least <= bounds.max[axis] && greatest >= bounds.min[axis]
    })
}

fn place([x, y, z]: [f64; 3]) -> String {
    format!("({x:.2}, {y:.2}, {z:.2})")
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
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

    fn block(min: [f64; 3], max: [f64; 3]) -> Mesh {
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
