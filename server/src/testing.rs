//! What the tests of storage and queue share: a fresh database of either kind, and one test body for both.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use futures::future::BoxFuture;
use predict::series::Samples;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::api::tokens;
use crate::app::App;
use crate::auth::Role;
use crate::clock::Clock;
use crate::config::Config;
use crate::host::{ArtifactBytes, Telemetry, Trouble};
use crate::plugins::Plugins;
use crate::queue::{LeaseSettings, Queue};
use crate::store::runs::{self, NewRun};
use crate::store::scripts::Scripts;
use crate::store::{Database, begin, new_id};

/// A database nobody else uses, removed afterwards where it is a file.
pub struct Fresh {
    /// The database.
    pub db: Database,
    /// Its address, for other processes.
    pub url: String,
    /// A moment the test moves on by hand.
    pub clock: Arc<AtomicI64>,
    _dir: Option<TempDir>,
}

/// The moment tests begin at.
pub const NOW: i64 = 1_767_225_600_000;

impl Fresh {
    /// A database file.
    pub async fn sqlite() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let url = format!("sqlite:{}", dir.path().join("test.db").display());
        Self::over(url, Some(dir)).await
    }

    /// A new database of the server that `FOREWRIGHT_TEST_POSTGRES` names.
    pub async fn postgres() -> Self {
        let server = std::env::var("FOREWRIGHT_TEST_POSTGRES")
            .expect("FOREWRIGHT_TEST_POSTGRES names a server");
        let name = format!("test_{}", new_id(NOW).replace('-', ""));
        let mut admin = PgConnection::connect(&server).await.expect("the server");
        admin
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a new database");
        let (base, _) = server.rsplit_once('/').expect("a database in the address");
        Self::over(format!("{base}/{name}"), None).await
    }

    async fn over(url: String, dir: Option<TempDir>) -> Self {
        Self {
            db: Database::open(&url).await.expect("the new database"),
            url,
            clock: Arc::new(AtomicI64::new(NOW)),
            _dir: dir,
        }
    }

    /// The present moment of the test.
    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Moves the test's clock on.
    pub fn advance(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }
}

/// Runs each test body on SQLite and, where a server is named, on Postgres.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::testing::Fresh::sqlite().await).await }
        )* }
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs Postgres"]
            async fn $name() { super::$name($crate::testing::Fresh::postgres().await).await }
        )* }
    };
}
pub(crate) use on_both;

impl Fresh {
    /// A queue over the database that lives by the test's clock.
    pub fn queue(&self) -> Queue {
        let clock = self.clock.clone();
        Queue::new(
            self.db.clone(),
            Arc::new(move || clock.load(Ordering::SeqCst)),
            LeaseSettings {
                poll_ms: 20,
                step_heartbeat_ms: 50,
                ..LeaseSettings::default()
            },
        )
    }

    /// Starts a run of a script.
    pub async fn start(&self, source: &str, event: serde_json::Value) -> String {
        self.start_of("test", source, event).await
    }

    /// The same, of a workflow of this name.
    pub async fn start_of(&self, workflow: &str, source: &str, event: serde_json::Value) -> String {
        let db = &self.db.write;
        let now = self.now();
        let revision = Scripts::Workflows
            .activate(db, now, workflow, source)
            .await
            .expect("a revision");
        let new = NewRun {
            workflow,
            revision: &revision.digest,
            event: &event,
            seed: None,
            decision: None,
            actor: "test",
        };
        let tx = begin(db).await.expect("a transaction");
        let run = runs::create(&tx, now, &new).await.expect("a run");
        tx.commit().await.expect("a commit");
        run.id
    }
}

/// Artifacts in memory.
#[derive(Default)]
pub struct Kept(Mutex<BTreeMap<String, Bytes>>);

impl ArtifactBytes for Kept {
    fn put<'a>(&'a self, digest: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), Trouble>> {
        let mut kept = self.0.lock().expect("no panic while held");
        kept.insert(digest.to_owned(), bytes);
        Box::pin(async { Ok(()) })
    }

    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>> {
        let found = self
            .0
            .lock()
            .expect("no panic while held")
            .get(digest)
            .cloned();
        Box::pin(async { Ok(found) })
    }
}

/// What makes this test's own binary compile a plugin as its child: the arguments before those of the compiler, all of
/// which the runner takes for names of tests.
pub const COMPILE_WORKER: [&str; 4] = [
    "testing::a_child_compiles",
    "--exact",
    "--ignored",
    "--nocapture",
];

#[test]
#[ignore = "is the child that other tests start"]
fn a_child_compiles() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(own) = arguments.get(COMPILE_WORKER.len()..)
        && arguments[0] == COMPILE_WORKER[0]
    {
        std::process::exit(::plugins::compile::work(own));
    }
}

/// Plugins over a database and artifacts of a test.
pub fn plugins(queue: &Queue, artifacts: Arc<dyn ArtifactBytes>, folder: &Path) -> Plugins {
    let config = Config::load(None, std::iter::empty()).expect("settings");
    let (folder, telemetry) = (folder.join("plugins"), Arc::new(Silent));
    Plugins::new(config.plugins, folder, queue.clone(), artifacts, telemetry)
}

/// No samples at all.
pub struct Silent;

impl Telemetry for Silent {
    fn samples<'a>(
        &'a self,
        _: &'a str,
        _: i64,
        _: i64,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Samples>, Trouble>> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }
}

/// A server without a listener, over a folder of its own.
pub struct TestServer {
    /// What it serves.
    pub app: App,
    _folder: TempDir,
}

/// What a test server answered.
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answered {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// The code of a problem of this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl TestServer {
    /// One with settings of its own, named as in the environment.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let data = folder.path().display().to_string();
        let settings = settings
            .iter()
            .copied()
            .chain([("FOREWRIGHT_SERVER_DATA", &*data)])
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, settings).expect("settings");
        let app = App::open(config, Clock::default()).await.expect("an app");
        Self {
            app,
            _folder: folder,
        }
    }

    /// A token of this role.
    pub async fn token(&self, role: Role, name: &str) -> String {
        let tx = begin(&self.app.db.write).await.expect("a transaction");
        let issued = tokens::issue_in(&tx, self.app.now_ms(), "test", role, name).await;
        tx.commit().await.expect("a commit");
        issued.expect("a token").1
    }

    /// Asks, with a token if there is one.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body.to_owned()));
        self.send(request.expect("a request")).await
    }

    /// Asks what the test has put together.
    pub async fn send(&self, request: Request<Body>) -> Answered {
        let answer = crate::router::router(self.app.clone()).oneshot(request);
        let (parts, body) = answer.await.expect("infallible").into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        Answered {
            status: parts.status,
            headers: parts.headers,
            body: body.expect("a body"),
        }
    }
}
