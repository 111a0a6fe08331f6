//! Proves a design anew from its mesh alone, as any part that came from elsewhere would be.

use cad::brief::Brief;
use cad::certificate::CertificateError;
use cad::error_chain;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redesign::{pretty, to_json};
use super::{Outcome, Step, StepError};
use crate::host::Host;
use crate::model::Design;

/// Analyses the mesh of a design under the loads of its brief.
pub struct Simulate;

/// Which design.
#[derive(Debug, Deserialize)]
pub struct SimulateInput {
    /// The design.
    pub design: String,
}

/// The proof, made independently of the optimiser.
#[derive(Debug, Serialize)]
pub struct SimulateOutput {
    /// The proof in short.
    pub certificate: Value,
    /// Digest of the proof.
    pub certificate_digest: String,
    /// Whether every requirement is met.
    pub holds: bool,
    /// Whether it says what the designer said: factors of safety within 1 %.
    pub agrees: bool,
}

impl Step for Simulate {
    const KIND: &'static str = "simulate";
    const QUEUE: &'static str = "cad";
    type Input = SimulateInput;
    type Output = SimulateOutput;

    fn run(
        &self,
        input: SimulateInput,
        host: &dyn Host,
    ) -> Result<Outcome<SimulateOutput>, StepError> {
        let design = host.design(&input.design)?;
        let stl = host.artifact(&role(&design, "mesh")?)?;
        let mesh = cad::formats::stl::read(&stl)
            .map_err(|e| StepError::failed("invalid_mesh", error_chain(&e)))?;
        let brief = host.artifact(&role(&design, "brief")?)?;
        let brief = Brief::from_toml(&String::from_utf8_lossy(&brief))
            .map_err(|e| StepError::failed("invalid_brief", e))?;
        let certificate = cad::certificate::certify_mesh(&mesh, &brief, &mut |share| {
            host.progress(share, "analysing")
        })
        .map_err(|e| match e {
            CertificateError::Cancelled => StepError::Cancelled,
            other => StepError::failed("no_certificate", error_chain(&other)),
        })?;
        let stored =
            host.put_artifact("certificate", "application/json", &pretty(&certificate)?)?;
        let claimed = design.certificate["factor_of_safety"]
            .as_f64()
            .unwrap_or(f64::NAN);
        Ok(Outcome::Done(SimulateOutput {
            agrees: (certificate.factor_of_safety / claimed - 1.0).abs() <= 0.01,
            holds: certificate.holds,
            certificate: to_json(&certificate)?,
            certificate_digest: stored.digest,
        }))
    }
}

/// The digest of one of a design's files.
pub(super) fn role(design: &Design, role: &str) -> Result<String, StepError> {
    let file = design.artifacts.get(role).ok_or_else(|| {
        StepError::failed(
            "no_file",
            format_args!("design `{}` has no file `{role}`", design.id),
        )
    })?;
    Ok(file.digest.clone())
}
