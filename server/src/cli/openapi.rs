//! `forewright openapi`: the document behind `openapi/v1.json`.

use clap::Args;

use super::output;

/// Print the REST API's document.
#[derive(Debug, Args)]
pub struct Openapi {}

impl Openapi {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<()> {
        output::line(&crate::router::document().to_pretty_json()?)
    }
}
