//! Inspects the scan of a build against the design's mesh and records the verdict.

use cad::inspect::InspectError;
use cad::inspect::plan::VerificationPlan;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redesign::{error_chain, to_json};
use super::simulate::role;
use super::{Outcome, Step, StepError};
use crate::host::Host;

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
}

/// What is stored of a judgement: the verdict, and exactly what was compared.
#[derive(Serialize)]
struct Record<'a> {
    verdict: Value,
    mesh: &'a str,
    plan: &'a str,
    scan: &'a str,
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
        let record = Record {
            verdict: to_json(verdict)?,
            mesh: &mesh_digest,
            plan: &plan_digest,
            scan: &input.scan,
        };
        let record = super::redesign::pretty(&record)?;
        let stored = host.put_artifact("verdict", "application/json", &record)?;
        let picture = cad::inspect::picture::deviation_png(&mesh, &inspection.field);
        let image = host.put_artifact("deviation", "image/png", &picture)?;
        Ok(Outcome::Done(VerifyOutput {
            disposition: to_json(&verdict.disposition)?,
            reasons: to_json(&verdict.reasons)?,
            verdict: stored.digest,
            image: image.digest,
            peak_mm: verdict.deviation.peak,
            coverage: verdict.coverage,
            expanded_uncertainty_mm: verdict.expanded_uncertainty_mm,
            regions: verdict.regions.len(),
        }))
    }
}
