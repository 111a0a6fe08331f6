//! The tick: score every asset, ask the policy about it, start what it decides.

mod ask;
mod carry_out;
mod interview;
mod known;
mod score;

#[cfg(test)]
pub(crate) use ask::ask_policy;

use crate::app::App;

/// What a tick did.
#[derive(Debug, Default)]
pub struct Tick {
    /// How many assets were scored.
    pub scored: usize,
    /// The decisions made, most urgent first.
    pub decisions: Vec<String>,
}

/// Scores the assets named, or all whose kind has a model, and asks the policy about them if told to.
///
/// # Errors
///
/// When storage or telemetry does not answer, or the policy cannot be compiled.
pub async fn tick(app: &App, about: Option<&[String]>, ask: bool) -> anyhow::Result<Tick> {
    let predictions = score::score(app, about).await?;
    let scored = predictions.len();
    let decisions = if ask {
        ask::ask_policy(app, &predictions).await?
    } else {
        Vec::new()
    };
    app.queue.notify_local();
    Ok(Tick { scored, decisions })
}
