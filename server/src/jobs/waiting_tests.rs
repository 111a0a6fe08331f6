//! Steps that wait for what they began keep their key, and runs that wait for the artifacts lose nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use workflows::model::Timestamp;
use workflows::run::why::{WaitsFor, why};

use super::workers::tests::{
    complete_build, context, count, ended, result, until, work_on, work_with,
};
use crate::host::{ArtifactBytes, Trouble};
use crate::store::steps::{self, step};
use crate::store::{runs, standing};
use crate::testing::{Fresh, Kept, on_both};

on_both!(
    of_two_steps_with_a_concurrency_key_one_waits_for_its_build,
    two_steps_with_an_idempotency_key_have_one_build,
    a_run_waits_for_the_artifacts_as_long_as_they_are_away,
);

fn two_builds(option: &str) -> String {
    format!(
        r#"fn run(event) {{
            let two = [start("build", (), #{{ {option}: "press" }}), start("build", (), #{{ {option}: "press" }})];
            wait_all(two)
        }}"#
    )
}

async fn parked(f: &Fresh, id: &str) -> Vec<step::Model> {
    let steps = steps::of_run(&f.db.read, id).await.unwrap();
    steps.into_iter().filter(step::Model::is_parked).collect()
}

/// Waits until one of two steps is parked, and gives the position of the other, which the key holds up.
async fn held_up(f: &Fresh, id: &str) -> String {
    let first = until(|| async { parked(f, id).await.pop() }).await;
    // Whoever would take the other has had the time to.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(count(f, "build WHERE state <> 'ended'").await, 1);
    let steps = steps::of_run(&f.db.read, id).await.unwrap();
    let other = steps.into_iter().find(|step| step.id != first.id).unwrap();
    assert_eq!((&*other.state, other.attempt), ("ready", 0));
    other.position
}

async fn of_two_steps_with_a_concurrency_key_one_waits_for_its_build(f: Fresh) {
    let working = work_on(&f);
    let id = f.start(&two_builds("concurrency_key"), Value::Null).await;
    let other = held_up(&f, &id).await;
    let calls = standing::open_calls(&f.db.read, f.now(), &id)
        .await
        .unwrap();
    let told = calls.iter().map(|call| why(call, Timestamp(f.now())));
    let told: BTreeMap<String, WaitsFor> = told
        .map(|why| (why.position.to_string(), why.waits_for))
        .collect();
    assert_eq!(told[&other], WaitsFor::Key);
    assert!(told.values().any(|found| *found == WaitsFor::Cell));
    for made in 1..=2 {
        until(|| async { parked(&f, &id).await.pop() }).await;
        complete_build(&f).await;
        working.queue.notify_local();
        until(|| async { (count(&f, "build WHERE state = 'ended'").await == made).then_some(()) })
            .await;
        if made == 1 {
            until(|| async { (count(&f, "build").await == 2).then_some(()) }).await;
        }
    }
    let both = result(&ended(&f, &id).await);
    assert_eq!(both, json!(["sha256:5c", "sha256:5c"]));
    working.stop().await;
}

async fn two_steps_with_an_idempotency_key_have_one_build(f: Fresh) {
    let working = work_on(&f);
    let id = f.start(&two_builds("idempotency_key"), Value::Null).await;
    held_up(&f, &id).await;
    complete_build(&f).await;
    working.queue.notify_local();
    let both = result(&ended(&f, &id).await);
    assert_eq!(both, json!(["sha256:5c", "sha256:5c"]));
    assert_eq!(count(&f, "build").await, 1);
    working.stop().await;
}

/// Artifacts that are away until somebody brings them back.
#[derive(Default)]
struct Away {
    is_back: AtomicBool,
    kept: Kept,
}

impl ArtifactBytes for Away {
    fn put<'a>(&'a self, digest: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), Trouble>> {
        match self.is_back.load(Ordering::SeqCst) {
            true => self.kept.put(digest, bytes),
            false => Box::pin(async { Err("the bucket does not answer".into()) }),
        }
    }

    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Trouble>> {
        self.kept.get(digest)
    }
}

async fn a_run_waits_for_the_artifacts_as_long_as_they_are_away(f: Fresh) {
    let artifacts = Arc::new(Away::default());
    let mut context = context(&f);
    context.world.artifacts = artifacts.clone();
    let working = work_with(context);
    let source = r#"fn run(event) {
        let big = [];
        big.pad(9_000, 1.0 / 3.0);
        step("large", big)
    }"#;
    let id = f.start(source, Value::Null).await;
    // More often than a step is tried that ends its process.
    for n in 0..15 {
        let why = until(|| async {
            let advance = steps::at(&f.db.read, &id, steps::ADVANCE).await.unwrap();
            (advance.state == "ready" && advance.run_at > f.now()).then_some(advance.error)
        })
        .await;
        let why = why.unwrap_or_else(|| panic!("nothing is said the time {n}"));
        assert!(why.contains("the bucket does not answer"), "{why}");
        let run = runs::get(&f.db.read, &id).await.unwrap();
        assert_eq!(run.ended_at, None, "{run:?}");
        f.advance(1_001);
        working.queue.notify_local();
    }
    artifacts.is_back.store(true, Ordering::SeqCst);
    f.advance(1_001);
    assert_eq!(result(&ended(&f, &id).await), json!(9_000));
    working.stop().await;
}
