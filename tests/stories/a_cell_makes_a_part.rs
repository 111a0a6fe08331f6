//! A cell makes a part: enrol, lease, stage, start, complete; and nothing of it twice.

use std::fmt::Write;

use serde_json::json;
use tests::{Server, eventually};

#[tokio::test]
async fn a_cell_makes_a_part() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    cell.lease().await.expect_no_work();

    let ordered = server.order_build().await;
    let lease = cell.lease().await.expect_build(&ordered.build);
    assert_eq!(lease.view["gcode"]["digest"], *ordered.digest);
    assert_eq!(lease.view["gcode"]["size_bytes"], ordered.gcode.len());
    assert_eq!(lease.view["state"], "leased");

    lease.stage().await;
    lease.start().await;
    let beat = lease.heartbeat(1, 40.0).await.expect(200);
    assert_eq!(beat["cancel_requested"], false);
    let build = server.see_build(&ordered.build).await;
    assert_eq!(build["state"], "started");
    assert_eq!(build["progress"], 0.4);
    assert_eq!(build["cell"], *cell.id);

    let ended = lease.complete(b"what the scanner saw").await.expect(200);
    assert_eq!(ended["state"], "ended");
    let result = server.result_of(&ordered.run).await;
    assert_eq!(result["build"], *ordered.build);
    assert_eq!(result["scan"], tests::digest(b"what the scanner saw"));
    cell.lease().await.expect_no_work();
}

#[tokio::test]
async fn every_report_may_be_repeated_and_none_contradicted() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let lease = cell.lease().await.expect_build(&ordered.build);

    let early = lease.tell("start", json!({})).await;
    early.expect_problem(422, "not_staged");
    let lie = json!({ "digest": tests::digest(b"other bytes") });
    let lie = lease.tell("staged", lie).await;
    lie.expect_problem(422, "digest_mismatch");

    lease.stage().await.stage().await;
    lease.start().await.start().await;
    assert_eq!(server.events_named("build.started").await.len(), 1);

    let invented = json!({ "scan": tests::digest(b"never uploaded"), "report": {} });
    let invented = lease.tell("complete", invented).await;
    invented.expect_problem(404, "not_found");
    lease.complete(b"scan").await.expect(200);
    lease.complete(b"scan").await.expect(200);
    let other = lease.complete(b"another scan").await;
    other.expect_problem(409, "lease_ended");
    assert_eq!(server.events_named("build.ended").await.len(), 1);
}

#[tokio::test]
async fn a_lost_reply_to_a_claim_strands_nothing() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let first = cell.lease_once(Some("key-1"), 0).await;
    let first = first.expect_build(&ordered.build);
    let again = cell.lease_once(Some("key-1"), 0).await;
    let again = again.expect_build(&ordered.build);
    assert_eq!((first.id, first.fence), (again.id, again.fence));
    let greedy = cell.lease_once(Some("key-2"), 0).await;
    greedy.answer().expect_problem(409, "lease_held");
}

#[tokio::test]
async fn a_cell_that_waits_hears_of_work_at_once() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let waiting = tokio::spawn(async move { cell.lease_once(None, 20).await });
    let ordered = server.order_build().await;
    let begun = std::time::Instant::now();
    let leased = waiting.await.expect("an answer");
    assert_eq!(leased.answer().header("preference-applied"), "wait=20");
    leased.expect_build(&ordered.build);
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cell_speaks_for_itself_alone() {
    let server = Server::start().await;
    let honest = server.cell("honest").await;
    let thief = server.cell("thief").await;
    let ordered = server.order_build().await;
    let lease = honest.lease().await.expect_build(&ordered.build);

    let path = format!("/cells/{}/leases", honest.id);
    let body = json!({ "epoch": honest.epoch });
    let stolen = thief.client.post(&path, &body).await;
    stolen.expect_problem(403, "forbidden");
    let stolen = lease.by(&thief).tell("start", json!({})).await;
    stolen.expect_problem(409, "stale");
    let path = format!("/builds/{}", ordered.build);
    thief
        .client
        .get(&path)
        .await
        .expect_problem(403, "forbidden");
}

#[tokio::test]
async fn a_failed_build_fails_the_step_that_ordered_it() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let lease = cell.lease().await.expect_build(&ordered.build);
    lease.stage().await.start().await;
    lease.fail("nozzle_jam").await.expect(200);
    let run = server.ended_run(&ordered.run).await;
    assert_eq!(run["state"], "failed");
    assert_eq!(run["steps"][0]["error"]["code"], "nozzle_jam", "{run:#}");
}

#[tokio::test]
async fn a_cancelled_run_is_not_made() {
    let server = Server::start().await;
    let cell = server.cell("c1").await;
    let ordered = server.order_build().await;
    let lease = cell.lease().await.expect_build(&ordered.build);
    lease.stage().await;
    let path = format!("/runs/{}/cancel", ordered.run);
    server.operator.post(&path, &json!({})).await.expect(202);
    let run = server.ended_run(&ordered.run).await;
    assert_eq!(run["state"], "cancelled");
    eventually(
        "the start to be refused",
        std::time::Duration::from_secs(5),
        || async { (lease.tell("start", json!({})).await.status == 409).then_some(()) },
    )
    .await;
    assert_eq!(server.events_named("build.started").await.len(), 0);
}

/// A program that keeps a simulated machine busy for longer than the story takes: wide beads across the same plate.
fn long_program() -> String {
    let mut gcode = "; made for long\nG28\nM109 S210\nM83\n".to_owned();
    for layer in 1..=200 {
        let z = f64::from(layer) * 0.2;
        writeln!(gcode, "G1 X10 Y10 Z{z:.1} F3000").expect("text takes text");
        for _ in 0..400 {
            gcode.push_str("G1 X70 Y70 E30\nG1 X10 Y10 E30\n");
        }
    }
    gcode + "M84\n"
}

#[tokio::test]
async fn the_reference_cell_stops_a_build_that_is_called_off_and_makes_the_next() {
    let server = Server::with(&[("FOREWRIGHT_BUILDS_HEARTBEAT_MS", "100")]).await;
    let unwanted = server.order_build_of(&long_program()).await;
    let _cell = server.reference_cell("simulated").await;
    server.build_in(&unwanted.build, "started").await;
    let path = format!("/runs/{}/cancel", unwanted.run);
    server.operator.post(&path, &json!({})).await.expect(202);

    let build = server.build_in(&unwanted.build, "ended").await;
    let failure = build["failure"].as_str().unwrap_or_default();
    assert!(failure.starts_with("cancelled: "), "{build:#}");
    assert_eq!(build.get("scan"), None, "{build:#}");
    let run = server.ended_run(&unwanted.run).await;
    assert_eq!(run["state"], "cancelled");

    let short = "; made at once\nG28\nM109 S210\nG1 X10 Y10 Z0.2 F3000\nG1 X40 Y10 E1.5\nM84\n";
    let wanted = server.order_build_of(short).await;
    assert_eq!(server.result_of(&wanted.run).await["build"], *wanted.build);
}
