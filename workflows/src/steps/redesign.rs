//! Redesigns an asset's part against the load of its predicted failure mode, and proves the result. A plugin's part is
//! taken where one serves and has a sound one.

use std::collections::BTreeMap;

use cad::brief::Brief;
use cad::design::DesignError;
use cad::error_chain;
use cad::families::InterfaceRole;
use cad::fem::load::{FailureMode, LoadInputs, load_cases};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::proposed::{self, Judged, Record, Refused};
use super::{Outcome, Step, StepError};
use crate::host::{Designing, Host};
use crate::model::{ArtifactRef, NewDesign, PluginUse};

/// The share of the work that the proposals of plugins take, where there are any.
const PROPOSALS: f64 = 0.3;
/// How far it is when the design stands.
const DESIGNED: f64 = 0.95;

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
    /// Compliance by iteration, N·mm; none of a part that a plugin proposed.
    pub compliance: Vec<f64>,
    /// The plugin that proposed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginUse>,
    /// What plugins proposed before, and why it was not taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
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
        let part_id = asset.part.clone().ok_or_else(|| {
            let what = format_args!("asset `{}` has no part that can be made", input.asset);
            StepError::failed("no_part", what)
        })?;
        let part = host.part(&part_id)?;
        let brief = brief_for(&part.brief, &input)?;
        let kept = host.design_of_this_step()?;
        let Judged { taken, refused } = match &kept {
            Some(kept) => proposed::again(kept, &brief, host)?,
            None => {
                let proposals = host.plugin_designs(&asset, &brief, Designing::Serving)?;
                proposed::judge(proposals, &brief, host, PROPOSALS)?
            }
        };
        let (design, proposal) = match taken {
            Some((design, proposal)) => (design, Some(proposal)),
            None => {
                let done = if refused.is_empty() { 0.0 } else { PROPOSALS };
                (own(&brief, host, done)?, None)
            }
        };

        let files = Files::keep(&design, &brief, host)?;
        let mut artifacts = files.by_role();
        if proposal.is_some() || !refused.is_empty() {
            let record = pretty(&Record {
                taken: proposal.as_ref(),
                refused: &refused,
            })?;
            let file = host.put_artifact(proposed::FILE, "application/json", &record)?;
            artifacts.insert(proposed::FILE.to_owned(), file);
        }
        let certificate = to_json(&design.certificate)?;
        let stored = host.store_design(&NewDesign {
            part: part_id.clone(),
            asset: input.asset,
            artifacts,
            certificate: certificate.clone(),
        })?;
        if kept.is_none() {
            let by = proposal.as_ref().map(|one| &one.plugin);
            let compared = proposed::compare(&asset, &brief, (&design, by), host);
            // Nobody goes without a part because of one that is only compared; it is compared with the next.
            if let Err(StepError::Cancelled) = compared {
                return Err(StepError::Cancelled);
            }
        }
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
            plugin: proposal.map(|one| one.plugin),
            refused,
        }))
    }
}

/// The part as we design it ourselves; `done` is the share of the work behind it.
fn own(brief: &Brief, host: &dyn Host, done: f64) -> Result<cad::design::Design, StepError> {
    let told = &mut |share: f64| host.progress(done + share * (DESIGNED - done), "optimising");
    cad::design::redesign(brief, host.seed(), told).map_err(|e| match e {
        DesignError::Cancelled => StepError::Cancelled,
        DesignError::FosUnreachable { .. } => StepError::failed("unreachable_fos", e),
        other => StepError::failed("no_design", error_chain(&other)),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Proposal;
    use crate::steps::world::{World, done};

    fn plugin(name: &str) -> PluginUse {
        PluginUse {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            digest: format!("sha256:{name}"),
            interface: "forewright:plugin@1.0.0".to_owned(),
            call: "call-1".to_owned(),
            fuel: None,
            grants: vec!["artifacts".to_owned()],
        }
    }

    fn proposal(name: &str, mesh: &str) -> Proposal {
        Proposal {
            mesh: mesh.to_owned(),
            mass_g: 12.0,
            build_direction: [0.0, 0.0, 1.0],
            scores: BTreeMap::new(),
            notes: String::new(),
            plugin: plugin(name),
        }
    }

    #[test]
    fn the_first_sound_proposal_is_made_and_where_there_is_none_our_own() {
        let mut world = World::new();
        for part in &mut world.hall.parts {
            part.brief = part.brief.replace("iterations = 45", "iterations = 15");
        }
        let input = json!({ "asset": "fan-r01-01", "mode": "imbalance",
                            "features": { "vibration_ratio": 3.0 } });
        let own = done(&Redesign, &input, &world);
        assert!(own.get("plugin").is_none() && own.get("refused").is_none());
        assert!(world.compared.borrow().is_empty());
        let sound = own["mesh"].as_str().expect("a mesh");
        let junk = world
            .put_artifact("junk", "model/stl", b"solid of nothing")
            .expect("kept");

        world.proposed.replace(vec![
            proposal("junk", &junk.digest),
            Proposal {
                build_direction: [1.0, 0.0, 0.0],
                ..proposal("lies_down", sound)
            },
        ]);
        let beside = vec![proposal("shadow", sound), proposal("worse", &junk.digest)];
        world.proposed_beside.replace(beside);
        world.next_position();
        let refused = done(&Redesign, &input, &world);
        assert_eq!(
            refused["certificate"], own["certificate"],
            "our own is made"
        );
        assert!(refused.get("plugin").is_none());
        assert_eq!(refused["refused"][0]["plugin"]["name"], "junk");
        let lying = refused["refused"][1]["reasons"][0].as_str().unwrap();
        assert!(lying.contains("along +z"), "{lying}");
        let compared = world.compared.take();
        assert_eq!(compared[0].0, "built in");
        let (theirs, ours) = (&compared[0].1, &compared[0].2);
        assert_eq!((theirs["sound"], theirs["mass_g"]), (1.0, ours["mass_g"]));
        // What is narrower than a voxel counts against what others designed.
        let ratio = theirs["factor_of_safety"] / ours["factor_of_safety"];
        assert!((0.95..=1.05).contains(&ratio), "{ratio}");
        assert_eq!(compared[1].1["sound"], 0.0);
        assert_eq!(compared[1].1["mass_g"], 12.0);

        let proposed = vec![proposal("junk", &junk.digest), proposal("ribs", sound)];
        world.proposed.replace(proposed);
        world
            .proposed_beside
            .replace(vec![proposal("shadow", sound)]);
        world.next_position();
        let taken = done(&Redesign, &input, &world);
        assert_eq!(taken["plugin"]["name"], "ribs");
        assert_eq!(taken["refused"].as_array().map(Vec::len), Some(1));
        assert_eq!(taken["mesh"], own["mesh"]);
        assert_eq!(taken["holds"], true);
        assert_eq!(world.compared.take()[0].0, "sha256:ribs");
        let design = world.design(taken["design"].as_str().unwrap()).unwrap();
        let record = world
            .artifact(&design.artifacts["proposal"].digest)
            .unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["taken"]["plugin"]["name"], "ribs");
        assert_eq!(record["refused"][0]["mesh"], json!(junk.digest));

        // Tried again it has the same answer, whatever anybody would say now.
        world
            .proposed
            .replace(vec![proposal("other", &junk.digest)]);
        assert_eq!(done(&Redesign, &input, &world), taken);
        assert_eq!(world.proposed.take().len(), 1, "nobody was asked");
    }
}
