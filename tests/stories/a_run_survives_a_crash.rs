//! A run survives a crash: killed between steps, in a step, or asleep, it goes on exactly where it stood.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Server, eventually};

/// Leases so short that a killed worker's steps are soon offered again.
const SHORT: [(&str, &str); 2] = [
    ("FOREWRIGHT_QUEUE_LEASE_MS", "3000"),
    ("FOREWRIGHT_QUEUE_HEARTBEAT_MS", "400"),
];

const NOTICES: &str = r#"
fn run(event) {
    let dice = random();
    let began = now();
    step("notify", #{ subject: "before", payload: #{ dice: dice } });
    let told = wait_event("spare.delivered", event.asset, "1h");
    step("notify", #{ subject: "after", payload: #{ dice: dice } });
    sleep("1s");
    #{ dice: dice, began: began, told: told }
}
"#;

async fn journal(server: &Server, run: &str) -> Vec<Value> {
    let path = format!("/runs/{run}/journal");
    let journal = server.operator.get(&path).await.expect(200);
    journal["entries"].as_array().cloned().unwrap_or_default()
}

fn assert_each_position_once(entries: &[Value]) {
    let positions: BTreeSet<_> = entries.iter().map(|e| e["position"].as_str()).collect();
    assert_eq!(positions.len(), entries.len(), "{entries:#?}");
}

#[tokio::test]
async fn a_run_killed_between_steps_goes_on_where_it_stood() {
    let mut server = Server::with(&SHORT).await;
    server.workflow("notices", NOTICES).await;
    let run = server.start_run("notices", json!({ "asset": "a1" })).await;
    server.waiting_run(&run).await;
    let before = eventually("the first notice", Duration::from_secs(10), || async {
        let entries = journal(&server, &run).await;
        let answered = entries.iter().filter(|e| !e["outcome"].is_null()).count();
        (entries.len() == 4 && answered == 3).then_some(entries)
    })
    .await;

    server.kill_and_restart().await;
    let body = json!({ "name": "spare.delivered", "key": "a1", "payload": { "shelf": 7 } });
    let told = server.operator.post("/events", &body).await.expect(202);
    assert_eq!(told["answered"], 1);
    // Asleep when it is killed again.
    eventually("the run to sleep", Duration::from_secs(10), || async {
        let run = server.see_run(&run).await;
        (run["waiting_for"][0]["kind"] == "sleep").then_some(())
    })
    .await;
    server.kill_and_restart().await;

    let result = server.result_of(&run).await;
    assert_eq!(result["told"]["shelf"], 7, "{result}");
    let after = journal(&server, &run).await;
    assert_each_position_once(&after);
    assert_eq!(after[..3], before[..3], "what was answered stays as it was");
    assert!(after.iter().all(|e| !e["outcome"].is_null()), "{after:#?}");
    assert_eq!(server.events_named("notice.sent").await.len(), 2);
    assert_eq!(server.events_named("step.done").await.len(), 2);
}

#[tokio::test]
async fn a_step_killed_at_work_is_done_again_and_recorded_once() {
    let mut server = Server::with(&SHORT).await;
    super::a_part_is_judged::set_up_part(&server, "slow", 2.0, 40).await;
    server
        .workflow(
            "design",
            r#"
fn run(event) {
    let design = step("redesign", #{ asset: event.asset, mode: "imbalance", features: #{ vibration_ratio: 3.0 } });
    #{ design: design.design, mesh: design.mesh }
}
"#,
        )
        .await;
    let run = server.start_run("design", json!({ "asset": "slow" })).await;
    eventually(
        "the step to be at work",
        Duration::from_secs(10),
        || async {
            let run = server.see_run(&run).await;
            (run["steps"][0]["state"] == "leased").then_some(())
        },
    )
    .await;
    server.kill_and_restart().await;

    let run = server.ended_run(&run).await;
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(run["steps"][0]["attempt"], 2);
    assert_eq!(server.events_named("step.done").await.len(), 1);
    let designs = server.operator.get("/designs").await.expect(200);
    assert_eq!(designs["designs"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn it_is_ready_in_under_two_seconds() {
    let mut server = Server::start().await;
    assert!(
        server.ready_after < Duration::from_secs(2),
        "{:?}",
        server.ready_after
    );
    server.kill_and_restart().await;
    server.anonymous.get("/health").await.expect(200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()));
    let status = status.expect("this is Linux");
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kb: u64 = resident
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .expect("VmRSS");
    assert!(kb <= 120 * 1024, "{kb} kB resident");
}
