//! What ends faster than it is recorded does not pile up in a process. On Postgres: on SQLite who records also claims.

use std::time::Duration;

use serde_json::json;

use tokio::sync::oneshot;

use super::run_workers;
use super::workers::tests::{context, count, until};
use crate::store::database::execute;
use crate::store::journal::{self, NewEntry};
use crate::store::steps::{self, NewStep};
use crate::store::{begin, values};
use crate::testing::Fresh;

const STEPS: usize = 900;
const HANDS: usize = 8;

async fn queue_steps(f: &Fresh) {
    let run = f.start("fn run(event) { 1 }", json!(null)).await;
    let positions: Vec<String> = (1..=STEPS).map(|n| n.to_string()).collect();
    let input = json!([1]);
    let entries = positions.iter().map(|position| NewEntry {
        position,
        kind: "large",
        input: &input,
        input_digest: "",
        line: None,
        due: None,
        outcome: None,
        undo: false,
    });
    let entries: Vec<NewEntry<'_>> = entries.collect();
    journal::append(&f.db.write, f.now(), &run, &entries)
        .await
        .unwrap();
    let steps = positions.iter().map(|position| NewStep {
        kind: "large",
        input: "[1]",
        ..NewStep::plain(&run, position)
    });
    let steps: Vec<NewStep<'_>> = steps.collect();
    steps::insert_all(&f.db.write, f.now(), &steps)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Postgres"]
async fn while_nothing_can_be_recorded_no_more_is_claimed() {
    let f = Fresh::postgres().await;
    queue_steps(&f).await;
    // Somebody has the order of facts to themselves, and does not let go.
    let order = begin(&f.db.write).await.unwrap();
    let sql = "SELECT set_config('idle_in_transaction_session_timeout', '0', TRUE), \
               pg_advisory_xact_lock($1)";
    execute(&order, sql, values![4_178_i64]).await.unwrap();
    let mut context = context(&f);
    context.hands.insert("io".to_owned(), HANDS);
    let (stop, stopped) = oneshot::channel::<()>();
    let working = tokio::spawn(async move {
        let stopped = async move {
            let _ = stopped.await;
        };
        // Nobody goes on with the run, whose script knows nothing of these steps.
        run_workers(context, &["io".to_owned()], stopped).await
    });

    let leased = || count(&f, "step WHERE state = 'leased' AND queue = 'io'");
    let (mut before, mut calm) = (0, 0);
    while calm < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = leased().await;
        calm = if now == before && now > 0 {
            calm + 1
        } else {
            0
        };
        before = now;
    }
    let most = i64::try_from(512 + HANDS).unwrap();
    assert!((1..=most).contains(&before), "{before} steps are leased");

    order.rollback().await.unwrap();
    let done = "step WHERE state = 'done' AND queue = 'io'";
    let all = i64::try_from(STEPS).unwrap();
    until(|| async { (count(&f, done).await == all).then_some(()) }).await;
    drop(stop);
    working.await.unwrap().unwrap();
}
