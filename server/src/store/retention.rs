//! What is kept no longer: which rows are too old, and removing some of them at a time.
//!
//! Nothing here touches what is open. Each function removes at most so many rows, so that whoever calls it again and
//! again never holds anybody up for long.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use serde::{Deserialize, Serialize};

use super::database::{all, execute, from_json, number, rows_in, skip_locked, to_json};
use super::runs::run;
use super::{StoreError, first_id_of, settings};

/// What a statement about something old compares with the moment before which it is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A column of milliseconds.
    Time,
    /// Its name, which begins with the moment it was given.
    Id,
}

/// A table whose rows go with age alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aged {
    /// What its rows are called where it is told how many went.
    pub name: &'static str,
    table: &'static str,
    key: &'static str,
    by: By,
    /// Which rows are too old, where `$1` is the moment.
    old: &'static str,
}

/// What a shadow or canary answered.
pub const COMPARISONS: Aged = Aged {
    name: "comparisons",
    table: "comparison",
    key: "id",
    by: By::Id,
    old: "id < $1",
};
/// Decisions, but for those a run still names.
pub const DECISIONS: Aged = Aged {
    name: "decisions",
    table: "decision",
    key: "id",
    by: By::Id,
    old: "id < $1 AND NOT EXISTS (SELECT 1 FROM run r WHERE r.decision = decision.id)",
};
/// Predictions, but for the latest of each asset.
pub const PREDICTIONS: Aged = Aged {
    name: "predictions",
    table: "prediction",
    key: "id",
    by: By::Id,
    old: "id < $1 AND EXISTS (SELECT 1 FROM prediction newer WHERE newer.asset = prediction.asset \
          AND newer.at > prediction.at)",
};
/// What was told to the webhook.
pub const DELIVERIES: Aged = Aged {
    name: "deliveries",
    table: "webhook_delivery",
    key: "id",
    by: By::Id,
    old: "id < $1",
};
/// Messages that were told, or given up; to come after [`DELIVERIES`], which name them.
pub const MESSAGES: Aged = Aged {
    name: "messages",
    table: "outbox",
    key: "id",
    by: By::Time,
    old: "created_at < $1 AND state <> 'waiting' AND NOT EXISTS \
          (SELECT 1 FROM webhook_delivery told WHERE told.outbox_id = outbox.id)",
};
/// Answers to requests that carried an `Idempotency-Key`.
pub const REQUESTS: Aged = Aged {
    name: "requests",
    table: "idempotency",
    key: "(scope, key)",
    by: By::Time,
    old: "created_at < $1",
};
/// Causes no run stands for any more.
pub const CAUSES: Aged = Aged {
    name: "causes",
    table: "dedup",
    key: "(workflow, key)",
    by: By::Time,
    old: "until < $1",
};
/// What became of the ticks of triggers; one that started a run stays open until its trigger is looked at again, which
/// may be never.
pub const TICKS: Aged = Aged {
    name: "ticks",
    table: "trigger_tick",
    key: "(trigger_name, tick)",
    by: By::Time,
    old: "at < $1 AND (NOT is_open OR (state = 'started' AND NOT EXISTS \
          (SELECT 1 FROM run WHERE run.id = trigger_tick.run_id AND run.ended_at IS NULL)))",
};

/// So many are counted at most; beyond it is said that there are more.
pub const COUNTED: i64 = 10_000;

impl Aged {
    fn moment(self, before: i64) -> Value {
        match self.by {
            By::Time => before.into(),
            By::Id => first_id_of(before).into(),
        }
    }

    /// Removes some rows from before a moment; says how many.
    pub async fn remove(
        self,
        db: &impl ConnectionTrait,
        before: i64,
        limit: u64,
    ) -> Result<u64, StoreError> {
        let Self {
            table, key, old, ..
        } = self;
        let columns = key.trim_matches(['(', ')']);
        let sql = format!(
            "DELETE FROM {table} WHERE {key} IN \
             (SELECT {columns} FROM {table} WHERE {old} ORDER BY {columns} LIMIT {limit})"
        );
        execute(db, &sql, vec![self.moment(before)]).await
    }

    /// How many rows there are from before a moment, [`COUNTED`] and one at most.
    pub async fn count(self, db: &impl ConnectionTrait, before: i64) -> Result<i64, StoreError> {
        let from = format!("{} WHERE {}", self.table, self.old);
        count(db, &from, vec![self.moment(before)]).await
    }
}

async fn count(
    db: &impl ConnectionTrait,
    from: &str,
    values: Vec<Value>,
) -> Result<i64, StoreError> {
    let limit = COUNTED + 1;
    let sql =
        format!("SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM {from} LIMIT {limit}) AS few");
    Ok(number(db, &sql, values).await?.unwrap_or(0))
}

/// Why a run that is old enough is kept all the same, and how that is asked of a run `r`.
pub const HOLDS: [(&str, &str); 5] = [
    (
        "open_family",
        "(EXISTS (SELECT 1 FROM run p WHERE p.id = r.parent AND p.ended_at IS NULL) \
         OR EXISTS (SELECT 1 FROM run c WHERE c.parent = r.id AND c.ended_at IS NULL))",
    ),
    (
        "dead_letter",
        "(r.failed_position IS NOT NULL \
         AND EXISTS (SELECT 1 FROM step d WHERE d.run_id = r.id AND d.position = r.failed_position \
         AND d.state = 'failed') \
         AND NOT EXISTS (SELECT 1 FROM run a WHERE a.restarted_from = r.id))",
    ),
    (
        "unsettled_build",
        "EXISTS (SELECT 1 FROM build b WHERE b.run_id = r.id AND b.state <> 'ended')",
    ),
    (
        "open_step",
        "EXISTS (SELECT 1 FROM step s WHERE s.run_id = r.id AND s.state IN ('ready', 'leased'))",
    ),
    // Whether a dead letter was dealt with is told by the run that was begun again from it.
    (
        "restarted_from_kept",
        "EXISTS (SELECT 1 FROM run o WHERE o.id = r.restarted_from AND o.archived_at IS NULL)",
    ),
];

/// Ended runs before `$1`, in the order they were started; one that ended before a moment began before it.
const OLD_RUN: &str = "r.id < $2 AND r.ended_at < $1 AND r.archived_at IS NULL";

fn nothing_holds() -> String {
    let each = HOLDS.iter().map(|(_, held)| format!(" AND NOT {held}"));
    each.collect()
}

/// Runs to be archived: ended before a moment, and nothing about them is open. Those that began after `after`.
pub async fn old_runs(
    db: &impl ConnectionTrait,
    before: i64,
    after: &str,
    limit: u64,
) -> Result<Vec<run::Model>, StoreError> {
    let sql = format!(
        "SELECT r.* FROM run r WHERE r.id > $3 AND {OLD_RUN}{} ORDER BY r.id LIMIT {limit}",
        nothing_holds()
    );
    all(db, &sql, values![before, first_id_of(before), after]).await
}

/// How many runs would be archived.
pub async fn count_old_runs(db: &impl ConnectionTrait, before: i64) -> Result<i64, StoreError> {
    let from = format!("run r WHERE {OLD_RUN}{}", nothing_holds());
    count(db, &from, values![before, first_id_of(before)]).await
}

/// How many runs that are old enough are kept for a reason of [`HOLDS`].
pub async fn count_held(
    db: &impl ConnectionTrait,
    before: i64,
    held: &str,
) -> Result<i64, StoreError> {
    let from = format!("run r WHERE {OLD_RUN} AND {held}");
    count(db, &from, values![before, first_id_of(before)]).await
}

/// Where the archive of a run is.
#[derive(Debug, Clone, Serialize)]
pub struct Archive {
    /// The run.
    pub id: String,
    /// Digest of its archive's bytes, if there is one.
    pub digest: Option<String>,
    /// Size of them.
    pub size_bytes: i64,
}

/// Marks runs as archived, if they still may be; says how many. From here on nobody finds them. To be called in a
/// transaction, after the bytes of the archives were stored.
pub async fn archive(
    db: &impl ConnectionTrait,
    now: i64,
    before: i64,
    archives: &[Archive],
) -> Result<u64, StoreError> {
    let columns = [("id", "text"), ("digest", "text"), ("size_bytes", "bigint")];
    let archives = to_json("archives", archives)?;
    let lock = match db.get_database_backend() {
        DbBackend::Postgres => "FOR UPDATE OF r SKIP LOCKED",
        _ => "",
    };
    // Somebody may be taking one over into a new run at this moment; it comes again next time.
    let sql = format!(
        "SELECT r.id FROM {} JOIN run r ON r.id = f.id WHERE {OLD_RUN}{} ORDER BY r.id {lock}",
        rows_in(db, 3, &columns),
        nothing_holds()
    );
    let values = values![before, first_id_of(before), archives.as_str()];
    let ids: Vec<Named> = all(db, &sql, values).await?;
    let ids = to_json("runs", &ids)?;
    let sql = format!(
        "INSERT INTO run_archive (id, workflow, revision, state, asset, started_at, ended_at, \
         digest, size_bytes, archived_at) \
         SELECT r.id, r.workflow, r.revision, r.state, r.asset, r.started_at, r.ended_at, \
         f.digest, f.size_bytes, $1 FROM {} JOIN run r ON r.id = f.id \
         WHERE r.id IN (SELECT g.id FROM {}) \
         ON CONFLICT (id) DO NOTHING",
        rows_in(db, 2, &columns),
        rows_in(db, 3, &columns[..1]).replace("AS f", "AS g"),
    );
    execute(db, &sql, values![now, archives, ids.as_str()]).await?;
    let sql = format!(
        "UPDATE run SET archived_at = $1 WHERE id IN (SELECT f.id FROM {})",
        rows_in(db, 2, &columns[..1])
    );
    execute(db, &sql, values![now, ids]).await
}

#[derive(FromQueryResult, Serialize)]
struct Named {
    id: String,
}

/// The tables whose rows are a run's own; the last of them go with the run.
const OF_A_RUN: [&str; 4] = ["journal", "step", "event_wait", "approval"];

/// Removes some rows of archived runs, a run itself when nothing is left of it; says how many rows and how many runs.
/// To be called in a transaction.
pub async fn remove_archived(
    db: &impl ConnectionTrait,
    limit: u64,
) -> Result<(u64, u64), StoreError> {
    let sql = format!(
        "SELECT id FROM run WHERE archived_at IS NOT NULL ORDER BY id LIMIT {limit} {}",
        skip_locked(db)
    );
    let ids: Vec<Named> = all(db, &sql, values![]).await?;
    let ids = to_json("runs", &ids)?;
    let listed = rows_in(db, 1, &[("id", "text")]);
    let mut left = limit;
    for table in OF_A_RUN {
        let sql = format!(
            "DELETE FROM {table} WHERE (run_id, position) IN (SELECT t.run_id, t.position FROM {listed} \
             JOIN {table} t ON t.run_id = f.id LIMIT {left})"
        );
        left -= execute(db, &sql, values![ids.as_str()]).await?.min(left);
        if left == 0 {
            return Ok((limit, 0));
        }
    }
    let sql = format!(
        "DELETE FROM run WHERE id IN (SELECT f.id FROM {listed} ORDER BY f.id LIMIT {left})"
    );
    let runs = execute(db, &sql, values![ids.as_str()]).await?;
    let sql = format!(
        "DELETE FROM run_archive WHERE digest IS NULL AND id IN (SELECT f.id FROM {listed}) \
         AND NOT EXISTS (SELECT 1 FROM run WHERE run.id = run_archive.id)"
    );
    execute(db, &sql, values![ids]).await?;
    Ok((limit - left + runs, runs))
}

/// Lets one process at a time remove what is numbered, until its transaction ends. SQLite has one writer anyway.
async fn one_at_a_time(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        execute(db, "SELECT pg_advisory_xact_lock($1)", values![4_181_i64]).await?;
    }
    Ok(())
}

const EVENTS_FROM: &str = "events_kept_after";
const AUDIT_FROM: &str = "audit_kept_after";

/// The number up to which facts are no longer told, 0 while all are.
pub async fn events_kept_after(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let stored = settings::get(db, EVENTS_FROM).await?;
    Ok(stored.and_then(|text| text.parse().ok()).unwrap_or(0))
}

#[derive(FromQueryResult)]
struct Numbered {
    seq: i64,
    at: i64,
}

/// Stops telling some facts from before a moment, and removes those that no run can wait for; says how many are told
/// no longer. To be called in a transaction.
pub async fn remove_events(
    db: &impl ConnectionTrait,
    before: i64,
    limit: u64,
) -> Result<u64, StoreError> {
    one_at_a_time(db).await?;
    let from = events_kept_after(db).await?;
    let sql = format!("SELECT seq, at FROM event WHERE seq > $1 ORDER BY seq LIMIT {limit}");
    let rows: Vec<Numbered> = all(db, &sql, values![from]).await?;
    let old = rows.iter().take_while(|row| row.at < before);
    let Some(upto) = old.clone().last().map(|row| row.seq) else {
        return Ok(0);
    };
    let count = old.count() as u64;
    let sql = "DELETE FROM event WHERE seq > $1 AND seq <= $2 \
               AND NOT EXISTS (SELECT 1 FROM signal s WHERE s.seq = event.seq)";
    execute(db, sql, values![from, upto]).await?;
    settings::put(db, EVENTS_FROM, &upto.to_string()).await?;
    Ok(count)
}

/// Removes some facts that runs may wait for, of those that are told no longer and that no open run from before the
/// moment can still ask for; says how many. To be called in a transaction.
///
/// A run that began after the moment was told of nothing before it, unless it was begun again from an older one.
pub async fn remove_signals(
    db: &impl ConnectionTrait,
    before: i64,
    limit: u64,
) -> Result<u64, StoreError> {
    one_at_a_time(db).await?;
    let sql = "SELECT MIN(events_after) AS n FROM run WHERE state IN ('running', 'waiting', 'diverged') \
               AND (started_at < $1 OR restarted_from IS NOT NULL)";
    let asked_for = number(db, sql, values![before]).await?.unwrap_or(i64::MAX);
    let upto = asked_for.min(events_kept_after(db).await?);
    let sql = format!(
        "SELECT MAX(seq) AS n FROM \
         (SELECT seq FROM signal WHERE seq <= $1 ORDER BY seq LIMIT {limit}) AS few"
    );
    let Some(last) = number(db, &sql, values![upto]).await? else {
        return Ok(0);
    };
    // What is left of the facts up to there are signals.
    execute(
        db,
        "DELETE FROM signal_taken WHERE seq <= $1",
        values![last],
    )
    .await?;
    execute(db, "DELETE FROM event WHERE seq <= $1", values![last]).await?;
    execute(db, "DELETE FROM signal WHERE seq <= $1", values![last]).await
}

/// How many facts would be told no longer.
pub async fn count_events(db: &impl ConnectionTrait, before: i64) -> Result<i64, StoreError> {
    let from = events_kept_after(db).await?;
    count(
        db,
        "event WHERE seq > $1 AND at < $2",
        values![from, before],
    )
    .await
}

/// The last row of the audit that was removed: what the first that is kept follows from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStart {
    /// Its number.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

/// What the first row of the audit that is kept follows from.
pub async fn audit_start(db: &impl ConnectionTrait) -> Result<AuditStart, StoreError> {
    match settings::get(db, AUDIT_FROM).await? {
        Some(text) => from_json("start of the audit", &text),
        None => Ok(AuditStart::default()),
    }
}

#[derive(FromQueryResult)]
struct Link {
    seq: i64,
    at: i64,
    hash: String,
}

/// Removes some of the first rows of the audit, from before a moment, and keeps what the next follows from; says how
/// many. The last row is never removed. To be called in a transaction.
pub async fn remove_audit(
    db: &impl ConnectionTrait,
    before: i64,
    limit: u64,
) -> Result<u64, StoreError> {
    one_at_a_time(db).await?;
    let sql = format!(
        "SELECT seq, at, hash FROM audit WHERE seq < (SELECT MAX(seq) FROM audit) \
         ORDER BY seq LIMIT {limit}"
    );
    let rows: Vec<Link> = all(db, &sql, values![]).await?;
    let Some(last) = rows.iter().take_while(|row| row.at < before).last() else {
        return Ok(0);
    };
    let start = AuditStart {
        seq: last.seq,
        hash: last.hash.clone(),
    };
    settings::put(db, AUDIT_FROM, &to_json("start of the audit", &start)?).await?;
    execute(db, "DELETE FROM audit WHERE seq <= $1", values![last.seq]).await
}

/// How many rows of the audit would be removed.
pub async fn count_audit(db: &impl ConnectionTrait, before: i64) -> Result<i64, StoreError> {
    let from = "audit WHERE seq < (SELECT MAX(seq) FROM audit) AND at < $1";
    count(db, from, values![before]).await
}

/// What became of the last pass, JSON; if there was one.
pub async fn last_pass(db: &impl ConnectionTrait) -> Result<Option<serde_json::Value>, StoreError> {
    match settings::get(db, "retention_pass").await? {
        Some(text) => Ok(Some(from_json("retention pass", &text)?)),
        None => Ok(None),
    }
}

/// Notes what became of a pass.
pub async fn note_pass(
    db: &impl ConnectionTrait,
    pass: &serde_json::Value,
) -> Result<(), StoreError> {
    settings::put(db, "retention_pass", &to_json("retention pass", pass)?).await
}
