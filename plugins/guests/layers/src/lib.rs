//! Holds images of layers against the design: an image whose pixels are placed in the frame of the part shows where there is
//! material, and the section of the mesh in the image's plane says where there has to be.
//!
//! In reading order: [`section`] cuts the mesh, [`picture`] tells material from background, [`compare`] says what differs
//! further than the tolerance, and here it becomes a report.

use plugin_sdk::artifacts;
use plugin_sdk::info;
use plugin_sdk::verify::{
    ArtifactRef, Disposition, Finding, Observation, Pixels, Placement, PluginError, Report,
    Request, Vec3,
};

pub mod compare;
pub mod picture;
pub mod section;

use compare::{Differs, Kind, compare};
use picture::Picture;
use section::{Frame, Section};

const IMAGE: &str = "image/png";
/// The largest files that are read, in bytes.
const LARGEST: u32 = 64 << 20;
/// A place that is off is severe from this many square millimetres on, and grave from ten times as many.
const SEVERE_MM2: f64 = 1.0;
/// The most findings that the contract lets a report have.
const MOST: usize = 10_000;

struct Layers;

impl plugin_sdk::Verifier for Layers {
    fn inspect(request: Request) -> Result<Report, PluginError> {
        let images: Vec<(&Observation, &Pixels)> =
            request.observations.iter().filter_map(placed).collect();
        if images.is_empty() {
            let why = "there is no image whose pixels are placed; other scans are for others";
            return Err(PluginError::Unsupported(why.to_owned()));
        }
        let mesh = section::read_stl(&artifacts::read(&request.expected, LARGEST)?)
            .map_err(|why| invalid(&request.expected, &why))?;
        let (mut findings, mut confidence) = (Vec::new(), 1.0_f64);
        for (image, pixels) in images {
            let picture = Picture::read(&artifacts::read(&image.artifact, LARGEST)?)
                .map_err(|why| invalid(&image.artifact, &why))?;
            let frame = Frame::of(pixels)
                .ok_or_else(|| invalid(&image.artifact, "its pixels lie on one line"))?;
            let section = Section::of(&mesh, &frame, picture.size);
            let (clear, differs) = compare(&picture, &section, &frame, request.tolerance);
            info!(image = image.artifact.name; "{} places differ", differs.len());
            confidence = confidence.min(clear);
            findings.extend(differs.iter().map(|one| finding(one, &frame)));
        }
        let disposition = disposition(&findings, confidence);
        findings.sort_by(|a, b| b.severity.total_cmp(&a.severity));
        findings.truncate(MOST);
        Ok(Report {
            disposition,
            confidence,
            findings,
            deviation: None,
        })
    }
}

plugin_sdk::verifier!(Layers);

fn placed(observation: &Observation) -> Option<(&Observation, &Pixels)> {
    match &observation.placement {
        Placement::Pixels(pixels) if observation.artifact.media_type == IMAGE => {
            Some((observation, pixels))
        }
        _ => None,
    }
}

fn invalid(artifact: &ArtifactRef, why: &str) -> PluginError {
    PluginError::InvalidInput(format!("`{}`: {why}", artifact.name))
}

/// What is too much can be taken off; what is missing, or lies elsewhere, cannot be put right.
fn disposition(findings: &[Finding], confidence: f64) -> Disposition {
    let severe = |code: &str| {
        findings
            .iter()
            .any(|one| one.code == code && one.severity >= 0.5)
    };
    if confidence < 0.5 {
        Disposition::Inconclusive
    } else if severe("missing_material") || severe("layer_shift") {
        Disposition::Reject
    } else if severe("extra_material") {
        Disposition::Rework
    } else {
        Disposition::Accept
    }
}

fn finding(differs: &Differs, frame: &Frame) -> Finding {
    let at: Option<Vec3> = differs.at.map(|(u, v)| frame.place(u, v));
    match differs.kind {
        Kind::Shift { by_mm } => Finding {
            code: "layer_shift".to_owned(),
            severity: 1.0,
            at,
            detail: format!("the layer lies {by_mm:.2} mm off"),
        },
        Kind::Missing | Kind::Extra => {
            let (code, what) = match differs.kind {
                Kind::Missing => ("missing_material", "are missing"),
                _ => ("extra_material", "are too much"),
            };
            Finding {
                code: code.to_owned(),
                severity: severity(differs.area_mm2),
                at,
                detail: format!("{:.2} mm² {what}", differs.area_mm2),
            }
        }
    }
}

/// One half at the limit, 1 at ten times of it.
fn severity(area_mm2: f64) -> f64 {
    (0.5 + 0.5 * (area_mm2 / SEVERE_MM2).log10()).clamp(0.0, 1.0)
}
