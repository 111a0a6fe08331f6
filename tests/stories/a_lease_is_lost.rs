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

#[tokio::test]
async fn a_plate_that_nobody_has_looked_at_gets_no_other_part() {
    let (server, doubtful, [first, second], lost) = uncertain_build().await;
    let other = server.order_build().await;
    let refused = first.lease().await;
    let problem = refused.answer().expect_problem(409, "plate_unknown");
    assert_eq!(problem["build"], *doubtful.build, "{problem}");
    assert_eq!(problem["fence"], lost.fence, "{problem}");
    let begun = std::time::Instant::now();
    let waited = first.lease_once(None, 1).await;
    waited.answer().expect_problem(409, "plate_unknown");
    assert!(begun.elapsed().as_millis() >= 900, "it may be looked at");
    let waiting = server.see_build(&other.build).await;
    let why = &waiting["not_dispatched_because"];
    assert_eq!(why[0]["code"], "plate_unknown", "{why}");
    assert_eq!(why[1]["code"], "next", "{why}");
    second.lease().await.expect_build(&other.build);

    // Somebody looks while the cell waits: it goes on at once.
    let third = server.order_build().await;
    let waiting = tokio::spawn(async move { first.lease_once(None, 30).await });
    let technician = server.client_of("technician").await;
    let path = format!("/builds/{}/resolve", doubtful.build);
    let body = json!({ "on_plate": "partial", "fence": lost.fence });
    technician.post(&path, &body).await.expect(200);
    let looked = std::time::Instant::now();
    let held = waiting.await.expect("no panic").expect_build(&third.build);
    assert!(looked.elapsed().as_secs() < 10, "woken");
    held.stage().await.start().await;
}

#[tokio::test]
async fn the_reference_cell_waits_until_somebody_has_looked_at_its_plate() {
    let server = Server::with(&[("FOREWRIGHT_BUILDS_MAX_WAIT_S", "1")]).await;
    let mut process = server.reference_cell("r1").await;
    let mut by_hand = server.hand_of_reference_cell("r1").await;
    process.kill().await.expect("it can be killed");
    // Something that its memory does not know of was begun on its machine.
    by_hand.reconnect().await;
    let doubtful = server.order_build().await;
    let lost = by_hand.lease().await.expect_build(&doubtful.build);
    lost.stage().await.start().await;
    let _process = server.start_reference_cell("r1");
    server.build_in(&doubtful.build, "uncertain").await;
    let next = server.order_build().await;
    let why = server.see_build(&next.build).await;
    assert_eq!(why["not_dispatched_because"][0]["code"], "plate_unknown");
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 4 {
        let cell = server.operator.get("/cells/r1").await.expect(200);
        heard.insert(cell["seen_at"].to_string());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    let path = format!("/builds/{}/resolve", doubtful.build);
    let body = json!({ "on_plate": "partial", "fence": lost.fence });
    server.operator.post(&path, &body).await.expect(200);
    let made = server.build_in(&next.build, "ended").await;
    assert_eq!(made["cell"], "r1");
    let connected = server.events_named("cell.connected").await;
    assert_eq!(connected.len(), 3, "refused, it asks on in its session");
}

#[tokio::test]
async fn a_person_completes_what_a_cell_left_finished() {
    let (server, ordered, _, lost) = uncertain_build().await;
    let path = format!("/builds/{}/resolve", ordered.build);
    let finished =
        |scan: Option<&str>| json!({ "on_plate": "finished", "fence": lost.fence, "scan": scan });
    let technician = server.client_of("technician").await;
    let told = technician.post(&path, &finished(None)).await.expect(200);
    assert_eq!(told["state"], "uncertain");
    assert_eq!(told["on_plate"], "finished");
    let why = format!("/runs/{}/why", ordered.run);
    let why = server.operator.get(&why).await.expect(200);
    let reason = why["reason"].as_str().expect("a reason");
    assert!(reason.contains("waits for a scan of the part"), "{reason}");

    let scan = tests::digest(b"what a person scanned");
    let missing = technician.post(&path, &finished(Some(&scan))).await;
    missing.expect_problem(404, "not_found");
    server.upload(b"what a person scanned").await;
    let odd = json!({ "on_plate": "partial", "fence": lost.fence, "scan": scan });
    let odd = technician.post(&path, &odd).await;
    odd.expect_problem(422, "unexpected_scan");
    let made = technician.post(&path, &finished(Some(&scan))).await;
    assert_eq!(made.expect(200)["state"], "ended");
    assert_eq!(server.result_of(&ordered.run).await["scan"], *scan);
    let late = lost.complete(b"what the cell scanned").await;
    late.expect_problem(409, "lease_ended");
}
