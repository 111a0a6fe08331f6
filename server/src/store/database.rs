//! Opening a database, its transactions, its errors, and the few helpers all tables share.

use std::path::Path;
use std::time::Duration;

use migrations::Migrator;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, FromQueryResult, RuntimeErr,
    SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, Statement,
    TransactionOptions, TransactionTrait, Value,
};
use sea_orm_migration::MigratorTrait;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::transaction::DatabaseTransaction;

/// A moment so far away that what is parked until then moves only when it is woken.
pub const FAR: i64 = 253_402_300_799_000;

/// A connection that was not used for so long may have been lost without anybody noticing.
const RESTED: Duration = Duration::from_millis(500);

/// The connections of one process to its database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where everything is written. On SQLite one connection, since it has one writer.
    pub write: DatabaseConnection,
    /// Where long reads go, so that they never hold up a writer.
    pub read: DatabaseConnection,
    /// The heartbeat's own connection: a busy pool must not cost a lease.
    pub heartbeat: DatabaseConnection,
    /// Where to listen for wake-ups; SQLite has none and needs none, being one process.
    pub listen: Option<PgPool>,
}

/// How long Postgres waits for the next statement of a transaction unless the settings say otherwise, ms.
pub const IDLE_TRANSACTION_MS: u32 = 1_000;

/// The setting of our connections for how long it waits where everybody else does.
pub(super) const IN_ORDER_MS: &str = "forewright.in_order_ms";

impl Database {
    /// Opens `postgres://…` or `sqlite:PATH` and brings it to the newest schema.
    ///
    /// # Errors
    ///
    /// When the address is not understood, the database is out of reach, or a migration fails.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, IDLE_TRANSACTION_MS).await
    }

    /// As [`Database::open`]; on Postgres a transaction that says nothing for `idle_transaction_ms` is ended, 0 for never.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub async fn open_with(url: &str, idle_transaction_ms: u32) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Self::open_postgres(url, idle_transaction_ms).await;
        }
        match url.strip_prefix("sqlite:") {
            Some(path) => Self::open_sqlite(Path::new(path.trim_start_matches("//"))).await,
            None => Err(StoreError::refused(
                "database_url",
                format_args!("`{url}` is neither `postgres://…` nor `sqlite:PATH`"),
            )),
        }
    }

    /// Opens or creates a database file.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or a migration fails.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A granted physical start must outlive a power cut, or a part is made twice; that costs one disk flush
            // per transaction.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = |connections: u32| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(Duration::from_secs(30))
        };
        let sqlite = SqlxSqliteConnector::from_sqlx_sqlite_pool;
        let write = sqlite(pool(1).connect_with(options.clone()).await?);
        migrate(&write).await?;
        Ok(Self {
            write,
            read: sqlite(pool(4).connect_lazy_with(options.clone())),
            heartbeat: sqlite(pool(1).connect_lazy_with(options)),
            listen: None,
        })
    }

    async fn open_postgres(url: &str, idle_transaction_ms: u32) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        // A process that is stopped, or whose machine is gone, in the middle of a transaction holds its locks, that of
        // the order of events among them, and everybody would wait for it. Between two statements of ours nothing is
        // done that takes long. The last four end a connection whose other end no longer answers; Postgres ignores them
        // on a local socket.
        let options = options.options([
            (
                "idle_in_transaction_session_timeout",
                idle_transaction_ms.to_string(),
            ),
            (IN_ORDER_MS, idle_transaction_ms.div_ceil(4).to_string()),
            ("tcp_user_timeout", "10s".to_owned()),
            ("tcp_keepalives_idle", "5s".to_owned()),
            ("tcp_keepalives_interval", "2s".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]);
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(5))
                // A connection is tested when it has rested, not each time it is taken: that is a round trip.
                .test_before_acquire(false)
                .before_acquire(|connection, about| {
                    Box::pin(async move {
                        Ok(about.idle_for < RESTED || connection.ping().await.is_ok())
                    })
                })
        };
        let main = pool(10).connect_with(options.clone()).await?;
        let postgres = SqlxPostgresConnector::from_sqlx_postgres_pool;
        let write = postgres(main);
        migrate(&write).await?;
        Ok(Self {
            read: write.clone(),
            write,
            heartbeat: postgres(pool(1).connect_lazy_with(options.clone())),
            listen: Some(pool(1).connect_lazy_with(options)),
        })
    }

    /// `postgres` or `sqlite`, as health reports it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.write.get_database_backend() {
            DbBackend::Postgres => "postgres",
            _ => "sqlite",
        }
    }
}

/// Several processes may start at once, so on Postgres the schema is changed under a lock.
async fn migrate(db: &DatabaseConnection) -> Result<(), StoreError> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(Migrator::up(db, None).await?);
    }
    let guard = begin(db).await?;
    // It waits while others of our connections migrate, for as long as that takes.
    let sql = "SET LOCAL idle_in_transaction_session_timeout = 0";
    execute(&guard, sql, values![]).await?;
    execute(
        &guard,
        "SELECT pg_advisory_xact_lock($1)",
        values![4_177_i64],
    )
    .await?;
    Migrator::up(db, None).await?;
    guard.commit().await?;
    Ok(())
}

/// Begins a transaction that may write; on SQLite it takes the write lock at once, since an upgrade can fail.
///
/// # Errors
///
/// When the database does not answer.
pub async fn begin(db: &DatabaseConnection) -> Result<DatabaseTransaction, StoreError> {
    Ok(begin_as_is(db).await?)
}

/// As [`begin`], for who tells the database's errors as they are.
pub(crate) async fn begin_as_is(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: (db.get_database_backend() == DbBackend::Sqlite)
            .then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    db.begin_with_options(options)
        .await
        .map(DatabaseTransaction::new)
}

/// Why storage did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed; trying again may help.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// A connection could not be made or used.
    #[error("the database cannot be reached")]
    Connect(#[from] sqlx::Error),
    /// A stored document does not read as what it should be.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing of that name.
    #[error("there is no {what} `{id}`")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// A run that is kept no longer.
    #[error("run `{}` is archived as `{}`", .0.id, .0.digest.as_deref().unwrap_or("nothing"))]
    Archived(Box<super::archives::run_archive::Model>),
    /// A write with an old fence or epoch: somebody else holds the thing now.
    #[error("{what} `{id}` has passed to somebody else")]
    Stale {
        /// What was to be written.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// Allowed, but not now.
    #[error("{message}")]
    NotYet {
        /// Stable code.
        code: &'static str,
        /// What it waits for.
        message: String,
        /// When to ask again at the latest.
        retry_after_ms: i64,
    },
    /// A cell has a build of which nobody knows what it left on the plate.
    #[error(
        "nobody knows what build `{build}` left on the plate of cell `{cell}`; say so with \
         `POST /api/v1/builds/{build}/resolve` before it makes another"
    )]
    PlateUnknown {
        /// The cell.
        cell: String,
        /// The build.
        build: String,
        /// The fence it was started under.
        fence: i64,
    },
    /// Understood and refused.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: &'static str,
        /// Why, and what to do.
        message: String,
    },
}

impl StoreError {
    /// Nothing of that name.
    pub fn unknown(what: &'static str, id: impl Into<String>) -> Self {
        Self::Unknown {
            what,
            id: id.into(),
        }
    }

    /// A write with an old fence or epoch.
    pub fn stale(what: &'static str, id: impl Into<String>) -> Self {
        Self::Stale {
            what,
            id: id.into(),
        }
    }

    /// Understood and refused.
    pub fn refused(code: &'static str, message: impl std::fmt::Display) -> Self {
        Self::Refused {
            code,
            message: message.to_string(),
        }
    }
}

/// What the driver says of a statement that failed.
fn told_by_driver(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Some(cause),
        _ => None,
    }
}

/// Whether it was the connection that failed, or a neighbour on the same rows, and not what was asked: asked again, it
/// may well be done.
pub(crate) fn is_passing(error: &DbErr) -> bool {
    match told_by_driver(error) {
        Some(
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed,
        ) => true,
        Some(sqlx::Error::Database(told)) => told.code().is_some_and(|code| {
            // A connection that broke; the server going down or up; a transaction that said nothing for too long; a
            // deadlock. SQLite has one writer, and says 5 while somebody else is it.
            code.starts_with("08")
                || matches!(
                    &*code,
                    "57P01" | "57P02" | "57P03" | "25P03" | "40001" | "40P01" | "5" | "517"
                )
        }),
        _ => matches!(error, DbErr::ConnectionAcquire(_)),
    }
}

/// Whether the database has no room left on its disk.
pub(crate) fn is_full(error: &DbErr) -> bool {
    let Some(sqlx::Error::Database(told)) = told_by_driver(error) else {
        return false;
    };
    // `disk_full` of Postgres, `SQLITE_FULL`.
    told.code()
        .is_some_and(|code| matches!(&*code, "53100" | "13"))
}

/// Where a list goes on, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The last id of the page before.
    pub after: Option<&'a str>,
    /// How many at most.
    pub limit: u64,
}

impl Page<'_> {
    /// Everything there is.
    pub const ALL: Page<'static> = Page {
        after: None,
        limit: i64::MAX as u64,
    };
}

/// A new name that sorts by the moment it was given.
#[must_use]
pub fn new_id(now_ms: i64) -> String {
    let ms = u64::try_from(now_ms).unwrap_or_default();
    let nanos = u32::try_from(ms % 1_000).unwrap_or_default() * 1_000_000;
    let moment = uuid::Timestamp::from_unix(uuid::NoContext, ms / 1_000, nanos);
    uuid::Uuid::new_v7(moment).to_string()
}

/// What every name given at this moment or later sorts after, and every earlier one before.
#[must_use]
pub fn first_id_of(ms: i64) -> String {
    // A version 7 id begins with 48 bits of milliseconds.
    let ms = ms.clamp(0, (1 << 48) - 1);
    format!(
        "{:08x}-{:04x}-0000-0000-000000000000",
        ms >> 16,
        ms & 0xffff
    )
}

/// The sha256 of some bytes, in hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Runs a statement and says how many rows it touched.
pub(crate) async fn execute(
    db: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<u64, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

/// Every row a statement gives.
pub(crate) async fn all<T: FromQueryResult>(
    db: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<T>, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = db.query_all_raw(statement).await?;
    Ok(rows
        .iter()
        .map(|row| T::from_query_result(row, ""))
        .collect::<Result<_, _>>()?)
}

/// The first row a statement gives.
pub(crate) async fn one<T: FromQueryResult>(
    db: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<Option<T>, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = db.query_one_raw(statement).await?;
    Ok(row.map(|row| T::from_query_result(&row, "")).transpose()?)
}

/// The one number a statement gives as `n`.
pub(crate) async fn number(
    db: &impl ConnectionTrait,
    sql: &str,
    values: Vec<Value>,
) -> Result<Option<i64>, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    match db.query_one_raw(statement).await? {
        Some(row) => Ok(row.try_get::<Option<i64>>("", "n")?),
        None => Ok(None),
    }
}

/// `FOR UPDATE SKIP LOCKED` where the database has it; SQLite has one writer and needs none.
pub(crate) fn skip_locked(db: &impl ConnectionTrait) -> &'static str {
    match db.get_database_backend() {
        DbBackend::Postgres => "FOR UPDATE SKIP LOCKED",
        _ => "",
    }
}

/// A condition on a column: it is one of what a query chooses, which is asked once.
///
/// Postgres may ask a query behind `IN` again for each row it compares. One that locks what it chooses sees the rows that
/// the statement has changed meanwhile, passes over them, and chooses others: in the end all there are, whatever its
/// `LIMIT` says. Which way it goes hangs on how large it takes the tables to be.
pub(crate) fn among(db: &impl ConnectionTrait, query: &str) -> String {
    match db.get_database_backend() {
        DbBackend::Postgres => format!("= ANY (ARRAY({query}))"),
        _ => format!("IN ({query})"),
    }
}

/// `FOR UPDATE` where the database has it.
pub(crate) fn for_update(db: &impl ConnectionTrait) -> &'static str {
    match db.get_database_backend() {
        DbBackend::Postgres => "FOR UPDATE",
        _ => "",
    }
}

/// What other processes are told of: the payload of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved<'a> {
    /// Something; whoever waits for anything looks.
    Anything,
    /// A fact was recorded; whoever waits for facts looks, and no queue.
    Fact,
    /// A step of this queue became ready; only its workers look.
    Queue(&'a str),
    /// The same, and it stands at this place in line, further ahead than its workers look by themselves.
    Place(&'a str, i64),
}

impl<'a> Moved<'a> {
    const FACT: &'static str = "fact";
    const QUEUE: &'static str = "queue:";
    const PLACE: &'static str = "place:";

    fn payload(self) -> String {
        match self {
            Self::Anything => String::new(),
            Self::Fact => Self::FACT.to_owned(),
            Self::Queue(name) => format!("{}{name}", Self::QUEUE),
            Self::Place(name, place) => format!("{}{place}:{name}", Self::PLACE),
        }
    }

    /// What a payload says; of what is not understood anything may have moved.
    pub(crate) fn of(payload: &'a str) -> Self {
        if let Some(name) = payload.strip_prefix(Self::QUEUE) {
            return Self::Queue(name);
        }
        let placed = payload.strip_prefix(Self::PLACE);
        if let Some((place, name)) = placed.and_then(|text| text.split_once(':'))
            && let Ok(place) = place.parse()
        {
            return Self::Place(name, place);
        }
        match payload == Self::FACT {
            true => Self::Fact,
            false => Self::Anything,
        }
    }
}

/// Tells other processes at commit that anything may have moved; within a process the queue is told directly.
pub(crate) async fn notify(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    notify_of(db, Moved::Anything).await
}

/// Tells other processes at commit what moved, so that only those who wait for it look.
pub(crate) async fn notify_of(
    db: &impl ConnectionTrait,
    moved: Moved<'_>,
) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT pg_notify('forewright', $1)";
        execute(db, sql, values![moved.payload()]).await?;
    }
    Ok(())
}

/// Where Postgres tells that a build waits for a cell.
pub(crate) const BUILDS: &str = "forewright_builds";

/// Tells the cells that wait, of every process, that there may be a build for them; to be followed by a wake-up of this
/// process where the database tells nothing.
pub(crate) async fn notify_builds(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        execute(db, "SELECT pg_notify($1, '')", values![BUILDS]).await?;
    }
    Ok(())
}

/// A table `f` out of the JSON array of objects in `$n`, for a statement about many rows at once.
///
/// The text of such a statement does not depend on how many rows there are, so it is prepared once.
pub(crate) fn rows_in(
    db: &impl ConnectionTrait,
    n: usize,
    columns: &[(&str, &'static str)],
) -> String {
    let listed = |column: fn(&(&str, &'static str)) -> String| {
        columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    match db.get_database_backend() {
        DbBackend::Postgres => format!(
            "json_to_recordset(${n}::json) AS f ({})",
            listed(|(name, kind)| format!("{name} {kind}"))
        ),
        _ => format!(
            "(SELECT {} FROM json_each(${n})) AS f",
            listed(|(name, _)| format!("value ->> '{name}' AS {name}"))
        ),
    }
}

/// The texts listed in `$n` as [`listed`] writes them, for `… IN`.
pub(crate) fn listed_in(db: &impl ConnectionTrait, n: usize) -> String {
    match db.get_database_backend() {
        DbBackend::Postgres => format!("(SELECT json_array_elements_text(${n}::json))"),
        _ => format!("(SELECT value FROM json_each(${n}))"),
    }
}

/// Texts as one parameter, however many there are.
pub(crate) fn listed(texts: &[String]) -> String {
    serde_json::json!(texts).to_string()
}

/// Reads a stored document.
pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt { what, source })
}

/// Writes a document.
pub(crate) fn to_json<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Corrupt { what, source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::events;
    use crate::testing::Fresh;

    /// The fact that is recorded, behind everybody who records one.
    async fn tell(db: &DatabaseConnection, name: &str) -> Result<(), StoreError> {
        let tx = begin(db).await?;
        events::record(&tx, 1, name, "s", &json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs Postgres"]
    async fn a_process_that_stops_in_a_transaction_holds_nobody_up() {
        let f = Fresh::postgres().await;
        let stopped = Database::open_with(&f.url, 200).await.unwrap();
        let held = begin(&stopped.write).await.unwrap();
        events::record(&held, 1, "never", "s", &json!({}))
            .await
            .unwrap();
        // Nothing more is said in it, so it holds the order of events until Postgres ends it.
        let told = tokio::time::timeout(Duration::from_secs(30), tell(&f.db.write, "told")).await;
        told.expect("nobody waits for ever").unwrap();

        // It wakes up: what it wrote is gone, it is told so, and its next transaction has another connection.
        let late = events::record(&held, 1, "late", "s", &json!({})).await;
        let Err(StoreError::Database(error)) = late else {
            panic!("{late:?}");
        };
        assert!(is_passing(&error), "{error:?}");
        assert!(held.commit().await.is_err(), "nothing is said to be kept");
        for _ in 0..12 {
            tell(&stopped.write, "again").await.unwrap();
        }
        let events = events::after(&f.db.read, 0, 100).await.unwrap();
        let names: Vec<&str> = events.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names[0], "told");
        assert!(names[1..].iter().all(|name| *name == "again"), "{names:?}");
        assert_eq!(names.len(), 13);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs Postgres"]
    async fn of_a_process_that_stops_each_transaction_holds_others_up_for_a_short_time() {
        let f = Fresh::postgres().await;
        let stopped = Database::open_with(&f.url, 120_000).await.unwrap();
        let held = begin(&stopped.write).await.unwrap();
        events::record(&held, 1, "never", "s", &json!({}))
            .await
            .unwrap();
        let allowed = "SELECT CAST(current_setting('idle_in_transaction_session_timeout') = '30s' AS INT)::bigint AS n";
        assert_eq!(number(&held, allowed, values![]).await.unwrap(), Some(1));
        held.rollback().await.unwrap();
        for _ in 0..12 {
            let tx = begin(&stopped.write).await.unwrap();
            assert_eq!(number(&tx, allowed, values![]).await.unwrap(), Some(0));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs Postgres"]
    async fn a_commit_whose_transaction_was_ended_is_an_error() {
        let f = Fresh::postgres().await;
        let stopped = Database::open_with(&f.url, 100).await.unwrap();
        let held = begin(&stopped.write).await.unwrap();
        events::record(&held, 1, "never", "s", &json!({}))
            .await
            .unwrap();
        tell(&f.db.write, "told").await.unwrap();
        let late = held.commit().await.expect_err("it was ended");
        assert!(is_passing(&late), "{late:?}");
        assert_eq!(events::after(&f.db.read, 0, 9).await.unwrap().len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs Postgres"]
    async fn every_connection_is_told_when_to_give_up() {
        #[derive(FromQueryResult)]
        struct Told {
            value: String,
        }
        let db = Fresh::postgres().await.db;
        for pool in [&db.write, &db.read, &db.heartbeat] {
            let sql = "SELECT current_setting('idle_in_transaction_session_timeout') AS value";
            let told: Told = one(pool, sql, values![]).await.unwrap().unwrap();
            assert_eq!(told.value, "1s");
        }
    }

    #[test]
    fn names_sort_by_their_moment() {
        for ms in [0, 1, 65_535, 65_536, 1_767_225_600_123, (1 << 48) - 2] {
            assert!(new_id(ms) > first_id_of(ms), "{ms}");
            assert!(new_id(ms) < first_id_of(ms + 1), "{ms}");
        }
        assert!(first_id_of(i64::MIN) < new_id(0) && new_id(5) < first_id_of(i64::MAX));
    }
}
