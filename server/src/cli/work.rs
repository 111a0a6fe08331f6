//! `forewright work`: workers without an API.

use std::path::Path;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::process::{self, Process};

/// Workers alone; any number of them share one `DATABASE_URL`.
#[derive(Debug, Args)]
pub struct Work {
    /// Queues to take steps from.
    #[arg(long, value_delimiter = ',', value_name = "A,B", default_values_t = process::ALL_QUEUES.map(str::to_owned),
        value_parser = PossibleValuesParser::new(process::ALL_QUEUES))]
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Arguments;

    #[test]
    fn a_queue_nobody_fills_is_refused_with_those_there_are() {
        let error = Arguments::try_parse_from(["forewright", "work", "--queues", "runs,cda"])
            .expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        let said = error.to_string();
        assert!(
            said.contains("'cda'") && said.contains("runs, io, cad, vision"),
            "{said}"
        );
        for fine in ["runs,cad", "vision"] {
            Arguments::try_parse_from(["forewright", "work", "--queues", fine]).expect("accepted");
        }
        Arguments::try_parse_from(["forewright", "work"]).expect("accepted");
    }
}
