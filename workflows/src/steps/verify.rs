//! Inspects the scan of a build against the design's mesh and records the verdict.

use cad::error_chain;
use cad::inspect::InspectError;
use cad::inspect::plan::VerificationPlan;
use cad::inspect::verdict::Disposition;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redesign::to_json;
use super::simulate::role;
use super::{Outcome, Step, StepError};
use crate::host::{Host, Inspected};
use crate::model::PluginVerdict;

/// Of an expanded uncertainty (k = 2).
const COVERAGE_FACTOR: f64 = 2.0;

/// Judges one build.
pub struct Verify;

/// Which build, by its scan, against which design.
#[derive(Debug, Deserialize)]
pub struct VerifyInput {
    /// Digest of the scan, PLY.
    pub scan: String,
    /// The design it should be.
    pub design: String,
}

/// The verdict and where it is.
#[derive(Debug, Serialize)]
pub struct VerifyOutput {
    /// What follows: `accept`, `rework`, `reject`, `inconclusive`.
    pub disposition: Value,
    /// Why, with stable codes.
    pub reasons: Value,
    /// Digest of the whole verdict.
    pub verdict: String,
    /// Digest of a picture of the deviations.
    pub image: String,
    /// Largest deviation, mm.
    pub peak_mm: f64,
    /// Share of the surface that was seen.
    pub coverage: f64,
    /// Expanded uncertainty (k = 2), mm.
    pub expanded_uncertainty_mm: f64,
    /// Places out of tolerance.
    pub regions: usize,
    /// What plugins said beside our own measure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginVerdict>,
}

/// What is stored of a judgement: the verdict, and exactly what was compared.
#[derive(Serialize)]
struct Record<'a> {
    verdict: Value,
    mesh: &'a str,
    plan: &'a str,
    scan: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    plugins: &'a [PluginVerdict],
}

/// What becomes of the part when several have judged it: a plugin may only be stricter than our own measure, which a
/// part that must hold has to pass in any case.
fn strictest(own: Disposition, plugins: &[PluginVerdict]) -> Disposition {
    let strictness = |one: Disposition| match one {
        Disposition::Accept => 0,
        Disposition::Inconclusive => 1,
        Disposition::Rework => 2,
        Disposition::Reject => 3,
    };
    let read = |verdict: &PluginVerdict| match verdict.disposition.as_str() {
        "accept" => Disposition::Accept,
        "rework" => Disposition::Rework,
        "reject" => Disposition::Reject,
        _ => Disposition::Inconclusive,
    };
    let all = plugins.iter().map(read).chain([own]);
    all.max_by_key(|one| strictness(*one)).unwrap_or(own)
}

impl Step for Verify {
    const KIND: &'static str = "verify";
    const QUEUE: &'static str = "vision";
    type Input = VerifyInput;
    type Output = VerifyOutput;

    fn run(&self, input: VerifyInput, host: &dyn Host) -> Result<Outcome<VerifyOutput>, StepError> {
        let design = host.design(&input.design)?;
        let (mesh_digest, plan_digest) = (role(&design, "mesh")?, role(&design, "plan")?);
        let mesh = cad::formats::stl::read(&host.artifact(&mesh_digest)?)
            .map_err(|e| StepError::failed("invalid_mesh", error_chain(&e)))?;
        let plan: VerificationPlan = serde_json::from_slice(&host.artifact(&plan_digest)?)
            .map_err(|e| StepError::failed("invalid_plan", e))?;
        let scan = cad::formats::ply::read(&host.artifact(&input.scan)?)
            .map_err(|e| StepError::failed("invalid_scan", error_chain(&e)))?;
        let inspection = cad::inspect::measure(&scan, &mesh, &plan, &mut |share| {
            host.progress(share * 0.9, "measuring")
        })
        .map_err(|e| match e {
            InspectError::Cancelled => StepError::Cancelled,
            InspectError::EmptyScan => StepError::failed("empty_scan", InspectError::EmptyScan),
            other => StepError::failed("cannot_inspect", error_chain(&other)),
        })?;

        let verdict = &inspection.verdict;
        let own = to_json(&verdict.disposition)?;
        let plugins = host.plugin_verdicts(&Inspected {
            asset: &design.asset,
            mesh: &mesh_digest,
            scan: &input.scan,
            tolerance_mm: plan.tolerance_mm,
            uncertainty_mm: verdict.expanded_uncertainty_mm / COVERAGE_FACTOR,
            disposition: own.as_str().unwrap_or_default(),
        })?;
        let record = Record {
            verdict: to_json(verdict)?,
            mesh: &mesh_digest,
            plan: &plan_digest,
            scan: &input.scan,
            plugins: &plugins,
        };
        let record = super::redesign::pretty(&record)?;
        let stored = host.put_artifact("verdict", "application/json", &record)?;
        let picture = cad::inspect::picture::deviation_png(&mesh, &inspection.field);
        let image = host.put_artifact("deviation", "image/png", &picture)?;
        Ok(Outcome::Done(VerifyOutput {
            disposition: to_json(&strictest(verdict.disposition, &plugins))?,
            reasons: to_json(&verdict.reasons)?,
            verdict: stored.digest,
            image: image.digest,
            peak_mm: verdict.deviation.peak,
            coverage: verdict.coverage,
            expanded_uncertainty_mm: verdict.expanded_uncertainty_mm,
            regions: verdict.regions.len(),
            plugins,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PluginUse;

    #[test]
    fn a_plugin_may_only_be_stricter() {
        let said = |disposition: &str| PluginVerdict {
            disposition: disposition.to_owned(),
            confidence: 1.0,
            findings: Vec::new(),
            plugin: PluginUse {
                name: "layers".to_owned(),
                version: "1.0.0".to_owned(),
                digest: "sha256:0".to_owned(),
                interface: "forewright:plugin@1.0.0".to_owned(),
                call: "call-1".to_owned(),
                fuel: None,
                grants: Vec::new(),
            },
        };
        let judged = |own, plugins: &[&str]| {
            let plugins: Vec<_> = plugins.iter().map(|one| said(one)).collect();
            strictest(own, &plugins)
        };
        use Disposition::{Accept, Inconclusive, Reject, Rework};
        assert_eq!(judged(Accept, &[]), Accept);
        assert_eq!(judged(Accept, &["accept"]), Accept);
        assert_eq!(judged(Accept, &["accept", "inconclusive"]), Inconclusive);
        assert_eq!(judged(Accept, &["rework", "inconclusive"]), Rework);
        assert_eq!(judged(Inconclusive, &["reject"]), Reject);
        assert_eq!(
            judged(Reject, &["accept"]),
            Reject,
            "no plugin lets a bad part through"
        );
        assert_eq!(judged(Rework, &["a word nobody knows"]), Rework);
    }
}
