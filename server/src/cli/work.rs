//! `forewright work`: workers without an API.

use std::path::Path;

use clap::Args;

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::process::{self, Process};

/// Workers alone; any number of them share one `DATABASE_URL`.
#[derive(Debug, Args)]
pub struct Work {
    /// Queues to take steps from.
    #[arg(long, value_delimiter = ',', value_name = "A,B", default_values_t = process::ALL_QUEUES.map(str::to_owned))]
    queues: Vec<String>,
}

impl Work {
    /// Runs until it is told to stop.
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<()> {
        let config = Config::load(config, std::env::vars())?;
        super::block_on(async {
            let app = App::open(config, Clock::default()).await?;
            let queues: Vec<&str> = self.queues.iter().map(String::as_str).collect();
            let process = Process::start(app, &queues, false).await?;
            process.until_told_to_stop().await
        })
    }
}
