//! `forewright openapi`: the document behind `openapi/v1.json`.

use clap::Args;

/// Print the REST API's document.
#[derive(Debug, Args)]
pub struct Openapi {}

impl Openapi {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<()> {
        println!("{}", crate::router::document().to_pretty_json()?);
        Ok(())
    }
}
