//! A run that is moved to another revision, begun again with one that asks for something else, and pinned.

use serde_json::{Value, json};

use super::Life;
use super::hall::{Client, Hall, ended, waits};

const FIRST: &str = r#"fn run(event) {
    let n = step("double", #{ n: 4 }, #{ backoff: "1ms" }).n;
    sleep("1m");
    n
}"#;
/// Asks for the same.
const SECOND: &str = r#"fn run(event) {
    let one = step("double", #{ n: 4 }, #{ backoff: "1ms" });
    sleep("1m");
    one.n + 1
}"#;
/// Asks for something else first.
const OTHER: &str =
    r#"fn run(event) { step("unsteady", #{ key: event.key }, #{ backoff: "1ms" }) }"#;

/// The revisions, by digest.
pub(super) struct Moved {
    first: String,
    second: String,
    other: String,
}

impl Life for Moved {
    async fn prepare(hall: &Hall) -> Self {
        let other = hall.serve("moved", OTHER).await;
        let second = hall.serve("moved", SECOND).await;
        let first = hall.serve("moved", FIRST).await;
        Self {
            first,
            second,
            other,
        }
    }

    async fn live(&self, client: &mut Client<'_>, key: &str) {
        let id = client.start_run("moved", key).await;
        let run = format!("/runs/{id}");
        client.until(&run, waits("sleep")).await;
        let whereto = json!({ "from": self.first, "to": self.second, "dry_run": false });
        loop {
            let migrate = "/workflows/moved/migrate";
            let (status, report) = client.ask("POST", migrate, whereto.clone()).await;
            assert_eq!(status, 200, "{report}");
            let (_, view) = client.ask("GET", &run, Value::Null).await;
            if view["revision"] == *self.second {
                break;
            }
        }
        let cancel = format!("{run}/cancel");
        let (status, answer) = client.ask("POST", &cancel, Value::Null).await;
        assert!(status == 202 || status == 409, "{answer}");
        let moved = client.until(&run, ended).await;
        assert_eq!(moved["state"], "cancelled", "{moved:#}");

        let (_, journal) = client
            .ask("GET", &format!("{run}/journal"), Value::Null)
            .await;
        let asleep = journal["entries"].as_array().into_iter().flatten();
        let asleep = asleep.last().unwrap()["position"].clone();
        let restart = json!({ "from": asleep, "revision": self.other });
        let (path, key) = (format!("{run}/restart"), format!("{key} again"));
        let (status, again) = client.ask_with("POST", &path, restart, Some(&key)).await;
        assert_eq!(status, 201, "{again}");
        let again = format!("/runs/{}", again["id"].as_str().unwrap());
        let diverged = |run: &Value| (run["state"] == "diverged").then_some(());
        client.until(&again, diverged).await;
        let pin = json!({ "revision": self.second });
        let (status, answer) = client.ask("POST", &format!("{again}/pin"), pin).await;
        assert!(status == 202 || status == 409, "{answer}");
        client.until(&again, waits("sleep")).await;
        client.hall.clock.advance(60_001);
        let pinned = client.until(&again, ended).await;
        assert_eq!(pinned["result"], 9, "{pinned:#}");
    }
}
