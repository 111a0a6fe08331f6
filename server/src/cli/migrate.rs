//! `forewright migrate`: the schema.

use std::path::Path;

use clap::Args;

use super::output;
use crate::config::Config;
use crate::store::Database;

/// Bring the database to the newest schema.
#[derive(Debug, Args)]
pub struct Migrate {}

impl Migrate {
    /// Opens the database, which brings it up to date.
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<()> {
        let config = Config::load(config, std::env::vars())?;
        std::fs::create_dir_all(&config.server.data)?;
        super::block_on(async {
            let db = Database::open(&config.database_url()).await?;
            output::line(&format!(
                "the {} database is at the newest schema",
                db.name()
            ))
        })
    }
}
