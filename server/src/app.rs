//! Everything a request, a job or a chore may reach: one value, cheap to clone.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::Semaphore;

use crate::artifacts::Artifacts;
use crate::clock::Clock;
use crate::config::Config;
use crate::host::World;
use crate::plugins::Plugins;
use crate::queue::{LeaseSettings, Queue};
use crate::rate::Callers;
use crate::store::{self, Database};
use crate::telemetry::{HeadLimits, Telemetry};

/// How many uploads come in at once, each with a piece in memory; more wait for their turn.
pub const MAX_UPLOADS: usize = 16;

/// The process's parts.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What [`App`] points to.
pub struct Inner {
    /// Settings.
    pub config: Config,
    /// Tables.
    pub db: Database,
    /// Wake-ups, leases, workers.
    pub queue: Queue,
    /// Samples.
    pub telemetry: Telemetry,
    /// Bytes by digest.
    pub artifacts: Artifacts,
    /// Plugins, ready to be called.
    pub plugins: Plugins,
    /// Turns of uploads: each holds a piece of its bytes in memory.
    pub uploads: Semaphore,
    /// Who may send how many requests more.
    pub callers: Callers,
    /// Time.
    pub clock: Clock,
    /// Names this database's history: events of another instance have other numbers.
    pub instance: String,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Opens everything the settings name, and brings the schema up to date.
    pub async fn open(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let data = &config.server.data;
        std::fs::create_dir_all(data)
            .with_context(|| format!("failed to create the data folder `{}`", data.display()))?;
        let idle_ms = config.server.idle_transaction_ms;
        let db = Database::open_with(&config.database_url(), idle_ms)
            .await
            .context("failed to open the database")?;
        let fresh = uuid::Uuid::new_v4().to_string();
        let instance = store::settings::get_or_set(&db.write, "instance", &fresh).await?;
        let limits = HeadLimits {
            max_series: config.telemetry.max_series,
            max_samples_in_memory: config.telemetry.max_samples_in_memory,
            seal_points: config.telemetry.seal_points,
            ..HeadLimits::default()
        };
        let telemetry =
            Telemetry::open_with_reader(db.write.clone(), db.read.clone(), limits).await?;
        let artifacts = Artifacts::open(&config)?;
        let told = clock.clone();
        let queue = Queue::new(db.clone(), Arc::new(move || told.now_ms()), leases(&config));
        let plugins = Plugins::new(
            config.plugins.clone(),
            config.server.data.join("plugins"),
            queue.clone(),
            Arc::new(artifacts.clone()),
            Arc::new(telemetry.clone()),
        );
        let app = Inner {
            callers: Callers::new(&config.rate),
            config,
            db,
            queue,
            telemetry,
            artifacts,
            plugins,
            uploads: Semaphore::new(MAX_UPLOADS),
            clock,
            instance,
        };
        Ok(Self(Arc::new(app)))
    }

    /// The world as steps and replays see it.
    pub fn world(&self) -> World {
        World {
            queue: self.queue.clone(),
            artifacts: Arc::new(self.artifacts.clone()),
            telemetry: Arc::new(self.telemetry.clone()),
            plugins: self.plugins.clone(),
        }
    }

    /// Now, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

impl FromRequestParts<App> for App {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(app.clone())
    }
}

fn leases(config: &Config) -> LeaseSettings {
    LeaseSettings {
        step_lease_ms: config.queue.lease_ms,
        step_heartbeat_ms: config.queue.heartbeat_ms,
        build_lease_ms: config.builds.lease_ms,
        build_heartbeat_ms: config.builds.heartbeat_ms,
        poll_ms: config.queue.poll_ms,
    }
}
