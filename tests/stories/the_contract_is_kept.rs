//! The contract is kept: the document checked in is the document printed and the document served.

use serde_json::Value;
use tests::{Server, binary};

/// From this package's folder, where cargo runs its tests.
const DOCUMENT: &str = "../openapi/v1.json";

#[tokio::test]
async fn the_document_checked_in_is_what_is_served() {
    let checked_in = std::fs::read_to_string(DOCUMENT).expect("openapi/v1.json");
    let printed = binary::run(&["openapi"]);
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("UTF-8");
    assert_eq!(checked_in, printed, "`make openapi` writes it anew");

    let server = Server::start().await;
    let request = reqwest::Client::new().get(format!("{}/openapi.json", server.anonymous.base()));
    let served = server.anonymous.send(request).await.expect(200);
    let checked_in: Value = serde_json::from_str(&checked_in).expect("JSON");
    assert!(served == checked_in, "the server describes other routes");
}

#[tokio::test]
async fn every_route_but_a_few_needs_a_token() {
    let server = Server::start().await;
    let text = std::fs::read_to_string(DOCUMENT).expect("openapi/v1.json");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut open = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let Ok(verb) = method.to_uppercase().parse::<reqwest::Method>() else {
                continue;
            };
            let path = path.trim_start_matches("/api/v1").replace(['{', '}'], "");
            let request = server
                .anonymous
                .request(verb, &path)
                .json(&serde_json::json!({}));
            let answer = server.anonymous.send(request).await;
            if answer.status == 401 {
                answer.expect_problem(401, "unauthorized");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
            } else {
                open.push(operation["operationId"].as_str().unwrap_or("?").to_owned());
            }
        }
    }
    open.sort();
    assert_eq!(open, ["claim_cell_token", "create_enrolment", "get_health"]);
}

#[test]
fn wrong_usage_and_refusals_have_their_own_exit_codes() {
    assert_eq!(
        binary::run(&["demo", "--no-such-option"]).status.code(),
        Some(2)
    );
    let refused = binary::run(&[
        "demo",
        "--source",
        "cmapss:/nowhere",
        "--out",
        "/tmp/forewright-nowhere",
    ]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("/nowhere"), "{said}");
    assert!(refused.stdout.is_empty());
}
