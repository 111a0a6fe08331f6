//! A plugin comes onto a server, is checked there, and scores assets; what it said can be run again elsewhere.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::Server;
use tests::binary::forewright;

const STEADY: &str = include_str!("steady.wat");

const MANIFEST: &str = r#"name = "steady"
version = "1.0.0"
world = "predictor"
interface = "forewright:plugin@1"
description = "the same odds for every part"
[predictor]
step-ms = 3_600_000
[config]
schema = { type = "object", properties = { odds = { type = "number", maximum = 1 } } }
[build]
command = "cp steady.core.wasm guest.wasm"
module = "guest.wasm"
"#;

/// A project on its author's machine, and the server it goes to.
struct Desk {
    server: Server,
    folder: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let module = wat::parse_str(STEADY).expect("a module");
        std::fs::write(folder.path().join("steady.core.wasm"), module).expect("written");
        std::fs::write(folder.path().join("plugin.toml"), MANIFEST).expect("written");
        Self {
            server: Server::start().await,
            folder,
        }
    }

    /// Runs `forewright plugin …` in the project's folder, against the server.
    async fn plugin(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(forewright());
        command
            .arg("plugin")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("FOREWRIGHT_SERVER", self.server.operator.base())
            .env("FOREWRIGHT_TOKEN", self.server.token());
        let output = tokio::task::spawn_blocking(move || command.output());
        output
            .await
            .expect("no panic")
            .expect("forewright can be started")
    }

    async fn told(&self, arguments: &[&str]) -> String {
        let output = self.plugin(arguments).await;
        let (out, err) = (&output.stdout, &output.stderr);
        let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
        assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
        out.into_owned()
    }

    /// A fan that was measured for two days.
    async fn measured_fan(&self) {
        let fan = json!({ "kind": "fan", "name": "fan", "locality": "hall", "row": 0, "col": 0 });
        let hall = json!({ "name": "Hall", "x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0 });
        self.server
            .operator
            .put("/localities/hall", &hall)
            .await
            .ok();
        self.server.operator.put("/assets/fan-1", &fan).await.ok();
        let sample = |hour: u32| {
            let (day, hour) = (1 + hour / 24, hour % 24);
            json!({ "asset": "fan-1", "metric": "vibration", "time": format!("2025-07-0{day}T{hour:02}:00:00Z"),
                    "value": 1.0 })
        };
        let samples: Vec<Value> = (0..48).map(sample).collect();
        let body = json!({ "samples": samples });
        self.server.operator.post("/telemetry", &body).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_becomes_a_score_that_can_be_run_again() {
    let mut desk = Desk::new().await;
    desk.measured_fan().await;
    let unsigned = desk.plugin(&["install"]).await;
    let said = String::from_utf8_lossy(&unsigned.stderr).into_owned();
    assert!(
        !unsigned.status.success() && said.contains("not signed"),
        "{said}"
    );

    let installed = desk.told(&["install", "--unsigned"]).await;
    assert!(
        installed.starts_with("steady 1.0.0 is shadow, "),
        "{installed}"
    );
    let promoted = desk
        .told(&["install", "--unsigned", "--promote", "--json"])
        .await;
    let promoted: Value = serde_json::from_str(&promoted).expect("a document");
    assert_eq!(promoted["state"], "active");

    let settings = "/plugins/steady/settings";
    let operator = &desk.server.operator;
    let wrong = json!({ "config": { "odds": 7 } });
    let refused = operator
        .put(settings, &wrong)
        .await
        .expect_problem(422, "plugin.config");
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("/odds: 7 is greater than"), "{detail}");
    let right = json!({ "config": { "odds": 0.5 } });
    operator.put(settings, &right).await.ok();

    // Compiled code is found again after a crash, and so is who serves.
    desk.server.kill_and_restart().await;
    let api = &desk.server.operator;
    api.post("/fleet/ticks", &json!({ "ask": false }))
        .await
        .ok();
    let told = api.get("/assets/fan-1/prediction").await.ok();
    assert_eq!(told["fps"], json!({ "1d": 0.25, "7d": 0.25, "30d": 0.25 }));
    assert_eq!(told["plugin"]["digest"], promoted["digest"]);

    let call = told["plugin"]["call"].as_str().expect("a call").to_owned();
    assert_eq!(
        desk.told(&["replay", &call]).await,
        "the same, bit for bit\n"
    );
    let changed = STEADY.replace("(f64.const 0.25)", "(f64.const 0.5)");
    let module = wat::parse_str(&changed).expect("a module");
    std::fs::write(desk.folder.path().join("steady.core.wasm"), module).expect("written");
    let other = desk.plugin(&["replay", &call, "."]).await;
    let told = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(
        !other.status.success() && told.contains("0.25") && told.contains("0.5"),
        "{told}"
    );

    // What is being changed serves as a version of its own.
    let put = desk.told(&["dev", "--once"]).await;
    assert!(put.starts_with("steady 1.0.0-dev."), "{put}");
    let list = desk.told(&["list"]).await;
    assert!(
        list.lines().count() == 3 && list.contains("active"),
        "{list}"
    );
    let api = &desk.server.operator;
    api.post("/fleet/ticks", &json!({ "ask": false }))
        .await
        .ok();
    let told = api.get("/assets/fan-1/prediction").await.ok();
    assert_eq!(told["fps"]["7d"], 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_loops_is_refused_and_nobody_else_notices() {
    let desk = Desk::new().await;
    let loops = STEADY.replace("(local.set $n (i32.const 0))", "(loop $ever (br $ever))");
    let module = wat::parse_str(&loops).expect("a module");
    std::fs::write(desk.folder.path().join("steady.core.wasm"), module).expect("written");
    let manifest = format!("{MANIFEST}[limits]\ndeadline-ms = 20\n");
    std::fs::write(desk.folder.path().join("plugin.toml"), manifest).expect("written");
    let refused = desk.plugin(&["install", "--unsigned"]).await;
    let (out, err) = (refused.stdout, refused.stderr);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&err)
    );
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("plugin.checks-failed") && said.contains("it did not end within 20 ms"),
        "{said}"
    );
    desk.server.operator.get("/health").await.ok();
}
