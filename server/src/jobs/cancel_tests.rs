//! Runs that somebody stops, played by real workers on both databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use workflows::host::Host;
use workflows::steps::{Outcome, Registry, Step, StepError};

use super::workers::tests::{Working, context, count, ended, until, work_on, work_with};
use crate::store::runs::run;
use crate::store::{self, StoreError, journal, runs, steps};
use crate::testing::{Fresh, on_both};

on_both!(
    a_cancelled_run_is_undone_in_reverse_order,
    a_cancel_reaches_a_running_step_through_its_heartbeat,
    a_forced_cancel_ends_at_once_and_undoes_nothing,
    a_run_that_diverged_is_cancelled_at_once,
    a_cancelled_run_forgets_whom_it_waited_for,
);

/// Works until it is asked to stop, and counts how often it was.
struct Endless {
    begun: Arc<AtomicU32>,
    stopped: Arc<AtomicU32>,
}

impl Step for Endless {
    const KIND: &'static str = "endless";
    type Input = Value;
    type Output = Value;

    fn run(&self, _: Value, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        while host.progress(0.5, "turning").is_continue() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stopped.fetch_add(1, Ordering::SeqCst);
        Err(StepError::Cancelled)
    }
}

/// Hands back what it got.
struct Say;

impl Step for Say {
    const KIND: &'static str = "say";
    type Input = Value;
    type Output = Value;

    fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
        match input["fail"].as_str() {
            Some(code) => Err(StepError::failed(code, "as it was told to")),
            None => Ok(Outcome::Done(input)),
        }
    }
}

fn working(f: &Fresh) -> (Working, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (begun, stopped) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let endless = Endless {
        begun: begun.clone(),
        stopped: stopped.clone(),
    };
    let mut context = context(f);
    context.registry = Arc::new(Registry::default().register(Say).register(endless));
    (work_with(context), begun, stopped)
}

async fn cancel(f: &Fresh, id: &str, force: bool) -> Result<(), StoreError> {
    let tx = store::begin(&f.db.write).await?;
    runs::request_cancel(&tx, f.now(), "op", id, force).await?;
    tx.commit().await?;
    Ok(())
}

fn failure(run: &run::Model) -> Value {
    assert_eq!(run.state, "cancelled", "{run:?}");
    serde_json::from_str(run.failure.as_deref().unwrap()).unwrap()
}

const UNDONE: &str = r#"fn run(event) {
    on_failure(|| step("say", #{ undo: "first" }));
    step("say", #{ n: 1 });
    on_failure(|| step("say", #{ fail: "too_late" }));
    on_failure(|| step("say", #{ undo: "last" }));
    try { step("endless", ()); } catch (e) { step("say", #{ caught: e.code }); }
    step("say", #{ n: 2 });
}"#;

async fn said(f: &Fresh, id: &str) -> Vec<Value> {
    let journal = journal::of_run(&f.db.read, id).await.unwrap();
    let said = journal.iter().filter(|e| e.kind == "say");
    said.map(|e| serde_json::from_str(&e.input).unwrap())
        .collect()
}

async fn a_cancelled_run_is_undone_in_reverse_order(f: Fresh) {
    let (working, begun, _) = working(&f);
    let id = f.start(UNDONE, Value::Null).await;
    until(|| async { (begun.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    cancel(&f, &id, false).await.unwrap();
    working.queue.notify_local();
    let run = ended(&f, &id).await;
    let failure = failure(&run);
    assert_eq!(failure["code"], "cancelled");
    assert_eq!(failure["not_undone"].as_array().unwrap().len(), 1);
    assert_eq!(failure["not_undone"][0]["code"], "too_late");
    let undone = [
        json!({ "n": 1 }),
        json!({ "undo": "last" }),
        json!({ "fail": "too_late" }),
        json!({ "undo": "first" }),
    ];
    assert_eq!(said(&f, &id).await, undone);
    working.stop().await;
    let rows = steps::of_run(&f.db.read, &id).await.unwrap();
    let mut states: Vec<&str> = rows.iter().map(|s| s.state.as_str()).collect();
    states.sort_unstable();
    assert_eq!(states, ["cancelled", "done", "done", "done", "failed"]);
    assert_eq!(count(&f, "event WHERE name = 'run.ended'").await, 1);
    assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
}

async fn a_cancel_reaches_a_running_step_through_its_heartbeat(f: Fresh) {
    let (working, begun, stopped) = working(&f);
    let id = f
        .start(r#"fn run(event) { step("endless", ()) }"#, Value::Null)
        .await;
    until(|| async { (begun.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    assert_eq!(stopped.load(Ordering::SeqCst), 0);
    cancel(&f, &id, false).await.unwrap();
    working.queue.notify_local();
    until(|| async { (stopped.load(Ordering::SeqCst) == 1).then_some(()) }).await;
    assert_eq!(failure(&ended(&f, &id).await)["not_undone"], json!([]));
    assert_eq!(begun.load(Ordering::SeqCst), 1, "it is not begun again");
    working.stop().await;
}

async fn a_forced_cancel_ends_at_once_and_undoes_nothing(f: Fresh) {
    // Nobody works: whatever happens, the request does itself.
    let id = f.start(UNDONE, Value::Null).await;
    cancel(&f, &id, false).await.unwrap();
    cancel(&f, &id, false).await.unwrap();
    let run = runs::get(&f.db.read, &id).await.unwrap();
    assert_eq!((run.ended_at, run.cancel_requested), (None, true));
    cancel(&f, &id, true).await.unwrap();
    let run = runs::get(&f.db.read, &id).await.unwrap();
    let message = failure(&run)["message"].clone();
    assert!(message.as_str().unwrap().contains("by force"), "{message}");
    let advance = steps::at(&f.db.read, &id, steps::ADVANCE).await.unwrap();
    assert_eq!(advance.state, "cancelled");
    let late = cancel(&f, &id, true).await;
    assert!(
        matches!(late, Err(StoreError::Refused { code, .. }) if code == "run_ended"),
        "{late:?}"
    );
    let working = work_on(&f);
    let after = f.start("fn run(event) { 1 }", Value::Null).await;
    ended(&f, &after).await;
    assert_eq!(said(&f, &id).await, Vec::<Value>::new());
    working.stop().await;
}

async fn a_run_that_diverged_is_cancelled_at_once(f: Fresh) {
    let id = f.start(UNDONE, Value::Null).await;
    let db = &f.db.write;
    runs::diverge(db, f.now(), &id, &json!({ "position": "1" }))
        .await
        .unwrap();
    cancel(&f, &id, false).await.unwrap();
    let run = runs::get(db, &id).await.unwrap();
    let message = failure(&run)["message"].clone();
    assert!(message.as_str().unwrap().contains("diverged"), "{message}");
}

async fn a_cancelled_run_forgets_whom_it_waited_for(f: Fresh) {
    let (working, ..) = working(&f);
    let source = r#"fn run(event) {
        on_failure(|| approval("operator", #{ undo: true }, "24h"));
        wait_event("never", "k", "24h");
    }"#;
    let id = f.start(source, Value::Null).await;
    until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
    cancel(&f, &id, false).await.unwrap();
    working.queue.notify_local();
    until(|| async { (count(&f, "approval WHERE state = 'open'").await == 1).then_some(()) }).await;
    assert_eq!(count(&f, "event_wait").await, 0);
    // What undoes waits like anything else, until somebody has had enough.
    cancel(&f, &id, true).await.unwrap();
    assert_eq!(count(&f, "approval WHERE state = 'withdrawn'").await, 1);
    assert_eq!(ended(&f, &id).await.state, "cancelled");
    working.stop().await;
}
