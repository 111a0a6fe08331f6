//! Runs that have runs done, continue as new ones and hear of events early and late, on both databases.

use serde_json::{Value, json};
use workflows::steps::Registry;

use super::workers::tests::{
    Build, Double, Working, context, count, ended, result, until, waiting, work_with,
};
use crate::store::runs::run;
use crate::store::scripts::Scripts;
use crate::store::{self, children, events, runs, values};
use crate::testing::{Fresh, on_both};

on_both!(
    a_run_has_another_done_and_gets_its_result,
    a_child_that_fails_is_told_to_its_parent,
    a_cancelled_parent_stops_its_children,
    a_run_that_fails_calls_off_its_build_and_its_child,
    children_go_only_so_deep,
    a_run_continues_as_new_and_keeps_its_place,
    a_run_that_is_cancelled_does_not_go_on,
    an_event_told_early_is_found_once,
    an_event_told_late_answers_nothing_until_somebody_waits_again,
    one_event_answers_one_call_of_a_run,
    an_event_told_while_a_run_begins_to_wait_is_not_lost,
);

fn working(f: &Fresh) -> Working {
    let mut context = context(f);
    let registry = Registry::default().register(workflows::steps::Run);
    context.registry = std::sync::Arc::new(registry.register(Build).register(Double));
    work_with(context)
}

async fn serve(f: &Fresh, name: &str, source: &str) {
    let db = &f.db.write;
    let stored = Scripts::Workflows.activate(db, f.now(), name, source).await;
    stored.unwrap();
}

async fn tell(f: &Fresh, key: &str, payload: Value) -> u64 {
    let tx = store::begin(&f.db.write).await.unwrap();
    let told = events::emit(&tx, f.now(), "plate", key, &payload).await;
    tx.commit().await.unwrap();
    told.unwrap()
}

async fn child_of(f: &Fresh, id: &str) -> run::Model {
    until(|| async { children::of(&f.db.read, id).await.unwrap().pop() }).await
}

fn failure(run: &run::Model) -> Value {
    serde_json::from_str(run.failure.as_deref().unwrap()).unwrap()
}

async fn a_run_has_another_done_and_gets_its_result(f: Fresh) {
    serve(
        &f,
        "child",
        r#"fn run(event) { #{ n: step("double", #{ n: event.n }).n, luck: random() } }"#,
    )
    .await;
    let working = working(&f);
    let source = r#"fn run(event) {
        let both = wait_all([
            start("run", #{ workflow: "child", event: #{ n: 1 } }),
            start("run", #{ workflow: "child", event: #{ n: 2 } }),
        ]);
        [both[0].result.n, both[1].result.n, both[0].result.luck == both[1].result.luck]
    }"#;
    let id = f.start(source, Value::Null).await;
    let run = ended(&f, &id).await;
    assert_eq!(
        result(&run),
        json!([2, 4, false]),
        "each child has chance of its own"
    );
    let children = children::of(&f.db.read, &id).await.unwrap();
    assert_eq!(children.len(), 2);
    assert!(
        children
            .iter()
            .all(|c| c.depth == 1 && c.state == "succeeded")
    );
    let unknown = f
        .start(
            r#"fn run(event) { step("run", #{ workflow: "nobody" }) }"#,
            Value::Null,
        )
        .await;
    assert_eq!(
        failure(&ended(&f, &unknown).await)["code"],
        "unknown_workflow"
    );
    working.stop().await;
    assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
}

async fn a_child_that_fails_is_told_to_its_parent(f: Fresh) {
    serve(
        &f,
        "child",
        r#"fn run(event) { step("double", #{ n: -1 }) }"#,
    )
    .await;
    let working = working(&f);
    let source = r#"fn run(event) {
        try { step("run", #{ workflow: "child" }) } catch (e) { return `${e.code}: ${e.message}`; }
    }"#;
    let id = f.start(source, Value::Null).await;
    let told = result(&ended(&f, &id).await);
    let told = told.as_str().unwrap();
    assert!(
        told.starts_with("negative: run `") && told.contains("of `child`"),
        "{told}"
    );
    working.stop().await;
}

async fn a_cancelled_parent_stops_its_children(f: Fresh) {
    serve(
        &f,
        "child",
        r#"fn run(event) {
            on_failure(|| step("double", #{ n: 21 }));
            wait_event("never", "k", "24h");
        }"#,
    )
    .await;
    let working = working(&f);
    let source = r#"fn run(event) {
        on_failure(|| step("double", #{ n: 4 }));
        try { step("run", #{ workflow: "child" }) } catch (e) { step("double", #{ n: 1 }); }
    }"#;
    let id = f.start(source, Value::Null).await;
    let child = child_of(&f, &id).await.id;
    until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
    let tx = store::begin(&f.db.write).await.unwrap();
    runs::request_cancel(&tx, f.now(), "op", &id, false)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    working.queue.notify_local();
    assert_eq!(ended(&f, &id).await.state, "cancelled");
    assert_eq!(ended(&f, &child).await.state, "cancelled");
    assert_eq!(
        count(&f, "journal WHERE undo AND outcome IS NOT NULL").await,
        2
    );
    // And the other way round: a child that somebody stops is a failure of the step that had it done.
    let id = f.start(source, json!({ "again": true })).await;
    let child = child_of(&f, &id).await.id;
    until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
    let tx = store::begin(&f.db.write).await.unwrap();
    runs::request_cancel(&tx, f.now(), "op", &child, true)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    working.queue.notify_local();
    assert_eq!(ended(&f, &id).await.state, "succeeded");
    working.stop().await;
}

async fn a_run_that_fails_calls_off_its_build_and_its_child(f: Fresh) {
    let child = r#"fn run(event) {
        on_failure(|| step("double", #{ n: 21 }));
        wait_event("never", "k", "24h");
    }"#;
    serve(&f, "child", child).await;
    let working = working(&f);
    let source = r#"fn run(event) {
        on_failure(|| step("double", #{ n: 4 }));
        start("build", ());
        start("run", #{ workflow: "child" });
        wait_event("plate", "k", "24h");
        fail("enough", "nobody wants it any more");
    }"#;
    let id = f.start(source, Value::Null).await;
    let child = child_of(&f, &id).await.id;
    until(|| async { (count(&f, "build WHERE state = 'waiting'").await == 1).then_some(()) }).await;
    until(|| async { (count(&f, "event_wait").await == 2).then_some(()) }).await;
    tell(&f, "k", Value::Null).await;
    working.queue.notify_local();

    let failed = ended(&f, &id).await;
    assert_eq!(failed.state, "failed");
    assert_eq!(failure(&failed)["code"], "enough");
    assert_eq!(ended(&f, &child).await.state, "cancelled");
    assert_eq!(count(&f, "build WHERE state = 'ended'").await, 1);
    let called_off = "journal WHERE kind IN ('build', 'run') AND outcome LIKE '%called_off%'";
    assert_eq!(count(&f, called_off).await, 2);
    let undone = "journal WHERE undo AND outcome IS NOT NULL";
    assert_eq!(
        count(&f, undone).await,
        2,
        "its own closure and the child's"
    );
    assert_eq!(
        count(&f, "step WHERE state IN ('ready', 'leased')").await,
        0
    );
    working.stop().await;
    assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
}

async fn children_go_only_so_deep(f: Fresh) {
    let source = r#"fn run(event) { step("run", #{ workflow: "test" }) }"#;
    let working = working(&f);
    let id = f.start(source, Value::Null).await;
    let failure = failure(&ended(&f, &id).await);
    assert_eq!(failure["code"], "too_deep");
    assert_eq!(count(&f, "run").await, children::MAX_DEPTH + 1);
    working.stop().await;
}

async fn a_run_continues_as_new_and_keeps_its_place(f: Fresh) {
    serve(
        &f,
        "loop",
        r#"fn run(event) {
            let n = event.n;
            let told = wait_event("plate", "k", "24h");
            if n < 3 { continue_as_new(#{ n: n + 1 }); }
            told.said
        }"#,
    )
    .await;
    let working = working(&f);
    let source = r#"fn run(event) { step("run", #{ workflow: "loop", event: #{ n: 1 } }).result }"#;
    let id = f.start(source, Value::Null).await;
    until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
    // Told at once, while only the first run is there: each of the chain has one, in order.
    for said in ["a", "b", "c", "d"] {
        tell(&f, "k", json!({ "said": said })).await;
    }
    working.queue.notify_local();
    assert_eq!(result(&ended(&f, &id).await), json!("c"));
    let chain = children::of(&f.db.read, &id).await.unwrap();
    assert_eq!(chain.len(), 3);
    let continued: Vec<&run::Model> = chain.iter().filter(|r| r.state == "continued").collect();
    assert_eq!(continued.len(), 2);
    for old in continued {
        assert!(
            runs::continued_as(&f.db.read, &old.id)
                .await
                .unwrap()
                .is_some()
        );
    }
    assert_eq!(count(&f, "signal_taken").await, 3);
    working.stop().await;
}

async fn a_run_that_is_cancelled_does_not_go_on(f: Fresh) {
    let working = working(&f);
    let source = r#"fn run(event) { sleep("1h"); continue_as_new(event); }"#;
    let id = f.start(source, json!({ "n": 1 })).await;
    waiting(&f, &id).await;
    let tx = store::begin(&f.db.write).await.unwrap();
    runs::request_cancel(&tx, f.now(), "op", &id, false)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    f.advance(3_600_001);
    working.queue.notify_local();
    assert_eq!(ended(&f, &id).await.state, "cancelled");
    assert_eq!(count(&f, "run").await, 1);
    working.stop().await;
}

async fn an_event_told_early_is_found_once(f: Fresh) {
    tell(&f, "k", json!({ "said": "before it began" })).await;
    let source = r#"fn run(event) {
        approval("operator", (), "24h");
        let first = wait_event("plate", "k", "1h").said;
        let second = wait_event("plate", "k", "1h").said;
        let third = try_again();
        [first, second, third]
    }
    fn try_again() { try { return wait_event("plate", "k", "1h").said; } catch (e) { return e.code; } }"#;
    let working = working(&f);
    let id = f.start(source, Value::Null).await;
    let asked = until(|| async {
        let page = store::Page::ALL;
        let open = store::approvals::list(&f.db.read, Some("open"), page).await;
        open.unwrap().pop()
    })
    .await;
    for said in ["one", "two"] {
        assert_eq!(
            tell(&f, "k", json!({ "said": said })).await,
            0,
            "nobody waits yet"
        );
    }
    tell(&f, "other", json!({ "said": "not for it" })).await;
    let yes = store::approvals::Answer {
        by: "ada",
        answer: true,
        comment: None,
    };
    let tx = store::begin(&f.db.write).await.unwrap();
    store::approvals::answer(&tx, f.now(), &asked.id, yes)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    working.queue.notify_local();
    until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
    f.advance(3_600_001);
    working.queue.notify_local();
    assert_eq!(
        result(&ended(&f, &id).await),
        json!(["one", "two", "timeout"])
    );
    assert_eq!(count(&f, "signal_taken").await, 2);
    working.stop().await;
}

async fn an_event_told_late_answers_nothing_until_somebody_waits_again(f: Fresh) {
    let working = working(&f);
    let source = r#"fn run(event) {
        let said = [];
        try { wait_event("plate", "k", "1h"); } catch (e) { said.push(e.code); }
        approval("operator", (), "24h");
        said.push(wait_event("plate", "k", "1h").said);
        said
    }"#;
    let id = f.start(source, Value::Null).await;
    until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
    f.advance(3_600_001);
    working.queue.notify_local();
    let asked = until(|| async {
        let page = store::Page::ALL;
        let open = store::approvals::list(&f.db.read, Some("open"), page).await;
        open.unwrap().pop()
    })
    .await;
    assert_eq!(tell(&f, "k", json!({ "said": "late" })).await, 0);
    let yes = store::approvals::Answer {
        by: "ada",
        answer: true,
        comment: None,
    };
    let tx = store::begin(&f.db.write).await.unwrap();
    store::approvals::answer(&tx, f.now(), &asked.id, yes)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    working.queue.notify_local();
    assert_eq!(result(&ended(&f, &id).await), json!(["timeout", "late"]));
    working.stop().await;
}

async fn one_event_answers_one_call_of_a_run(f: Fresh) {
    let working = working(&f);
    let source = r#"fn run(event) {
        let both = [start_event("plate", "k", "24h"), start_event("plate", "k", "24h")];
        let said = wait_all(both);
        [said[0].said, said[1].said]
    }"#;
    let (one, two) = (
        f.start(source, json!({ "n": 1 })).await,
        f.start(source, json!({ "n": 2 })).await,
    );
    until(|| async { (count(&f, "event_wait").await == 4).then_some(()) }).await;
    assert_eq!(
        tell(&f, "k", json!({ "said": "a" })).await,
        2,
        "one call of each run"
    );
    assert_eq!(count(&f, "event_wait").await, 2);
    assert_eq!(tell(&f, "k", json!({ "said": "b" })).await, 2);
    working.queue.notify_local();
    for id in [one, two] {
        assert_eq!(result(&ended(&f, &id).await), json!(["a", "b"]));
    }
    working.stop().await;
}

/// Facts are told as fast as runs begin to wait for them; each run has each fact once, in order.
async fn an_event_told_while_a_run_begins_to_wait_is_not_lost(f: Fresh) {
    let working = working(&f);
    let source = r#"fn run(event) {
        let said = [];
        for n in 0..10 { said.push(wait_event("plate", "k", "24h").n); }
        said
    }"#;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(f.start(source, json!({ "n": n })).await);
    }
    for n in 0..10 {
        tell(&f, "k", json!({ "n": n })).await;
        working.queue.notify_local();
        tokio::task::yield_now().await;
    }
    for id in ids {
        assert_eq!(
            result(&ended(&f, &id).await),
            json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        );
    }
    assert_eq!(count(&f, "signal_taken").await, 30);
    let sql = "SELECT COUNT(*) AS n FROM event_wait";
    let open = store::database::number(&f.db.read, sql, values![]).await;
    assert_eq!(open.unwrap(), Some(0));
    working.stop().await;
}
