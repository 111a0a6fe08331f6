//! Slices a design for the printer its brief names, and reads the G-code back before anyone executes it.

use cad::brief::Brief;
use cad::slice::SliceError;
use cad::slice::printer::Printer;
use cad::slice::settings::Settings;
use serde::{Deserialize, Serialize};

use super::simulate::role;
use super::{Outcome, Step, StepError};
use crate::host::Host;
use cad::error_chain;

/// Makes the G-code of a design.
pub struct Slice;

/// Which design.
#[derive(Debug, Deserialize)]
pub struct SliceInput {
    /// The design.
    pub design: String,
    /// Share of the inside that is filled, 0–1; solid if not said, since the proof is of a solid part.
    #[serde(default = "solid")]
    pub infill_density: f64,
}

fn solid() -> f64 {
    1.0
}

/// The G-code and what it will take.
#[derive(Debug, Serialize)]
pub struct SliceOutput {
    /// Digest of the G-code.
    pub gcode: String,
    /// Its size.
    pub gcode_size_bytes: u64,
    /// What making it takes.
    pub estimate: EstimateOutput,
    /// Material it needs.
    pub material: String,
    /// Printer profile it is for.
    pub printer: String,
    /// What an independent reader found: `clean`, or the step fails.
    pub lint: &'static str,
}

/// What making a part takes.
#[derive(Debug, Serialize)]
pub struct EstimateOutput {
    /// Time, s.
    pub seconds: f64,
    /// Filament, mm.
    pub filament_mm: f64,
    /// Material, mm³.
    pub volume_mm3: f64,
    /// Layers.
    pub layers: usize,
}

impl Step for Slice {
    const KIND: &'static str = "slice";
    const QUEUE: &'static str = "cad";
    type Input = SliceInput;
    type Output = SliceOutput;

    fn run(&self, input: SliceInput, host: &dyn Host) -> Result<Outcome<SliceOutput>, StepError> {
        let design = host.design(&input.design)?;
        let stl = host.artifact(&role(&design, "mesh")?)?;
        let mesh = cad::formats::stl::read(&stl)
            .map_err(|e| StepError::failed("invalid_mesh", error_chain(&e)))?;
        let brief = host.artifact(&role(&design, "brief")?)?;
        let brief = Brief::from_toml(&String::from_utf8_lossy(&brief))
            .map_err(|e| StepError::failed("invalid_brief", e))?;
        let printer = Printer::named(&brief.printer)
            .map_err(|e| StepError::failed("unknown_printer", error_chain(&e)))?;
        let settings = Settings {
            infill_density: input.infill_density,
            material: brief.material.name.clone(),
            ..Settings::default()
        };
        let sliced = cad::slice::slice(&mesh, &printer, &settings, &mut |share| {
            host.progress(share * 0.8, "slicing")
        })
        .map_err(|e| match e {
            SliceError::Cancelled => StepError::Cancelled,
            other => StepError::failed("cannot_slice", error_chain(&other)),
        })?;
        if let Err(violations) = cad::slice::check::lint(&sliced.gcode, &printer) {
            let first = &violations[0];
            return Err(StepError::failed(
                "unsafe_gcode",
                format_args!(
                    "{} safety violations; the first, in line {}: {}",
                    violations.len(),
                    first.line,
                    first.message
                ),
            ));
        }
        let stored = host.put_artifact("gcode", "text/x.gcode", sliced.gcode.as_bytes())?;
        Ok(Outcome::Done(SliceOutput {
            gcode: stored.digest,
            gcode_size_bytes: stored.size_bytes,
            estimate: EstimateOutput {
                seconds: sliced.estimate.seconds,
                filament_mm: sliced.estimate.filament_mm,
                volume_mm3: sliced.estimate.volume_mm3,
                layers: sliced.estimate.layers,
            },
            material: settings.material,
            printer: brief.printer,
            lint: "clean",
        }))
    }
}
