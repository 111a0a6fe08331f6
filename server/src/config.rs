//! Settings: defaults, then `forewright.toml`, then the environment; validated once, at start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

const DEFAULTS: &str = include_str!("../config.default.toml");

/// Every setting; `server/config.default.toml` says what each means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "documented in config.default.toml, which is compiled in"
)]
pub struct Config {
    pub server: Server,
    pub queue: Queue,
    pub builds: Builds,
    pub telemetry: Telemetry,
    pub fleet: Fleet,
    pub policy: Policy,
    pub artifacts: Artifacts,
    pub plugins: Plugins,
    pub webhook: Webhook,
    pub triggers: Triggers,
    pub retention: Retention,
    pub rate: Rate,
}

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "documented in config.default.toml, which is compiled in")]
        pub struct $name { $(pub $field: $kind),* }
    )*};
}

sections! {
    /// The process.
    Server {
        listen: SocketAddr, data: PathBuf, database_url: String, authentication: bool,
        currency: String, max_body_bytes: usize, max_artifact_bytes: usize,
        idle_transaction_ms: u32,
    }
    /// Leases of steps.
    Queue { lease_ms: i64, heartbeat_ms: u64, concurrency: usize, poll_ms: u64 }
    /// Leases of builds.
    Builds { lease_ms: i64, heartbeat_ms: i64, max_wait_s: u64 }
    /// Samples in memory and in blocks.
    Telemetry { max_series: usize, max_samples_in_memory: usize, seal_points: usize, flush_ms: u64 }
    /// The tick.
    Fleet { tick_s: u64, policy: String, seed: u64 }
    /// Guards between a decision and a run.
    Policy {
        cooldown_hours: f64, dry_run: bool, dedup_window_s: i64, max_assets: u32,
        max_fleet_percent: f64, max_kind_percent: f64, max_locality_percent: f64,
    }
    /// Where artifacts lie.
    Artifacts {
        upload_hours: i64, store: String, bucket: String, endpoint: String, region: String,
        access_key_id: String, secret_access_key: String,
    }
    /// What plugins may take of this machine, and what is kept of them.
    Plugins {
        allow_unsigned: bool, memory_mib: u32, compile_s: u32, compile_mib: u32, cache_mib: u32,
        keep_calls: i64, recording_kib: u32,
    }
    /// Where the outbox is delivered.
    Webhook { url: String }
    /// How far triggers look back.
    Triggers { missed_after_s: u32, catch_up: usize, max_queued: u32 }
    /// How many requests anybody may send to one process.
    Rate {
        per_s: u32, burst: u32, anonymous_per_s: u32, anonymous_burst: u32, forwarded_for: bool,
    }
    /// How long what is kept, days.
    Retention {
        every_s: u32, archive: bool, runs_days: u32, decisions_days: u32, predictions_days: u32,
        events_days: u32, deliveries_days: u32, requests_days: u32, ticks_days: u32,
        audit_days: u32, batch_rows: u64, pause_ms: u64,
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read settings `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("settings {origin}: {message}")]
    Invalid {
        /// Where the value comes from.
        origin: String,
        /// What is wrong, with line and column where there are any.
        message: String,
    },
}

impl Config {
    /// Reads the defaults, then the file (if there is one), then the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Table = DEFAULTS.parse().expect("config.default.toml is tested");
        let default_file = Path::new("forewright.toml");
        let file = file.or_else(|| default_file.exists().then_some(default_file));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.into(),
                source,
            })?;
            let invalid = |message| ConfigError::Invalid {
                origin: format!("`{}`", path.display()),
                message,
            };
            let over: Table = text
                .parse()
                .map_err(|e: toml::de::Error| invalid(e.to_string()))?;
            merge(&mut table, over).map_err(invalid)?;
        }
        for (name, value) in environment {
            apply_environment(&mut table, &name, &value).map_err(|message| {
                ConfigError::Invalid {
                    origin: format!("`{name}`"),
                    message,
                }
            })?;
        }
        table
            .try_into()
            .and_then(Self::validated)
            .map_err(|e| ConfigError::Invalid {
                origin: "together".into(),
                message: e.to_string(),
            })
    }

    /// The database to connect to.
    pub fn database_url(&self) -> String {
        if self.server.database_url.is_empty() {
            format!(
                "sqlite:{}",
                self.server.data.join("forewright.sqlite").display()
            )
        } else {
            self.server.database_url.clone()
        }
    }

    fn validated(self) -> Result<Self, toml::de::Error> {
        use serde::de::Error;
        if !self.server.listen.ip().is_loopback() && !self.server.authentication {
            return Err(Error::custom(
                "`server.listen` is beyond loopback, which needs `server.authentication = true`",
            ));
        }
        self.check_intervals().map_err(Error::custom)?;
        self.check_guards().map_err(Error::custom)?;
        self.check_retention().map_err(Error::custom)?;
        if self.queue.heartbeat_ms * 2 >= self.queue.lease_ms.cast_unsigned() {
            return Err(Error::custom(
                "`queue.heartbeat_ms` must be under half of `queue.lease_ms`",
            ));
        }
        if self.builds.heartbeat_ms >= self.builds.lease_ms {
            return Err(Error::custom(
                "`builds.heartbeat_ms` must be under `builds.lease_ms`",
            ));
        }
        if self.queue.concurrency == 0 {
            return Err(Error::custom("`queue.concurrency` must be at least 1"));
        }
        if self.triggers.missed_after_s < 5 {
            return Err(Error::custom(
                "`triggers.missed_after_s` must be at least 5, as triggers are looked at once a second",
            ));
        }
        if !["folder", "s3"].contains(&self.artifacts.store.as_str()) {
            return Err(Error::custom("`artifacts.store` must be `folder` or `s3`"));
        }
        Ok(self)
    }
}

impl Config {
    /// A lease that ends before it begins, or a pause of nothing, would keep the process busy with itself.
    fn check_intervals(&self) -> Result<(), String> {
        let positive = [
            ("queue.lease_ms", self.queue.lease_ms > 0),
            ("queue.heartbeat_ms", self.queue.heartbeat_ms > 0),
            ("queue.poll_ms", self.queue.poll_ms > 0),
            ("builds.lease_ms", self.builds.lease_ms > 0),
            ("builds.heartbeat_ms", self.builds.heartbeat_ms > 0),
            ("telemetry.flush_ms", self.telemetry.flush_ms > 0),
            ("artifacts.upload_hours", self.artifacts.upload_hours > 0),
            ("plugins.memory_mib", self.plugins.memory_mib > 0),
            ("plugins.compile_s", self.plugins.compile_s > 0),
            ("plugins.compile_mib", self.plugins.compile_mib > 0),
            ("plugins.keep_calls", self.plugins.keep_calls > 0),
            ("rate.burst", self.rate.burst > 0),
            ("rate.anonymous_burst", self.rate.anonymous_burst > 0),
        ];
        match positive.into_iter().find(|(_, is_positive)| !is_positive) {
            Some((name, _)) => Err(format!("`{name}` must be at least 1")),
            None => Ok(()),
        }
    }
}

impl Config {
    /// A guard that cannot be understood would guard nothing.
    fn check_guards(&self) -> Result<(), String> {
        let policy = &self.policy;
        if !(0.0..=f64::MAX).contains(&policy.cooldown_hours) {
            return Err("`policy.cooldown_hours` must not be negative".into());
        }
        if !(1..=604_800).contains(&policy.dedup_window_s) {
            return Err("`policy.dedup_window_s` must be 1 to 604,800 seconds".into());
        }
        let shares = [
            ("max_fleet_percent", policy.max_fleet_percent),
            ("max_kind_percent", policy.max_kind_percent),
            ("max_locality_percent", policy.max_locality_percent),
        ];
        let wrong = shares.into_iter().find(|(_, s)| !(0.0..=100.0).contains(s));
        match wrong {
            Some((name, _)) => Err(format!("`policy.{name}` must be 0 to 100")),
            None => Ok(()),
        }
    }
}

impl Config {
    /// What still counts must still be there: the keys of steps, and the runs a cool-down goes by.
    fn check_retention(&self) -> Result<(), String> {
        let kept = &self.retention;
        if (1..7).contains(&kept.runs_days) {
            return Err(
                "`retention.runs_days` must be 0 or at least 7, as long as idempotency keys of steps hold"
                    .into(),
            );
        }
        if kept.runs_days > 0 && f64::from(kept.runs_days) * 24.0 < self.policy.cooldown_hours {
            return Err("`retention.runs_days` must be as long as `policy.cooldown_hours`".into());
        }
        if !(1..=10_000).contains(&kept.batch_rows) {
            return Err("`retention.batch_rows` must be 1 to 10,000".into());
        }
        Ok(())
    }
}

fn merge(base: &mut Table, over: Table) -> Result<(), String> {
    for (section, values) in over {
        let Some(Value::Table(known)) = base.get_mut(&section) else {
            return Err(format!("unknown section `[{section}]`"));
        };
        let Value::Table(values) = values else {
            return Err(format!("`{section}` must be a section"));
        };
        for (key, value) in values {
            if !known.contains_key(&key) {
                return Err(unknown_key(&section, &key, known));
            }
            known.insert(key, value);
        }
    }
    Ok(())
}

fn unknown_key(section: &str, key: &str, known: &Table) -> String {
    let known: Vec<_> = known.keys().map(String::as_str).collect();
    let known = known.join(", ");
    format!("unknown key `{section}.{key}`; `[{section}]` has {known}")
}

/// Sets `FOREWRIGHT_<SECTION>_<KEY>`; names that begin with no section belong to somebody else.
fn apply_environment(base: &mut Table, name: &str, text: &str) -> Result<(), String> {
    let lower = name.to_lowercase();
    let path = if name == "DATABASE_URL" {
        "server_database_url"
    } else if let Some(rest) = lower.strip_prefix("forewright_") {
        rest
    } else {
        return Ok(());
    };
    let Some((section, key)) = path.split_once('_') else {
        return Ok(());
    };
    let Some(Value::Table(known)) = base.get_mut(section) else {
        return Ok(());
    };
    if !known.contains_key(key) {
        return Err(unknown_key(section, key, known));
    }
    let slot = &mut known[key];
    let number = text.replace('_', "");
    *slot = match slot {
        Value::Integer(_) => number
            .parse()
            .map(Value::Integer)
            .map_err(|_| "not a whole number"),
        Value::Float(_) => number.parse().map(Value::Float).map_err(|_| "not a number"),
        Value::Boolean(_) => text
            .parse()
            .map(Value::Boolean)
            .map_err(|_| "not true or false"),
        _ => Ok(Value::String(text.into())),
    }
    .map_err(|what| format!("`{text}` is {what}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let vars = vars
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect::<Vec<_>>();
        Config::load(None, vars.into_iter())
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = with(&[]).expect("defaults");
        assert_eq!(config.server.listen.port(), 8600);
        assert!(
            config
                .database_url()
                .starts_with("sqlite:./forewright-data/")
        );
    }

    #[test]
    fn the_environment_wins_and_is_checked() {
        let config = with(&[
            ("FOREWRIGHT_QUEUE_LEASE_MS", "20_000"),
            ("DATABASE_URL", "postgres://x/y"),
        ]);
        let config = config.expect("valid");
        assert_eq!(config.queue.lease_ms, 20_000);
        assert_eq!(config.database_url(), "postgres://x/y");
        let error = with(&[("FOREWRIGHT_QUEUE_LEASE_MS", "soon")]).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "settings `FOREWRIGHT_QUEUE_LEASE_MS`: `soon` is not a whole number"
        );
    }

    #[test]
    fn an_open_door_without_a_lock_is_refused() {
        let vars = [
            ("FOREWRIGHT_SERVER_LISTEN", "0.0.0.0:8600"),
            ("FOREWRIGHT_SERVER_AUTHENTICATION", "false"),
        ];
        assert!(with(&vars).is_err());
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("f.toml");
        std::fs::write(&path, "[queue]\nlease = 5\n").expect("written");
        let error = Config::load(Some(&path), std::iter::empty()).expect_err("refused");
        assert!(
            error.to_string().contains("unknown key `queue.lease`"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_variable_is_named_and_those_of_others_are_left_alone() {
        let error = with(&[("FOREWRIGHT_QUEUE_LEAS_MS", "20000")]).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "settings `FOREWRIGHT_QUEUE_LEAS_MS`: unknown key `queue.leas_ms`; \
             `[queue]` has concurrency, heartbeat_ms, lease_ms, poll_ms"
        );
        for other in [
            "LOG",
            "SERVER",
            "TOKEN",
            "SEED",
            "KILLS",
            "BINARY",
            "TEST_POSTGRES",
        ] {
            with(&[(&format!("FOREWRIGHT_{other}"), "x")]).expect(other);
        }
    }

    #[test]
    fn intervals_that_cannot_work_are_refused() {
        for (name, value, said) in [
            (
                "BUILDS_HEARTBEAT_MS",
                "60000",
                "`builds.heartbeat_ms` must be under",
            ),
            (
                "BUILDS_LEASE_MS",
                "-1",
                "`builds.lease_ms` must be at least 1",
            ),
            (
                "QUEUE_LEASE_MS",
                "-1",
                "`queue.lease_ms` must be at least 1",
            ),
            ("QUEUE_POLL_MS", "0", "`queue.poll_ms` must be at least 1"),
            ("POLICY_COOLDOWN_HOURS", "-1", "must not be negative"),
            ("POLICY_DEDUP_WINDOW_S", "0", "must be 1 to 604,800"),
            ("POLICY_MAX_KIND_PERCENT", "101", "must be 0 to 100"),
            ("RETENTION_RUNS_DAYS", "6", "must be 0 or at least 7"),
            (
                "POLICY_COOLDOWN_HOURS",
                "2161",
                "as long as `policy.cooldown_hours`",
            ),
            ("RETENTION_BATCH_ROWS", "0", "must be 1 to 10,000"),
        ] {
            let error = with(&[(&format!("FOREWRIGHT_{name}"), value)]).expect_err(name);
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
