//! `forewright up`: server, workers and dashboard in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::process::{self, Process};

/// Server, workers and dashboard in one process, on SQLite.
#[derive(Debug, Args)]
pub struct Up {
    /// Data folder: database, artifacts, keys.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Up {
    /// Runs until it is told to stop.
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<()> {
        let mut config = Config::load(config, std::env::vars())?;
        if let Some(data) = self.data {
            config.server.data = data;
        }
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        super::block_on(async {
            let app = App::open(config, Clock::default()).await?;
            let process = Process::start(app, &process::ALL_QUEUES, true).await?;
            process.announce()?;
            process.until_told_to_stop().await
        })
    }
}
