//! A person approves: a run waits for the yes of a role, and takes no for an answer.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Server, eventually};

const ASK: &str = r#"
fn run(event) {
    let said = approval("technician", #{ window: "w1", asset: event.asset }, event.patience);
    if !said.answer { fail("declined", `declined: ${said.comment}`); }
    #{ by: said }
}
"#;

async fn asked(patience: &str) -> (Server, String, Value) {
    let server = Server::start().await;
    server.workflow("ask", ASK).await;
    let event = json!({ "asset": "a1", "patience": patience });
    let run = server.start_run("ask", event).await;
    let open = eventually("the question", Duration::from_secs(10), || async {
        let open = server.operator.get("/approvals?state=open").await;
        let open = open.expect(200);
        open["approvals"].get(0).cloned()
    })
    .await;
    assert_eq!(open["run"], *run);
    assert_eq!(open["subject"], json!({ "window": "w1", "asset": "a1" }));
    (server, run, open)
}

fn answers(approval: &Value) -> String {
    format!(
        "/approvals/{}/answers",
        approval["id"].as_str().expect("an id")
    )
}

#[tokio::test]
async fn a_yes_lets_the_run_go_on() {
    let (server, run, open) = asked("24h").await;
    let yes = json!({ "answer": true, "comment": "tonight" });
    let agent = server.client_of("agent").await;
    let refused = agent.post(&answers(&open), &yes).await;
    refused.expect_problem(403, "forbidden");

    let technician = server.client_of("technician").await;
    technician.post(&answers(&open), &yes).await.expect(200);
    technician.post(&answers(&open), &yes).await.expect(200);
    let changed = technician
        .post(&answers(&open), &json!({ "answer": false }))
        .await;
    changed.expect_problem(409, "approval_closed");
    let result = server.result_of(&run).await;
    assert_eq!(result["by"]["answer"], true, "{result}");
    assert_eq!(server.events_named("approval.answered").await.len(), 1);
}

#[tokio::test]
async fn a_no_ends_it() {
    let (server, run, open) = asked("24h").await;
    let no = json!({ "answer": false, "comment": "not on a Friday" });
    server.operator.post(&answers(&open), &no).await.expect(200);
    let run = server.ended_run(&run).await;
    assert_eq!(run["state"], "failed");
    assert_eq!(run["failure"]["code"], "declined", "{run:#}");
}

#[tokio::test]
async fn a_question_nobody_answers_times_out() {
    let (server, run, open) = asked("1s").await;
    let run = server.ended_run(&run).await;
    assert_eq!(run["state"], "failed");
    assert_eq!(run["failure"]["code"], "timeout", "{run:#}");
    let late = server
        .operator
        .post(&answers(&open), &json!({ "answer": true }))
        .await;
    late.expect_problem(409, "approval_closed");
}
