//! Four hundred alerts of one cause within a minute cause one run, whoever sends them and however closely they come.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Server};

const NOTHING: &str = "fn run(event) { event }";
const ALERTS: usize = 400;
/// Alerts on the way at once.
const AT_ONCE: usize = 20;

async fn alert(client: Client, n: usize) -> (u16, Value) {
    let body = json!({
        "workflow": "see",
        "event": { "alert": n },
        "dedup_key": "cooling of hall a",
        "dedup_window_s": 600,
    });
    let request = client.request(Method::POST, "/runs").json(&body);
    let answer = client.send(request).await;
    (answer.status, answer.json()["id"].clone())
}

#[tokio::test]
async fn four_hundred_alerts_are_one_run() {
    let server = Server::start().await;
    server.workflow("see", NOTHING).await;
    let mut answers = Vec::new();
    for first in (0..ALERTS).step_by(AT_ONCE) {
        let send = |n| tokio::spawn(alert(server.operator.clone(), n));
        let sent: Vec<_> = (first..first + AT_ONCE).map(send).collect();
        for answer in sent {
            answers.push(answer.await.expect("no panic"));
        }
    }
    let counted = |status: u16| answers.iter().filter(|a| a.0 == status).count();
    assert_eq!((counted(201), counted(200)), (1, ALERTS - 1));
    assert!(
        answers.iter().all(|a| a.1 == answers[0].1),
        "one run for all"
    );
    let runs = server.operator.get("/runs").await.expect(200);
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1));
    let events = server.operator.get("/events?limit=500").await.expect(200);
    let told = events["events"].as_array().into_iter().flatten();
    let told = told.filter(|e| e["name"] == "run.deduplicated").count();
    assert_eq!(told, 1, "it is told once, not 399 times");
}
