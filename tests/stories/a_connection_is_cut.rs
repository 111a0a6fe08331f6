//! A connection may be cut at any byte of a claim: the build is never stranded, and never leased twice.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Cut, CuttingProxy, FakeCell, Ordered, Server};

/// A cell that repeats its claims, with the key of each.
struct Claimant<'a> {
    cell: FakeCell,
    proxy: &'a CuttingProxy,
    ordered: &'a Ordered,
    claims: i64,
}

impl Claimant<'_> {
    /// A claim is cut, and repeated with the same key: it gets one lease, not two. Answers what came back of the first.
    async fn claims_again_after(&mut self, cut: Cut) -> Vec<u8> {
        let key = format!("key-{:06}", self.claims);
        self.proxy.cut(cut);
        let reply = self.proxy.exchange(&self.cell.lease_bytes(&key)).await;
        let lease = self.cell.lease_once(Some(&key), 20).await;
        let lease = lease.expect_build(&self.ordered.build);
        self.claims += 1;
        assert_eq!(lease.fence, self.claims, "leased once after {cut:?}");
        if let Some(body) = complete_body(&reply) {
            assert_eq!(body["id"], *lease.id, "the same lease after {cut:?}");
        }
        // The next connection gives the build back for the next claim.
        self.cell.reconnect().await;
        reply
    }
}

/// The JSON of an answer that came whole.
fn complete_body(reply: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(reply);
    let (_, body) = text.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}

#[tokio::test]
async fn a_claim_whose_request_is_cut_anywhere_is_repeated_with_its_key() {
    let server = Server::start().await;
    let ordered = server.order_build().await;
    let proxy = CuttingProxy::before(server.anonymous.base()).await;
    let mut claimant = Claimant {
        cell: server.cell("c1").await,
        proxy: &proxy,
        ordered: &ordered,
        claims: 0,
    };
    let mut at = 0;
    while at <= claimant.cell.lease_bytes("key-000000").len() {
        claimant.claims_again_after(Cut::Request(at)).await;
        at += 1;
    }
    assert!(at > 200, "a request has more than {at} bytes");
}

#[tokio::test]
async fn a_claim_whose_reply_is_cut_anywhere_is_repeated_with_its_key() {
    let server = Server::start().await;
    let ordered = server.order_build().await;
    let proxy = CuttingProxy::before(server.anonymous.base()).await;
    let mut claimant = Claimant {
        cell: server.cell("c1").await,
        proxy: &proxy,
        ordered: &ordered,
        claims: 0,
    };
    let mut at = 0;
    loop {
        let reply = claimant.claims_again_after(Cut::Reply(at)).await;
        assert!(reply.len() <= at);
        if complete_body(&reply).is_some() {
            break;
        }
        at += 1;
    }
    assert!(at > 400, "an answer has more than {at} bytes");
}

/// Cells that never come back: what they were given, known to them or not, goes to others once the lease has run out.
#[tokio::test]
async fn a_claim_that_is_cut_and_never_repeated_goes_to_another_cell() {
    const LEASE: Duration = Duration::from_millis(1_500);
    let server = Server::with(&[
        ("FOREWRIGHT_BUILDS_LEASE_MS", "1500"),
        ("FOREWRIGHT_BUILDS_HEARTBEAT_MS", "400"),
    ])
    .await;
    let proxy = CuttingProxy::before(server.anonymous.base()).await;
    let cuts = (0..8).map(|n| Cut::Reply(n * 61));
    let cuts = cuts.chain((0..4).map(|n| Cut::Request(n * 70)));
    let mut builds = Vec::new();
    for (n, cut) in cuts.enumerate() {
        builds.push(server.order_build().await.build);
        let lost = server.cell(&format!("lost-{n}")).await;
        proxy.cut(cut);
        let reply = proxy.exchange(&lost.lease_bytes("only")).await;
        assert!(
            complete_body(&reply).is_none(),
            "it knows of no lease: {cut:?}"
        );
    }
    let begun = Instant::now();
    let rescuer = server.cell("rescuer").await;
    let mut rescued = Vec::new();
    while rescued.len() < builds.len() {
        let lease = rescuer.lease_once(None, 20).await.answer().expect(201);
        let build = lease["build"].as_str().expect("a build").to_owned();
        let held = rescuer.hold(&lease);
        held.fail("jam").await.expect(200);
        rescued.push(build);
    }
    rescued.sort();
    builds.sort();
    assert_eq!(rescued, builds, "each once");
    let late = begun.elapsed();
    assert!(
        late < LEASE + Duration::from_secs(30),
        "within the lease and a look: {late:?}"
    );
}
