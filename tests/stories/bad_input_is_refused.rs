//! Bad input is refused: each kind with a problem of its own that says where and what to do, and nothing is lost.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tests::{Answer, Client, Server};

/// What is sent, and what it must get.
struct Case {
    what: &'static str,
    sent: RequestBuilder,
    status: u16,
    code: &'static str,
    /// Members of the problem that say where.
    where_: &'static [&'static str],
}

fn raw(
    client: &Client,
    method: Method,
    path: &str,
    body: impl Into<reqwest::Body>,
) -> RequestBuilder {
    let request = client.request(method, path);
    request
        .header("content-type", "application/json")
        .body(body)
}

fn post(client: &Client, path: &str, body: &Value) -> RequestBuilder {
    client.request(Method::POST, path).json(body)
}

async fn cases(server: &Server) -> Vec<Case> {
    let operator = &server.operator;
    let agent = server.client_of("agent").await;
    let bad_token = server.anonymous.with_token("fw_0123456789");
    let part = |brief: &str| json!({ "name": "bracket", "brief": brief });
    let get = |path: &str| operator.request(Method::GET, path);
    let case = |what, sent, status, code, where_| Case {
        what,
        sent,
        status,
        code,
        where_,
    };
    let many = format!(r#"{{"samples":[{}]}}"#, "0,".repeat(200_000) + "0");
    vec![
        case(
            "a batch that is not JSON",
            raw(
                operator,
                Method::POST,
                "/telemetry",
                "{\"samples\": [\n  oops",
            ),
            400,
            "malformed_batch",
            &["line", "column"],
        ),
        case(
            "a batch with too many samples",
            raw(operator, Method::POST, "/telemetry", many),
            422,
            "oversized_batch",
            &["limit"],
        ),
        case(
            "a batch of too many bytes",
            raw(operator, Method::POST, "/telemetry", vec![b' '; 1_100_000]),
            413,
            "too_large",
            &["limit_bytes"],
        ),
        case(
            "remote write that is not snappy",
            raw(
                operator,
                Method::POST,
                "/telemetry/write",
                "not snappy at all",
            ),
            400,
            "malformed_snappy",
            &[],
        ),
        case(
            "remote write that is not protobuf",
            raw(
                operator,
                Method::POST,
                "/telemetry/write",
                vec![3, 2 << 2, 0x0a, 0x7f, 0x00],
            ),
            400,
            "malformed_protobuf",
            &["offset"],
        ),
        case(
            "an unknown asset",
            get("/assets/nobody"),
            404,
            "not_found",
            &["what", "id"],
        ),
        case(
            "a path that is misspelt",
            get("/nothing"),
            404,
            "not_found",
            &["what", "id"],
        ),
        case(
            "a method that a path does not have",
            operator.request(Method::DELETE, "/assets"),
            405,
            "method_not_allowed",
            &[],
        ),
        case(
            "a tick about an asset nobody has",
            post(operator, "/fleet/ticks", &json!({ "about": ["nobody"] })),
            404,
            "not_found",
            &["what", "id", "unknown"],
        ),
        case(
            "an enrolment that is long",
            post(
                &server.anonymous,
                "/enrolments",
                &json!({ "name": "c1", "machine": { "is": "x".repeat(17_000) } }),
            ),
            413,
            "too_large",
            &["limit_bytes"],
        ),
        case(
            "a token nobody knows",
            bad_token.request(Method::GET, "/assets"),
            401,
            "unauthorized",
            &[],
        ),
        case(
            "a role that may not",
            post(&agent, "/policies", &json!({})),
            403,
            "forbidden",
            &[],
        ),
        case(
            "a brief that is no brief",
            operator
                .request(Method::PUT, "/parts/p1")
                .json(&part("printer = 7")),
            422,
            "invalid_brief",
            &["field"],
        ),
        case(
            "a script with a fault",
            post(
                operator,
                "/policies",
                &json!({
                "name": "p1", "source": "fn decide(facts) {\n    facts.fps.len(;\n}\n" }),
            ),
            422,
            "script",
            &["line", "column"],
        ),
        case(
            "a workflow nobody has",
            post(operator, "/runs", &json!({ "workflow": "nothing" })),
            404,
            "not_found",
            &["what", "id"],
        ),
        case(
            "a body that is not JSON",
            raw(operator, Method::POST, "/runs", "{"),
            400,
            "malformed_body",
            &[],
        ),
        case(
            "a body of another shape",
            post(operator, "/runs", &json!({ "workflow": 7 })),
            422,
            "invalid_body",
            &[],
        ),
        case(
            "a body of another media type",
            operator.request(Method::POST, "/runs").body("workflow=x"),
            415,
            "unsupported_media_type",
            &[],
        ),
        case(
            "a page of no length",
            get("/runs?limit=0"),
            400,
            "malformed_query",
            &[],
        ),
        case(
            "a range that ends before it begins",
            get(
                "/telemetry/range?asset=a&metric=m&from=2025-01-02T00:00:00Z&to=2025-01-01T00:00:00Z",
            ),
            400,
            "empty_range",
            &[],
        ),
        case(
            "a name that fits no path",
            post(
                operator,
                "/tokens",
                &json!({ "role": "agent", "name": "a/b" }),
            ),
            422,
            "invalid_name",
            &["field"],
        ),
        case(
            "something that is no digest",
            get("/artifacts/part.stl"),
            400,
            "not_a_digest",
            &[],
        ),
        case(
            "bytes under another digest",
            operator
                .request(Method::PUT, &format!("/artifacts/{}", tests::digest(b"x")))
                .body("y"),
            422,
            "digest_mismatch",
            &[],
        ),
        case(
            "a cell that asks for a token",
            post(
                operator,
                "/tokens",
                &json!({ "role": "cell", "name": "c1" }),
            ),
            422,
            "cells_enrol",
            &["field"],
        ),
    ]
}

#[tokio::test]
async fn each_kind_of_bad_input_has_a_problem_of_its_own() {
    let limit = [("FOREWRIGHT_SERVER_MAX_BODY_BYTES", "1000000")];
    let mut server = Server::with(&limit).await;
    let sample = json!({ "samples": [
        { "asset": "a1", "metric": "t_c", "time": "2025-07-01T00:00:00Z", "value": 20.5 },
    ]});
    server
        .operator
        .post("/telemetry", &sample)
        .await
        .expect(200);

    let mut codes = BTreeSet::new();
    for case in cases(&server).await {
        let answer = server.operator.send(case.sent).await;
        assert_eq!(
            answer.status,
            case.status,
            "{}: {}",
            case.what,
            answer.text()
        );
        let problem = answer.expect_problem(case.status, case.code);
        for member in case.where_ {
            assert!(
                !problem[*member].is_null(),
                "{}: no `{member}`: {problem}",
                case.what
            );
        }
        // Several things may be unknown or too large; everything else has a code of its own.
        let new = codes.insert(case.code);
        assert!(
            new || ["not_found", "too_large"].contains(&case.code),
            "{}: `{}`",
            case.what,
            case.code
        );
    }

    assert!(server.is_up());
    server.anonymous.get("/health").await.expect(200);
    let series = server.operator.get("/telemetry/series").await.expect(200);
    assert_eq!(
        series["series"][0]["count"], 1,
        "what was stored is still there"
    );
}

#[tokio::test]
async fn a_faulty_script_leaves_the_last_good_one_serving() {
    let server = Server::start().await;
    let good = json!({ "name": "mine", "source":
        "fn decide(facts) { #{ action: \"monitor\", reason: \"always\" } }" });
    let stored = server.operator.post("/policies", &good).await.expect(201);
    let bad = json!({ "name": "mine", "source":
        "fn decide(facts) {\n    let x = 1;\n    looks_like_nothing(x)\n}" });
    let refused = server.operator.post("/policies", &bad).await;
    let problem = refused.expect_problem(422, "script");
    assert_eq!(problem["line"], 3, "{problem}");
    let serving = server.operator.get("/policies/mine").await.expect(200);
    assert_eq!(serving["revision"], stored["revision"]);

    let misspelt = json!({ "name": "w", "source":
        "fn run(event) {\n    stp(\"notify\", #{})\n}" });
    let refused = server.operator.post("/workflows", &misspelt).await;
    let problem = refused.expect_problem(422, "script");
    assert_eq!(problem["line"], 2, "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("step"), "names the nearest: {problem}");
    let checked = server.operator.post("/workflows/check", &misspelt).await;
    assert_eq!(checked.expect(200)["problems"][0]["nearest"], "step");
}

#[tokio::test]
async fn a_revoked_token_is_worthless() {
    let server = Server::start().await;
    let body = json!({ "role": "engineer", "name": "eve" });
    let issued = server.operator.post("/tokens", &body).await.expect(201);
    let secret = issued["token"].as_str().expect("a token");
    let eve = server.anonymous.with_token(secret);
    eve.get("/assets").await.expect(200);
    let path = format!("/tokens/{}", issued["id"].as_str().expect("an id"));
    let revoke = server.operator.request(Method::DELETE, &path);
    let revoked: Answer = server.operator.send(revoke).await;
    revoked.expect(204);
    eve.get("/assets").await.expect_problem(401, "unauthorized");
    let listed = server.operator.get("/tokens").await;
    assert!(!listed.text().contains(secret), "secrets are shown once");
}
