//! A request is repeated: under its key it starts one run, however often and however closely it comes.

use serde_json::{Value, json};
use tests::Server;

const NOTHING: &str = "fn run(event) { event }";

async fn post(server: &Server, path: &str, key: &str, body: &Value) -> tests::Answer {
    let request = server.operator.request(reqwest::Method::POST, path);
    let request = request.header("idempotency-key", key).json(body);
    server.operator.send(request).await
}

#[tokio::test]
async fn a_key_starts_one_run() {
    let server = Server::start().await;
    server.workflow("nothing", NOTHING).await;
    let body = json!({ "workflow": "nothing", "event": { "n": 1 } });
    let ask = || post(&server, "/runs", "k", &body);
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    let ids = <[tests::Answer; 4]>::from(answers).map(|a| a.expect(201)["id"].clone());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let runs = server.operator.get("/runs").await.expect(200);
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1));

    let other = json!({ "workflow": "nothing", "event": { "n": 2 } });
    let refused = post(&server, "/runs", "k", &other).await;
    assert_eq!(refused.json()["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn a_key_trains_once() {
    let server = Server::start().await;
    let body = json!({ "kind": "failure", "asset_kind": "fan_tray", "seed": 7 });
    let first = post(&server, "/models", "k", &body).await.expect(202);
    let again = post(&server, "/models", "k", &body).await.expect(202);
    assert_eq!(first["run"], again["run"]);
    let other = post(&server, "/models", "another", &body).await.expect(202);
    assert_ne!(first["run"], other["run"]);
}
