//! What the tests of storage and queue share: a fresh database of either kind, and one test body for both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::store::{Database, new_id};

/// A database nobody else uses, removed afterwards where it is a file.
pub struct Fresh {
    /// The database.
    pub db: Database,
    /// A moment the test moves on by hand.
    pub clock: Arc<AtomicI64>,
    _dir: Option<TempDir>,
}

/// The moment tests begin at.
pub const NOW: i64 = 1_767_225_600_000;

impl Fresh {
    pub async fn sqlite() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let db = Database::open_sqlite(&dir.path().join("test.db"))
            .await
            .expect("a database file");
        Self::over(db, Some(dir))
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
        let db = Database::open(&format!("{base}/{name}"))
            .await
            .expect("the new database");
        Self::over(db, None)
    }

    fn over(db: Database, dir: Option<TempDir>) -> Self {
        Self {
            db,
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
