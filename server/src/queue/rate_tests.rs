//! No span of a rate's time has one start too many, whatever the schedule; on both databases.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use workflows::run::why::Standing;
use workflows::run::{CallOutcome, Rate};
use workflows::steps::StepError;

use super::{Claimed, claim_keyed, complete, expire, fail, park, release};
use crate::store::database::execute;
use crate::store::journal::{self, NewEntry};
use crate::store::restarts::{self, Restart};
use crate::store::steps::{self, NewStep};
use crate::store::{begin, rates, runs, standing};
use crate::testing::{Fresh, on_both};

on_both!(
    no_span_has_more_starts_than_the_rate_and_none_waits_in_vain,
    processes_that_claim_at_once_share_a_rate,
    a_step_that_goes_on_after_a_wait_is_not_started_anew,
    what_a_rate_holds_up_holds_up_nobody_else,
    why_says_when_its_turn_comes,
    a_run_begun_again_keeps_the_rate_of_what_it_asks_again,
    more_wait_than_are_looked_at_and_the_first_start,
);

const LEASE: i64 = 1_000_000;

#[derive(Clone, Copy)]
struct New<'a> {
    position: &'a str,
    priority: i64,
    rate: Option<(&'a str, Rate)>,
    concurrency: Option<(&'a str, i64)>,
}

async fn step(f: &Fresh, run: &str, new: New<'_>) {
    let position = new.position;
    let entry = NewEntry {
        position,
        kind: "echo",
        input: &Value::Null,
        input_digest: "",
        line: None,
        due: None,
        undo: false,
        outcome: None,
    };
    let row = NewStep {
        run,
        position,
        kind: "echo",
        queue: "io",
        priority: new.priority,
        max_attempts: 5,
        backoff_ms: 1_000,
        deadline: None,
        input: "null",
        concurrency_key: new.concurrency.map(|(key, _)| key),
        concurrency_limit: new.concurrency.map_or(1, |(_, limit)| limit),
        idempotency_key: None,
        lease: None,
    };
    let tx = begin(&f.db.write).await.unwrap();
    journal::append(&tx, f.now(), run, &[entry]).await.unwrap();
    steps::insert(&tx, f.now(), &row).await.unwrap();
    if let Some((key, rate)) = new.rate {
        rates::set(&tx, (run, position), key, rate).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn rated(f: &Fresh, run: &str, position: &str, key: &str, rate: Rate) {
    let new = New {
        position,
        priority: 0,
        rate: Some((key, rate)),
        concurrency: None,
    };
    step(f, run, new).await;
}

async fn claim(f: &Fresh, limit: usize) -> Vec<Claimed> {
    let claimed = claim_keyed(&f.db.write, f.now(), "w", "io", LEASE, limit).await;
    claimed.unwrap()
}

fn broken() -> StepError {
    StepError::unavailable("broken", "it broke")
}

fn positions(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|c| c.0.position.as_str()).collect()
}

const TWO_A_MINUTE: Rate = Rate {
    limit: 2,
    period_ms: 60_000,
};

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = (self.0)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

async fn no_span_has_more_starts_than_the_rate_and_none_waits_in_vain(f: Fresh) {
    for seed in 0..3 {
        let mut chance = Chance(seed);
        let run = f.start("fn run(event) { }", Value::Null).await;
        let rates: BTreeMap<&str, Rate> = ["a", "b", "c"]
            .into_iter()
            .map(|key| {
                let rate = Rate {
                    limit: 1 + chance.below(4) as u32,
                    period_ms: 1_000 * (1 + chance.below(60) as i64),
                };
                (key, rate)
            })
            .collect();
        let keys: Vec<&str> = rates.keys().copied().collect();
        let mut starts: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        let mut key_of = BTreeMap::new();
        let mut ready: BTreeSet<String> = BTreeSet::new();
        let mut in_hand: Vec<Claimed> = Vec::new();
        for turn in 0..120 {
            f.advance(chance.below(15_000) as i64);
            if turn < 60 {
                let (position, key) = (turn.to_string(), keys[chance.below(3) as usize]);
                let concurrency = match chance.below(3) {
                    0 => Some(("press", 3)),
                    _ => None,
                };
                let new = New {
                    position: &position,
                    priority: chance.below(3) as i64,
                    rate: Some((key, rates[key])),
                    concurrency,
                };
                step(&f, &run, new).await;
                key_of.insert(position.clone(), (key, concurrency.is_some()));
                ready.insert(position);
            }
            let limit = 1 + chance.below(6) as usize;
            let claimed = claim(&f, limit).await;
            for Claimed(step) in &claimed {
                let (key, _) = key_of[&step.position];
                starts.entry(key).or_default().push(f.now());
                assert!(ready.remove(&step.position), "{seed}: {step:?}");
            }
            // Where the rate of a key lets go, nothing of it is left behind that only it could hold up.
            if claimed.len() < limit {
                for position in &ready {
                    let (key, is_shared) = key_of[position];
                    let rate = rates[key];
                    let live = starts.get(key).into_iter().flatten();
                    let live = live.filter(|at| **at > f.now() - rate.period_ms).count();
                    let row = steps::at(&f.db.read, &run, position).await.unwrap();
                    let is_due = row.run_at <= f.now() && !is_shared;
                    assert!(!is_due || live >= rate.limit as usize, "{seed}: {position}");
                }
            }
            in_hand.extend(claimed);
            // Some end, some fail and are tried again: each try is a start.
            while !in_hand.is_empty() && chance.below(3) > 0 {
                let step = in_hand.remove(chance.below(in_hand.len() as u64) as usize);
                let tx = begin(&f.db.write).await.unwrap();
                if step.0.attempt < 4 && chance.below(3) == 0 {
                    fail(&tx, f.now(), &step, &broken()).await.unwrap();
                    ready.insert(step.0.position.clone());
                } else {
                    let outcome = CallOutcome::Ok(json!(1));
                    complete(&tx, f.now(), &step, &outcome).await.unwrap();
                }
                tx.commit().await.unwrap();
            }
        }
        for (key, starts) in &starts {
            let rate = rates[key];
            for (n, from) in starts.iter().enumerate() {
                let end = from + rate.period_ms;
                let within = starts[n..].iter().filter(|at| **at < end).count();
                assert!(
                    within <= rate.limit as usize,
                    "{seed}: `{key}` from {from}: {starts:?}"
                );
            }
        }
        let sql = "UPDATE step SET state = 'cancelled'";
        execute(&f.db.write, sql, vec![]).await.unwrap();
        execute(&f.db.write, "DELETE FROM step_start", vec![])
            .await
            .unwrap();
    }
}

async fn processes_that_claim_at_once_share_a_rate(f: Fresh) {
    let run = f.start("fn run(event) { }", Value::Null).await;
    for n in 1..=9 {
        rated(&f, &run, &n.to_string(), "mail", TWO_A_MINUTE).await;
        f.advance(1);
    }
    let mut claiming = Vec::new();
    for n in 0..6 {
        let (db, now) = (f.db.write.clone(), f.now());
        claiming.push(tokio::spawn(async move {
            let owner = format!("w{n}");
            claim_keyed(&db, now, &owner, "io", LEASE, 5).await.unwrap()
        }));
    }
    let mut started = Vec::new();
    for task in claiming {
        started.extend(task.await.unwrap());
    }
    started.sort_by(|a, b| a.0.position.cmp(&b.0.position));
    assert_eq!(positions(&started), ["1", "2"]);
    let plain = super::claim(&f.db.write, f.now(), "w", "io", LEASE, 5).await;
    assert_eq!(plain.unwrap(), [], "no other claim takes them");
    f.advance(TWO_A_MINUTE.period_ms - 1);
    assert_eq!(claim(&f, 5).await, []);
    f.advance(1);
    assert_eq!(positions(&claim(&f, 5).await), ["3", "4"]);
    assert_eq!(claim(&f, 5).await, []);
}

async fn a_step_that_goes_on_after_a_wait_is_not_started_anew(f: Fresh) {
    let run = f.start("fn run(event) { }", Value::Null).await;
    let rate = Rate {
        limit: 1,
        period_ms: 60_000,
    };
    rated(&f, &run, "1", "mail", rate).await;
    f.advance(1);
    rated(&f, &run, "2", "mail", rate).await;
    let first = claim(&f, 5).await;
    let tx = begin(&f.db.write).await.unwrap();
    park(&tx, f.now(), &first[0], r#"{"build":"b"}"#)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    steps::wake(&f.db.write, f.now(), &run, "1").await.unwrap();
    let again = claim(&f, 5).await;
    assert_eq!(
        positions(&again),
        ["1"],
        "it was started before, the other is not"
    );
    // One whose worker vanished is tried again, and that is a start.
    let tx = begin(&f.db.write).await.unwrap();
    fail(&tx, f.now(), &again[0], &broken()).await.unwrap();
    tx.commit().await.unwrap();
    f.advance(30_000);
    assert_eq!(claim(&f, 5).await, []);
    f.advance(30_000);
    let next = claim(&f, 5).await;
    assert_eq!(positions(&next), ["2"]);
    // Given back unbegun it waits like any other: whoever claimed it may have begun.
    release(&f.db.write, &next).await.unwrap();
    assert_eq!(claim(&f, 5).await, []);
    f.advance(60_000);
    assert_eq!(claim(&f, 1).await.len(), 1);
    f.advance(LEASE);
    let tx = begin(&f.db.write).await.unwrap();
    expire(&tx, f.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claim(&f, 5).await.len(), 1);
}

async fn what_a_rate_holds_up_holds_up_nobody_else(f: Fresh) {
    let run = f.start("fn run(event) { }", Value::Null).await;
    let press = Some(("press", 1));
    for position in ["1", "2", "3"] {
        let new = New {
            position,
            priority: 5,
            rate: Some(("mail", TWO_A_MINUTE)),
            concurrency: press,
        };
        step(&f, &run, new).await;
        f.advance(1);
    }
    let unrated = New {
        position: "4",
        priority: 0,
        rate: None,
        concurrency: press,
    };
    step(&f, &run, unrated).await;
    for expected in ["1", "2", "4"] {
        let claimed = claim(&f, 5).await;
        assert_eq!(
            positions(&claimed),
            [expected],
            "one at a time, and the rate is used up after two"
        );
        let tx = begin(&f.db.write).await.unwrap();
        let outcome = CallOutcome::Ok(json!(1));
        complete(&tx, f.now(), &claimed[0], &outcome).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(claim(&f, 5).await, []);
}

async fn why_says_when_its_turn_comes(f: Fresh) {
    let run = f.start("fn run(event) { }", Value::Null).await;
    let began = f.now();
    for n in 1..=2 {
        rated(&f, &run, &n.to_string(), "mail", TWO_A_MINUTE).await;
        assert_eq!(claim(&f, 1).await.len(), 1);
        f.advance(10_000);
    }
    for n in 3..=7 {
        rated(&f, &run, &n.to_string(), "mail", TWO_A_MINUTE).await;
        f.advance(1);
    }
    let calls = standing::open_calls(&f.db.read, f.now(), &run)
        .await
        .unwrap();
    let mut turns = Vec::new();
    for call in &calls[2..] {
        let standing = &call.step.as_ref().unwrap().standing;
        let Standing::Rated { key, until, rate } = standing else {
            panic!("{standing:?}");
        };
        assert_eq!((key.as_str(), *rate), ("mail", TWO_A_MINUTE));
        turns.push(until.0 - began);
    }
    assert_eq!(turns, [60_000, 70_000, 120_000, 130_000, 180_000]);
    // As told, so it comes.
    for (n, turn) in turns.iter().enumerate() {
        f.advance(began + turn - f.now());
        let claimed = claim(&f, 5).await;
        assert_eq!(positions(&claimed), [(n + 3).to_string()]);
    }
}

async fn a_run_begun_again_keeps_the_rate_of_what_it_asks_again(f: Fresh) {
    let run = f.start("fn run(event) { }", Value::Null).await;
    rated(&f, &run, "1", "mail", TWO_A_MINUTE).await;
    // The script has passed the first: it is asked again with the answer of the second.
    let unrated = New {
        position: "2",
        priority: 0,
        rate: None,
        concurrency: None,
    };
    step(&f, &run, unrated).await;
    let second = super::claim(&f.db.write, f.now(), "w", "io", LEASE, 5).await;
    let tx = begin(&f.db.write).await.unwrap();
    let outcome = CallOutcome::Ok(json!(1));
    complete(&tx, f.now(), &second.unwrap()[0], &outcome)
        .await
        .unwrap();
    runs::request_cancel(&tx, f.now(), "ada", &run, true)
        .await
        .unwrap();
    let how = Restart {
        from: None,
        revision: None,
        actor: "ada",
    };
    let again = restarts::restart(&tx, f.now(), &run, &how).await.unwrap();
    tx.commit().await.unwrap();
    let old = steps::at(&f.db.read, &run, "1").await.unwrap();
    let new = steps::at(&f.db.read, &again.id, "1").await.unwrap();
    assert_eq!(new.rate_key.as_deref(), Some("mail"));
    assert_eq!(
        (new.rate_limit, new.rate_period_ms),
        (old.rate_limit, old.rate_period_ms)
    );
}

async fn more_wait_than_are_looked_at_and_the_first_start(f: Fresh) {
    let run = f.start("fn run(event) { }", Value::Null).await;
    let rate = Rate {
        limit: 120,
        period_ms: 60_000,
    };
    for n in 1..=130 {
        rated(&f, &run, &n.to_string(), "mail", rate).await;
        f.advance(1);
    }
    let mut started = claim(&f, 200).await;
    assert!(!started.is_empty());
    for _ in 0..3 {
        started.extend(claim(&f, 200).await);
    }
    let expected: Vec<String> = (1..=120).map(|n| n.to_string()).collect();
    assert_eq!(positions(&started), expected);
}
