//! Events are told again: from any number, live, and onwards from where a connection broke.

use serde_json::json;
use tests::Server;
use tests::sse::Stream;

async fn happen(server: &Server, key: &str) {
    let body = json!({ "name": "door.opened", "key": key, "payload": { "n": key } });
    server.operator.post("/events", &body).await.expect(202);
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke() {
    let server = Server::start().await;
    let mut live = Stream::open(&server.operator, None).await;
    let begin = live.instance().await;
    let list = server.operator.get("/events?limit=1").await.expect(200);
    assert_eq!(begin["instance"], list["instance"]);
    assert!(begin["after"].is_i64(), "{begin}");
    for key in ["1", "2", "3"] {
        happen(&server, key).await;
    }
    let first = live.next().await;
    assert_eq!(
        (first.name.as_str(), &first.data["subject"]),
        ("door.opened", &json!("1"))
    );
    assert_eq!(first.data["seq"], first.id);
    drop(live);
    happen(&server, "4").await;

    let mut again = Stream::open(&server.operator, Some(first.id)).await;
    for key in ["2", "3", "4"] {
        let event = again.next().await;
        assert_eq!(event.data["subject"], key, "none is left out or told twice");
    }
    happen(&server, "5").await;
    assert_eq!(again.next().await.data["payload"]["n"], "5");
}

#[tokio::test]
async fn the_list_pages_and_knows_its_history() {
    let mut server = Server::start().await;
    for key in ["1", "2", "3", "4", "5"] {
        happen(&server, key).await;
    }
    let all = server.events_named("door.opened").await;
    assert_eq!(all.len(), 5);
    let page = server
        .operator
        .get("/events?after=0&limit=2")
        .await
        .expect(200);
    assert_eq!(page["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["next"], page["events"][1]["seq"]);

    let instance = page["instance"].as_str().expect("an instance").to_owned();
    server.kill_and_restart().await;
    let known = format!("/events?after=0&instance={instance}");
    let told = server.operator.get(&known).await.expect(200);
    assert_eq!(
        told["events"][0], page["events"][0],
        "a crash changes nothing"
    );
    let other = server.operator.get("/events?after=0&instance=other").await;
    let gone = other.expect_problem(410, "other_instance");
    assert_eq!(gone["instance"], *instance);
    let last = server.operator.get("/events?limit=500").await.expect(200);
    let last = last["next"].as_i64().expect("a number");
    // What is recorded meanwhile moves the end a little.
    let beyond = format!("/events?after={}", last + 1_000_000);
    let beyond = server.operator.get(&beyond).await;
    let gone = beyond.expect_problem(410, "other_instance");
    assert!(gone["latest"].as_i64() >= Some(last), "{gone}");
}
