//! A running process: listener, workers, chores, and how they stop.

use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::BoxFuture;
use predict::series::Samples;
use serde_json::json;
use std::collections::BTreeMap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use workflows::run::trigger::Patience;
use workflows::script::shipped;
use workflows::steps::registry;

use crate::app::App;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::first_token::FirstToken;
use crate::host::{ArtifactBytes, Trouble};
use crate::jobs::{
    Keeper, TriggerLimits, Webhook, WorkerContext, deliver_outbox, expire_uploads, fire_triggers,
    keep_expiring, prune, run_workers,
};
use crate::plugins::{Plugins, examine::examine_next};
use crate::store::{self, scripts::Scripts};
use crate::telemetry::Telemetry;
use crate::{fleet, router};

/// Every queue steps are claimed under.
pub const ALL_QUEUES: [&str; 4] = workflows::run::QUEUES;

/// How long the numbers of ticks are kept, so that no late process takes one again.
const CHORES_KEPT_MS: i64 = 24 * 3_600_000;

/// A running process; dropping it stops nothing, [`Process::stop`] does.
pub struct Process {
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
    first_token: Option<FirstToken>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Process {
    /// Starts workers for the queues named, the chores, and the listener if it is to serve.
    pub async fn start(app: App, queues: &[&str], serve: bool) -> anyhow::Result<Self> {
        install_shipped(&app).await?;
        // Who only works has nobody to show a token to.
        let first_token = match serve {
            true => FirstToken::of(&app).await?,
            false => None,
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let listening = app.queue.clone();
        tasks.spawn(until(stopped.clone(), async move {
            listening.run().await;
            Ok(())
        }));
        let mut address = None;
        if serve {
            let listener = TcpListener::bind(app.config.server.listen)
                .await
                .with_context(|| format!("failed to listen on {}", app.config.server.listen))?;
            address = Some(listener.local_addr()?);
            let service = router::router(app.clone());
            let service = service.into_make_service_with_connect_info::<SocketAddr>();
            let mut signal = stopped.clone();
            tasks.spawn(async move {
                let told = async move {
                    let _ = signal.wait_for(|stop| *stop).await;
                    // Long polls and event streams would keep a graceful stop waiting for ever.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                };
                tokio::select! {
                    served = axum::serve(listener, service).into_future() => served?,
                    () = told => {}
                }
                Ok(())
            });
        }
        if queues.is_empty() {
            // Workers expire leases as they go; a server on its own must do it itself.
            let (queue, mut signal) = (app.queue.clone(), stopped.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = keep_expiring(queue) => {}
                    _ = signal.wait_for(|stop| *stop) => {}
                }
                Ok(())
            });
        } else {
            let queues: Vec<String> = queues.iter().map(|q| (*q).to_owned()).collect();
            tasks.spawn(until(stopped.clone(), keep_examining(app.plugins.clone())));
            let mut context = WorkerContext::new(app.world(), Arc::new(registry()));
            for queue in &queues {
                context
                    .hands
                    .insert(queue.clone(), app.config.queue.concurrency);
            }
            let mut signal = stopped.clone();
            tasks.spawn(async move {
                let told = async move {
                    let _ = signal.wait_for(|stop| *stop).await;
                };
                Ok(run_workers(context, &queues, told).await?)
            });
        }
        start_chores(&app, &stopped, &mut tasks);
        Ok(Self {
            address,
            first_token,
            stop,
            tasks,
        })
    }

    /// Tells a person where it is and, the first time, how to get in.
    pub fn announce(&self) -> anyhow::Result<()> {
        let Some(address) = self.address else {
            return Ok(());
        };
        let mut out = std::io::stdout().lock();
        if let Some(token) = &self.first_token {
            let secret = &token.secret;
            writeln!(
                out,
                "The operator token of this installation, shown this once: {secret}"
            )?;
            writeln!(out, "Dashboard: http://{address}/#token={secret}")?;
            out.flush()?;
            token.seen()?;
        }
        writeln!(out, "ready on http://{address}")?;
        out.flush()?;
        Ok(())
    }

    /// Runs until the process gets SIGINT or SIGTERM, or a part of it fails.
    pub async fn until_told_to_stop(mut self) -> anyhow::Result<()> {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            Some(ended) = self.tasks.join_next() => ended.context("a part of the process panicked")??,
        }
        self.stop().await
    }

    /// Stops everything in order: no new work, what is at work ends, then the rest.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part of the process panicked")??;
        }
        Ok(())
    }
}

/// Puts the shipped scripts where a user's would go, unless there is one of that name already.
async fn install_shipped(app: &App) -> anyhow::Result<()> {
    let sorts = [
        (
            Scripts::Workflows,
            "activate_workflow",
            &shipped::WORKFLOWS[..],
        ),
        (Scripts::Policies, "activate_policy", &shipped::POLICIES[..]),
    ];
    for (sort, verb, scripts) in sorts {
        let known = sort.list(&app.db.write).await?;
        for script in scripts
            .iter()
            .filter(|s| known.iter().all(|k| k.name != s.name))
        {
            let tx = store::begin(&app.db.write).await?;
            let now = app.now_ms();
            let stored = sort.activate(&tx, now, script.name, script.source).await?;
            let detail = json!({ "revision": stored.digest });
            store::audit::record(&tx, now, "server", verb, script.name, &detail).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

impl ArtifactBytes for Artifacts {
    fn put<'a>(&'a self, digest: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            self.put_claimed(digest, bytes).await?;
            Ok(())
        })
    }

    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>> {
        Box::pin(async move {
            match self.get(digest).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(ArtifactError::Missing(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn read<'a>(
        &'a self,
        digest: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>> {
        Box::pin(async move {
            match self.open_range(digest, Some(range)).await {
                Ok(found) => Ok(Some(found.bytes().await?)),
                Err(ArtifactError::Missing(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }
}

impl crate::host::Telemetry for Telemetry {
    fn samples<'a>(
        &'a self,
        asset: &'a str,
        from_ms: i64,
        to_ms: i64,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Samples>, Trouble>> {
        Box::pin(async move { Ok(self.raw_many(asset, from_ms, to_ms).await?) })
    }
}

/// The work on a timer. Steps and leases expire within `run_workers`.
fn start_chores(
    app: &App,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let webhook = match app.config.webhook.url.clone() {
        url if url.is_empty() => Webhook::Recorded,
        url => Webhook::Posted {
            url,
            client: reqwest::Client::new(),
        },
    };
    let outbox = app.clone();
    tasks.spawn(every(Duration::from_secs(1), stopped.clone(), move || {
        let (app, webhook) = (outbox.clone(), webhook.clone());
        async move {
            deliver_outbox(&app.queue, &webhook).await?;
            Ok(())
        }
    }));
    let cleaning = app.clone();
    tasks.spawn(every(Duration::from_secs(60), stopped.clone(), move || {
        let app = cleaning.clone();
        async move {
            expire_uploads(&app).await?;
            Ok(())
        }
    }));
    if app.config.retention.every_s > 0 {
        let keeping = app.clone();
        let pause = Duration::from_secs(u64::from(app.config.retention.every_s));
        // A pass may last; whatever transaction it is in when the process stops is as if it had not begun.
        let passes = every(pause, stopped.clone(), move || {
            let app = keeping.clone();
            async move { prune_once(&app).await }
        });
        tasks.spawn(until(stopped.clone(), passes));
    }
    let firing = app.clone();
    let limits = trigger_limits(app);
    tasks.spawn(every(Duration::from_secs(1), stopped.clone(), move || {
        let app = firing.clone();
        async move {
            if fire_triggers(&app.db, app.now_ms(), &limits).await? > 0 {
                app.queue.notify_local();
            }
            Ok(())
        }
    }));
    let flushing = app.clone();
    let pause = Duration::from_millis(app.config.telemetry.flush_ms);
    tasks.spawn(every(pause, stopped.clone(), move || {
        let app = flushing.clone();
        async move { Ok(app.telemetry.flush().await?) }
    }));
    if app.config.fleet.tick_s > 0 {
        let ticking = app.clone();
        let pause = Duration::from_secs(app.config.fleet.tick_s);
        tasks.spawn(every(pause, stopped.clone(), move || {
            let app = ticking.clone();
            async move { tick_once(&app).await }
        }));
    }
}

/// Compiles and checks plugins as they come; a failure is logged and the next time comes.
async fn keep_examining(plugins: Plugins) -> anyhow::Result<()> {
    loop {
        match examine_next(&plugins).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!("a plugin could not be examined for now: {error:#}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// One look at what is too old over all processes, which ends before the next begins.
pub(crate) async fn prune_once(app: &App) -> anyhow::Result<()> {
    let every_s = app.config.retention.every_s;
    let number = app.now_ms() / (i64::from(every_s) * 1_000);
    if store::chores::take(&app.db.write, app.now_ms(), "prune", number).await? {
        store::chores::prune(&app.db.write, app.now_ms() - CHORES_KEPT_MS).await?;
        let keeper = Keeper {
            db: app.db.clone(),
            artifacts: Arc::new(app.artifacts.clone()),
            rules: app.config.retention.clone(),
        };
        let patience = Duration::from_secs(u64::from(every_s)).mul_f64(0.8);
        prune(&keeper, app.now_ms(), patience).await?;
    }
    Ok(())
}

pub(crate) fn trigger_limits(app: &App) -> TriggerLimits {
    let settings = &app.config.triggers;
    TriggerLimits {
        patience: Patience {
            missed_after_ms: i64::from(settings.missed_after_s) * 1_000,
            catch_up: settings.catch_up,
        },
        queued: i64::from(settings.max_queued),
    }
}

/// One tick over all processes: whoever takes its number first does it.
async fn tick_once(app: &App) -> anyhow::Result<()> {
    let length_ms = i64::try_from(app.config.fleet.tick_s)? * 1_000;
    let number = app.now_ms() / length_ms;
    if store::chores::take(&app.db.write, app.now_ms(), "score_fleet", number).await? {
        store::chores::prune(&app.db.write, app.now_ms() - CHORES_KEPT_MS).await?;
        let tick = fleet::tick(app, None, true).await?;
        tracing::info!(
            tick.scored,
            decisions = tick.decisions.len(),
            "scored the fleet"
        );
    }
    Ok(())
}

/// Does something again and again until the process stops; a failure is logged and the next time comes.
async fn every<F>(
    pause: Duration,
    mut stopped: watch::Receiver<bool>,
    mut work: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(error) = work().await {
            tracing::error!("a chore failed and is tried again: {error:#}");
        }
    }
}

async fn until(
    mut stopped: watch::Receiver<bool>,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        _ = stopped.wait_for(|stop| *stop) => Ok(()),
        done = work => done,
    }
}
