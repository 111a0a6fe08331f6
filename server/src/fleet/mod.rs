//! The tick: score every asset, ask the policy about it, start what it decides.

mod ask;
mod score;

use crate::app::App;

/// What a tick did.
#[derive(Debug, Default)]
pub struct Tick {
    /// How many assets were scored.
    pub scored: usize,
    /// The decisions made, most urgent first.
    pub decisions: Vec<String>,
}

/// Scores the fleet and asks the policy about the assets named, or about all that were scored.
///
/// # Errors
///
/// When storage or telemetry does not answer, or the policy cannot be compiled.
pub async fn tick(app: &App, about: Option<&[String]>) -> anyhow::Result<Tick> {
    let predictions = score::score_all(app).await?;
    let scored = predictions.len();
    let asked = predictions.iter().filter(|p| about.is_none_or(|names| names.contains(&p.asset)));
    let decisions = ask::ask_policy(app, asked).await?;
    app.queue.notify_local();
    Ok(Tick { scored, decisions })
}
