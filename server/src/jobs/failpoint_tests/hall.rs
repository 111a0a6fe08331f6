//! What outlives the processes of these tests, the processes, and somebody who asks until an answer comes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use workflows::host::Host;
use workflows::steps::{Outcome, Registry, Step, StepError};

use super::super::workers::tests::{Build, Double};
use super::super::workers::{WorkerContext, all_queues, run_workers};
use crate::api::tokens;
use crate::app::App;
use crate::auth::Role;
use crate::clock::Clock;
use crate::config::Config;
use crate::jobs::expire_leases;
use crate::store::failpoints::{Fate, Mortal, Point};
use crate::store::scripts::Scripts;
use crate::testing::Fresh;

pub(super) const LEASE_MS: i64 = 10_000;

/// What steps remember over the processes they run in.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<BTreeSet<String>>>);

impl Known {
    pub(super) fn add(&self, key: &str) -> bool {
        self.0.lock().unwrap().insert(key.to_owned())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.lock().unwrap().contains(key)
    }
}

/// Is not ready the first time.
struct Unsteady(Known);

impl Step for Unsteady {
    const KIND: &'static str = "unsteady";
    type Input = Value;
    type Output = Value;

    fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
        match self.0.add(input["key"].as_str().unwrap()) {
            true => Err(StepError::unavailable("unsteady", "the first time")),
            false => Ok(Outcome::Done(Value::Null)),
        }
    }
}

/// Fails for good until somebody healed it.
struct Healing(Known);

impl Step for Healing {
    const KIND: &'static str = "healing";
    type Input = Value;
    type Output = Value;

    fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
        let key = input["key"].as_str().unwrap();
        match self.0.has(&format!("healed {key}")) {
            true => Ok(Outcome::Done(json!("healed"))),
            false => Err(StepError::failed("sick", "nobody healed it")),
        }
    }
}

/// What outlives every process.
pub(super) struct Hall {
    pub(super) f: Fresh,
    folder: TempDir,
    pub(super) clock: Clock,
    pub(super) known: Known,
    operator: String,
    cell: String,
    idle_transaction_ms: u32,
}

/// One process: a server and its workers.
struct Process {
    mortal: Arc<Mortal>,
    runtime: Option<Runtime>,
    app: Option<App>,
    service: Router,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Hall {
    pub(super) async fn new(f: Fresh, idle_transaction_ms: u32) -> Self {
        let (clock, db) = (Clock::default(), f.db.write.clone());
        let now = clock.now_ms();
        let token = async |role, name| tokens::issue_in(&db, now, "test", role, name).await;
        let operator = token(Role::Operator, "olga").await.unwrap().1;
        let cell = token(Role::Cell, "c1").await.unwrap().1;
        Self {
            folder: TempDir::new().unwrap(),
            known: Known::default(),
            f,
            clock,
            operator,
            cell,
            idle_transaction_ms,
        }
    }

    /// Lets a workflow serve, and gives its digest.
    pub(super) async fn serve(&self, name: &str, source: &str) -> String {
        let (db, now) = (&self.f.db.write, self.clock.now_ms());
        let stored = Scripts::Workflows.activate(db, now, name, source).await;
        stored.unwrap().digest
    }

    pub(super) fn config(&self) -> Config {
        let settings = [
            (
                "FOREWRIGHT_SERVER_DATA",
                self.folder.path().display().to_string(),
            ),
            ("DATABASE_URL", self.f.url.clone()),
            (
                "FOREWRIGHT_SERVER_IDLE_TRANSACTION_MS",
                self.idle_transaction_ms.to_string(),
            ),
            ("FOREWRIGHT_RATE_PER_S", "0".to_owned()),
            ("FOREWRIGHT_QUEUE_POLL_MS", "20".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Config::load(None, settings.into_iter()).unwrap()
    }

    /// A process that meets its fate somewhere, or none if that was while it came up.
    async fn start(&self, fate: Option<(Point, Fate)>) -> Result<Process, Arc<Mortal>> {
        let mortal = Mortal::new(fate);
        let runtime = mortal.runtime();
        let (config, clock, known) = (self.config(), self.clock.clone(), self.known.clone());
        let opened = runtime.spawn(async move {
            let app = App::open(config, clock).await.unwrap();
            let listening = app.queue.clone();
            tokio::spawn(async move { listening.run().await });
            let registry = Registry::default()
                .register(Double)
                .register(Build)
                .register(workflows::steps::Run)
                .register(Unsteady(known.clone()))
                .register(Healing(known));
            let context = WorkerContext::new(app.world(), Arc::new(registry));
            let queues = all_queues(&context.registry);
            tokio::spawn(
                async move { run_workers(context, &queues, std::future::pending()).await },
            );
            (app.clone(), crate::router::router(app))
        });
        let opened = opened.await;
        let mut process = Process {
            mortal: mortal.clone(),
            runtime: Some(runtime),
            app: None,
            service: Router::new(),
        };
        let (app, service) = opened.map_err(|_| mortal)?;
        process.app = Some(app);
        process.service = service;
        Ok(process)
    }
}

/// Somebody who asks until an answer comes, whatever becomes of the processes.
pub(super) struct Client<'a> {
    pub(super) hall: &'a Hall,
    process: Option<Process>,
    fate: Option<(Point, Fate)>,
    /// The first process, whose fate it is.
    pub(super) first: Option<Arc<Mortal>>,
}

impl<'a> Client<'a> {
    pub(super) fn new(hall: &'a Hall, fate: Option<(Point, Fate)>) -> Self {
        Self {
            hall,
            process: None,
            fate,
            first: None,
        }
    }

    /// The process that is alive; where it died, the next, once the leases of the dead have run out.
    async fn alive(&mut self) -> &Process {
        loop {
            if self.process.as_ref().is_some_and(|p| p.mortal.is_dead()) {
                self.process = None;
                self.hall.clock.advance(LEASE_MS + 1);
            }
            if self.process.is_none() {
                let started = self.hall.start(self.fate.take()).await;
                let mortal = match &started {
                    Ok(process) => process.mortal.clone(),
                    Err(mortal) => mortal.clone(),
                };
                self.first.get_or_insert(mortal);
                self.process = started.ok();
            }
            if self.process.as_ref().is_some_and(|p| !p.mortal.is_dead()) {
                break;
            }
        }
        self.process.as_ref().unwrap()
    }

    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        self.ask_with(method, path, body, None).await
    }

    pub(super) async fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        body: Value,
        key: Option<&str>,
    ) -> (StatusCode, Value) {
        let body = body.to_string().into_bytes();
        self.send(method, path, ("application/json", body), key)
            .await
    }

    /// Asks with bytes of a media type.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        (media, body): (&str, Vec<u8>),
        key: Option<&str>,
    ) -> (StatusCode, Value) {
        let of_cell = path.starts_with("/cells") || path.starts_with("/leases");
        let token = match of_cell {
            true => &self.hall.cell,
            false => &self.hall.operator,
        };
        for _ in 0..200 {
            let process = self.alive().await;
            let mut request = Request::builder()
                .method(method)
                .uri(format!("/api/v1{path}"))
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, media);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let request = request.body(Body::from(body.clone())).unwrap();
            let (service, mortal) = (process.service.clone(), process.mortal.clone());
            let answering = process.runtime.as_ref().unwrap().spawn(async move {
                let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                (parts.status, body)
            });
            let answer = answering.await;
            match answer {
                // What a process says of itself while it dies nobody hears.
                _ if mortal.is_dead() => {}
                Ok((status, body)) if !status.is_server_error() => {
                    return (status, serde_json::from_slice(&body).unwrap_or_default());
                }
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => {}
                other => panic!("{method} {path}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{method} {path} was never answered");
    }

    /// What a page says once it says it.
    pub(super) async fn until<T>(&mut self, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let mut last = Value::Null;
        for _ in 0..3_000 {
            let (status, page) = self.ask("GET", path, Value::Null).await;
            assert_eq!(status, 200, "{path}: {page}");
            if let Some(found) = found(&page) {
                return found;
            }
            last = page;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing came of it: {path}: {last:#}");
    }

    /// Lets time pass and has what ran out meanwhile taken back at once, where a process would within a second.
    pub(super) async fn pass(&mut self, ms: i64) {
        self.hall.clock.advance(ms);
        self.within(|app| async move {
            // Whatever comes of it, it is done again every second.
            let _ = expire_leases(&app.queue).await;
        })
        .await;
    }

    /// Has the process do something, which may be its end.
    pub(super) async fn within<D>(&mut self, doing: impl FnOnce(App) -> D)
    where
        D: Future<Output = ()> + Send + 'static,
    {
        let process = self.alive().await;
        let doing = doing(process.app.clone().unwrap());
        let _ = process.runtime.as_ref().unwrap().spawn(doing).await;
    }

    pub(super) async fn start_run(&mut self, workflow: &str, key: &str) -> String {
        let body = json!({ "workflow": workflow, "event": { "key": key } });
        let (status, run) = self.ask_with("POST", "/runs", body, Some(key)).await;
        assert_eq!(status, 201, "{run}");
        run["id"].as_str().unwrap().to_owned()
    }
}

/// Whether a run waits for something of this kind.
pub(super) fn waits(kind: &'static str) -> impl Fn(&Value) -> Option<()> {
    move |run| {
        let mut waits = run["waiting_for"].as_array().into_iter().flatten();
        waits.any(|w| w["kind"] == kind).then_some(())
    }
}

/// A run that is over.
pub(super) fn ended(run: &Value) -> Option<Value> {
    run["ended_at"].is_string().then(|| run.clone())
}
