//! A trigger whose first tick starts a run, and whose second waits until that has ended.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Life;
use super::hall::{Client, Hall, ended};
use crate::jobs::fire_triggers;
use crate::process::trigger_limits;

const HOUR_MS: i64 = 3_600_000;

const TICKED: &str = r#"fn run(event) {
    step("double", #{ n: 4 }, #{ backoff: "1ms" });
    wait_event("go", event.trigger.name, "24h");
}"#;

pub(super) struct Ticking;

impl Life for Ticking {
    async fn prepare(hall: &Hall) -> Self {
        hall.serve("ticked", TICKED).await;
        Self
    }

    async fn live(&self, client: &mut Client<'_>, key: &str) {
        let clock = &client.hall.clock;
        // Half past, so that no other tick comes in between.
        clock.advance(HOUR_MS - clock.now_ms() % HOUR_MS + HOUR_MS / 2);
        let name = key.replace(' ', "-");
        let trigger = format!("/triggers/{name}");
        let hourly =
            json!({ "cron": "@hourly", "workflow": "ticked", "missed": "all", "overlap": "queue" });
        let (status, answer) = client.ask("PUT", &trigger, hourly).await;
        assert_eq!(status, 200, "{answer}");

        clock.advance(HOUR_MS);
        let first = until_ticks(client, &trigger, ["started"]).await[0].clone();
        clock.advance(HOUR_MS);
        until_ticks(client, &trigger, ["started", "queued"]).await;
        go(client, &name, &first).await;
        let second = until_ticks(client, &trigger, ["started", "started"]).await[1].clone();
        go(client, &name, &second).await;

        let (status, answer) = client.ask("DELETE", &trigger, Value::Null).await;
        assert!(status == 204 || status == 404, "{answer}");
        let (_, page) = client
            .ask("GET", "/runs?workflow=ticked", Value::Null)
            .await;
        let runs = page["runs"].as_array().into_iter().flatten();
        let mine: BTreeSet<_> = runs
            .filter(|run| run["event"]["trigger"]["name"] == *name)
            .map(|run| run["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(mine, BTreeSet::from([first, second]), "a run for each tick");
    }
}

/// Fires what is due until the ticks, from the first, came to this; gives their runs, where they have one.
async fn until_ticks<const N: usize>(
    client: &mut Client<'_>,
    trigger: &str,
    states: [&str; N],
) -> Vec<String> {
    for _ in 0..100 {
        client.within(fire).await;
        let path = format!("{trigger}/ticks");
        let (_, page) = client.ask("GET", &path, Value::Null).await;
        let ticks = page["ticks"].as_array().into_iter().flatten().rev();
        if ticks.clone().map(|tick| &tick["state"]).eq(states) {
            let runs = ticks.map(|tick| tick["run"].as_str().unwrap_or_default().to_owned());
            return runs.collect();
        }
    }
    panic!("the ticks of {trigger} never came to {states:?}");
}

async fn fire(app: crate::app::App) {
    let (now, limits) = (app.now_ms(), trigger_limits(&app));
    // Whatever comes of it, it is done again every few seconds.
    let _ = fire_triggers(&app.db, now, &limits).await;
}

/// Tells a run to go, and sees it end.
async fn go(client: &mut Client<'_>, name: &str, run: &str) {
    let run = format!("/runs/{run}");
    client.until(&run, super::hall::waits("wait_event")).await;
    let event = json!({ "name": "go", "key": name, "payload": {} });
    let (status, told) = client.ask("POST", "/events", event).await;
    assert_eq!(status, 202, "{told}");
    let over = client.until(&run, ended).await;
    assert_eq!(over["state"], "succeeded", "{over:#}");
}
