//! A script's rate is held by the workers, on both databases.

use serde_json::{Value, json};
use workflows::run::why::Standing;

use super::workers::tests::{count, ended, result, until, work_on};
use crate::store::standing;
use crate::testing::{Fresh, on_both};

on_both!(a_rate_is_held_over_runs_and_time_lets_the_rest_go);

async fn a_rate_is_held_over_runs_and_time_lets_the_rest_go(f: Fresh) {
    let working = work_on(&f);
    let source = r#"fn run(event) {
        let both = [];
        for n in 1..=2 { both.push(start("double", #{ n: n }, #{ rate: "3/1h", rate_key: "mail" })); }
        let sum = 0;
        for done in wait_all(both) { sum += done.n; }
        sum
    }"#;
    let runs = [
        f.start(source, Value::Null).await,
        f.start(source, Value::Null).await,
    ];
    let held = until(|| async {
        let mut held = Vec::new();
        for run in &runs {
            let calls = standing::open_calls(&f.db.read, f.now(), run)
                .await
                .unwrap();
            held.extend(
                calls
                    .into_iter()
                    .filter_map(|call| match call.step?.standing {
                        Standing::Rated { key, until, .. } => Some((key, until.0)),
                        _ => None,
                    }),
            );
        }
        let done = count(&f, "event WHERE name = 'step.done'").await;
        (done == 3 && held.len() == 1).then_some(held)
    })
    .await;
    let (key, until) = &held[0];
    assert_eq!(key, "mail");
    assert!(*until <= f.now() + 3_600_000);
    f.advance(3_600_000);
    for run in &runs {
        assert_eq!(result(&ended(&f, run).await), json!(6));
    }
    working.stop().await;
}
