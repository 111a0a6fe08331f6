//! The queue's SQL beside the pure machine that states what it does: whatever happens, both come to the same.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use workflows::run::CallOutcome;
use workflows::run::step_machine::{Refusal, StepEffect, StepEvent, StepState, StepStatus, apply};
use workflows::steps::StepError;

use super::{
    Advance, Claimed, Finisher, Heartbeat, LeaseSettings, advance, claim, complete, expire, fail,
    park, release,
};
use crate::store::database::{FAR, number};
use crate::store::journal::{self, NewEntry};
use crate::store::runs::RunEnd;
use crate::store::steps::{self, NewStep, step};
use crate::store::{StoreError, begin, dead_letters, runs, values};
use crate::testing::{Fresh, on_both};

on_both!(the_queue_does_what_the_machine_says);

const LEASE_MS: i64 = 10_000;
const WORKERS: usize = 3;

/// What is done to the queue. A worker repeats the claim it had last, whether that is still good or not.
#[derive(Debug, Clone, Copy)]
enum Act {
    Claim(usize),
    Renew(usize),
    Complete(usize, Door),
    Fail(usize, bool),
    Park(usize),
    Suspend(usize, Option<i64>),
    Release(usize),
    Expire,
    Wake,
    Cancel,
    TimeOut,
    Redrive,
    Pass(i64),
}

/// The two ways an ending is recorded.
#[derive(Debug, Clone, Copy)]
enum Door {
    Alone,
    Together,
}

fn act() -> impl Strategy<Value = Act> {
    let worker = 0..WORKERS;
    let door = prop_oneof![Just(Door::Alone), Just(Door::Together)];
    prop_oneof![
        6 => worker.clone().prop_map(Act::Claim),
        2 => worker.clone().prop_map(Act::Renew),
        1 => (worker.clone(), door).prop_map(|(w, door)| Act::Complete(w, door)),
        3 => (worker.clone(), any::<bool>()).prop_map(|(w, helps)| Act::Fail(w, helps)),
        2 => worker.clone().prop_map(Act::Park),
        1 => (worker.clone(), proptest::option::of(1_i64..20_000))
            .prop_map(|(w, due)| Act::Suspend(w, due)),
        1 => worker.prop_map(Act::Release),
        3 => Just(Act::Expire),
        2 => Just(Act::Wake),
        1 => prop_oneof![5 => Just(Act::TimeOut), 1 => Just(Act::Cancel)],
        2 => Just(Act::Redrive),
        4 => prop_oneof![1_i64..3_000, Just(LEASE_MS)].prop_map(Act::Pass),
    ]
}

/// One row of the queue and what the machine says of it.
struct Row {
    run: String,
    id: String,
    said: StepState,
    /// How often the machine said that its end is to be recorded.
    recorded: i64,
}

struct Case<'a> {
    f: &'a Fresh,
    queue: String,
    max_attempts: u32,
    finisher: Finisher,
    /// The step, and after it what it was begun again as.
    rows: Vec<Row>,
    /// The last claim of each worker, and the row it is of.
    workers: [Option<(usize, Claimed)>; WORKERS],
}

impl<'a> Case<'a> {
    async fn new(f: &'a Fresh, queue: String, max_attempts: u32) -> Self {
        let mut case = Self {
            f,
            queue,
            max_attempts,
            finisher: Finisher::start(&f.queue()),
            rows: Vec::new(),
            workers: Default::default(),
        };
        let run = f.start("fn run(event) { }", Value::Null).await;
        case.ask(run).await;
        case
    }

    /// Asks a run's one step, as its script would.
    async fn ask(&mut self, run: String) {
        let (db, now) = (&self.f.db.write, self.f.now());
        let entry = NewEntry {
            position: "1",
            kind: "echo",
            input: &Value::Null,
            input_digest: "",
            line: None,
            due: None,
            undo: false,
            outcome: None,
        };
        journal::append(db, now, &run, &[entry]).await.unwrap();
        let new = NewStep {
            run: &run,
            position: "1",
            kind: "echo",
            queue: &self.queue,
            priority: 0,
            max_attempts: i64::from(self.max_attempts),
            backoff_ms: 1_000,
            deadline: None,
            input: "null",
            concurrency_key: None,
            concurrency_limit: 1,
            idempotency_key: None,
            lease: None,
        };
        steps::insert(db, now, &new).await.unwrap();
        let id = steps::at(db, &run, "1").await.unwrap().id;
        self.rows.push(Row {
            run,
            id,
            said: StepState::new(now, self.max_attempts),
            recorded: 0,
        });
    }

    /// What the machine says to an event about a row, which is kept.
    fn say(&mut self, row: usize, event: &StepEvent) -> Result<Option<StepEffect>, Refusal> {
        let row = &mut self.rows[row];
        let (next, effect) = apply(&row.said, event)?;
        row.said = next;
        row.recorded += i64::from(matches!(
            effect,
            Some(
                StepEffect::RecordOutput | StepEffect::RecordFailure | StepEffect::RecordExhausted
            )
        ));
        Ok(effect)
    }

    async fn happen(&mut self, act: Act) {
        let (db, now) = (&self.f.db.write, self.f.now());
        let last = self.rows.len() - 1;
        let run = self.rows[last].run.clone();
        match act {
            Act::Pass(ms) => self.f.advance(ms),
            Act::Claim(worker) => {
                let until = now + LEASE_MS;
                let said = self.say(last, &StepEvent::Claim { now, until });
                let owner = format!("w{worker}");
                let got = claim(db, now, &owner, &self.queue, LEASE_MS, 5).await;
                let mut got = got.unwrap();
                assert_eq!(got.len(), usize::from(said.is_ok()));
                if let Some(claimed) = got.pop() {
                    let fence = u64::try_from(claimed.0.fence).unwrap();
                    assert_eq!(said, Ok(Some(StepEffect::Grant { fence })));
                    self.workers[worker] = Some((last, claimed));
                }
            }
            Act::Expire => {
                let said = self.say(last, &StepEvent::Expire { now });
                let tx = begin(db).await.unwrap();
                let done = expire(&tx, now).await.unwrap();
                tx.commit().await.unwrap();
                let gone = said == Ok(Some(StepEffect::RecordExhausted));
                let again = said == Ok(Some(StepEffect::Offer));
                assert_eq!(done, (usize::from(again), usize::from(gone)));
            }
            Act::Wake => {
                let _ = self.say(last, &StepEvent::Wake { now });
                steps::wake(db, now, &run, "1").await.unwrap();
            }
            Act::Cancel => {
                let _ = self.say(last, &StepEvent::Cancel);
                steps::cancel_rest(db, now, &run).await.unwrap();
            }
            Act::TimeOut => {
                let said = self.say(last, &StepEvent::TimeOut);
                let done = steps::expire(db, now, &run, "1", "timeout").await.unwrap();
                assert_eq!(done, said.is_ok());
            }
            Act::Redrive => self.redrive(last).await,
            Act::Renew(w)
            | Act::Complete(w, _)
            | Act::Fail(w, _)
            | Act::Park(w)
            | Act::Suspend(w, _)
            | Act::Release(w) => {
                if let Some((row, claimed)) = self.workers[w].clone() {
                    self.word(act, row, &claimed).await;
                }
            }
        }
    }

    /// A word of a holder, or of who was one.
    async fn word(&mut self, act: Act, row: usize, claimed: &Claimed) {
        let (f, now) = (self.f, self.f.now());
        let fence = u64::try_from(claimed.0.fence).unwrap();
        let wakes = u64::try_from(claimed.0.wakes).unwrap();
        let until = now + LEASE_MS;
        let again_at = Some(now + claimed.0.retry_delay_ms());
        let event = match act {
            Act::Renew(_) => StepEvent::Renew { fence, until },
            Act::Complete(..) => StepEvent::Complete { fence },
            Act::Fail(_, helps) => StepEvent::Fail {
                fence,
                again_at: again_at.filter(|_| helps),
            },
            Act::Park(_) => StepEvent::Park { fence, now, wakes },
            Act::Suspend(_, due) => StepEvent::Suspend {
                fence,
                now,
                wakes,
                due: due.map(|ms| now + ms),
            },
            _ => StepEvent::Release { fence },
        };
        let said = self.say(row, &event);
        let done = match act {
            Act::Renew(_) => {
                let clock = f.clock.clone();
                let clock = move || clock.load(std::sync::atomic::Ordering::SeqCst);
                let settings = LeaseSettings {
                    step_lease_ms: LEASE_MS,
                    ..LeaseSettings::default()
                };
                let heart = Heartbeat::new(f.db.clone(), std::sync::Arc::new(clock), settings);
                let held = heart.hold(claimed);
                heart.beat().await.unwrap();
                let stopped = held.should_stop() && !claimed.0.cancel_requested;
                assert_eq!(stopped, said.is_err(), "its holder hears of the loss");
                return;
            }
            Act::Release(_) => {
                // Whoever gives back what it has not is told nothing, and changes nothing.
                let given = std::slice::from_ref(claimed);
                return release(&f.db.write, given).await.unwrap();
            }
            Act::Complete(_, Door::Together) => {
                let outcome = CallOutcome::Ok(json!(1));
                let handed_in = self.finisher.hand_in(claimed.clone(), outcome).await;
                handed_in.unwrap().recorded().await
            }
            _ => alone(f, act, claimed, now).await,
        };
        match (said, done) {
            (Ok(_), Ok(())) => {}
            (Err(Refusal::Stale), Err(StoreError::Stale { .. })) => {}
            other => panic!("{act:?}: {other:?}"),
        }
    }

    /// Begins the run of a failed step again from it, as somebody may once its failure has ended the run.
    async fn redrive(&mut self, row: usize) {
        let (db, now) = (&self.f.db.write, self.f.now());
        let (id, run) = (self.rows[row].id.clone(), self.rows[row].run.clone());
        let said = self.say(row, &StepEvent::Redrive);
        let tx = begin(db).await.unwrap();
        if said.is_ok() {
            let failure = RunEnd::Failed(json!({ "code": "c", "message": "m", "position": "1" }));
            runs::end(&tx, now, &run, &failure).await.unwrap();
        }
        let done = dead_letters::redrive(&tx, now, "op", &id).await;
        assert_eq!(done.is_ok(), said.is_ok(), "{done:?}");
        let Ok(again) = done else { return };
        let twice = dead_letters::redrive(&tx, now, "op", &id).await;
        assert_eq!(twice.unwrap(), again, "it is begun again once");
        tx.commit().await.unwrap();
        self.ask(again).await;
    }

    /// Whether every row is as the machine says.
    async fn compare(&self, act: Act) {
        let db = &self.f.db.write;
        for row in &self.rows {
            let found = step::Entity::find_by_id(row.id.clone()).one(db).await;
            let found = found.unwrap().unwrap();
            let redriven = row.said.redriven;
            assert_eq!(
                state_of(&found, redriven),
                row.said,
                "after {act:?}: {found:?}"
            );
            let sql = "SELECT COUNT(*) AS n FROM event WHERE subject = $1 \
                       AND name IN ('step.done', 'step.failed')";
            let told = number(db, sql, values![row.id.as_str()]).await.unwrap();
            assert_eq!(told, Some(row.recorded), "after {act:?}");
            let sql = "SELECT COUNT(*) AS n FROM journal WHERE run_id = $1 AND outcome IS NOT NULL";
            let answered = number(db, sql, values![row.run.as_str()]).await.unwrap();
            assert_eq!(answered, Some(row.recorded), "after {act:?}");
        }
    }
}

async fn alone(f: &Fresh, act: Act, claimed: &Claimed, now: i64) -> Result<(), StoreError> {
    let tx = begin(&f.db.write).await?;
    match act {
        Act::Complete(..) => complete(&tx, now, claimed, &CallOutcome::Ok(json!(1))).await?,
        Act::Fail(_, true) => {
            fail(&tx, now, claimed, &StepError::unavailable("busy", "later")).await?;
        }
        Act::Fail(..) => {
            fail(&tx, now, claimed, &StepError::failed("no", "never")).await?;
        }
        Act::Park(_) => park(&tx, now, claimed, r#"{"for":"build","id":"b"}"#).await?,
        Act::Suspend(_, due) => {
            let due = due.map(|ms| now + ms);
            advance(&tx, now, claimed, Advance::Until(due)).await?;
        }
        other => panic!("{other:?} is no ending"),
    }
    tx.commit().await?;
    Ok(())
}

fn state_of(row: &step::Model, redriven: bool) -> StepState {
    StepState {
        status: match row.state.as_str() {
            "ready" => StepStatus::Ready,
            "leased" => StepStatus::Leased,
            "done" => StepStatus::Done,
            "failed" => StepStatus::Failed,
            "cancelled" => StepStatus::Cancelled,
            other => panic!("a step is `{other}`"),
        },
        attempt: u32::try_from(row.attempt).unwrap(),
        max_attempts: u32::try_from(row.max_attempts).unwrap(),
        fence: u64::try_from(row.fence).unwrap(),
        due: (row.run_at < FAR).then_some(row.run_at),
        lease_until: row.lease_until,
        wakes: u64::try_from(row.wakes).unwrap(),
        redriven,
    }
}

async fn the_queue_does_what_the_machine_says(f: Fresh) {
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let acts = (1_u32..4, proptest::collection::vec(act(), 1..50));
    let here = tokio::runtime::Handle::current();
    let number = std::cell::Cell::new(0);
    let met = tokio::task::block_in_place(|| {
        runner.run(&acts, |(max_attempts, acts)| {
            number.set(number.get() + 1);
            let queue = format!("q{}", number.get());
            here.block_on(async {
                let mut case = Case::new(&f, queue, max_attempts).await;
                for act in acts {
                    case.happen(act).await;
                    case.compare(act).await;
                }
                // What is left over is nobody's in the cases that follow.
                for row in &case.rows {
                    let now = f.now();
                    steps::cancel_rest(&f.db.write, now, &row.run)
                        .await
                        .unwrap();
                }
            });
            Ok(())
        })
    });
    met.unwrap();
}
