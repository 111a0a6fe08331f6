//! Bytes are fetched by digest: whole, in part, only when changed, and never others than were named.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use tests::{Answer, FakeCell, Server, digest};

async fn fetch(cell: &FakeCell, digest: &str, headers: &[(&str, &str)]) -> Answer {
    let path = format!("/artifacts/{digest}");
    let mut request = cell.client.request(Method::GET, &path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    cell.client.send(request).await
}

#[tokio::test]
async fn a_cell_fetches_its_gcode_whole_and_in_part() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let (gcode, named) = (ordered.gcode.as_bytes(), ordered.digest.as_str());
    let etag = format!("\"{named}\"");

    let whole = fetch(&cell, named, &[]).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.bytes, gcode);
    assert_eq!(whole.header("etag"), etag);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let hex = named.trim_start_matches("sha256:");
    let raw: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
        .collect();
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(raw));
    assert_eq!(whole.header("repr-digest"), digest);

    let size = gcode.len();
    for (range, expected) in [
        ("bytes=0-9", 0..10),
        ("bytes=10-", 10..size),
        ("bytes=-7", size - 7..size),
        ("bytes=5-999999", 5..size),
    ] {
        let part = fetch(&cell, named, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.bytes, gcode[expected.clone()], "{range}");
        let said = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), said);
        assert_eq!(part.header("repr-digest"), digest, "of the whole");
    }
    let beyond = fetch(&cell, named, &[("range", "bytes=999999-")]).await;
    beyond.expect_problem(416, "range_not_satisfiable");

    let known = fetch(&cell, named, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.bytes.len()), (304, 0));
    let resumed = [("range", "bytes=4-"), ("if-range", etag.as_str())];
    assert_eq!(fetch(&cell, named, &resumed).await.status, 206);
    let changed = [("range", "bytes=4-"), ("if-range", "\"sha256:00\"")];
    assert_eq!(fetch(&cell, named, &changed).await.bytes, gcode);
}

#[tokio::test]
async fn bytes_have_the_digest_they_are_stored_under() {
    let server = Server::start().await;
    let (bytes, other) = (b"a mesh", digest(b"another mesh"));
    let path = format!("/artifacts/{other}");
    let lie = server.operator.put_bytes(&path, bytes).await;
    lie.expect_problem(422, "digest_mismatch");
    let kept = server.operator.get(&path).await;
    kept.expect_problem(404, "not_found");

    let named = server.upload(bytes).await;
    assert_eq!(server.upload(bytes).await, named, "storing again is fine");
    let path = format!("/artifacts/{named}/provenance");
    let provenance = server.operator.get(&path).await.expect(200);
    assert_eq!(provenance["size_bytes"], bytes.len());
    assert_eq!(provenance["made_by"], serde_json::json!([]));
}
