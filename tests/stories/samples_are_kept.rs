//! Samples are kept: what was accepted is there after a crash, whichever way it came in.

use serde_json::json;
use tests::{Server, remote_write};

const JULY: i64 = 1_751_328_000_000; // 2025-07-01T00:00:00Z

async fn write(server: &Server, body: Vec<u8>) -> tests::Answer {
    let agent = server.client_of("agent").await;
    let request = agent
        .request(reqwest::Method::POST, "/telemetry/write")
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    agent.send(request.body(body)).await
}

#[tokio::test]
async fn remote_write_is_accepted_and_can_be_queried() {
    let mut server = Server::start().await;
    let points: Vec<(i64, f64)> = (0..600)
        .map(|i| (JULY + i * 1_000, (i % 60) as f64))
        .collect();
    let labels = [("__name__", "fan_rpm"), ("asset", "a1")];
    let body = remote_write::request(&labels, &points);
    write(&server, body).await.expect(204);

    for after in ["fresh", "after a crash"] {
        let path = "/telemetry/range?asset=a1&metric=fan_rpm&from=2025-07-01T00:00:00Z&to=2025-07-01T01:00:00Z";
        let all = server.operator.get(path).await.expect(200);
        assert_eq!(all["points"].as_array().map(Vec::len), Some(600), "{after}");
        let sampled = server.operator.get(&format!("{path}&step_ms=60000")).await;
        let sampled = sampled.expect(200);
        let minutes = sampled["points"].as_array().expect("points");
        assert_eq!(minutes.len(), 10, "{after}");
        for minute in minutes {
            assert_eq!(minute["count"], 60);
            assert_eq!(minute["min"], 0.0);
            assert_eq!(minute["max"], 59.0);
            assert_eq!(minute["mean"], 29.5);
        }
        server.kill_and_restart().await;
    }
    let series = server
        .operator
        .get("/telemetry/series?asset=a1")
        .await
        .expect(200);
    assert_eq!(series["series"][0]["metric"], "fan_rpm");
    assert_eq!(series["series"][0]["count"], 600);
}

#[tokio::test]
async fn a_partly_bad_batch_keeps_the_rest_and_says_what_it_left_out() {
    let server = Server::start().await;
    let body = json!({ "samples": [
        { "asset": "a1", "metric": "t_c", "time": "2025-07-01T00:00:00Z", "value": 20.5 },
        { "asset": "a1", "metric": "t_c", "time": "yesterday", "value": 1 },
        { "asset": "", "metric": "t_c", "time": "2025-07-01T00:00:01Z", "value": 1 },
        { "asset": "a1", "metric": "t_c", "time": "2025-07-01T00:00:02Z", "value": "warm" },
        { "asset": "a1", "metric": "t_c", "time": "2025-07-01T00:00:03Z" },
        { "asset": "a1", "metric": "t_c", "time": "2025-07-01T00:00:04Z", "value": 21.5 },
    ]});
    let report = server.operator.post("/telemetry", &body).await.expect(200);
    assert_eq!(report["accepted"], 2, "{report:#}");
    let rejected = report["rejected"].as_array().expect("rejected");
    let told: Vec<_> = rejected
        .iter()
        .map(|r| {
            (
                r["index"].as_u64().unwrap_or(99),
                r["field"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(1, "time"), (2, "asset"), (3, "value"), (4, "value")]
    );
    assert!(
        rejected
            .iter()
            .all(|r| r["reason"].as_str().is_some_and(|r| !r.is_empty()))
    );
    let path =
        "/telemetry/range?asset=a1&metric=t_c&from=2025-07-01T00:00:00Z&to=2025-07-01T00:01:00Z";
    let kept = server.operator.get(path).await.expect(200);
    let values: Vec<_> = kept["points"]
        .as_array()
        .expect("points")
        .iter()
        .map(|p| &p["mean"])
        .collect();
    assert_eq!(values, [&json!(20.5), &json!(21.5)]);
}

#[tokio::test]
async fn a_series_without_an_asset_is_refused_and_a_lie_about_its_size_too() {
    let server = Server::start().await;
    let nobody = remote_write::request(&[("__name__", "fan_rpm")], &[(JULY, 1.0)]);
    let refused = write(&server, nobody).await;
    refused.expect_problem(400, "partly_rejected");
    // 4 GiB announced in front of nothing.
    let lie = write(&server, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]).await;
    assert!((400..500).contains(&lie.status), "{}", lie.text());
    let bomb = write(&server, vec![0x80, 0x80, 0x80, 0x08, 0x00]).await;
    bomb.expect_problem(400, "malformed_snappy");
    server.anonymous.get("/health").await.expect(200);
}
