//! The role `action`: a step has a plugin do something, under a key of its own.

use ::plugins::call::{Answer, Request};
use ::plugins::lifecycle::{State, in_share};
use ::plugins::world::World;
use serde_json::Value;
use workflows::host::Answer as Told;
use workflows::model::PluginUse;
use workflows::steps::StepError;

use crate::plugins::{Member, NoAnswer, Plugins, Question};

/// What a step has done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deed<'a> {
    /// The plugin's name.
    pub(crate) plugin: &'a str,
    /// What it is given.
    pub(crate) input: &'a Value,
    /// The run of the step.
    pub(crate) run: &'a str,
    /// Its position there.
    pub(crate) position: &'a str,
    /// The moment it is about.
    pub(crate) now_ms: i64,
    /// Where all randomness starts from.
    pub(crate) seed: u32,
}

/// Asks the version of an action that serves; a canary serves its share of the runs.
pub(crate) async fn act(plugins: &Plugins, deed: &Deed<'_>) -> Told<(Value, PluginUse)> {
    let members = plugins.members(World::Action).await;
    let members = members.map_err(|e| StepError::unavailable("database", e))?;
    let is_for = |member: &&Member| {
        member.row.plugin == deed.plugin
            && match member.row.stands() {
                State::Canary { percent } => in_share(deed.plugin, deed.run, percent),
                state => state == State::Active,
            }
    };
    let Some(member) = members.iter().find(is_for) else {
        let why = format!(
            "no action `{}` serves; install it and promote it",
            deed.plugin
        );
        return Err(StepError::unavailable("no_plugin", why));
    };
    let purpose = format!("act for {}/{}", deed.run, deed.position);
    let question = Question {
        member,
        purpose: &purpose,
        request: Request::Act {
            input: deed.input.to_string(),
            // The same whenever the step runs: what was done under it is not done again.
            key: format!("{}/{}", deed.run, deed.position),
        },
        now_ms: deed.now_ms,
        seed: deed.seed,
    };
    let told = plugins.ask(question).await.map_err(|e| refusal(&e))?;
    let Answer::Act(text) = told.answer else {
        let why = "it answered as a plugin of another world";
        return Err(StepError::failed("plugin.invalid-output", why));
    };
    let output = serde_json::from_str(&text).map_err(|e| {
        let why = format!("`{}` answered what is no JSON: {e}", deed.plugin);
        StepError::failed("plugin.invalid-output", why)
    })?;
    Ok((output, told.by))
}

/// What a script is told of a plugin that has no answer.
fn refusal(error: &NoAnswer) -> StepError {
    match error {
        NoAnswer::Failed { failure, .. } => {
            let code = failure.code.name();
            match failure.code.retryable() {
                true => StepError::unavailable(code, error),
                false => StepError::failed(code, error),
            }
        }
        NoAnswer::NotReady { .. }
        | NoAnswer::SetAside { .. }
        | NoAnswer::Store(_)
        | NoAnswer::Trouble(_) => {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "an action could not be asked"
            );
            StepError::unavailable("plugin_not_ready", error)
        }
    }
}
