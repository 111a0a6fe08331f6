//! Runs with steps, builds, children, timers, signals and people, from their start to their end.

use std::time::Duration;

use serde_json::{Value, json};

use super::Life;
use super::hall::{Client, Hall, ended, waits};
use crate::store::database::execute;
use crate::store::values;

const BUILD_LEASE_MS: i64 = 60_000;
const SCAN: &[u8] = b"a scan";

/// Every kind of commit of a run is somewhere in it.
const WHOLE: &str = r#"fn run(event) {
    let soon = #{ backoff: "1ms" };
    let one = step("double", #{ n: 4 }, #{ backoff: "1ms", concurrency_key: "press" });
    step("unsteady", #{ key: event.key }, soon);
    let refused = "";
    try { step("double", #{ n: -1 }, soon); } catch (e) { refused = e.code; }
    let scan = step("build", (), soon);
    sleep("1m");
    let said = wait_event("plate", event.key, "24h").said;
    let yes = approval("operator", (), "24h").answer;
    let child = step("run", #{ workflow: "child", event: #{ n: 3 } }, soon).result;
    [one.n, refused, scan, said, yes, child]
}"#;
/// Goes on in a new run once.
const CHILD: &str = r#"fn run(event) {
    let n = step("double", #{ n: event.n }, #{ backoff: "1ms" }).n;
    if n < 12 { continue_as_new(#{ n: n }); }
    n
}"#;
/// Comes to nothing at first, with a timer running and a step asked for in its last breath; what it did is undone.
const DOOMED: &str = r#"fn run(event) {
    on_failure(|| step("double", #{ n: 8 }, #{ backoff: "1ms" }));
    let meanwhile = start_sleep("1m");
    try { step("build", (), #{ backoff: "1ms" }); } catch (e) { }
    let done = ();
    try {
        done = step("healing", #{ key: event.key }, #{ backoff: "1ms" });
    } catch (e) {
        start("double", #{ n: 1 });
        log("in vain");
        throw e;
    }
    wait(meanwhile);
    done
}"#;

/// Waits for what never comes.
const CALLED_OFF: &str = r#"fn run(event) {
    on_failure(|| step("double", #{ n: 8 }, #{ backoff: "1ms" }));
    sleep("24h");
}"#;

/// Two runs, with everything somebody outside has to do for them.
pub(super) struct Whole;

impl Life for Whole {
    async fn prepare(hall: &Hall) -> Self {
        for (name, source) in [
            ("whole", WHOLE),
            ("child", CHILD),
            ("doomed", DOOMED),
            ("called_off", CALLED_OFF),
        ] {
            hall.serve(name, source).await;
        }
        let sql = "INSERT INTO cell (id, name, machine, created_at) VALUES ('c1', 'c1', '{}', $1)";
        let now = hall.clock.now_ms();
        execute(&hall.f.db.write, sql, values![now]).await.unwrap();
        let artifacts = crate::artifacts::Artifacts::open(&hall.config()).unwrap();
        artifacts.put(SCAN.into()).await.unwrap();
        Self
    }

    async fn live(&self, client: &mut Client<'_>, key: &str) {
        let id = client.start_run("whole", key).await;
        let run = format!("/runs/{id}");
        let (_, opened) = client.ask("POST", "/cells/c1/epochs", json!({})).await;
        let epoch = opened["epoch"].as_i64().unwrap();
        let lost = started(client, epoch, &format!("{key} 1")).await;
        let build = lost["build"].as_str().unwrap().to_owned();
        // Nothing is heard of the cell, and somebody has to look.
        client.pass(BUILD_LEASE_MS + 1).await;
        client
            .until(&format!("/builds/{build}"), |b| {
                (b["state"] == "uncertain").then_some(())
            })
            .await;
        let looked = json!({ "on_plate": "nothing", "fence": lost["fence"] });
        let resolve = format!("/builds/{build}/resolve");
        let (status, answer) = client.ask("POST", &resolve, looked).await;
        assert!(status == 200 || status == 409, "{answer}");
        let lease = started(client, epoch, &format!("{key} 2")).await;
        assert_eq!(lease["build"], *build);
        let scan = crate::artifacts::digest(SCAN);
        let made = json!({ "epoch": epoch, "fence": lease["fence"], "scan": scan });
        let complete = format!("/leases/{}/complete", lease["id"].as_str().unwrap());
        let (status, answer) = client.ask("POST", &complete, made).await;
        assert_eq!(status, 200, "{answer}");
        client.until(&run, waits("sleep")).await;
        client.hall.clock.advance(60_001);
        client.until(&run, waits("wait_event")).await;
        let event = json!({ "name": "plate", "key": key, "payload": { "said": "cold" } });
        let (status, told) = client.ask("POST", "/events", event).await;
        assert_eq!(status, 202, "{told}");
        client.until(&run, waits("approval")).await;
        let of_run = |page: &Value| {
            let asked = page["approvals"].as_array()?;
            let mine = asked.iter().find(|a| a["run"] == *id)?;
            Some(mine["id"].as_str()?.to_owned())
        };
        let asked = client.until("/approvals", of_run).await;
        let path = format!("/approvals/{asked}/answers");
        let (status, answer) = client.ask("POST", &path, json!({ "answer": true })).await;
        assert!(status == 200 || status == 409, "{answer}");
        let whole = client.until(&run, ended).await;
        assert_eq!(
            whole["result"],
            json!([8, "negative", scan, "cold", true, 12]),
            "{whole:#}"
        );

        let doomed = client.start_run("doomed", &format!("{key} doomed")).await;
        let lease = started(client, epoch, &format!("{key} 3")).await;
        let told = json!({
            "epoch": epoch, "fence": lease["fence"], "code": "jam", "message": "it is stuck",
        });
        let path = format!("/leases/{}/fail", lease["id"].as_str().unwrap());
        let (status, answer) = client.ask("POST", &path, told).await;
        assert_eq!(status, 200, "{answer}");
        let failed = client.until(&format!("/runs/{doomed}"), ended).await;
        assert_eq!(failed["state"], "failed");
        client.hall.known.add(&format!("healed {key} doomed"));
        let letter = |page: &Value| {
            let letters = page["dead_letters"].as_array()?;
            let mine = letters.iter().find(|l| l["run"] == *doomed)?;
            Some(mine["id"].as_str()?.to_owned())
        };
        let letter = client.until("/dead_letters", letter).await;
        let path = format!("/dead_letters/{letter}/redrive");
        let (status, again) = client.ask("POST", &path, Value::Null).await;
        assert_eq!(status, 201, "{again}");
        let again = format!("/runs/{}", again["id"].as_str().unwrap());
        client.until(&again, waits("sleep")).await;
        client.hall.clock.advance(60_001);
        let healed = client.until(&again, ended).await;
        assert_eq!(healed["result"], "healed", "{healed:#}");

        let called_off = format!("{key} called off");
        let stopped = client.start_run("called_off", &called_off).await;
        let run = format!("/runs/{stopped}");
        client.until(&run, waits("sleep")).await;
        let cancel = format!("{run}/cancel");
        let (status, answer) = client.ask("POST", &cancel, Value::Null).await;
        assert!(status == 202 || status == 409, "{answer}");
        let over = client.until(&run, ended).await;
        assert_eq!(over["state"], "cancelled", "{over:#}");
        let restart = format!("{run}/restart");
        let key = format!("{key} again");
        let (status, again) = client
            .ask_with("POST", &restart, json!({}), Some(&key))
            .await;
        assert_eq!(status, 201, "{again}");
        let again = format!("/runs/{}", again["id"].as_str().unwrap());
        client.until(&again, waits("sleep")).await;
        let force = format!("{again}/cancel?force=true");
        let (status, answer) = client.ask("POST", &force, Value::Null).await;
        assert!(status == 202 || status == 409, "{answer}");
        let over = client.until(&again, ended).await;
        assert_eq!(over["state"], "cancelled", "{over:#}");
    }
}

/// A lease of the run's build, staged and started.
async fn started(client: &mut Client<'_>, epoch: i64, key: &str) -> Value {
    let body = json!({ "epoch": epoch, "printers": ["p"], "materials": ["petg"] });
    let lease = loop {
        let (status, lease) = client
            .ask_with("POST", "/cells/c1/leases", body.clone(), Some(key))
            .await;
        if status == 201 {
            break lease;
        }
        assert_eq!(status, 204, "{lease}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mut told = json!({ "epoch": epoch, "fence": lease["fence"], "digest": "sha256:00" });
    for verb in ["staged", "start"] {
        let path = format!("/leases/{}/{verb}", lease["id"].as_str().unwrap());
        let (status, answer) = client.ask("POST", &path, told.clone()).await;
        assert_eq!(status, 200, "{verb}: {answer}");
        told.as_object_mut().unwrap().remove("digest");
    }
    for (name, value) in [("seq", json!(1)), ("percent", json!(5.0))] {
        told[name] = value;
    }
    let path = format!("/leases/{}", lease["id"].as_str().unwrap());
    let (status, answer) = client.ask("PUT", &path, told).await;
    assert_eq!(status, 200, "{answer}");
    lease
}
