//! `make`: has one build made by a cell.

use serde::Serialize;
use serde_json::Value;

use super::{Outcome, Step, StepError, Wait};
use crate::host::Host;
use crate::model::{BuildEnd, NewBuild};

/// Has one build made by a cell. The build belongs to the step's position in its run: running the step again finds it;
/// the script's second attempt is another position, so another build.
pub struct Make;

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MakeOutput {
    /// The build.
    pub build: String,
    /// Digest of the scan of what was made.
    pub scan: String,
    /// What the cell says of it.
    pub report: Value,
}

impl Step for Make {
    const KIND: &'static str = "make";
    type Input = NewBuild;
    type Output = MakeOutput;

    fn run(&self, input: NewBuild, host: &dyn Host) -> Result<Outcome<MakeOutput>, StepError> {
        let build = host.build_of_this_step(&input)?;
        match build.ended {
            Some(BuildEnd::Completed { scan, report }) => Ok(Outcome::Done(MakeOutput {
                build: build.id,
                scan,
                report,
            })),
            Some(BuildEnd::Failed { code, message }) => Err(StepError::failed(
                code,
                format_args!("build `{}` failed: {message}", build.id),
            )),
            // Waiting, leased, staged, started, uncertain: only the cell or a person moves it on.
            None => Ok(Outcome::Waiting(Wait::Build(build.id))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed, run};
    use super::*;

    #[test]
    fn it_waits_for_the_cell_and_orders_once() {
        let world = World::new();
        let input = json!({
            "design": "d1", "gcode": "sha256:aa", "gcode_size_bytes": 9, "material": "petg", "printer": "prusa_mk4",
        });
        let waiting = run(&Make, &input, &world).unwrap();
        assert_eq!(waiting, Outcome::Waiting(Wait::Build("build-1".into())));
        assert_eq!(run(&Make, &input, &world).unwrap(), waiting);
        world.end_build(
            "build-1",
            &BuildEnd::Completed {
                scan: "sha256:bb".into(),
                report: json!({ "layers": 3 }),
            },
        );
        let made = done(&Make, &input, &world);
        assert_eq!(
            made,
            json!({ "build": "build-1", "scan": "sha256:bb", "report": { "layers": 3 } })
        );
        world.end_build(
            "build-1",
            &BuildEnd::Failed {
                code: "jam".into(),
                message: "filament stuck".into(),
            },
        );
        assert_eq!(failed(&Make, &input, &world).code(), "jam");
    }
}
