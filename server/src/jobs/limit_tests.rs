//! A run whose script uses up its time is undone like any other that fails, on both databases.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::workers::tests::{count, work_on};
use crate::store::runs;
use crate::testing::{Fresh, on_both};

on_both!(what_a_run_did_before_its_time_was_used_up_is_undone);

/// Few operations, each of which compares thousands of items.
const SLOW: &str = r#"fn run(event) {
    on_failure(|| step("double", #{ n: 1 }));
    let made = step("double", #{ n: 4 }).n;
    on_failure(|| { step("double", #{ n: made }); step("double", #{ n: -1 }); });
    let a = [];
    a.pad(9_000, 1);
    while a == a { }
}"#;

async fn what_a_run_did_before_its_time_was_used_up_is_undone(f: Fresh) {
    let working = work_on(&f);
    let id = f.start(SLOW, Value::Null).await;
    // At its low priority it may take long to use up its time where other tests are at work.
    let run = loop {
        let run = runs::get(&f.db.read, &id).await.unwrap();
        if run.ended_at.is_some() {
            break run;
        }
        // Where it found no place among the long ones it comes back a second later.
        f.advance(50);
        sleep(Duration::from_millis(50)).await;
    };
    working.stop().await;
    let failure: Value = serde_json::from_str(&run.failure.unwrap()).unwrap();
    assert_eq!(
        (&*run.state, &failure["code"]),
        ("failed", &json!("limit.deadline")),
        "{failure:#}"
    );
    assert_eq!(failure["not_undone"][0]["code"], "negative");
    for position in ["2", "3.1", "1.1"] {
        let done = format!("step WHERE position = '{position}' AND state = 'done' AND attempt = 1");
        assert_eq!(count(&f, &done).await, 1, "{position}");
    }
    let told = "event WHERE name IN ('step.done', 'step.failed')";
    assert_eq!(count(&f, told).await, 4, "nothing was done twice");
}
