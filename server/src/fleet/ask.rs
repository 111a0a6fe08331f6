//! Asks the policy about assets, most urgent first, and has carried out what it decides.

use std::collections::BTreeMap;

use serde_json::json;
use workflows::model::Prediction;
use workflows::policy::{Asked, Failed};

use super::carry_out::{Order, carry_out};
use super::interview::Interview;
use super::known::{Known, risk};
use crate::app::App;
use crate::store::comparisons::comparison;
use crate::store::decisions::decision;
use crate::store::{self, StoreError};

/// Asks about each asset; answers the decisions' ids.
pub(crate) async fn ask_policy(
    app: &App,
    predictions: &[Prediction],
) -> anyhow::Result<Vec<String>> {
    let mut urgent: Vec<&Prediction> = predictions.iter().collect();
    urgent.sort_by(|a, b| {
        risk(b)
            .total_cmp(&risk(a))
            .then_with(|| a.asset.cmp(&b.asset))
    });
    if urgent.is_empty() {
        return Ok(Vec::new());
    }
    let interview = Interview::open(app).await?;
    let mut known = Known::load(app, &urgent).await?;
    let mut faults = Faults::default();
    let mut decisions = Vec::new();
    for prediction in urgent {
        let facts = known.facts(prediction)?;
        let (asked, took) = interview.ask(facts.clone()).await?;
        let duration_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        faults.note(&prediction.asset, &asked);
        let facts = serde_json::to_string(&facts)?;
        let Some(mut order) = order(app, prediction, asked, facts)? else {
            continue;
        };
        order.row.duration_us = duration_us;
        decisions.push(order.row.id.clone());
        if let Some(run) = carry_out(app, order, &known).await? {
            known.open_runs.insert(prediction.asset.clone(), run);
        }
    }
    faults.tell(app).await?;
    Ok(decisions)
}

/// What was decided about an asset, to be recorded and carried out; nothing where all that could decide failed.
fn order<'a>(
    app: &App,
    prediction: &'a Prediction,
    asked: Asked,
    facts: String,
) -> anyhow::Result<Option<Order<'a>>> {
    let Some((revision, decided)) = asked.decided else {
        return Ok(None);
    };
    let id = store::new_id(app.now_ms());
    let policy = &app.config.fleet.policy;
    let compared = asked.comparisons.into_iter().map(|c| comparison::Model {
        id: store::new_id(app.now_ms()),
        decision_id: id.clone(),
        policy: policy.clone(),
        asset: prediction.asset.clone(),
        at: prediction.at.0,
        flipped: c.before.differs(&c.after),
        failed: c.after.is_failure(),
        before_revision: c.before_revision,
        revision: c.revision,
        role: c.role.name().to_owned(),
        before_outcome: c.before.to_string(),
        outcome: c.after.to_string(),
    });
    let comparisons = compared.collect();
    let fell_back: Vec<_> = asked.failed.iter().map(told).collect();
    let fell_back = (!fell_back.is_empty()).then(|| json!(fell_back).to_string());
    let row = decision::Model {
        id,
        asset: prediction.asset.clone(),
        policy: policy.clone(),
        revision,
        facts,
        verdict: serde_json::to_string(&decided.decision)?,
        reason: decided.decision.reason().to_owned(),
        operations: i64::try_from(decided.operations).unwrap_or(i64::MAX),
        duration_us: 0,
        run_id: None,
        at: prediction.at.0,
        stopped_by: None,
        fell_back,
    };
    Ok(Some(Order {
        row,
        decision: decided.decision,
        prediction,
        comparisons,
    }))
}

fn told(failed: &Failed) -> serde_json::Value {
    json!({
        "revision": failed.revision,
        "code": failed.error.code(),
        "message": failed.error.to_string(),
    })
}

/// The revisions that failed in a tick: how often, and how first.
#[derive(Default)]
struct Faults(BTreeMap<String, (u64, String, Failed)>);

impl Faults {
    fn note(&mut self, asset: &str, asked: &Asked) {
        for failed in &asked.failed {
            let first = || (0, asset.to_owned(), failed.clone());
            let fault = self.0.entry(failed.revision.clone()).or_insert_with(first);
            fault.0 += 1;
        }
        if asked.decided.is_none() {
            let errors = asked.failed.iter().map(|f| f.error.to_string());
            let errors = errors.collect::<Vec<_>>().join("; ");
            tracing::error!(
                asset.id = asset,
                "no decision about asset `{asset}`: {errors}"
            );
        }
    }

    /// One fact for each revision: a fleet of thousands would tell the same thousands of times.
    async fn tell(&self, app: &App) -> Result<(), StoreError> {
        let policy = &app.config.fleet.policy;
        for (count, asset, failed) in self.0.values() {
            tracing::error!(
                policy,
                revision = failed.revision,
                "policy `{policy}` failed on {count} assets, first on `{asset}`: {}",
                failed.error
            );
            let mut detail = told(failed);
            detail["assets"] = json!(count);
            detail["first_asset"] = json!(asset);
            let tx = store::begin(&app.db.write).await?;
            store::events::record(&tx, app.now_ms(), "policy.failed", policy, &detail).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use workflows::model::Timestamp;
    use workflows::policy::{Guard, RevisionState, Stopped};

    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::store::decisions::DecisionFilter;
    use crate::store::{
        Page,
        runs::{RunEnd, RunFilter},
        scripts::Scripts,
    };

    const HOUR_MS: i64 = 3_600_000;

    /// A hall of two fans and a policy that always acts, by a workflow of its own for each.
    async fn hall(folder: &std::path::Path) -> App {
        let data = folder.display().to_string();
        let vars = [("FOREWRIGHT_SERVER_DATA".to_owned(), data)];
        let config = Config::load(None, vars.into_iter()).expect("defaults");
        let app = App::open(config, Clock::default()).await.expect("an app");
        let policy = r#"fn decide(facts) {
            if facts.open_run != () || facts.cooling_down {
                return #{ action: "monitor", reason: "it is seen to" };
            }
            #{ action: "start", workflow: `see_to_${facts.asset}`, reason: "always", event: #{ asset: "other", n: 1 } }
        }"#;
        let db = &app.db.write;
        let serving = &app.config.fleet.policy;
        let put = Scripts::Policies.activate(db, 0, serving, policy).await;
        put.expect("a policy");
        let source = "fn run(event) { event }";
        let put = Scripts::Workflows.activate(db, 0, "see_to_a", source).await;
        put.expect("a workflow");
        for id in ["a", "b"] {
            let asset = json!({ "id": id, "kind": "fan", "name": id, "locality": "hall", "row": 0, "col": 0 });
            let asset = serde_json::from_value(asset).expect("an asset");
            store::assets::put(db, 0, &asset).await.expect("stored");
        }
        app
    }

    fn prediction(asset: &str) -> Prediction {
        Prediction {
            asset: asset.to_owned(),
            // Telemetry that is a week behind the clock.
            at: Timestamp(1_700_000_000_000),
            fps: None,
            model: None,
            plugin: None,
            anomaly: None,
            detector: None,
            forecasts: Vec::new(),
        }
    }

    async fn decided(app: &App, asset: &str) -> decision::Model {
        let made = ask_policy(app, &[prediction(asset)]).await.expect("asked");
        let made = store::decisions::get(&app.db.read, &made[0]).await;
        made.expect("kept")
    }

    #[tokio::test]
    async fn a_decision_that_cannot_be_carried_out_is_kept_and_stops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let both = [prediction("b"), prediction("a")];
        let made = ask_policy(&app, &both).await.unwrap();
        assert_eq!(made.len(), 2);
        let rows = store::decisions::list(&app.db.read, DecisionFilter::default(), Page::ALL).await;
        for row in rows.unwrap() {
            match row.asset.as_str() {
                "a" => {
                    let run = store::runs::get(&app.db.read, &row.run_id.unwrap()).await;
                    let event: Value = serde_json::from_str(&run.unwrap().event).unwrap();
                    assert_eq!((&event["asset"], &event["n"]), (&json!("a"), &json!(1)));
                }
                _ => assert_eq!(
                    (row.run_id, row.reason.as_str()),
                    (
                        None,
                        "always; not carried out: there is no workflow `see_to_b`"
                    )
                ),
            }
        }
    }

    #[tokio::test]
    async fn an_asset_cools_down_after_its_run_whatever_was_decided_since() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let run = decided(&app, "a").await.run_id.expect("a run");
        // While it goes on, and after it has ended, every tick decides to monitor.
        assert_eq!(decided(&app, "a").await.run_id, None);
        let now = app.now_ms();
        store::runs::end(&app.db.write, now, &run, &RunEnd::Failed(json!({})))
            .await
            .unwrap();
        for _ in 0..2 {
            assert_eq!(decided(&app, "a").await.reason, "it is seen to");
        }
        let quiet = app.config.policy.cooldown_hours as i64;
        app.clock.advance((quiet + 1) * HOUR_MS);
        assert!(decided(&app, "a").await.run_id.is_some());
    }

    #[tokio::test]
    async fn two_ticks_at_once_start_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let ask = || async { ask_policy(&app, &[prediction("a")]).await.unwrap() };
        tokio::join!(ask(), ask(), ask(), ask());
        let runs = store::runs::list(&app.db.read, RunFilter::default(), Page::ALL).await;
        assert_eq!(runs.unwrap().len(), 1);
    }

    /// Lets a policy serve that always starts the workflow of asset `a`.
    async fn always(app: &App, event: &str) {
        let policy = format!(
            r#"fn decide(facts) {{ #{{ action: "start", workflow: "see_to_a", reason: "always", event: #{{ {event} }} }} }}"#
        );
        let serving = &app.config.fleet.policy;
        let put = Scripts::Policies.activate(&app.db.write, 1, serving, &policy);
        put.await.expect("a policy");
    }

    fn guard(row: &decision::Model) -> Option<Guard> {
        let stopped = row.stopped_by.as_deref()?;
        let stopped: Stopped = serde_json::from_str(stopped).expect("JSON");
        Some(stopped.guard)
    }

    #[tokio::test]
    async fn each_guard_stops_the_run_and_is_told_with_the_decision() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        always(&app, "").await;
        let db = &app.db.write;
        let now = app.now_ms();
        store::guards::set_kill_switch(db, now, "olga", Some("a fire"))
            .await
            .unwrap();
        assert_eq!(guard(&decided(&app, "a").await), Some(Guard::KillSwitch));
        store::guards::set_kill_switch(db, now, "olga", None)
            .await
            .unwrap();
        let policy = &app.config.fleet.policy;
        store::guards::set_dry_run(db, now, "olga", policy, true)
            .await
            .unwrap();
        assert_eq!(guard(&decided(&app, "a").await), Some(Guard::DryRun));
        store::guards::set_dry_run(db, now, "olga", policy, false)
            .await
            .unwrap();
        let run = decided(&app, "a").await.run_id.expect("a run");
        let again = decided(&app, "a").await;
        assert_eq!((guard(&again), again.run_id), (Some(Guard::OpenRun), None));
        // Two fans, half of which may be worked on: one.
        assert_eq!(guard(&decided(&app, "b").await), Some(Guard::BlastRadius));
        store::runs::end(db, now, &run, &RunEnd::Cancelled(json!({})))
            .await
            .unwrap();
        // The policy does not look at `cooling_down`; the guard does.
        let cooling = decided(&app, "a").await;
        assert_eq!(guard(&cooling), Some(Guard::CoolDown));
        assert!(cooling.stopped_by.unwrap().contains("until"));
        assert!(decided(&app, "b").await.run_id.is_some());
        let told = store::events::after(db, 0, 100).await.unwrap();
        let stops = told.iter().filter(|e| e.name == "decision.stopped");
        assert_eq!(stops.count(), 5);
    }

    #[tokio::test]
    async fn a_storm_of_one_cause_starts_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let db = &app.db.write;
        let names: Vec<String> = (0..400).map(|n| format!("fan-{n}")).collect();
        let tx = store::begin(db).await.unwrap();
        for id in &names {
            let asset = json!({ "id": id, "kind": "fan", "name": id, "locality": "hall", "row": 0, "col": 0 });
            let asset = serde_json::from_value(asset).unwrap();
            store::assets::put(&tx, 0, &asset).await.unwrap();
        }
        tx.commit().await.unwrap();
        always(&app, r#"dedup_key: "cooling of the hall""#).await;
        let alerts: Vec<Prediction> = names.iter().map(|n| prediction(n)).collect();
        let made = ask_policy(&app, &alerts).await.unwrap();
        assert_eq!(made.len(), 400, "each is decided on");
        let runs = store::runs::list(db, RunFilter::default(), Page::ALL)
            .await
            .unwrap();
        assert_eq!(runs.len(), 1);
        let held = store::guards::suppressed(db, "see_to_a", "cooling of the hall").await;
        assert_eq!(held.unwrap(), 399);
        let rows = store::decisions::list(db, DecisionFilter::default(), Page::ALL)
            .await
            .unwrap();
        let stopped = rows
            .iter()
            .filter(|r| guard(r) == Some(Guard::Deduplication));
        assert_eq!(stopped.count(), 399);
        app.clock.advance(61_000);
        ask_policy(&app, &alerts[1..3]).await.unwrap();
        let runs = store::runs::list(db, RunFilter::default(), Page::ALL)
            .await
            .unwrap();
        assert_eq!(runs.len(), 2, "the window is over");
    }

    /// Stores a draft of the policy asked and moves it.
    async fn try_out(app: &App, source: &str, to: RevisionState, percent: Option<i64>) -> String {
        let (db, name) = (&app.db.write, &app.config.fleet.policy);
        let draft = Scripts::Policies
            .put(db, 1, name, source, None)
            .await
            .unwrap();
        let moved = Scripts::Policies.move_to(db, 1, name, &draft.digest, to, percent);
        moved.await.unwrap().digest
    }

    #[tokio::test]
    async fn shadow_and_canary_are_compared_and_only_the_canary_decides() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let monitor = |reason: &str| {
            format!(r#"fn decide(facts) {{ #{{ action: "monitor", reason: "{reason}" }} }}"#)
        };
        let policy = &app.config.fleet.policy;
        let shadow = try_out(&app, &monitor("shadow"), RevisionState::Shadow, None).await;
        let made = decided(&app, "a").await;
        assert!(made.run_id.is_some() && made.revision != shadow);
        let canary = try_out(&app, &monitor("canary"), RevisionState::Canary, Some(100)).await;
        let made = decided(&app, "b").await;
        assert_eq!((&made.revision, &*made.reason), (&canary, "canary"));
        for (revision, compared) in [(&shadow, 2), (&canary, 1)] {
            let pairs = store::comparisons::pairs(&app.db.read, policy, revision).await;
            let pairs = pairs.unwrap();
            assert_eq!(pairs.iter().map(|p| p.comparisons).sum::<i64>(), compared);
            assert!(
                pairs.iter().all(|p| p.flipped && p.outcome == "monitor"),
                "{pairs:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_revision_that_fails_is_made_up_for_and_that_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        let broken = "fn decide(facts) { facts.nothing }";
        let canary = try_out(&app, broken, RevisionState::Canary, Some(100)).await;
        let made = decided(&app, "a").await;
        assert!(made.run_id.is_some(), "the one that serves decided");
        assert!(made.fell_back.unwrap().contains(&canary));
        let worse = "fn decide(facts) { facts.nobody }";
        let serving = try_out(&app, worse, RevisionState::Active, None).await;
        let made = decided(&app, "a").await;
        assert_eq!(made.reason, "it is seen to", "the last good one decided");
        let fell_back: Vec<Value> = serde_json::from_str(&made.fell_back.unwrap()).unwrap();
        assert_eq!(fell_back.len(), 2);
        assert_eq!(fell_back[1]["revision"], json!(serving));
        let told = store::events::after(&app.db.read, 0, 100).await.unwrap();
        let faults = told.iter().filter(|e| e.name == "policy.failed");
        assert_eq!(faults.count(), 3);
    }

    #[tokio::test]
    async fn a_revision_that_thinks_for_too_long_is_stopped_and_the_next_asset_is_asked_about_anew()
    {
        let folder = tempfile::tempdir().unwrap();
        let app = hall(folder.path()).await;
        // Few operations, each of which compares thousands of items.
        let slow = r#"const LONG = { let a = []; a.pad(9_000, 1); a };
        fn decide(facts) {
            if facts.asset == "b" { while global::LONG == global::LONG { } }
            #{ action: "monitor", reason: "quick" }
        }"#;
        let canary = try_out(&app, slow, RevisionState::Canary, Some(100)).await;
        let both = [prediction("b"), prediction("a"), prediction("b")];
        let made = ask_policy(&app, &both).await.unwrap();
        let mut rows = Vec::new();
        for id in &made {
            rows.push(store::decisions::get(&app.db.read, id).await.unwrap());
        }
        let of = |asset: &'static str| rows.iter().filter(move |row| row.asset == asset);
        assert_eq!((of("a").count(), of("b").count()), (1, 2));
        for quick in of("a") {
            assert_eq!((&quick.revision, &*quick.reason), (&canary, "quick"));
        }
        for stopped in of("b") {
            let fell_back: Value =
                serde_json::from_str(stopped.fell_back.as_ref().unwrap()).unwrap();
            assert_eq!(fell_back[0]["code"], "limit.deadline", "{fell_back}");
            assert_ne!(stopped.revision, canary);
        }
    }
}
