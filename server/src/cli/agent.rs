//! `forewright agent`: this host's telemetry into a server.

use std::time::Duration;

use clap::Args;

use crate::agent::{AgentOptions, run as run_agent};

/// Collect this host's telemetry and send it to a server.
#[derive(Args, Clone, Debug)]
pub struct Agent {
    /// Where the server is, such as <http://127.0.0.1:8600>; needed unless --json prints instead.
    #[arg(long, env = "FOREWRIGHT_SERVER", required_unless_present = "json")]
    pub server: Option<String>,
    /// A token of the role agent.
    #[arg(long, env = "FOREWRIGHT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The asset this host is; by default its host name.
    #[arg(long)]
    pub asset: Option<String>,
    /// The time between two collections, such as 500ms, 5s or 1m.
    #[arg(long, default_value = "5s", value_parser = parse_interval)]
    pub interval: Duration,
    /// Collect and send once, then end.
    #[arg(long)]
    pub once: bool,
    /// Print every collection as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

impl Agent {
    /// Runs until it is stopped, or once.
    pub fn run(self) -> anyhow::Result<()> {
        let options = AgentOptions {
            server: self.server,
            token: self.token,
            asset: self.asset,
            interval: self.interval,
            once: self.once,
            json: self.json,
            root: "/".into(),
        };
        super::block_on(async { Ok(run_agent(options).await?) })
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let per_unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("expected a whole number with a unit: 500ms, 5s or 1m".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a number"))?;
    let interval_ms = number.saturating_mul(per_unit_ms);
    if !(100..=3_600_000).contains(&interval_ms) {
        return Err("expected between 100ms and 60m".to_owned());
    }
    Ok(Duration::from_millis(interval_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_bounds() {
        for (text, wanted_ms) in [("500ms", 500), ("5s", 5_000), ("60m", 3_600_000)] {
            assert_eq!(parse_interval(text), Ok(Duration::from_millis(wanted_ms)));
        }
        for text in [
            "5",
            "5h",
            "s",
            "",
            "99ms",
            "61m",
            "-5s",
            "99999999999999999999s",
        ] {
            parse_interval(text).expect_err(text);
        }
    }
}
