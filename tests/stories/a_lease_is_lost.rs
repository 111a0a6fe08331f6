//! A lease is lost: before the start the build is offered again, after it only someone who looks can tell.

use serde_json::json;
use tests::{FakeCell, Lease, Ordered, Server};

/// Leases so short that a silent cell loses them within the story.
const SHORT: [(&str, &str); 2] = [
    ("FOREWRIGHT_BUILDS_LEASE_MS", "1200"),
    ("FOREWRIGHT_BUILDS_HEARTBEAT_MS", "300"),
];

async fn one_build_and_two_cells() -> (Server, Ordered, [FakeCell; 2]) {
    let server = Server::with(&SHORT).await;
    let cells = [server.cell("first").await, server.cell("second").await];
    let ordered = server.order_build().await;
    (server, ordered, cells)
}

/// A build whose cell started it and then fell silent.
async fn uncertain_build() -> (Server, Ordered, [FakeCell; 2], Lease) {
    let (server, ordered, [first, second]) = one_build_and_two_cells().await;
    let lost = first.lease().await.expect_build(&ordered.build);
    lost.stage().await.start().await;
    server.build_in(&ordered.build, "uncertain").await;
    second.lease().await.expect_no_work();
    (server, ordered, [first, second], lost)
}

#[tokio::test]
async fn a_lease_lost_before_the_start_is_offered_to_the_next_cell() {
    let (server, ordered, [first, second]) = one_build_and_two_cells().await;
    let lost = first.lease().await.expect_build(&ordered.build);
    lost.stage().await;
    server.build_in(&ordered.build, "waiting").await;

    let held = second.lease().await.expect_build(&ordered.build);
    assert!(held.fence > lost.fence);
    for (verb, body) in [
        ("start", json!({})),
        ("staged", json!({ "digest": ordered.digest })),
        ("fail", json!({ "code": "late", "message": "too late" })),
    ] {
        let late = lost.tell(verb, body).await;
        late.expect_problem(409, "stale");
    }
    lost.heartbeat(9, 50.0).await.expect_problem(409, "stale");
    let late = lost.complete(b"a part nobody asked for").await;
    late.expect_problem(409, "stale");

    held.stage().await.start().await;
    held.complete(b"scan").await.expect(200);
    assert_eq!(
        server.result_of(&ordered.run).await["scan"],
        tests::digest(b"scan")
    );
    assert_eq!(server.events_named("build.started").await.len(), 1);
}

#[tokio::test]
async fn a_heartbeat_keeps_a_lease() {
    let (server, ordered, [first, second]) = one_build_and_two_cells().await;
    let lease = first.lease().await.expect_build(&ordered.build);
    let begun = std::time::Instant::now();
    let mut seq = 0;
    while begun.elapsed().as_millis() < 2_600 {
        seq += 1;
        lease.heartbeat(seq, 1.0).await.expect(200);
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    second.lease().await.expect_no_work();
    lease.stage().await.start().await;
    lease.complete(b"scan").await.expect(200);
    server.result_of(&ordered.run).await;
    assert_eq!(server.events_named("build.lease_lost").await.len(), 0);
}

#[tokio::test]
async fn an_empty_plate_offers_an_uncertain_build_again() {
    let (server, ordered, [_, second], lost) = uncertain_build().await;
    let path = format!("/builds/{}/resolve", ordered.build);
    let body = json!({ "on_plate": "nothing", "fence": lost.fence });
    second
        .resolve(&ordered.build, lost.fence, "nothing")
        .await
        .expect_problem(403, "forbidden");
    let technician = server.client_of("technician").await;
    let unfenced = json!({ "on_plate": "nothing" });
    technician
        .post(&path, &unfenced)
        .await
        .expect_problem(422, "invalid_body");
    technician.post(&path, &body).await.expect(200);

    let held = second.lease().await.expect_build(&ordered.build);
    lost.complete(b"late").await.expect_problem(409, "stale");
    held.stage().await.start().await;
    held.complete(b"scan").await.expect(200);
    server.result_of(&ordered.run).await;
    let again = technician.post(&path, &body).await;
    again.expect_problem(409, "stale");
}

#[tokio::test]
async fn what_is_said_of_a_plate_is_not_said_of_the_next_one() {
    let (server, ordered, [first, _], lost) = uncertain_build().await;
    let path = format!("/builds/{}/resolve", ordered.build);
    let looked = json!({ "on_plate": "nothing", "fence": lost.fence });
    let technician = server.client_of("technician").await;
    first
        .resolve(&ordered.build, lost.fence, "nothing")
        .await
        .expect(200);

    // Made once more by the same cell, and in doubt once more: now something may lie there.
    let held = first.lease().await.expect_build(&ordered.build);
    held.stage().await.start().await;
    server.build_in(&ordered.build, "uncertain").await;
    first
        .resolve(&ordered.build, lost.fence, "nothing")
        .await
        .expect_problem(409, "stale");
    let late = technician.post(&path, &looked).await;
    late.expect_problem(409, "stale");
    server.build_in(&ordered.build, "uncertain").await;
    assert_eq!(server.events_named("build.started").await.len(), 2);

    first
        .resolve(&ordered.build, held.fence, "partial")
        .await
        .expect(200);
    let resolved = server.events_named("build.resolved").await;
    let fences: Vec<_> = resolved.iter().map(|e| &e["payload"]["fence"]).collect();
    assert_eq!(fences, [&json!(lost.fence), &json!(held.fence)]);
}

#[tokio::test]
async fn half_a_part_on_the_plate_ends_the_build() {
    let (server, ordered, [first, _], lost) = uncertain_build().await;
    first
        .resolve(&ordered.build, lost.fence, "partial")
        .await
        .expect(200);
    let run = server.ended_run(&ordered.run).await;
    assert_eq!(run["state"], "failed");
    assert_eq!(run["steps"][0]["error"]["code"], "partial_print", "{run:#}");
}

#[tokio::test]
async fn a_cell_that_comes_back_may_still_say_what_it_made() {
    let (server, ordered, [mut first, second], lost) = uncertain_build().await;
    first.reconnect().await;
    let stale = lost.complete(b"from the connection before").await;
    stale.expect_problem(409, "stale");
    first
        .resolve(&ordered.build, lost.fence, "finished")
        .await
        .expect(200);
    second.lease().await.expect_no_work();
    lost.by(&first).complete(b"scan").await.expect(200);
    assert_eq!(
        server.result_of(&ordered.run).await["scan"],
        tests::digest(b"scan")
    );
    assert_eq!(server.events_named("build.started").await.len(), 1);
}

#[tokio::test]
async fn a_new_connection_shuts_out_the_one_before() {
    let server = Server::start().await;
    let mut cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let old = cell.clone();
    let lost = cell.lease().await.expect_build(&ordered.build);
    cell.reconnect().await;
    assert!(cell.epoch > old.epoch);
    old.lease().await.answer().expect_problem(409, "stale");
    lost.tell("start", json!({}))
        .await
        .expect_problem(409, "stale");
    // What was not started is free at once: no lease has to run out.
    cell.lease().await.expect_build(&ordered.build);
}
