//! Recording many endings at once: what ends while a transaction commits is recorded by the next one, together.
//!
//! A commit costs a flush of the disk and the chain of audit has one end, so one transaction per step would make
//! every step of every process wait for all before it. Nothing is put off to fill a batch: a single ending is recorded
//! at once, and under load batches grow by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::warn;
use workflows::run::CallOutcome;

use crate::store::audit::NewDeed;
use crate::store::database::{Moved, all, execute, notify_of, rows_in, to_json};
use crate::store::events::NewFact;
use crate::store::steps::{RUNS, step};
use crate::store::{StoreError, audit, begin, events, queues, steps, values};

use super::claim::{Claimed, claim_advances};
use super::desk::PutBy;
use super::finish;
use super::listen::Queue;

/// How many endings one transaction records at most.
const BATCH: usize = 256;
/// How many endings of one process may be on their way to be recorded: one transaction's, and the next one's.
const UNRECORDED: usize = 2 * BATCH;

/// Records the endings of one process.
#[derive(Clone)]
pub struct Finisher {
    give: mpsc::Sender<Ended>,
    room: Arc<Semaphore>,
}

/// Room for one ending on its way to be recorded, until this is dropped.
pub struct Room(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

struct Ended {
    claimed: Claimed,
    outcome: CallOutcome,
    told: oneshot::Sender<Result<(), StoreError>>,
}

/// An ending that was handed in and is not recorded yet.
pub struct Recording(oneshot::Receiver<Result<(), StoreError>>);

impl Recording {
    /// Waits until it is recorded.
    ///
    /// # Errors
    ///
    /// `Stale` when the step has passed to somebody else; otherwise when the database does not answer.
    pub async fn recorded(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Finisher {
    /// Begins to record; it ends with the last copy of this.
    #[must_use]
    pub fn start(queue: &Queue) -> Self {
        let (give, take) = mpsc::channel(UNRECORDED);
        tokio::spawn(keep_recording(queue.clone(), take));
        let room = Arc::new(Semaphore::new(UNRECORDED));
        Self { give, room }
    }

    /// Waits for room. Whoever is about to have an ending recorded asks for it before the hand is free for other work:
    /// where steps end faster than they are recorded, they would pile up here without end.
    ///
    /// # Errors
    ///
    /// When nothing is recorded any more, as the process goes down.
    pub async fn room(&self) -> Result<Room, StoreError> {
        let room = self.room.clone().acquire_owned().await;
        room.map(Room).map_err(|_| gone())
    }

    /// Hands in the answer of a step that is over, be it an output or a failure.
    ///
    /// # Errors
    ///
    /// When nothing is recorded any more, as the process goes down.
    pub async fn hand_in(
        &self,
        claimed: Claimed,
        outcome: CallOutcome,
    ) -> Result<Recording, StoreError> {
        let (told, hear) = oneshot::channel();
        let ended = Ended {
            claimed,
            outcome,
            told,
        };
        self.give.send(ended).await.map_err(|_| gone())?;
        Ok(Recording(hear))
    }
}

fn gone() -> StoreError {
    StoreError::Database(DbErr::Custom("nothing is recorded any more".to_owned()))
}

async fn keep_recording(queue: Queue, mut take: mpsc::Receiver<Ended>) {
    let mut ended = Vec::with_capacity(BATCH);
    while take.recv_many(&mut ended, BATCH).await > 0 {
        let all: Vec<&Ended> = ended.iter().collect();
        let freed: BTreeSet<String> = keyed_queues(&all).into_iter().map(str::to_owned).collect();
        if record(&queue, &mut ended).await == Advances::Wait {
            queue.notify_local_of(Moved::Queue(RUNS));
        }
        for name in &freed {
            queue.notify_local_of(Moved::Queue(name));
        }
        queue.notify_local_of(Moved::Fact);
    }
}

/// What became of the runs whose steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advances {
    /// A hand here goes on with each.
    InHand,
    /// Some wait to be claimed.
    Wait,
}

async fn record(queue: &Queue, ended: &mut Vec<Ended>) -> Advances {
    match record_together(queue, ended).await {
        Ok((mut accepted, advances)) => {
            for Ended { claimed, told, .. } in ended.drain(..) {
                // Whoever asked may be gone; what is recorded stays recorded.
                let id = claimed.0.id.as_str();
                let mine = accepted.get(id) == Some(&claimed.0.fence);
                let _ = told.send(match mine {
                    // The same ending a second time is stale.
                    true => accepted
                        .remove(id)
                        .map(|_| ())
                        .ok_or_else(|| claimed.stale()),
                    false => Err(claimed.stale()),
                });
            }
            advances
        }
        Err(error) if ended.len() == 1 => {
            let told = ended.remove(0).told;
            let _ = told.send(Err(error));
            Advances::Wait
        }
        Err(error) => {
            let count = ended.len();
            warn!(
                error = &error as &dyn std::error::Error,
                count, "failed to record {count} endings together; recording them one by one"
            );
            record_one_by_one(queue, ended).await;
            Advances::Wait
        }
    }
}

/// What spoils a batch spoils only its own ending here.
async fn record_one_by_one(queue: &Queue, ended: &mut Vec<Ended>) {
    let mut out_of_reach = false;
    for Ended {
        claimed,
        outcome,
        told,
    } in ended.drain(..)
    {
        let recorded = match out_of_reach {
            // Each of them would wait for a connection in vain.
            true => Err(StoreError::Connect(sqlx::Error::PoolTimedOut)),
            false => record_alone(queue, &claimed, &outcome).await,
        };
        out_of_reach |= matches!(
            recorded,
            Err(StoreError::Connect(_) | StoreError::Database(DbErr::ConnectionAcquire(_)))
        );
        let _ = told.send(recorded);
    }
}

async fn record_alone(
    queue: &Queue,
    claimed: &Claimed,
    outcome: &CallOutcome,
) -> Result<(), StoreError> {
    let now = queue.now();
    let tx = begin(&queue.db().write).await?;
    match outcome {
        CallOutcome::Ok(_) => finish::complete(&tx, now, claimed, outcome).await?,
        CallOutcome::Err(failure) => {
            let held = finish::hold(&tx, claimed).await?;
            let (code, message) = (&failure.code, &failure.message);
            finish::end_failed(&tx, now, &held, code, message, failure.retryable).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Records all in one transaction, and claims the advances of their runs in it where a hand here is free; gives the
/// fences of the steps, by id, whose ending was accepted.
async fn record_together(
    queue: &Queue,
    ended: &[Ended],
) -> Result<(BTreeMap<String, i64>, Advances), StoreError> {
    let now = queue.now();
    let tx = begin(&queue.db().write).await?;
    by_index(&tx).await?;
    let accepted = end_steps(&tx, now, ended).await?;
    let mut kept: Vec<&Ended> = Vec::with_capacity(accepted.len());
    let mut seen = BTreeSet::new();
    for one in ended {
        let step = &one.claimed.0;
        if accepted.get(&step.id) == Some(&step.fence) && seen.insert(&step.id) {
            kept.push(one);
        }
    }
    if kept.is_empty() {
        tx.commit().await?;
        return Ok((accepted, Advances::InHand));
    }
    answer_calls(&tx, now, &kept).await?;
    for name in keyed_queues(&kept) {
        notify_of(&tx, Moved::Queue(name)).await?;
    }
    let runs = kept.iter().map(|one| one.claimed.0.run_id.as_str());
    let runs: BTreeSet<&str> = runs.collect();
    steps::wake_runs(&tx, now, &runs).await?;
    let (hands, advances) = claim_woken(&tx, queue, now, &runs).await?;
    let left = match advances.len() < runs.len() {
        true => Advances::Wait,
        false => Advances::InHand,
    };
    if left == Advances::Wait {
        notify_of(&tx, Moved::Queue(RUNS)).await?;
    }
    tell(&tx, now, &kept).await?;
    tx.commit().await?;
    if let Some(hands) = hands {
        hands.hand_out(advances, |_| None).await;
    }
    Ok((accepted, left))
}

/// Has Postgres look for each row by its index. The plans of statements are kept, and one that was made while a table was
/// small would read all of it ever after.
async fn by_index(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT set_config('enable_hashjoin', 'off', TRUE), set_config('enable_mergejoin', 'off', TRUE), \
                   set_config('enable_seqscan', 'off', TRUE), set_config('enable_bitmapscan', 'off', TRUE)";
        execute(db, sql, values![]).await?;
    }
    Ok(())
}

/// Claims the advances of woken runs for the hands that are free here.
async fn claim_woken(
    db: &impl ConnectionTrait,
    queue: &Queue,
    now: i64,
    runs: &BTreeSet<&str>,
) -> Result<(Option<PutBy>, Vec<Claimed>), StoreError> {
    let Some(hands) = queue.put_by(RUNS, runs.len()) else {
        return Ok((None, Vec::new()));
    };
    let lease_ms = queue.settings().step_lease_ms;
    let advances = claim_advances(db, now, hands.owner(), lease_ms, runs, hands.count()).await?;
    Ok((Some(hands), advances))
}

/// The queues in which a concurrency key is free again.
fn keyed_queues<'a>(kept: &[&'a Ended]) -> BTreeSet<&'a str> {
    let steps = kept.iter().map(|one| &one.claimed.0);
    let keyed = steps.filter(|step| step.concurrency_key.is_some());
    keyed.map(|step| step.queue.as_str()).collect()
}

#[derive(sea_orm::FromQueryResult)]
struct Accepted {
    id: String,
    fence: i64,
}

/// Ends every step that is still its claimer's, taking the rows in one order like everybody who takes several.
async fn end_steps(
    db: &impl ConnectionTrait,
    now: i64,
    ended: &[Ended],
) -> Result<BTreeMap<String, i64>, StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        fence: i64,
        state: &'static str,
        error: Option<String>,
    }
    let rows: Vec<Row<'_>> = ended
        .iter()
        .map(|one| Row {
            id: &one.claimed.0.id,
            fence: one.claimed.0.fence,
            state: match one.outcome {
                CallOutcome::Ok(_) => "done",
                CallOutcome::Err(_) => "failed",
            },
            error: match &one.outcome {
                CallOutcome::Ok(_) => None,
                CallOutcome::Err(failure) => Some(format!("{}: {}", failure.code, failure.message)),
            },
        })
        .collect();
    let columns = [
        ("id", "text"),
        ("fence", "bigint"),
        ("state", "text"),
        ("error", "text"),
    ];
    let sql = format!(
        "WITH held AS (SELECT step.id AS id, step.fence AS fence, f.state AS state, f.error AS error \
         FROM step JOIN {} ON step.id = f.id AND step.fence = f.fence \
         WHERE step.state = 'leased' ORDER BY step.id {}) \
         UPDATE step SET state = held.state, error = held.error, waiting_for = NULL, \
         share_done = CASE WHEN held.state = 'done' THEN 1 ELSE step.share_done END, \
         lease_owner = NULL, lease_until = NULL, ended_at = $1 FROM held \
         WHERE step.id = held.id AND step.fence = held.fence AND step.state = 'leased' \
         RETURNING step.id AS id, step.fence AS fence",
        rows_in(db, 2, &columns),
        steps::of_step(db)
    );
    let values = values![now, to_json("endings", &rows)?];
    let accepted: Vec<Accepted> = all(db, &sql, values).await?;
    Ok(accepted
        .into_iter()
        .map(|row| (row.id, row.fence))
        .collect())
}

/// Answers the calls of the steps that ended. One that was answered before, or never made, spoils the transaction:
/// such a step is for [`record_alone`] to refuse.
async fn answer_calls(
    db: &impl ConnectionTrait,
    now: i64,
    kept: &[&Ended],
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Row<'a> {
        run: &'a str,
        position: &'a str,
        outcome: String,
    }
    let mut rows = Vec::with_capacity(kept.len());
    for one in kept {
        rows.push(Row {
            run: &one.claimed.0.run_id,
            position: &one.claimed.0.position,
            outcome: to_json("outcome", &one.outcome)?,
        });
    }
    let columns = [("run", "text"), ("position", "text"), ("outcome", "text")];
    let sql = format!(
        "UPDATE journal SET outcome = f.outcome, answered_at = $1 FROM {} \
         WHERE journal.run_id = f.run AND journal.position = f.position AND journal.outcome IS NULL",
        rows_in(db, 2, &columns)
    );
    let answered = execute(db, &sql, values![now, to_json("answers", &rows)?]).await?;
    if answered != kept.len() as u64 {
        return Err(kept[0].claimed.stale());
    }
    Ok(())
}

/// Records the facts and the audit, last, as what is numbered is written by one transaction after the other.
async fn tell(db: &impl ConnectionTrait, now: i64, kept: &[&Ended]) -> Result<(), StoreError> {
    let mut told = Vec::with_capacity(kept.len());
    for one in kept {
        let (name, more) = match &one.outcome {
            CallOutcome::Ok(_) => ("step.done", json!({})),
            CallOutcome::Err(failure) => (
                "step.failed",
                json!({ "code": failure.code, "message": failure.message }),
            ),
        };
        let detail = detail(&one.claimed.0, &more);
        told.push((one, name, to_json("event", &detail)?));
    }
    let facts = told
        .iter()
        .enumerate()
        .map(|(n, (one, name, text))| NewFact {
            n,
            name,
            subject: &one.claimed.0.id,
            payload: text,
        });
    events::record_all(db, now, &facts.collect::<Vec<_>>()).await?;
    let deeds = told.iter().map(|(one, verb, text)| NewDeed {
        actor: one.claimed.0.lease_owner.as_deref().unwrap_or("server"),
        verb,
        subject: &one.claimed.0.id,
        detail: text,
    });
    audit::record_all(db, now, &deeds.collect::<Vec<_>>()).await?;
    let mut ends: BTreeMap<&str, queues::Ends> = BTreeMap::new();
    for one in kept {
        let ends = ends.entry(&one.claimed.0.queue).or_default();
        match one.outcome {
            CallOutcome::Ok(_) => ends.done += 1,
            CallOutcome::Err(_) => ends.failed += 1,
        }
    }
    queues::count(db, now, &ends).await
}

/// What the fact and the audit of a step that ended say.
pub(super) fn detail(step: &step::Model, more: &Value) -> Value {
    json!({
        "run": step.run_id, "position": step.position, "kind": step.kind,
        "attempt": step.attempt, "fence": step.fence, "more": more,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use workflows::run::StepFailure;

    use super::*;
    use crate::queue::{claim, expire};
    use crate::store::database::number;
    use crate::store::journal::{self, NewEntry};
    use crate::store::steps::NewStep;
    use crate::testing::{Fresh, on_both};

    on_both!(
        many_endings_are_recorded_together,
        a_stale_ending_does_not_spoil_the_others,
        an_answered_call_does_not_spoil_the_others,
        the_same_ending_twice_is_accepted_once,
    );

    async fn claimed(f: &Fresh, run: &str, count: usize) -> Vec<Claimed> {
        let db = &f.db.write;
        let positions: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
        let entries: Vec<NewEntry<'_>> = positions
            .iter()
            .map(|position| NewEntry {
                position,
                kind: "echo",
                input: &Value::Null,
                input_digest: "",
                line: None,
                due: None,
                outcome: None,
                undo: false,
            })
            .collect();
        journal::append(db, f.now(), run, &entries).await.unwrap();
        let new: Vec<NewStep<'_>> = positions
            .iter()
            .map(|position| NewStep::plain(run, position))
            .collect();
        steps::insert_all(db, f.now(), &new).await.unwrap();
        let mut claimed = claim(db, f.now(), "w", "io", 10_000, count).await.unwrap();
        assert_eq!(claimed.len(), count);
        // Of the same moment any may come first.
        claimed.sort_by_key(|c| c.0.position.parse::<usize>().unwrap());
        claimed
    }

    fn handed_in(
        claimed: &[Claimed],
        outcome: impl Fn(&Claimed) -> CallOutcome,
    ) -> (Vec<Ended>, Vec<Recording>) {
        claimed
            .iter()
            .map(|claimed| {
                let (told, hear) = oneshot::channel();
                let outcome = outcome(claimed);
                let claimed = claimed.clone();
                let ended = Ended {
                    claimed,
                    outcome,
                    told,
                };
                (ended, Recording(hear))
            })
            .unzip()
    }

    fn ok(claimed: &Claimed) -> CallOutcome {
        CallOutcome::Ok(json!(claimed.0.position))
    }

    async fn count(f: &Fresh, what: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) AS n FROM {what}");
        number(&f.db.read, &sql, values![]).await.unwrap().unwrap()
    }

    async fn results(recordings: Vec<Recording>) -> Vec<bool> {
        let mut results = Vec::new();
        for recording in recordings {
            match recording.recorded().await {
                Ok(()) => results.push(true),
                Err(StoreError::Stale { .. }) => results.push(false),
                Err(error) => panic!("{error}"),
            }
        }
        results
    }

    async fn many_endings_are_recorded_together(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let claimed = claimed(&f, &run, 40).await;
        let (mut ended, heard) = handed_in(&claimed, |claimed| match claimed.0.position.as_str() {
            "7" => CallOutcome::Err(StepFailure {
                kind: "echo".into(),
                code: "broken".into(),
                message: "it's \"broken\"\n".into(),
                retryable: false,
                position: None,
            }),
            _ => ok(claimed),
        });
        record(&f.queue(), &mut ended).await;
        assert_eq!(results(heard).await, vec![true; 40]);
        assert_eq!(count(&f, "step WHERE state = 'done'").await, 39);
        assert_eq!(
            count(
                &f,
                "step WHERE state = 'failed' AND error LIKE 'broken: it%'"
            )
            .await,
            1
        );
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 39);
        assert_eq!(count(&f, "event WHERE name = 'step.failed'").await, 1);
        assert_eq!(count(&f, "audit WHERE actor = 'w'").await, 40);
        assert_eq!(audit::first_broken(&f.db.read).await.unwrap(), None);
        let journal = journal::of_run(&f.db.read, &run).await.unwrap();
        for (n, entry) in journal.iter().enumerate() {
            let outcome: CallOutcome =
                serde_json::from_str(entry.outcome.as_deref().unwrap()).unwrap();
            match outcome {
                CallOutcome::Ok(value) => assert_eq!(value, json!((n + 1).to_string())),
                CallOutcome::Err(failure) => assert_eq!((n, &*failure.code), (6, "broken")),
            }
        }
        let row = steps::at(&f.db.read, &run, steps::ADVANCE).await.unwrap();
        assert_eq!(row.wakes, 1, "the run is woken once");
    }

    async fn a_stale_ending_does_not_spoil_the_others(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let old = claimed(&f, &run, 5).await;
        f.advance(10_000);
        let db = &f.db.write;
        expire(db, f.now()).await.unwrap();
        let again = claim(db, f.now(), "v", "io", 10_000, 3).await.unwrap();
        assert_eq!(again.len(), 3);
        let both: Vec<Claimed> = old.iter().chain(&again).cloned().collect();
        let (mut ended, heard) = handed_in(&both, ok);
        record(&f.queue(), &mut ended).await;
        let expected = [false, false, false, false, false, true, true, true];
        assert_eq!(results(heard).await, expected);
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 3);
        assert_eq!(count(&f, "audit WHERE actor = 'v'").await, 3);
        assert_eq!(count(&f, "journal WHERE outcome IS NOT NULL").await, 3);
        assert_eq!(
            count(&f, "step WHERE state = 'ready' AND position <> '@'").await,
            2
        );
    }

    async fn an_answered_call_does_not_spoil_the_others(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let claimed = claimed(&f, &run, 4).await;
        let timed_out = CallOutcome::Ok(json!("too late"));
        let answered = journal::answer(&f.db.write, f.now(), &run, "2", &timed_out).await;
        assert!(answered.unwrap());
        let (mut ended, heard) = handed_in(&claimed, ok);
        record(&f.queue(), &mut ended).await;
        assert_eq!(results(heard).await, [true, false, true, true]);
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 3);
        assert_eq!(count(&f, "step WHERE state = 'leased'").await, 1);
        assert_eq!(audit::first_broken(&f.db.read).await.unwrap(), None);
    }

    async fn the_same_ending_twice_is_accepted_once(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let claimed = claimed(&f, &run, 1).await;
        let twice = [claimed[0].clone(), claimed[0].clone()];
        let (mut ended, heard) = handed_in(&twice, ok);
        record(&f.queue(), &mut ended).await;
        assert_eq!(results(heard).await, [true, false]);
        let finisher = Finisher::start(&f.queue());
        let late = finisher
            .hand_in(claimed[0].clone(), ok(&claimed[0]))
            .await
            .unwrap();
        assert!(matches!(
            late.recorded().await,
            Err(StoreError::Stale { .. })
        ));
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 1);
    }
}
