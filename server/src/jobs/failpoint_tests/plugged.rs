//! A plugin that is uploaded, compiled, checked, let serve and asked: whoever dies over it, the next goes on.

use serde_json::{Value, json};

use super::Life;
use super::hall::{Client, Hall};
use crate::host::action::{Deed, act};
use crate::plugins::examine::examine_next;
use crate::plugins::guests;

pub(super) struct Plugged;

impl Life for Plugged {
    async fn prepare(_: &Hall) -> Self {
        Self
    }

    async fn live(&self, client: &mut Client<'_>, key: &str) {
        let plugin = key.replace(' ', "-");
        let file = ("application/wasm", guests::doer(&plugin));
        let (status, told) = client
            .send("POST", "/plugins?unsigned=true", file, None)
            .await;
        assert!(status.is_success(), "{told}");
        let version = format!("/plugins/{plugin}/versions/1.0.0");
        for look in 0.. {
            assert!(look < 20, "nobody examines {plugin}");
            client
                .within(|app| async move {
                    // Whatever comes of it, somebody looks again.
                    let _ = examine_next(&app.plugins).await;
                })
                .await;
            let (_, told) = client.ask("GET", &version, Value::Null).await;
            if told["state"] == "shadow" {
                break;
            }
            assert_ne!(told["state"], "quarantined", "{told:#}");
            // Whoever had it in hand has it no longer.
            client.pass(15_001).await;
        }
        let (status, told) = client
            .ask("POST", &format!("{version}/promote"), Value::Null)
            .await;
        assert!(status.is_success(), "{told}");
        for turn in 0.. {
            assert!(turn < 20, "{plugin} is not asked");
            let asked = plugin.clone();
            client
                .within(|app| async move {
                    let deed = Deed {
                        plugin: &asked,
                        input: &json!({ "n": 1 }),
                        run: "run-1",
                        position: "1",
                        now_ms: 0,
                        seed: 7,
                    };
                    // The step that asks is tried again.
                    let _ = act(&app.plugins, &deed).await;
                })
                .await;
            let (_, told) = client
                .ask("GET", &format!("{version}/calls"), Value::Null)
                .await;
            if let Some(call) = told["calls"].as_array().and_then(|calls| calls.first()) {
                assert_eq!(call["purpose"], "act for run-1/1");
                break;
            }
        }
        let (_, told) = client.ask("GET", &version, Value::Null).await;
        assert_eq!(told["state"], "active", "{told:#}");
        assert_eq!(told["health"]["failures"], 0, "{told:#}");
    }
}
