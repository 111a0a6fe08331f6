//! The kill switch is asked wherever a run begins or is taken up again, and what waits for it goes on, on both databases.

use serde_json::{Value, json};
use workflows::model::Timestamp;
use workflows::run::why::{Standing, WaitsFor, why};
use workflows::steps::{Registry, Wait};

use super::workers::tests::{
    Build, Double, Working, context, count, ended, result, until, work_with,
};
use crate::queue::{self, Claimed};
use crate::store::database::to_json;
use crate::store::journal::{self, NewEntry};
use crate::store::restarts::{self, Restart};
use crate::store::runs::{self, run};
use crate::store::scripts::Scripts;
use crate::store::steps::{self, NewStep};
use crate::store::{self, StoreError, children, dead_letters, guards, standing};
use crate::testing::{Fresh, on_both};

on_both!(
    what_came_to_nothing_is_not_begun_again,
    a_run_that_diverged_stays_where_it_is,
    a_child_begins_once_the_switch_is_off,
    a_run_continues_once_the_switch_is_off,
    a_run_held_back_can_be_cancelled,
    a_switch_turned_off_while_a_step_is_left_to_wait_is_not_missed,
);

fn working(f: &Fresh) -> Working {
    let mut context = context(f);
    let registry = Registry::default().register(workflows::steps::Run);
    context.registry = std::sync::Arc::new(registry.register(Build).register(Double));
    work_with(context)
}

async fn turn(f: &Fresh, reason: Option<&str>) {
    let tx = store::begin(&f.db.write).await.unwrap();
    guards::set_kill_switch(&tx, f.now(), "olga", reason)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    match answer {
        Err(StoreError::Refused {
            code: "kill_switch_on",
            message,
        }) => assert!(message.contains("olga") && message.contains("a fire")),
        other => panic!("{other:?}"),
    }
}

async fn restart(f: &Fresh, id: &str) -> Result<run::Model, StoreError> {
    let how = Restart {
        from: None,
        revision: None,
        actor: "op",
    };
    let tx = store::begin(&f.db.write).await?;
    let made = restarts::restart(&tx, f.now(), id, &how).await?;
    tx.commit().await?;
    Ok(made)
}

async fn redrive(f: &Fresh, step: &str) -> Result<String, StoreError> {
    let tx = store::begin(&f.db.write).await?;
    let made = dead_letters::redrive(&tx, f.now(), "op", step).await?;
    tx.commit().await?;
    Ok(made)
}

async fn what_came_to_nothing_is_not_begun_again(f: Fresh) {
    let working = working(&f);
    let source = r#"fn run(event) { step("double", #{ n: -1 }) }"#;
    let id = f.start(source, Value::Null).await;
    assert_eq!(ended(&f, &id).await.state, "failed");
    let page = store::Page::ALL;
    let dead = dead_letters::list(&f.db.read, dead_letters::DeadLetters::default(), page).await;
    let dead = dead.unwrap().remove(0).step.id;
    turn(&f, Some("a fire")).await;
    refused(restart(&f, &id).await);
    refused(redrive(&f, &dead).await);
    assert_eq!(count(&f, "run").await, 1);
    turn(&f, None).await;
    let again = redrive(&f, &dead).await.unwrap();
    turn(&f, Some("a fire")).await;
    assert_eq!(
        redrive(&f, &dead).await.unwrap(),
        again,
        "it was begun before"
    );
    refused(restart(&f, &id).await);
    turn(&f, None).await;
    restart(&f, &id).await.unwrap();
    assert_eq!(count(&f, "run").await, 3);
    working.stop().await;
}

async fn a_run_that_diverged_stays_where_it_is(f: Fresh) {
    let id = f.start("fn run(event) { 1 }", Value::Null).await;
    let run = runs::get(&f.db.read, &id).await.unwrap();
    runs::diverge(&f.db.write, f.now(), &id, &json!({}))
        .await
        .unwrap();
    turn(&f, Some("a fire")).await;
    let pin = async || runs::pin(&f.db.write, f.now(), "op", &id, &run.revision).await;
    refused(pin().await);
    assert_eq!(runs::get(&f.db.read, &id).await.unwrap().state, "diverged");
    turn(&f, None).await;
    pin().await.unwrap();
}

async fn serve(f: &Fresh, name: &str, source: &str) {
    let db = &f.db.write;
    let stored = Scripts::Workflows.activate(db, f.now(), name, source).await;
    stored.unwrap();
}

/// The row at this position once it waits for the switch.
async fn held_back(f: &Fresh, id: &str, position: &str) -> steps::step::Model {
    until(|| async {
        let row = steps::at(&f.db.read, id, position).await.ok()?;
        let waits = row.is_parked() && row.waiting_for.as_deref()?.contains("kill_switch");
        waits.then_some(row)
    })
    .await
}

async fn a_child_begins_once_the_switch_is_off(f: Fresh) {
    serve(&f, "child", "fn run(event) { 7 }").await;
    let source = r#"fn run(event) { step("run", #{ workflow: "child" }).result }"#;
    let id = f.start(source, Value::Null).await;
    turn(&f, Some("a fire")).await;
    let working = working(&f);
    held_back(&f, &id, "1").await;
    assert_eq!(children::of(&f.db.read, &id).await.unwrap(), []);
    let open = standing::open_calls(&f.db.read, f.now(), &id)
        .await
        .unwrap();
    let found = why(&open[0], Timestamp(f.now()));
    assert_eq!(found.waits_for, WaitsFor::KillSwitch);
    assert_eq!(found.released_by, ["operator"]);
    assert!(
        found.reason.starts_with("olga stopped all new runs"),
        "{found:?}"
    );
    turn(&f, None).await;
    working.queue.notify_local();
    assert_eq!(result(&ended(&f, &id).await), json!(7));
    assert_eq!(children::of(&f.db.read, &id).await.unwrap().len(), 1);
    working.stop().await;
}

async fn a_run_continues_once_the_switch_is_off(f: Fresh) {
    let source = r#"fn run(event) {
        let n = step("double", #{ n: 4 }).n;
        if event.n == 2 { return n; }
        continue_as_new(#{ n: event.n + 1 });
    }"#;
    let id = f.start(source, json!({ "n": 1 })).await;
    turn(&f, Some("a fire")).await;
    let working = working(&f);
    let row = held_back(&f, &id, steps::ADVANCE).await;
    let run = runs::get(&f.db.read, &id).await.unwrap();
    assert_eq!(run.state, "waiting");
    assert_eq!(count(&f, "run").await, 1);
    let now = standing::step_now(&f.db.read, f.now(), &row).await.unwrap();
    assert!(
        matches!(&now.standing, Standing::KillSwitch(on) if on.reason == "a fire"),
        "{now:?}"
    );
    turn(&f, None).await;
    working.queue.notify_local();
    let next = until(|| async { runs::continued_as(&f.db.read, &id).await.unwrap() }).await;
    assert_eq!(result(&ended(&f, &next).await), json!(8));
    assert_eq!(runs::get(&f.db.read, &id).await.unwrap().state, "continued");
    working.stop().await;
}

async fn a_run_held_back_can_be_cancelled(f: Fresh) {
    let source = r#"fn run(event) { step("double", #{ n: 4 }); continue_as_new(event); }"#;
    let id = f.start(source, json!({ "n": 1 })).await;
    turn(&f, Some("a fire")).await;
    let working = working(&f);
    held_back(&f, &id, steps::ADVANCE).await;
    let tx = store::begin(&f.db.write).await.unwrap();
    runs::request_cancel(&tx, f.now(), "op", &id, false)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    working.queue.notify_local();
    assert_eq!(ended(&f, &id).await.state, "cancelled");
    turn(&f, None).await;
    assert_eq!(count(&f, "run").await, 1);
    working.stop().await;
}

async fn taken(f: &Fresh, run: &str) -> Claimed {
    let db = &f.db.write;
    let entry = NewEntry {
        position: "1",
        kind: "run",
        input: &Value::Null,
        input_digest: "",
        line: None,
        due: None,
        undo: false,
        outcome: None,
    };
    journal::append(db, f.now(), run, &[entry]).await.unwrap();
    let new = NewStep {
        run,
        position: "1",
        kind: "run",
        queue: "io",
        priority: 0,
        max_attempts: 3,
        backoff_ms: 1_000,
        deadline: None,
        input: "null",
        concurrency_key: None,
        concurrency_limit: 1,
        idempotency_key: None,
        lease: None,
    };
    steps::insert(db, f.now(), &new).await.unwrap();
    let mut got = queue::claim(db, f.now(), "w", "io", 10_000, 1)
        .await
        .unwrap();
    got.pop().unwrap()
}

async fn a_switch_turned_off_while_a_step_is_left_to_wait_is_not_missed(f: Fresh) {
    let id = f.start("fn run(event) { }", Value::Null).await;
    let claimed = taken(&f, &id).await;
    turn(&f, Some("a fire")).await;
    let f = std::sync::Arc::new(f);
    let tx = store::begin(&f.db.write).await.unwrap();
    assert!(guards::stays_stopped(&tx).await.unwrap());
    let g = f.clone();
    let mut turning = tokio::spawn(async move { turn(&g, None).await });
    // Time for it to come through, if nothing holds it.
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut turning).await;
    assert!(early.is_err(), "it waits for what is left to wait");
    let wait = to_json("wait", &Wait::KillSwitch).unwrap();
    queue::park(&tx, f.now(), &claimed, &wait).await.unwrap();
    tx.commit().await.unwrap();
    turning.await.unwrap();
    let row = steps::at(&f.db.read, &id, "1").await.unwrap();
    assert!(!row.is_parked() && row.waiting_for.is_none(), "{row:?}");
    assert!(!guards::stays_stopped(&f.db.write).await.unwrap());
}
