//! `act`: has a plugin do something in the world.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Outcome, Step, StepError};
use crate::host::Host;
use crate::model::PluginUse;

/// Asks an action, under a key that is the same whenever the step runs.
pub struct Act;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct ActInput {
    /// The plugin's name.
    pub plugin: String,
    /// What it is given.
    #[serde(default)]
    pub input: Value,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActOutput {
    /// What the plugin answered.
    pub output: Value,
    /// Which version it was, and in which call.
    pub plugin: PluginUse,
}

impl Step for Act {
    const KIND: &'static str = "act";
    type Input = ActInput;
    type Output = ActOutput;

    fn run(&self, input: ActInput, host: &dyn Host) -> Result<Outcome<ActOutput>, StepError> {
        let (output, plugin) = host.plugin_act(&input.plugin, &input.input)?;
        Ok(Outcome::Done(ActOutput { output, plugin }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed};
    use super::*;

    #[test]
    fn a_plugin_is_asked_under_the_step_s_own_key() {
        let world = World::new();
        let input = json!({ "plugin": "tickets", "input": { "asset": "fan-1" } });
        let first = done(&Act, &input, &world);
        assert_eq!(first["output"]["asset"], "fan-1");
        assert_eq!(first["plugin"]["name"], "tickets");
        assert_eq!(done(&Act, &input, &world), first, "the same key");
        let nobody = failed(&Act, &json!({ "plugin": "nobody" }), &world);
        assert_eq!((nobody.code(), nobody.is_retryable()), ("no_plugin", true));
    }
}
