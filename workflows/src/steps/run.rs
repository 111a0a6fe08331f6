//! `run`: has another workflow run, and waits for its end.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Outcome, Step, StepError, Wait};
use crate::host::{ChildEnd, Host, NewChild};

/// Has another workflow run, and waits for its end. The child belongs to the step's position in its run: running the
/// step again finds it.
pub struct Run;

/// What scripts hand in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInput {
    /// The workflow; the revision that serves is pinned.
    pub workflow: String,
    /// What its script is given.
    #[serde(default)]
    pub event: Map<String, Value>,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunOutput {
    /// The run.
    pub run: String,
    /// What its script returned.
    pub result: Value,
}

impl Step for Run {
    const KIND: &'static str = "run";
    type Input = RunInput;
    type Output = RunOutput;

    fn run(&self, input: RunInput, host: &dyn Host) -> Result<Outcome<RunOutput>, StepError> {
        let workflow = input.workflow.clone();
        let child = host.child_of_this_step(&NewChild {
            workflow: input.workflow,
            event: Value::Object(input.event),
        })?;
        let Some(child) = child else {
            return Ok(Outcome::Waiting(Wait::KillSwitch));
        };
        match child.ended {
            Some(ChildEnd::Succeeded { result }) => Ok(Outcome::Done(RunOutput {
                run: child.id,
                result,
            })),
            Some(ChildEnd::Failed { code, message }) => Err(StepError::failed(
                code,
                format_args!("run `{}` of `{workflow}` failed: {message}", child.id),
            )),
            Some(ChildEnd::Cancelled) => Err(StepError::failed(
                "child_cancelled",
                format_args!("run `{}` of `{workflow}` was cancelled", child.id),
            )),
            // Even one that diverged: an operator lets it go on, or ends it.
            None => Ok(Outcome::Waiting(Wait::Run(child.id))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed, run};
    use super::*;

    #[test]
    fn it_starts_one_run_and_gives_its_result() {
        let world = World::new();
        let input = json!({ "workflow": "relieve_asset", "event": { "asset": "fan-1" } });
        world.stopped.set(true);
        let held = run(&Run, &input, &world).unwrap();
        assert_eq!(held, Outcome::Waiting(Wait::KillSwitch));
        world.stopped.set(false);
        let waiting = run(&Run, &input, &world).unwrap();
        assert_eq!(waiting, Outcome::Waiting(Wait::Run("run-1.1".into())));
        assert_eq!(run(&Run, &input, &world).unwrap(), waiting);
        world.end_child(ChildEnd::Succeeded { result: json!(7) });
        let told = done(&Run, &input, &world);
        assert_eq!(told, json!({ "run": "run-1.1", "result": 7 }));
        world.end_child(ChildEnd::Failed {
            code: "no_model".into(),
            message: "nothing serves".into(),
        });
        let error = failed(&Run, &input, &world);
        assert_eq!(error.code(), "no_model");
        assert!(error.to_string().contains("`run-1.1` of `relieve_asset`"));
        world.end_child(ChildEnd::Cancelled);
        assert_eq!(failed(&Run, &input, &world).code(), "child_cancelled");
        let wrong = json!({ "workflow": "relieve_asset", "evnt": {} });
        assert_eq!(failed(&Run, &wrong, &world).code(), "invalid_input");
    }
}
