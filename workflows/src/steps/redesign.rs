//! Redesigns an asset's part against the load of its predicted failure mode, and proves the result.

use std::collections::BTreeMap;

use cad::brief::Brief;
use cad::design::DesignError;
use cad::families::InterfaceRole;
use cad::fem::load::{FailureMode, LoadInputs, load_cases};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Outcome, Step, StepError};
use crate::host::Host;
use crate::model::{ArtifactRef, NewDesign};

/// Redesigns the part of the asset; see `RedesignInput`.
pub struct Redesign;

/// What is predicted to fail, and the features its load follows from.
#[derive(Debug, Deserialize)]
pub struct RedesignInput {
    /// The asset.
    pub asset: String,
    /// Its failure mode, as the prediction names it.
    pub mode: String,
    /// Telemetry features; `vibration_ratio` and `speed_rpm` set the load.
    pub features: Features,
}

/// The telemetry features a load follows from.
#[derive(Debug, Deserialize)]
pub struct Features {
    /// Present vibration over the vibration in health.
    pub vibration_ratio: f64,
    /// Speed of the rotor, 1/min; the fan's rated speed if it is not measured.
    #[serde(default)]
    pub speed_rpm: Option<f64>,
}

/// The design and where its files are.
#[derive(Debug, Serialize)]
pub struct RedesignOutput {
    /// The design.
    pub design: String,
    /// The part it is a version of.
    pub part: String,
    /// The forces it is designed for.
    pub loads: Vec<Value>,
    /// Digest of the STL.
    pub mesh: String,
    /// Digest of the 3MF.
    pub threemf: String,
    /// Digest of the parametric starting solid, STEP.
    pub step: String,
    /// Digest of the verification plan.
    pub plan: String,
    /// Digest of a picture of it.
    pub image: String,
    /// The proof in short.
    pub certificate: Value,
    /// Digest of the proof.
    pub certificate_digest: String,
    /// Whether every requirement is met.
    pub holds: bool,
    /// Compliance by iteration, N·mm.
    pub compliance: Vec<f64>,
}

impl Step for Redesign {
    const KIND: &'static str = "redesign";
    const QUEUE: &'static str = "cad";
    type Input = RedesignInput;
    type Output = RedesignOutput;

    fn run(
        &self,
        input: RedesignInput,
        host: &dyn Host,
    ) -> Result<Outcome<RedesignOutput>, StepError> {
        let asset = host.asset(&input.asset)?;
        let part_id = asset.part.ok_or_else(|| {
            let what = format_args!("asset `{}` has no part that can be made", input.asset);
            StepError::failed("no_part", what)
        })?;
        let part = host.part(&part_id)?;
        let brief = brief_for(&part.brief, &input)?;
        let design = cad::design::redesign(&brief, host.seed(), &mut |share| {
            host.progress(share * 0.95, "optimising")
        })
        .map_err(|e| match e {
            DesignError::Cancelled => StepError::Cancelled,
            DesignError::FosUnreachable { .. } => StepError::failed("unreachable_fos", e),
            other => StepError::failed("no_design", error_chain(&other)),
        })?;

        let files = Files::keep(&design, &brief, host)?;
        let certificate = to_json(&design.certificate)?;
        let stored = host.store_design(&NewDesign {
            part: part_id.clone(),
            asset: input.asset,
            artifacts: files.by_role(),
            certificate: certificate.clone(),
        })?;
        Ok(Outcome::Done(RedesignOutput {
            design: stored.id,
            part: part_id,
            loads: brief
                .loads
                .iter()
                .map(|l| json!({ "name": l.name, "at": l.at, "force_n": l.force_n }))
                .collect(),
            mesh: files.mesh.digest,
            threemf: files.threemf.digest,
            step: files.step.digest,
            plan: files.plan.digest,
            image: files.image.digest,
            holds: design.certificate.holds,
            certificate,
            certificate_digest: files.certificate.digest,
            compliance: design.history.iter().map(|i| i.compliance_n_mm).collect(),
        }))
    }
}

/// The part's brief with the loads of the failure mode in the place of its own.
fn brief_for(text: &str, input: &RedesignInput) -> Result<Brief, StepError> {
    let mut brief = Brief::from_toml(text).map_err(|e| StepError::failed("invalid_brief", e))?;
    let mode = match input.mode.as_str() {
        "imbalance" => FailureMode::ImbalanceFromBearingWear,
        "handling" => FailureMode::HandlingOverload,
        other => {
            let what = format_args!(
                "no load is known for the failure mode `{other}`; `imbalance` and `handling` have one"
            );
            return Err(StepError::failed("unknown_failure_mode", what));
        }
    };
    let healthy = LoadInputs::default();
    let inputs = LoadInputs {
        vibration_ratio: input.features.vibration_ratio,
        speed_rpm: input.features.speed_rpm.unwrap_or(healthy.speed_rpm),
        ..healthy
    };
    let space = brief.design_space();
    let loaded = space
        .interfaces
        .iter()
        .find(|i| i.role == InterfaceRole::Load);
    let at = loaded.map(|i| i.name.clone()).ok_or_else(|| {
        StepError::failed(
            "no_interface",
            "the part has no interface that carries a load",
        )
    })?;
    brief.loads =
        load_cases(mode, &inputs, &at).map_err(|e| StepError::failed("no_load_case", e))?;
    brief
        .validate()
        .map_err(|e| StepError::failed("invalid_brief", e))?;
    Ok(brief)
}

/// The files of a design.
struct Files {
    mesh: ArtifactRef,
    threemf: ArtifactRef,
    step: ArtifactRef,
    plan: ArtifactRef,
    brief: ArtifactRef,
    certificate: ArtifactRef,
    image: ArtifactRef,
}

impl Files {
    fn keep(
        design: &cad::design::Design,
        brief: &Brief,
        host: &dyn Host,
    ) -> Result<Self, StepError> {
        let meta = cad::formats::threemf::Meta {
            title: "Fan-tray bracket".into(),
            application: "Forewright".into(),
            description: "Redesigned against its predicted failure mode.".into(),
        };
        let cad::brief::Part::FanTrayBracket(bracket) = &brief.part;
        let solid = cad::brep::bracket_step(bracket)
            .map_err(|e| StepError::failed("no_step", error_chain(&e)))?;
        let toml = brief
            .to_toml()
            .map_err(|e| StepError::failed("invalid_brief", e))?;
        let image = cad::inspect::picture::part_png(&design.mesh);
        let stl = cad::formats::stl::write(&design.mesh);
        let threemf = cad::formats::threemf::write(&design.mesh, &meta);
        let keep = |name: &str, media: &str, bytes: &[u8]| host.put_artifact(name, media, bytes);
        Ok(Self {
            mesh: keep("mesh", "model/stl", &stl)?,
            threemf: keep("threemf", "model/3mf", &threemf)?,
            step: keep("step", "model/step", solid.as_bytes())?,
            plan: keep(
                "plan",
                "application/json",
                &pretty(&design.verification_plan())?,
            )?,
            brief: keep("brief", "application/toml", toml.as_bytes())?,
            certificate: keep(
                "certificate",
                "application/json",
                &pretty(&design.certificate)?,
            )?,
            image: keep("image", "image/png", &image)?,
        })
    }

    fn by_role(&self) -> BTreeMap<String, ArtifactRef> {
        let roles = [
            ("mesh", &self.mesh),
            ("threemf", &self.threemf),
            ("step", &self.step),
            ("plan", &self.plan),
            ("brief", &self.brief),
            ("certificate", &self.certificate),
            ("image", &self.image),
        ];
        roles
            .map(|(role, file)| (role.to_owned(), file.clone()))
            .into()
    }
}

pub(super) fn pretty(value: &impl Serialize) -> Result<Vec<u8>, StepError> {
    serde_json::to_vec_pretty(value).map_err(|e| StepError::failed("invalid_output", e))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Value, StepError> {
    serde_json::to_value(value).map_err(|e| StepError::failed("invalid_output", e))
}

/// An error with its causes, on one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
