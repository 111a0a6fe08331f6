//! What is taken is never more than was asked for, whatever way the database chooses to ask; on both databases.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DbBackend};
use serde_json::{Value, json};

use super::database::{execute, number};
use super::leases::tests::{cell, order};
use super::leases::{self, Ask};
use super::steps::{self, NewStep};
use super::{begin, outbox};
use crate::queue::{Floor, claim_advances, claim_from};
use crate::testing::{Fresh, on_both};

on_both!(
    a_claim_takes_no_more_steps_than_there_are_hands,
    no_more_advances_are_claimed_than_there_are_hands,
    a_cell_is_given_one_build,
    no_more_messages_are_taken_than_are_delivered_at_once,
);

const LEASE: i64 = 10_000;

/// Has Postgres ask a query behind `IN` anew for each row, as it does of its own accord where it takes a table for small.
async fn asks_again_and_again(tx: &impl ConnectionTrait) {
    if tx.get_database_backend() == DbBackend::Postgres {
        let off = ["hashjoin", "mergejoin", "hashagg", "sort", "material"]
            .map(|name| format!("set_config('enable_{name}', 'off', TRUE)"));
        let sql = format!("SELECT {}", off.join(", "));
        execute(tx, &sql, vec![]).await.unwrap();
    }
}

async fn a_claim_takes_no_more_steps_than_there_are_hands(f: Fresh) {
    let run = f.start("fn run(event) { 1 }", json!(null)).await;
    for n in 1..=40 {
        let position = n.to_string();
        let step = NewStep::plain(&run, &position);
        steps::insert(&f.db.write, f.now(), &step).await.unwrap();
    }
    let tx = begin(&f.db.write).await.unwrap();
    asks_again_and_again(&tx).await;
    let floor = Floor::default();
    let claimed = claim_from(&tx, &floor, f.now(), "w", "io", LEASE, 5).await;
    assert_eq!(claimed.unwrap().len(), 5);
    tx.commit().await.unwrap();
    let sql = "SELECT COUNT(*) AS n FROM step WHERE state = 'leased'";
    assert_eq!(number(&f.db.write, sql, vec![]).await.unwrap(), Some(5));
}

async fn no_more_advances_are_claimed_than_there_are_hands(f: Fresh) {
    let mut runs = BTreeSet::new();
    for _ in 0..10 {
        runs.insert(f.start("fn run(event) { 1 }", json!(null)).await);
    }
    let runs: BTreeSet<&str> = runs.iter().map(String::as_str).collect();
    let tx = begin(&f.db.write).await.unwrap();
    asks_again_and_again(&tx).await;
    let claimed = claim_advances(&tx, f.now(), "w", LEASE, &runs, 3).await;
    assert_eq!(claimed.unwrap().len(), 3);
}

async fn a_cell_is_given_one_build(f: Fresh) {
    for _ in 0..4 {
        order(&f).await;
    }
    let epoch = cell(&f, "c1").await;
    let ask = Ask {
        cell: "c1",
        epoch,
        printers: &["prusa_mk4".to_owned()],
        materials: &["petg".to_owned()],
        key: None,
        ttl_ms: LEASE,
    };
    let tx = begin(&f.db.write).await.unwrap();
    asks_again_and_again(&tx).await;
    assert!(leases::claim(&tx, f.now(), &ask).await.unwrap().is_some());
    tx.commit().await.unwrap();
    let sql = "SELECT COUNT(*) AS n FROM build WHERE state = 'leased'";
    assert_eq!(number(&f.db.write, sql, vec![]).await.unwrap(), Some(1));
}

async fn no_more_messages_are_taken_than_are_delivered_at_once(f: Fresh) {
    let db = &f.db.write;
    for n in 0..6 {
        let id = format!("m{n}");
        outbox::put(db, f.now(), &id, "s", &Value::Null)
            .await
            .unwrap();
    }
    let tx = begin(db).await.unwrap();
    asks_again_and_again(&tx).await;
    let taken = outbox::take(&tx, f.now(), f.now() + LEASE, 2).await;
    assert_eq!(taken.unwrap().len(), 2);
}
