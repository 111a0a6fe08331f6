//! Recorded facts, numbered in the order they became visible, and the runs that wait for one of them.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QuerySelect};
use serde::Serialize;
use serde_json::Value;
use workflows::run::{CallOutcome, Position};

use super::database::{
    IN_ORDER_MS, Moved, all, execute, from_json, notify_of, number, one, rows_in, to_json,
};
use super::runs::run;
use super::{StoreError, journal, steps};

table!(
    /// Recorded facts.
    event, "event", {
    #[sea_orm(primary_key)]
    seq: i64,
    at: i64,
    name: String,
    subject: String,
    payload: String,
});

table!(
    /// Calls that wait for a fact.
    event_wait, "event_wait", {
    #[sea_orm(primary_key, auto_increment = false)]
    run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    position: String,
    name: String,
    key: String,
});

/// Records a fact and gives its number.
///
/// Readers ask for what came after the last number they saw, so numbers must become visible in order: on Postgres the
/// writers of facts queue up from here to their commit. Record facts last in a transaction.
pub async fn record(
    db: &impl ConnectionTrait,
    now: i64,
    name: &str,
    subject: &str,
    payload: &Value,
) -> Result<i64, StoreError> {
    let texts = [name, subject, &to_json("event", payload)?];
    let new: Numbered = insert(db, now, texts, "seq").await?;
    Ok(new.seq)
}

#[derive(FromQueryResult)]
struct Numbered {
    seq: i64,
}

/// Inserts the name, subject and payload of a fact, and gives what is asked for in the same answer. The same holds for
/// it as for [`record`].
pub(super) async fn insert<T: FromQueryResult>(
    db: &impl ConnectionTrait,
    now: i64,
    [name, subject, payload]: [&str; 3],
    ask: &str,
) -> Result<T, StoreError> {
    // It is told at the commit; said before, it keeps nobody waiting.
    notify_of(db, Moved::Fact).await?;
    in_order(db).await?;
    let sql = format!(
        "INSERT INTO event (at, name, subject, payload) VALUES ($1, $2, $3, $4) RETURNING {ask}"
    );
    let answer = one(db, &sql, values![now, name, subject, payload]).await?;
    answer.ok_or_else(|| StoreError::unknown("event", name))
}

/// A fact to be recorded with others.
#[derive(Debug, Clone, Serialize)]
pub struct NewFact<'a> {
    /// Where it stands among them.
    pub n: usize,
    /// Its name.
    pub name: &'a str,
    /// What it is about.
    pub subject: &'a str,
    /// JSON text.
    pub payload: &'a str,
}

/// Records facts in their order, in one statement. The same holds for it as for [`record`].
pub async fn record_all(
    db: &impl ConnectionTrait,
    now: i64,
    facts: &[NewFact<'_>],
) -> Result<(), StoreError> {
    notify_of(db, Moved::Fact).await?;
    in_order(db).await?;
    let columns = [
        ("n", "bigint"),
        ("name", "text"),
        ("subject", "text"),
        ("payload", "text"),
    ];
    let sql = format!(
        "INSERT INTO event (at, name, subject, payload) \
         SELECT $1, f.name, f.subject, f.payload FROM {} ORDER BY f.n",
        rows_in(db, 2, &columns)
    );
    execute(db, &sql, values![now, to_json("facts", facts)?]).await?;
    Ok(())
}

/// Makes what is written to a numbered table from here to the commit visible in the order of its numbers.
///
/// Everybody who writes to one waits for whoever is here, so it may say nothing for a shorter time than others: of a
/// process that is stopped each connection on its way here has its turn, one after the other.
pub(super) async fn in_order(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = format!(
            "SELECT pg_advisory_xact_lock($1), \
             set_config('idle_in_transaction_session_timeout', current_setting('{IN_ORDER_MS}'), TRUE)"
        );
        execute(db, &sql, values![4_178_i64]).await?;
    }
    Ok(())
}

/// Records a fact from outside and answers the runs that wait for it, one call each; says how many there were.
///
/// A run that begins to wait for it only later finds it then.
pub async fn emit(
    db: &impl ConnectionTrait,
    now: i64,
    name: &str,
    key: &str,
    payload: &Value,
) -> Result<u64, StoreError> {
    let answered = answer_waits(db, now, name, key, payload).await?;
    let seq = record(db, now, name, key, payload).await?;
    told(db, now, (seq, name, key), payload, answered).await
}

/// Answers the oldest call of each run that waits for a fact; the fact is to be recorded, and [`told`] called, later in
/// the transaction.
pub(super) async fn answer_waits(
    db: &impl ConnectionTrait,
    now: i64,
    name: &str,
    key: &str,
    payload: &Value,
) -> Result<Vec<event_wait::Model>, StoreError> {
    let sql = "SELECT * FROM event_wait WHERE name = $1 AND key = $2";
    let waits: Vec<event_wait::Model> = all(db, sql, values![name, key]).await?;
    let mut answered = Vec::new();
    for wait in oldest_of_each_run(waits) {
        let outcome = CallOutcome::Ok(payload.clone());
        if journal::answer(db, now, &wait.run_id, &wait.position, &outcome).await? {
            wait_no_more(db, &wait.run_id, &wait.position).await?;
            steps::wake(db, now, &wait.run_id, steps::ADVANCE).await?;
            answered.push(wait);
        }
    }
    Ok(answered)
}

/// A fact is told to a run once, so of several calls that wait for it the first has it.
fn oldest_of_each_run(waits: Vec<event_wait::Model>) -> Vec<event_wait::Model> {
    let place = |wait: &event_wait::Model| wait.position.parse::<Position>().ok();
    let mut oldest: BTreeMap<String, event_wait::Model> = BTreeMap::new();
    for wait in waits {
        match oldest.get(&wait.run_id) {
            Some(known) if place(known) <= place(&wait) => {}
            _ => {
                oldest.insert(wait.run_id.clone(), wait);
            }
        }
    }
    oldest.into_values().collect()
}

/// Notes a recorded fact as one that runs may wait for, and which of them have had it; says how many those are.
///
/// From the moment a fact is numbered, on Postgres, nobody else begins to wait until this transaction ends. A run that
/// began to wait between the answers and that moment is answered here.
pub(super) async fn told(
    db: &impl ConnectionTrait,
    now: i64,
    (seq, name, key): (i64, &str, &str),
    payload: &Value,
    mut answered: Vec<event_wait::Model>,
) -> Result<u64, StoreError> {
    let sql = "INSERT INTO signal (seq, name, key) VALUES ($1, $2, $3)";
    execute(db, sql, values![seq, name, key]).await?;
    for wait in &answered {
        take(db, seq, &wait.run_id, &wait.position).await?;
    }
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT * FROM event_wait w WHERE w.name = $1 AND w.key = $2 \
                   AND NOT EXISTS (SELECT 1 FROM signal_taken t JOIN run r ON r.id = w.run_id \
                   WHERE t.seq = $3 AND t.mailbox = COALESCE(r.mailbox, r.id))";
        let late: Vec<event_wait::Model> = all(db, sql, values![name, key, seq]).await?;
        for wait in oldest_of_each_run(late) {
            if hand_over(db, now, seq, payload, (&wait.run_id, &wait.position)).await? {
                answered.push(wait);
            }
        }
    }
    Ok(answered.len() as u64)
}

/// Answers a call that has begun to wait with a fact from before, if its run has not had it; the first it has not had.
///
/// To be called after the transaction has recorded a fact, so that none is recorded meanwhile.
pub async fn take_early(
    db: &impl ConnectionTrait,
    now: i64,
    run: &run::Model,
    (position, name, key): (&str, &str, &str),
) -> Result<bool, StoreError> {
    let sql = "SELECT e.* FROM signal s JOIN event e ON e.seq = s.seq \
               WHERE s.name = $1 AND s.key = $2 AND s.seq > $3 AND NOT EXISTS \
               (SELECT 1 FROM signal_taken t WHERE t.mailbox = $4 AND t.seq = s.seq) \
               ORDER BY s.seq LIMIT 1";
    let values = values![name, key, run.events_after, run.mailbox()];
    let found: Vec<event::Model> = all(db, sql, values).await?;
    let Some(fact) = found.into_iter().next() else {
        return Ok(false);
    };
    let payload: Value = from_json("event", &fact.payload)?;
    hand_over(db, now, fact.seq, &payload, (&run.id, position)).await
}

async fn hand_over(
    db: &impl ConnectionTrait,
    now: i64,
    seq: i64,
    payload: &Value,
    (run, position): (&str, &str),
) -> Result<bool, StoreError> {
    let outcome = CallOutcome::Ok(payload.clone());
    if !journal::answer(db, now, run, position, &outcome).await? {
        return Ok(false);
    }
    take(db, seq, run, position).await?;
    wait_no_more(db, run, position).await?;
    steps::wake(db, now, run, steps::ADVANCE).await?;
    Ok(true)
}

/// Notes that a run has had a fact, and at which call.
async fn take(
    db: &impl ConnectionTrait,
    seq: i64,
    run: &str,
    position: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO signal_taken (mailbox, seq, run_id, position) \
               SELECT COALESCE(mailbox, id), $2, id, $3 FROM run WHERE id = $1 \
               ON CONFLICT (mailbox, seq) DO NOTHING";
    execute(db, sql, values![run, seq, position]).await?;
    Ok(())
}

/// Notes that a call waits for a fact; noting it again changes nothing.
pub async fn wait_for(
    db: &impl ConnectionTrait,
    run: &str,
    position: &str,
    name: &str,
    key: &str,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO event_wait (run_id, position, name, key) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (run_id, position) DO NOTHING";
    execute(db, sql, values![run, position, name, key]).await?;
    Ok(())
}

/// Forgets that a call waits for a fact.
pub async fn wait_no_more(
    db: &impl ConnectionTrait,
    run: &str,
    position: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM event_wait WHERE run_id = $1 AND position = $2";
    execute(db, sql, values![run, position]).await?;
    Ok(())
}

/// Facts after a number, in order.
pub async fn after(
    db: &impl ConnectionTrait,
    seq: i64,
    limit: u64,
) -> Result<Vec<event::Model>, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};
    Ok(event::Entity::find()
        .filter(event::Column::Seq.gt(seq))
        .order_by_asc(event::Column::Seq)
        .limit(limit)
        .all(db)
        .await?)
}

/// Which facts are listed; what is absent is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventFilter<'a> {
    /// Of this sort.
    pub name: Option<&'a str>,
    /// About this.
    pub subject: Option<&'a str>,
}

/// Of some sort or about something, the facts after a number, in order, and the number up to which was looked.
///
/// Facts about one thing are found by their index. A sort has none, which every recorded fact would pay for: of a rare
/// one only so many numbers are looked at, and the list goes on from there.
pub async fn matching(
    db: &impl ConnectionTrait,
    only: EventFilter<'_>,
    after: i64,
    limit: u64,
) -> Result<(Vec<event::Model>, i64), StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};
    let mut find = event::Entity::find()
        .filter(event::Column::Seq.gt(after))
        .order_by_asc(event::Column::Seq)
        .limit(limit);
    let mut looked_at = None;
    if let Some(subject) = only.subject {
        find = find.filter(event::Column::Subject.eq(subject));
    } else if only.name.is_some() {
        let upto = latest(db).await?.min(after.saturating_add(LOOKED_AT));
        find = find.filter(event::Column::Seq.lte(upto));
        looked_at = Some(upto.max(after));
    }
    if let Some(name) = only.name {
        find = find.filter(event::Column::Name.eq(name));
    }
    let rows = find.all(db).await?;
    let last = rows.last().map_or(after, |row| row.seq);
    let is_full = rows.len() as u64 == limit;
    Ok((rows, looked_at.filter(|_| !is_full).unwrap_or(last)))
}

/// How many numbers are looked at for facts of a sort.
const LOOKED_AT: i64 = 20_000;

/// The number of the latest fact, 0 before the first.
pub async fn latest(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let seq = number(db, "SELECT MAX(seq) AS n FROM event", values![]).await?;
    Ok(seq.unwrap_or(0))
}
