//! A hall has rules: machines on one circuit start one after the other, some hours are quiet, and some cells stay out.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Answer, Client, Server};

async fn put_rules(server: &Server, cell: &str, rules: &Value) -> Answer {
    let path = format!("/cells/{cell}/rules");
    server.operator.put(&path, rules).await
}

async fn why(server: &Server, build: &str) -> Vec<(String, String)> {
    let build = server.see_build(build).await;
    let why = build["not_dispatched_because"].as_array().cloned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = why.expect("a waiting build says why").into_iter();
    told.map(|o| (text(&o["cell"]), text(&o["code"]))).collect()
}

#[tokio::test]
async fn machines_on_one_circuit_start_one_after_the_other() {
    let server = Server::start().await;
    let group = json!({ "max_heating": 1, "stagger_ms": 0, "heating_ms": 600_000 });
    server
        .operator
        .put("/heat_groups/hall", &group)
        .await
        .expect(200);
    let (one, two) = (server.cell("c1").await, server.cell("c2").await);
    let first = server.order_build().await;
    let lease = one.lease().await.expect_build(&first.build);
    lease.stage().await;
    // They share a circuit from now on: the second cannot take what it could not start.
    for cell in ["c1", "c2"] {
        put_rules(&server, cell, &json!({ "heat_group": "hall" }))
            .await
            .expect(200);
    }
    let second = server.order_build().await;
    two.lease().await.expect_no_work();
    let told = why(&server, &second.build).await;
    assert_eq!(
        told,
        [
            ("c1".into(), "busy".into()),
            ("c2".into(), "heat_group_full".into())
        ]
    );

    // Once the first is hot, the one that waits is woken at the next look.
    lease.start().await;
    let waiting = tokio::spawn(async move { two.lease_once(None, 20).await });
    lease.heartbeat(1, 10.0).await.expect(200);
    let other = waiting.await.expect("no panic").expect_build(&second.build);
    other.stage().await.start().await;
}

#[tokio::test]
async fn a_start_that_has_to_wait_says_until_when_and_costs_nothing() {
    let server = Server::start().await;
    let group = json!({ "max_heating": 9, "stagger_ms": 3_600_000 });
    server
        .operator
        .put("/heat_groups/hall", &group)
        .await
        .expect(200);
    let mut leases = Vec::new();
    for name in ["c1", "c2"] {
        let cell = server.cell(name).await;
        put_rules(&server, name, &json!({ "heat_group": "hall" }))
            .await
            .expect(200);
        let ordered = server.order_build().await;
        let lease = cell.lease().await.expect_build(&ordered.build);
        lease.stage().await;
        leases.push(lease);
    }
    leases[0].start().await;
    let refused = leases[1].tell("start", json!({})).await;
    let problem = refused.expect_problem(409, "staggered");
    let wait_ms = problem["retry_after_ms"].as_i64().expect("a time");
    assert!((3_500_000..=3_600_000).contains(&wait_ms), "{problem}");
    assert_eq!(
        refused.header("retry-after"),
        ((wait_ms + 999) / 1_000).to_string()
    );
    assert_eq!(server.see_build(&leases[1].build).await["state"], "staged");
    let sooner = json!({ "max_heating": 9 });
    server
        .operator
        .put("/heat_groups/hall", &sooner)
        .await
        .expect(200);
    leases[1].start().await;
}

#[tokio::test]
async fn the_reference_cell_waits_until_it_may_start() {
    let server = Server::with(&[("FOREWRIGHT_BUILDS_HEARTBEAT_MS", "200")]).await;
    let group = json!({ "max_heating": 9, "stagger_ms": 3_000 });
    let put = server.operator.put("/heat_groups/hall", &group).await;
    put.expect(200);
    let _cell = server.reference_cell("r1").await;
    let by_hand = server.cell("c1").await;
    let grouped = json!({ "heat_group": "hall" });
    put_rules(&server, "c1", &grouped).await.expect(200);
    // Until the other has started it takes nothing.
    let span = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let maintained = json!({ "maintenance": [span] });
    put_rules(&server, "r1", &maintained).await.expect(200);
    let first = server.order_build().await;
    let lease = by_hand.lease_once(None, 20).await;
    let lease = lease.expect_build(&first.build);
    lease.stage().await.start().await;
    let second = server.order_build().await;
    put_rules(&server, "r1", &grouped).await.expect(200);
    let made = server.build_in(&second.build, "ended").await;
    assert_eq!(made["cell"], "r1");
    let started = async |build: &str| ms_of_day(&server.see_build(build).await["started_at"]);
    let apart = started(&second.build).await - started(&first.build).await;
    let apart = apart.rem_euclid(24 * 3_600_000);
    assert!((3_000..600_000).contains(&apart), "{apart} ms apart");
}

/// The milliseconds since midnight of a time like `2026-01-02T03:04:05.678Z`.
fn ms_of_day(at: &Value) -> i64 {
    let at = at.as_str().expect("a time");
    let number = |from: usize, to: usize| at[from..to].parse::<i64>().expect("digits");
    ((number(11, 13) * 60 + number(14, 16)) * 60 + number(17, 19)) * 1_000 + number(20, 23)
}

#[tokio::test]
async fn quiet_hours_and_maintenance_begin_nothing_new() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let always = json!({ "from": "00:00", "to": "00:00" });
    let quiet = json!({ "quiet": { "time_zone": "Europe/Berlin", "hours": [always] } });
    put_rules(&server, "c1", &quiet).await.expect(200);
    cell.lease().await.expect_no_work();
    assert_eq!(
        why(&server, &ordered.build).await,
        [("c1".into(), "quiet_hours".into())]
    );
    let span = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let maintained = json!({ "maintenance": [span] });
    put_rules(&server, "c1", &maintained).await.expect(200);
    assert_eq!(
        why(&server, &ordered.build).await,
        [("c1".into(), "maintenance".into())]
    );
    let kept = server.operator.get("/cells/c1/rules").await.expect(200);
    assert_eq!(kept["maintenance"][0]["to"], "2100-01-01T00:00:00.000Z");
    put_rules(&server, "c1", &json!({})).await.expect(200);
    cell.lease().await.expect_build(&ordered.build);
}

#[tokio::test]
async fn rules_that_cannot_be_kept_are_refused() {
    let server = Server::start().await;
    server.cell("c1").await;
    let night = |from: &str| json!({ "quiet": { "hours": [{ "from": from, "to": "06:00" }] } });
    for (rules, status, code) in [
        (json!({ "heat_group": "nowhere" }), 404, "not_found"),
        (
            json!({ "quiet": { "time_zone": "Europe/Berlni" } }),
            422,
            "unknown_time_zone",
        ),
        (night("25:00"), 422, "invalid_time"),
        (
            json!({ "maintenance": [{ "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z" }] }),
            422,
            "invalid_span",
        ),
    ] {
        put_rules(&server, "c1", &rules)
            .await
            .expect_problem(status, code);
    }
    put_rules(&server, "nobody", &json!({}))
        .await
        .expect_problem(404, "not_found");
    let none = json!({ "max_heating": 0 });
    let refused = server.operator.put("/heat_groups/hall", &none).await;
    assert_eq!(
        refused.expect_problem(422, "invalid_heat_group")["field"],
        "max_heating"
    );
    let one = json!({ "max_heating": 1 });
    server
        .operator
        .put("/heat_groups/hall", &one)
        .await
        .expect(200);
    put_rules(&server, "c1", &json!({ "heat_group": "hall" }))
        .await
        .expect(200);
    let remove = || server.operator.request(Method::DELETE, "/heat_groups/hall");
    server
        .operator
        .send(remove())
        .await
        .expect_problem(409, "heat_group_used");
    put_rules(&server, "c1", &json!({})).await.expect(200);
    server.operator.send(remove()).await.expect(204);
}

async fn asks_in(server: &Server, name: &str) -> (String, Value) {
    let asked = server
        .anonymous
        .post("/enrolments", &json!({ "name": name }))
        .await
        .expect(201);
    let code = asked["code"].as_str().expect("a code");
    (
        format!("/enrolments/{code}"),
        json!({ "claim_secret": asked["claim_secret"] }),
    )
}

#[tokio::test]
async fn an_operator_turns_a_cell_away() {
    let server = Server::start().await;
    let (path, claim) = asks_in(&server, "stranger").await;
    for _ in 0..2 {
        let rejected = server
            .operator
            .post(&format!("{path}/reject"), &json!({}))
            .await;
        assert_eq!(rejected.expect(200)["state"], "rejected");
    }
    let token = server
        .anonymous
        .post(&format!("{path}/token"), &claim)
        .await;
    token.expect_problem(409, "enrolment_rejected");
    let approve = server
        .operator
        .post(&format!("{path}/approve"), &json!({}))
        .await;
    approve.expect_problem(409, "enrolment_rejected");
    let (path, _) = asks_in(&server, "friend").await;
    server
        .operator
        .post(&format!("{path}/approve"), &json!({}))
        .await
        .expect(200);
    let late = server
        .operator
        .post(&format!("{path}/reject"), &json!({}))
        .await;
    late.expect_problem(409, "enrolment_claimed");
}

#[tokio::test]
async fn a_cell_gets_a_new_token_or_is_shut_out() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let lease = cell.lease().await.expect_build(&ordered.build);
    let issued = server
        .operator
        .post("/cells/c1/token", &json!({}))
        .await
        .expect(201);
    lease
        .heartbeat(1, 1.0)
        .await
        .expect_problem(401, "unauthorized");
    let renewed: Client = server
        .anonymous
        .with_token(issued["token"].as_str().expect("a token"));
    let mut again = cell.clone();
    again.client = renewed;
    lease.by(&again).heartbeat(2, 2.0).await.expect(200);

    let shut_out = server.operator.request(Method::DELETE, "/cells/c1/token");
    server.operator.send(shut_out).await.expect(204);
    lease
        .by(&again)
        .heartbeat(3, 3.0)
        .await
        .expect_problem(401, "unauthorized");
    assert_eq!(server.see_build(&ordered.build).await["state"], "waiting");
    let other = server.cell("c2").await;
    other.lease().await.expect_build(&ordered.build);
}
