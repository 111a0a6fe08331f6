//! A plugin's life on a server, from its upload to its quarantine.

use ::plugins::call;
use ::plugins::trust::SigningKey;
use ::plugins::v1::predict;
use ::plugins::world::World;
use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::ask::{NoAnswer, Question};
use super::examine::examine_next;
use super::guests::{by_last_value, detector, doer, predictor, predictor_with, traps_on_b};
use crate::auth::Role;
use crate::fleet;
use crate::host::action::{Deed, act};
use crate::store::{self, audit};
use crate::telemetry::Sample;
use crate::testing::{Answered, TestServer};

const HOUR_MS: i64 = 3_600_000;

/// A server, and somebody who may do everything.
struct Desk {
    server: TestServer,
    token: String,
}

impl Desk {
    async fn open() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let server = TestServer::with(settings).await;
        let token = server.token(Role::Operator, "olga").await;
        Self { server, token }
    }

    async fn upload_as(&self, token: &str, query: &str, file: Vec<u8>) -> Answered {
        let request = Request::post(format!("/api/v1/plugins{query}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/wasm")
            .body(Body::from(file));
        self.server.send(request.expect("a request")).await
    }

    async fn upload(&self, file: Vec<u8>) -> Answered {
        self.upload_as(&self.token, "?unsigned=true", file).await
    }

    /// Uploads, compiles and checks; answers where it stands then.
    async fn examined(&self, file: Vec<u8>) -> Value {
        let uploaded = self.upload(file).await;
        assert_eq!(uploaded.status, 201, "{:?}", uploaded.body);
        let told = uploaded.json();
        while examine_next(&self.server.app.plugins)
            .await
            .expect("examined")
        {}
        let (plugin, version) = (&told["plugin"], &told["version"]);
        let path = format!(
            "{}/versions/{}",
            plugin.as_str().unwrap(),
            version.as_str().unwrap()
        );
        self.get(&path).await
    }

    async fn get(&self, path: &str) -> Value {
        let path = format!("/api/v1/plugins/{path}");
        let answer = self.server.ask("GET", &path, &self.token, "").await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        answer.json()
    }

    async fn post(&self, path: &str, body: &str) -> Answered {
        let path = format!("/api/v1/plugins/{path}");
        self.server.ask("POST", &path, &self.token, body).await
    }

    async fn settings(&self, plugin: &str, settings: Value) -> Answered {
        let path = format!("/api/v1/plugins/{plugin}/settings");
        let body = settings.to_string();
        self.server.ask("PUT", &path, &self.token, &body).await
    }

    /// Two fans of which one metric is known, last at these values.
    async fn fans(&self, last: [(&str, f64); 2]) {
        let app = &self.server.app;
        for (id, value) in last {
            let asset = json!({ "id": id, "kind": "fan", "name": id, "locality": "hall", "row": 0, "col": 0 });
            let asset = serde_json::from_value(asset).unwrap();
            store::assets::put(&app.db.write, 0, &asset).await.unwrap();
            let now = app.now_ms();
            let sample = |hours: i64| Sample {
                asset: id.into(),
                metric: "vibration".into(),
                time_ms: now - hours * HOUR_MS,
                value: if hours == 0 { value } else { 1.0 },
            };
            let samples = (0..30).rev().map(sample).collect();
            let kept = app.telemetry.append(now, samples).await.unwrap();
            assert_eq!(kept.rejected, []);
        }
    }

    /// Scores the fleet; what is predicted of one asset.
    async fn scored(&self, asset: &str) -> Value {
        fleet::tick(&self.server.app, None, false)
            .await
            .expect("scored");
        let path = format!("/api/v1/assets/{asset}/prediction");
        let answer = self.server.ask("GET", &path, &self.token, "").await;
        match answer.status.as_u16() {
            200 => answer.json(),
            _ => Value::Null,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_compiled_checked_compared_and_then_serves() {
    let desk = Desk::open().await;
    desk.fans([("a", 40.0), ("b", 20.0)]).await;
    let file = predictor("wear", "1.0.0", &by_last_value(0.1));
    let checked = desk.examined(file.clone()).await;
    assert_eq!(checked["state"], "shadow", "{checked:#}");
    assert_eq!(checked["checks"]["passed"], checked["checks"]["cases"]);
    assert!(checked["verdicts"].as_array().unwrap().len() >= 30);
    assert_eq!(
        desk.scored("a").await,
        Value::Null,
        "who is compared scores nobody"
    );

    let promoted = desk.post("wear/versions/1.0.0/promote", "").await;
    assert_eq!(promoted.json()["state"], "active");
    let told = desk.scored("a").await;
    let fps = &told["fps"];
    assert_eq!(
        (&fps["1d"], &fps["7d"], &fps["30d"]),
        (&json!(0.4), &json!(0.5), &json!(0.6000000000000001))
    );
    assert_eq!(told["remaining_life_hours"], Value::Null);
    let by = &told["plugin"];
    assert_eq!(
        (&by["name"], &by["version"]),
        (&json!("wear"), &json!("1.0.0"))
    );
    assert_eq!(by["digest"], checked["digest"]);

    // The call that said so can be run again, bit for bit.
    let call = by["call"].as_str().unwrap();
    let path = format!("/api/v1/plugin_calls/{call}");
    let kept = desk.server.ask("GET", &path, &desk.token, "").await.json();
    assert_eq!(kept["purpose"], "score 2 assets of kind fan");
    let recording = desk
        .server
        .ask("GET", &format!("{path}/recording"), &desk.token, "")
        .await;
    let recording = ::plugins::recording::Recording::from_bytes(&recording.body).unwrap();
    let manifest = ::plugins::bundle::open(&file).unwrap().1;
    let counted = ::plugins::engine::Pace::Counted;
    let plugins = &desk.server.app.plugins;
    let again = plugins
        .ready(by["digest"].as_str().unwrap(), &manifest, counted)
        .await
        .unwrap();
    let nowhere = std::sync::Arc::new(::plugins::doors::Nowhere);
    let replayed = ::plugins::recording::replay(&again.plugin, &recording, nowhere);
    assert!(replayed.same, "{replayed:?}");
    let broken = audit::first_broken(&desk.server.app.db.read).await;
    assert_eq!(broken.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_compared_number_by_number_before_it_takes_over() {
    let desk = Desk::open().await;
    desk.fans([("a", 40.0), ("b", 20.0)]).await;
    desk.examined(predictor("wear", "1.0.0", &by_last_value(0.1)))
        .await;
    desk.post("wear/versions/1.0.0/promote", "").await;
    desk.examined(predictor("wear", "1.1.0", &by_last_value(0.2)))
        .await;
    desk.scored("a").await;
    let report = desk.get("wear/versions/1.1.0/differences").await;
    assert_eq!(report["assets"], 2);
    let worst = &report["differences"][0];
    let apart = worst["own"]["30d"].as_f64().unwrap() - worst["theirs"]["30d"].as_f64().unwrap();
    assert!((apart - 0.2).abs() < 1e-9, "{report:#}");
    assert!((report["largest"].as_f64().unwrap() - 0.2).abs() < 1e-9);

    let share = desk
        .post("wear/versions/1.1.0/canary", r#"{"percent": 100}"#)
        .await;
    assert_eq!(share.problem(422), "invalid_share");
    let canary = desk
        .post("wear/versions/1.1.0/canary", r#"{"percent": 99}"#)
        .await
        .json();
    assert_eq!(
        (&canary["state"], &canary["percent"]),
        (&json!("canary"), &json!(99))
    );
    desk.post("wear/versions/1.1.0/promote", "").await;
    let before = desk.get("wear/versions/1.0.0").await;
    assert_eq!(before["state"], "shadow", "it can be gone back to");
    assert_eq!(desk.scored("a").await["plugin"]["version"], "1.1.0");
    let retired = desk.post("wear/versions/1.0.0/retire", "").await;
    assert_eq!(retired.json()["state"], "retired");
    let late = desk.post("wear/versions/1.0.0/promote", "").await;
    assert_eq!(late.problem(409), "plugin_state");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fails_too_often_is_set_aside_and_the_next_one_answers() {
    let desk = Desk::open().await;
    desk.fans([("b", 20.0), ("c", 30.0)]).await;
    desk.examined(predictor("steady", "1.0.0", &by_last_value(0.0)))
        .await;
    desk.post("steady/versions/1.0.0/promote", "").await;
    let fragile = desk
        .examined(predictor("fragile", "1.0.0", &traps_on_b()))
        .await;
    assert_eq!(fragile["state"], "shadow", "{fragile:#}");
    desk.post("fragile/versions/1.0.0/promote", "").await;
    let settings = json!({ "quarantine_after": 3, "tries": 1 });
    assert_eq!(desk.settings("fragile", settings).await.status, 200);
    for round in 1..=4 {
        let app = &desk.server.app;
        fleet::tick(app, Some(&["b".to_owned()]), false)
            .await
            .expect("scored");
        let told = desk
            .server
            .ask("GET", "/api/v1/assets/b/prediction", &desk.token, "")
            .await;
        assert_eq!(told.json()["plugin"]["name"], "steady", "round {round}");
    }
    let fragile = desk.get("fragile/versions/1.0.0").await;
    assert_eq!(fragile["state"], "quarantined");
    assert_eq!(fragile["reason"], "3 calls in a row failed");
    assert_eq!(fragile["health"]["failures"], 3, "nobody asks it any more");
    let failed = desk.get("fragile/versions/1.0.0/calls?failed=true").await;
    let calls = failed["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0]["failure"]["code"], "plugin.trap");
    assert_eq!(calls[0]["purpose"], "score b");
    let events = desk
        .server
        .ask("GET", "/api/v1/events?name=plugin.moved", &desk.token, "")
        .await
        .json();
    let last = events["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["subject"], &last["payload"]["to"]),
        (&json!("fragile"), &json!("quarantined"))
    );

    // Out of its quarantine it is compiled and checked anew.
    let back = desk.post("fragile/versions/1.0.0/demote", "").await.json();
    assert_eq!(back["state"], "uploaded");
    while examine_next(&desk.server.app.plugins).await.unwrap() {}
    let again = desk.get("fragile/versions/1.0.0").await;
    assert_eq!(
        (&again["state"], &again["health"]["failures_in_a_row"]),
        (&json!("shadow"), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_asset_that_a_plugin_fails_over_leaves_no_other_without_it() {
    let desk = Desk::open().await;
    desk.fans([("b", 20.0), ("c", 30.0)]).await;
    for (plugin, file) in [("steady", by_last_value(0.0)), ("fragile", traps_on_b())] {
        desk.examined(predictor(plugin, "1.0.0", &file)).await;
        let promote = format!("{plugin}/versions/1.0.0/promote");
        assert_eq!(desk.post(&promote, "").await.status, 200);
        assert_eq!(
            desk.settings(plugin, json!({ "tries": 1 })).await.status,
            200
        );
    }
    let scored = async |asset: &str| desk.scored(asset).await["plugin"]["name"].clone();
    assert_eq!(scored("c").await, "fragile");
    assert_eq!(scored("b").await, "steady");
    // Together, and then each alone; `scored` scores both each time.
    let fragile = desk.get("fragile/versions/1.0.0").await;
    assert_eq!(fragile["health"]["calls"], 6, "{fragile:#}");
    assert_eq!(fragile["health"]["failures"], 4, "{fragile:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_found_before_it_was_retired_is_not_asked_after() {
    let desk = Desk::open().await;
    desk.examined(predictor("steady", "1.0.0", &by_last_value(0.0)))
        .await;
    let plugins = &desk.server.app.plugins;
    let found = plugins.members(World::Predictor).await.expect("read");
    let ask = async || {
        let request = predict::Request {
            histories: Vec::new(),
            horizons: vec![1.0],
            model: None,
        };
        let question = Question {
            member: &found[0],
            purpose: "test",
            request: call::Request::Predict(request),
            now_ms: 0,
            seed: 0,
        };
        plugins.ask(question).await
    };
    ask().await.expect("a shadow is asked");
    let retired = desk.post("steady/versions/1.0.0/retire", "").await;
    assert_eq!(retired.json()["state"], "retired");
    let late = ask().await.unwrap_err();
    assert!(matches!(late, NoAnswer::SetAside { .. }), "{late}");
    let calls = &desk.get("steady/versions/1.0.0").await["health"]["calls"];
    assert_eq!(calls, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_its_checks_never_serves_and_says_why() {
    let desk = Desk::open().await;
    let traps = desk
        .examined(predictor("traps", "1.0.0", "unreachable"))
        .await;
    assert_eq!(traps["state"], "quarantined");
    let reason = traps["reason"].as_str().unwrap();
    assert!(reason.starts_with("plugin.checks-failed: "), "{reason}");
    let verdict = &traps["verdicts"][0];
    assert_eq!(
        (&verdict["name"], &verdict["passed"]),
        (&json!("plain"), &json!(false))
    );
    let promoted = desk.post("traps/versions/1.0.0/promote", "").await;
    assert_eq!(promoted.problem(409), "plugin_state");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_over_a_plugin_leaves_it_to_the_next() {
    let desk = Desk::open().await;
    let app = &desk.server.app;
    desk.upload(predictor("wear", "1.0.0", &by_last_value(0.1)))
        .await;
    let tx = store::begin(&app.db.write).await.unwrap();
    let taken = store::plugins::take(&tx, app.now_ms(), 15_000)
        .await
        .unwrap()
        .expect("one waits");
    tx.commit().await.unwrap();
    assert_eq!(desk.get("wear/versions/1.0.0").await["state"], "compiling");
    assert!(
        !examine_next(&app.plugins).await.unwrap(),
        "it is in somebody's hands"
    );
    app.clock.advance(15_001);
    assert!(examine_next(&app.plugins).await.unwrap());
    assert_eq!(desk.get("wear/versions/1.0.0").await["state"], "shadow");
    let late = store::plugins::hold(&app.db.write, 0, &taken).await;
    assert!(
        matches!(late, Err(store::StoreError::Stale { .. })),
        "{late:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_with_a_code_of_its_own() {
    let desk = Desk::open().await;
    let file = predictor("wear", "1.0.0", &by_last_value(0.1));
    let refused = async |file: Vec<u8>| desk.upload(file).await.problem(422);
    assert_eq!(refused(Vec::new()).await, "plugin.not-wasm");
    assert_eq!(refused(b"#!/bin/sh".to_vec()).await, "plugin.not-wasm");
    assert_eq!(
        refused(file[..file.len() - 1].to_vec()).await,
        "plugin.broken"
    );
    let (bundle, _) = ::plugins::bundle::open(&file).unwrap();
    assert_eq!(
        refused(bundle.component.to_vec()).await,
        "plugin.no-manifest"
    );
    let with = |manifest: &str| ::plugins::bundle::pack(bundle.component, manifest);
    assert_eq!(refused(with("name = 1")).await, "plugin.manifest");
    let lies = format!(
        "digest = \"{}\"\n{}",
        ::plugins::bundle::digest(b"other"),
        bundle.manifest
    );
    assert_eq!(refused(with(&lies)).await, "plugin.digest");
    let action = bundle
        .manifest
        .replace("predictor\"", "action\"")
        .replace("[predictor]", "[action]");
    let action = action.replace("step-ms = 3_600_000\nrows = 100", "input = {}\noutput = {}");
    assert_eq!(refused(with(&action)).await, "plugin.world");
    let next = bundle.manifest.replace("plugin@1", "plugin@2");
    assert_eq!(refused(with(&next)).await, "plugin.interface-version");
    let module = wat::parse_str("(module)").unwrap();
    assert_eq!(
        refused(::plugins::bundle::pack(&module, bundle.manifest)).await,
        "plugin.core-module"
    );
    assert_eq!(
        desk.server
            .ask("GET", "/api/v1/plugins", &desk.token, "")
            .await
            .json()["plugins"],
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_and_not_granted_is_told_with_the_line_that_grants_it() {
    let desk = Desk::open().await;
    let asks = "[capabilities]\ntelemetry = { metrics = [\"vib*\"] }\n";
    let file = predictor_with("nosy", "1.0.0", &by_last_value(0.0), asks);
    let refused = desk.upload(file.clone()).await;
    assert_eq!(refused.problem(422), "plugin.capability-not-granted");
    let told = refused.json();
    assert_eq!(
        told["missing"][0]["line"],
        "telemetry = { metrics = [\"vib*\"] }"
    );
    let settings = json!({ "granted": told["grant"] });
    assert_eq!(desk.settings("nosy", settings).await.status, 200);
    let taken = desk.upload(file).await;
    assert_eq!(taken.status, 201, "{:?}", taken.body);
    let capability = &taken.json()["capabilities"][0];
    assert_eq!(
        (&capability["capability"], &capability["granted"]),
        (&json!("telemetry"), &json!(true))
    );
    let nowhere = json!({ "granted": { "telemetry": { "metrics": [] } } });
    assert_eq!(
        desk.settings("nosy", nowhere).await.problem(422),
        "plugin.grant"
    );
    let misspelt = json!({ "granted": { "telemetri": { "metrics": ["*"] } } });
    assert_eq!(
        desk.settings("nosy", misspelt).await.problem(422),
        "invalid_body"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_somebody_known_vouches_for_comes_in_unasked() {
    let desk = Desk::open().await;
    let developer = desk.server.token(Role::Developer, "dora").await;
    let file = predictor("wear", "1.0.0", &by_last_value(0.1));
    let unsigned = desk.upload_as(&developer, "", file.clone()).await;
    assert_eq!(unsigned.problem(422), "plugin.unsigned");
    let flagged = desk
        .upload_as(&developer, "?unsigned=true", file.clone())
        .await;
    assert_eq!(flagged.problem(403), "forbidden");
    let (key, _) = SigningKey::generate().unwrap();
    let (bundle, _) = ::plugins::bundle::open(&file).unwrap();
    let signed = ::plugins::bundle::seal(&file, &key.sign(bundle.signed));
    let stranger = desk.upload_as(&developer, "", signed.clone()).await;
    assert_eq!(stranger.problem(422), "plugin.unknown-key");
    // A flag for what has no signature says nothing of one by a stranger.
    assert_eq!(
        desk.upload(signed.clone()).await.problem(422),
        "plugin.unknown-key"
    );
    let body = json!({ "public_key": key.public().to_string() }).to_string();
    let path = "/api/v1/plugin_keys/acme";
    assert_eq!(
        desk.server
            .ask("PUT", path, &desk.token, &body)
            .await
            .status,
        200
    );
    let second = desk
        .server
        .ask("PUT", "/api/v1/plugin_keys/other", &desk.token, &body)
        .await;
    assert_eq!(second.problem(409), "plugin_key_known");
    let taken = desk.upload_as(&developer, "", signed.clone()).await;
    assert_eq!(taken.status, 201, "{:?}", taken.body);
    assert_eq!(taken.json()["signer"], "acme");
    let again = desk.upload_as(&developer, "", signed.clone()).await;
    assert_eq!(again.status, 200, "the same file is the same version");
    let other = desk
        .upload(predictor("wear", "1.0.0", &by_last_value(0.3)))
        .await;
    assert_eq!(other.problem(409), "plugin.version-taken");
    let mut forged = signed;
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(desk.upload(forged).await.problem(422), "plugin.signature");
    assert_eq!(
        desk.server
            .ask("DELETE", path, &desk.token, "")
            .await
            .status,
        204
    );
    assert_eq!(
        desk.server
            .ask("DELETE", path, &desk.token, "")
            .await
            .problem(404),
        "not_found"
    );
    let promoted = desk
        .server
        .ask(
            "POST",
            "/api/v1/plugins/wear/versions/1.0.0/promote",
            &developer,
            "",
        )
        .await;
    assert_eq!(promoted.problem(403), "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detector_says_how_unusual_the_present_is() {
    let desk = Desk::open().await;
    desk.fans([("a", 40.0), ("b", 20.0)]).await;
    desk.examined(predictor("wear", "1.0.0", &by_last_value(0.1)))
        .await;
    desk.post("wear/versions/1.0.0/promote", "").await;
    let told = desk.scored("a").await;
    assert_eq!(told["detector"], Value::Null);
    let watch = desk.examined(detector("watch")).await;
    assert_eq!(watch["state"], "shadow", "{watch:#}");
    desk.scored("a").await;
    let report = desk.get("watch/versions/1.0.0/differences").await;
    assert_eq!(report["assets"], 2);
    assert_eq!(report["differences"][0]["own"]["anomaly"], 0.75);
    desk.post("watch/versions/1.0.0/promote", "").await;
    let told = desk.scored("a").await;
    assert_eq!(told["anomaly"]["score"], 0.75);
    assert_eq!(
        told["anomaly"]["attribution"],
        json!([{ "metric": "vibration", "share": 1.0 }])
    );
    assert_eq!(told["detector"]["name"], "watch");
    assert_eq!(told["plugin"]["name"], "wear");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_asked_under_a_key_and_its_refusal_is_the_step_s() {
    let desk = Desk::open().await;
    let plugins = &desk.server.app.plugins;
    let act = async |input: &Value| {
        let deed = Deed {
            plugin: "doer",
            input,
            run: "run-1",
            position: "3",
            now_ms: 0,
            seed: 7,
        };
        act(plugins, &deed).await
    };
    let nobody = act(&json!({ "a": 1 })).await.unwrap_err();
    assert_eq!((nobody.code(), nobody.is_retryable()), ("no_plugin", true));
    let checked = desk.examined(doer("doer")).await;
    assert_eq!(checked["state"], "shadow", "{checked:#}");
    desk.post("doer/versions/1.0.0/promote", "").await;
    let (output, by) = act(&json!({ "a": 1 })).await.unwrap();
    assert_eq!(
        (output, by.name.as_str()),
        (json!({ "done": true }), "doer")
    );
    let refused = act(&json!({})).await.unwrap_err();
    assert_eq!(refused.code(), "plugin.declared.unsupported");
    assert!(!refused.is_retryable());
    let calls = desk.get("doer/versions/1.0.0/calls").await;
    assert_eq!(calls["calls"][0]["purpose"], "act for run-1/3");
    let health = desk.get("doer/versions/1.0.0").await["health"].clone();
    assert_eq!(health["failures"], 0, "who says why is not at fault");
}
