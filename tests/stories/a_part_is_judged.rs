//! A part is judged: only a scan of the right part is accepted, and everything else says what it is.

use serde_json::{Value, json};
use tests::Server;

/// The fan-tray bracket, coarse enough for a story.
fn brief(voxel_mm: f64, iterations: u32, required_fos: f64) -> String {
    format!(
        r#"
printer = "prusa_mk4"
required_fos = {required_fos:?}
[part]
family = "fan_tray_bracket"
length_mm = 60.0
width_mm = 40.0
height_mm = 40.0
plate_mm = 6.0
wall_mm = 6.0
bolt_diameter_mm = 6.0
pad_diameter_mm = 14.0
bolts_mm = [[10.0, 28.0], [30.0, 28.0]]
boss_mm = [45.0, 20.0]
boss_diameter_mm = 24.0
boss_height_mm = 16.0
bore_diameter_mm = 10.0
[material]
name = "petg"
e_mpa = 2000.0
nu = 0.38
density_g_cm3 = 1.27
yield_mpa = 45.0
[optimise]
voxel_mm = {voxel_mm:?}
volume_fraction = 0.3
iterations = {iterations}
r_min_mm = {:?}
[[load]]
name = "transport shock"
at = "boss"
force_n = [0.0, 0.0, -120.0]
"#,
        2.0 * voxel_mm
    )
}

/// A place, a part and an asset that may need it.
pub(crate) async fn set_up_part(server: &Server, asset: &str, voxel_mm: f64, iterations: u32) {
    put_part(server, asset, &brief(voxel_mm, iterations, 1.5)).await;
}

async fn put_part(server: &Server, asset: &str, brief: &str) {
    let operator = &server.operator;
    let place = json!({ "name": "Rack 1", "x": 0.0, "y": 0.0, "width": 0.6, "height": 1.2 });
    operator.put("/localities/r1", &place).await.ok();
    let part = json!({ "name": "bracket", "brief": brief, "swap_minutes": 30 });
    operator.put("/parts/bracket", &part).await.ok();
    let body = json!({
        "kind": "fan_tray", "name": asset, "locality": "r1", "part": "bracket",
        "failure_mode": "imbalance", "vibration_metric": "vibration",
    });
    operator.put(&format!("/assets/{asset}"), &body).await.ok();
}

const REDESIGN: &str = r#"
    let design = step("redesign", #{ asset: event.asset, mode: "imbalance", features: #{ vibration_ratio: 3.0 } });
"#;

async fn design(server: &Server) -> String {
    set_up_part(server, "fan-1", 4.0, 8).await;
    let source = format!("fn run(event) {{ {REDESIGN} #{{ design: design.design }} }}");
    server.workflow("design", &source).await;
    let run = server
        .start_run("design", json!({ "asset": "fan-1" }))
        .await;
    let result = server.result_of(&run).await;
    result["design"].as_str().expect("a design").to_owned()
}

/// The code a step of this kind fails with.
async fn failure_of(server: &Server, kind: &str, input: Value) -> String {
    let source = format!("fn run(event) {{ step(\"{kind}\", event.input) }}");
    server.workflow("one_step", &source).await;
    let run = server
        .start_run("one_step", json!({ "input": input }))
        .await;
    let run = server.ended_run(&run).await;
    assert_eq!(run["state"], "failed", "{run:#}");
    let error = &run["steps"][0]["error"];
    let message = error["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{run:#}");
    error["code"].as_str().expect("a code").to_owned()
}

fn ply(points: usize) -> String {
    let mut text = format!(
        "ply\nformat ascii 1.0\ncomment sigma_mm 0.05\nelement vertex {points}\n\
         property float x\nproperty float y\nproperty float z\nend_header\n"
    );
    for i in 0..points {
        text += &format!("{} {} {}\n", i % 60, i % 40, i % 7);
    }
    text
}

#[tokio::test]
async fn a_scan_that_is_none_is_told_apart() {
    let server = Server::start().await;
    let design = design(&server).await;
    let mut codes = Vec::new();
    for (what, bytes) in [
        (
            "garbage",
            b"\x00\x01\x02 these are not the points you look for".to_vec(),
        ),
        ("empty", ply(0).into_bytes()),
    ] {
        let scan = server.upload(&bytes).await;
        let input = json!({ "scan": scan, "design": design });
        codes.push((what, failure_of(&server, "verify", input).await));
    }
    let missing = json!({ "scan": tests::digest(b"nowhere"), "design": design });
    codes.push(("missing", failure_of(&server, "verify", missing).await));
    let scan = server.upload(ply(9).as_bytes()).await;
    let unknown = json!({ "scan": scan, "design": "nobody" });
    codes.push(("no design", failure_of(&server, "verify", unknown).await));
    let told: Vec<_> = codes
        .iter()
        .map(|(what, code)| (*what, code.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("garbage", "invalid_scan"),
            ("empty", "empty_scan"),
            ("missing", "unknown_artifact"),
            ("no design", "unknown_design"),
        ]
    );
    server.anonymous.get("/health").await.expect(200);
}

#[tokio::test]
async fn a_brief_that_cannot_be_met_says_so() {
    let server = Server::start().await;
    put_part(&server, "fan-1", &brief(4.0, 8, 100.0)).await;
    let features = json!({ "vibration_ratio": 3.0 });
    let input = json!({ "asset": "fan-1", "mode": "imbalance", "features": features });
    assert_eq!(
        failure_of(&server, "redesign", input).await,
        "unreachable_fos"
    );
    let nobody = json!({ "asset": "nobody", "mode": "imbalance", "features": features });
    assert_eq!(
        failure_of(&server, "redesign", nobody).await,
        "unknown_asset"
    );
    let odd = json!({ "asset": "fan-1", "mode": "gremlins", "features": features });
    let odd = failure_of(&server, "redesign", odd).await;
    assert!(
        !["unreachable_fos", "unknown_asset"].contains(&odd.as_str()),
        "{odd}"
    );

    // Loads outside the envelope are refused with the field, before anything is computed.
    let outside = brief(4.0, 8, 1.5) + "point_mm = [500.0, 0.0, 0.0]\n";
    let body = json!({ "name": "bracket", "brief": outside });
    let refused = server.operator.put("/parts/bracket", &body).await;
    let problem = refused.expect_problem(422, "invalid_brief");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("load[0].point_mm"), "{problem}");
}

/// The whole making of a part by hand: everything but the cell is real.
#[tokio::test]
async fn a_scan_of_something_else_is_not_accepted() {
    let server = Server::start().await;
    set_up_part(&server, "fan-1", 4.0, 8).await;
    let source = format!(
        "fn run(event) {{ {REDESIGN} {} }}",
        r#"
    let sliced = step("slice", #{ design: design.design });
    let built = step("make", #{
        design: design.design, gcode: sliced.gcode, gcode_size_bytes: sliced.gcode_size_bytes,
        material: sliced.material, printer: sliced.printer
    });
    step("verify", #{ build: built.build, scan: built.scan, design: design.design })
"#
    );
    server.workflow("make_one", &source).await;
    let cell = server.cell("c1").await;
    let run = server
        .start_run("make_one", json!({ "asset": "fan-1" }))
        .await;
    let leased = cell.lease_once(None, 30).await;
    let build = leased.answer().expect(201)["build"].clone();
    let lease = leased.expect_build(build.as_str().expect("a build"));
    lease.stage().await.start().await;
    lease.complete(ply(2_000).as_bytes()).await.expect(200);
    let run = server.ended_run(&run).await;
    assert_ne!(run["result"]["disposition"], "accept", "{run:#}");
    let made = format!("/artifacts?run={}", run["id"].as_str().expect("an id"));
    let made = server.operator.get(&made).await.expect(200);
    let gcode = made["artifacts"].as_array().into_iter().flatten();
    let gcode: Vec<_> = gcode
        .filter(|a| a["digest"] == lease.view["gcode"]["digest"])
        .collect();
    assert_eq!(gcode.len(), 1, "the G-code knows its step: {made:#}");
}
