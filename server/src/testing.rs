//! What the tests of storage and queue share: a fresh database of either kind, and one test body for both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use predict::series::Samples;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::host::{ArtifactBytes, Telemetry, Trouble};
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
        let db = &self.db.write;
        let now = self.now();
        let revision = Scripts::Workflows
            .activate(db, now, "test", source)
            .await
            .expect("a revision");
        let new = NewRun {
            workflow: "test",
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
