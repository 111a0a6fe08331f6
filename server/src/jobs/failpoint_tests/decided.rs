//! An asset that is new, and a policy that has something done about it: once.

use serde_json::{Value, json};
use workflows::model::{Prediction, Timestamp};

use super::Life;
use super::hall::{Client, Hall, ended};
use crate::fleet::ask_policy;
use crate::store::scripts::Scripts;

const POLICY: &str = r#"fn decide(facts) {
    if facts.open_run != () || facts.cooling_down {
        return #{ action: "monitor", reason: "it is seen to" };
    }
    #{ action: "start", workflow: "see_to", reason: "always", event: #{ n: 4 } }
}"#;
const SEE_TO: &str = r#"fn run(event) { step("double", #{ n: event.n }, #{ backoff: "1ms" }) }"#;

pub(super) struct Decided;

impl Life for Decided {
    async fn prepare(hall: &Hall) -> Self {
        hall.serve("see_to", SEE_TO).await;
        let (db, now, policy) = (
            &hall.f.db.write,
            hall.clock.now_ms(),
            hall.config().fleet.policy,
        );
        let serving = Scripts::Policies.activate(db, now, &policy, POLICY).await;
        serving.unwrap();
        Self
    }

    async fn live(&self, client: &mut Client<'_>, key: &str) {
        let asset = key.replace(' ', "-");
        let fan = json!({ "kind": "fan", "name": asset, "locality": "hall", "row": 0, "col": 0 });
        let (status, answer) = client.ask("PUT", &format!("/assets/{asset}"), fan).await;
        assert!(status.is_success(), "{answer}");
        let decisions = format!("/decisions?asset={asset}");
        for tick in 0.. {
            assert!(tick < 20, "nothing is done about {asset}");
            let asked = asset.clone();
            client
                .within(|app| async move {
                    // Whatever comes of it, the next tick asks again.
                    let _ = ask_policy(&app, &[prediction(&asked)]).await;
                })
                .await;
            let (_, page) = client.ask("GET", &decisions, Value::Null).await;
            if started(&page).next().is_some() {
                break;
            }
        }
        let (_, page) = client.ask("GET", &decisions, Value::Null).await;
        let runs: Vec<_> = started(&page).collect();
        assert_eq!(runs.len(), 1, "one decision has something done: {page:#}");
        let over = client.until(&format!("/runs/{}", runs[0]), ended).await;
        assert_eq!(over["result"]["n"], 8, "{over:#}");
        let (_, page) = client
            .ask("GET", &format!("/runs?asset={asset}"), Value::Null)
            .await;
        assert_eq!(page["runs"].as_array().map(Vec::len), Some(1), "{page:#}");
    }
}

/// The runs that decisions started.
fn started(page: &Value) -> impl Iterator<Item = &str> {
    let decisions = page["decisions"].as_array().into_iter().flatten();
    decisions.filter_map(|decision| decision["run"].as_str())
}

fn prediction(asset: &str) -> Prediction {
    Prediction {
        asset: asset.to_owned(),
        at: Timestamp(1_700_000_000_000),
        fps: None,
        model: None,
        plugin: None,
        anomaly: None,
        detector: None,
        forecasts: Vec::new(),
    }
}
