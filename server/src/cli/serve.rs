//! `forewright serve`: the API and the dashboard, without workers.

use std::net::SocketAddr;
use std::path::Path;

use clap::Args;

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::process::Process;

/// The server alone; any number of them share one `DATABASE_URL`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Serve {
    /// Runs until it is told to stop.
    pub fn run(self, config: Option<&Path>) -> anyhow::Result<()> {
        let mut config = Config::load(config, std::env::vars())?;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        super::block_on(async {
            let app = App::open(config, Clock::default()).await?;
            let process = Process::start(app, &[], true).await?;
            process.announce()?;
            process.until_told_to_stop().await
        })
    }
}
