//! Many processes share the work: one server, two workers and two cells on one Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::postgres::Postgres;
use tests::{Server, binary, eventually};
use tokio::process::{Child, Command};

const RUNS: usize = 20;

/// Everything from the design to the verdict.
const SOURCE: &str = r#"
fn run(event) {
    let design = step("redesign", #{ asset: event.asset, mode: "imbalance", features: #{ vibration_ratio: event.ratio } });
    let proof = step("simulate", #{ design: design.design });
    let sliced = step("slice", #{ design: design.design });
    for attempt in 1..=3 {
        let built = step("make", #{
            design: design.design, gcode: sliced.gcode, gcode_size_bytes: sliced.gcode_size_bytes,
            material: sliced.material, printer: sliced.printer
        });
        let verdict = step("verify", #{ build: built.build, scan: built.scan, design: design.design });
        if verdict.disposition != "inconclusive" {
            return #{ build: built.build, disposition: verdict.disposition };
        }
    }
    fail("nothing can be said of three builds");
}
"#;

fn process(server: &Server, url: &str, name: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(server.data.join(format!("{name}.log")));
    Command::new(binary::forewright())
        .args(arguments)
        .env("DATABASE_URL", url)
        .env("FOREWRIGHT_SERVER_DATA", &server.data)
        .env("FOREWRIGHT_FLEET_TICK_S", "0")
        .env("FOREWRIGHT_QUEUE_CONCURRENCY", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log file"))
        .kill_on_drop(true)
        .spawn()
        .expect("forewright can be started")
}

#[tokio::test]
#[ignore = "needs Postgres"]
async fn two_workers_and_two_cells_finish_twenty_runs() {
    let database = Postgres::fresh();
    let url = database.url.as_str();
    let server = Server::serve(&[("DATABASE_URL", url)], None).await;
    let mut processes = Vec::new();
    for name in ["work-1", "work-2"] {
        let arguments = ["work", "--queues", "runs,io,cad,vision"];
        processes.push(process(&server, url, name, &arguments));
    }
    for name in ["cell-1", "cell-2"] {
        let state = server.data.join(name).display().to_string();
        let base = server.anonymous.base();
        let arguments = [
            "cell",
            "--server",
            base,
            "--driver",
            "simulated",
            "--name",
            name,
            "--state",
            &state,
            "--printers",
            "prusa_mk4",
        ];
        processes.push(process(&server, url, name, &arguments));
    }
    approve_cells(&server, 2).await;

    super::a_part_is_judged::set_up_part(&server, "fan-1", 4.0, 6).await;
    server.workflow("make_and_judge", SOURCE).await;
    let begun = Instant::now();
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let event = json!({ "asset": "fan-1", "ratio": 2.0 + 0.1 * number as f64 });
        runs.push(server.start_run("make_and_judge", event).await);
    }
    let patience = Duration::from_secs(480);
    eventually("twenty runs to end", patience, || async {
        let ended = server
            .operator
            .get("/runs?state=succeeded")
            .await
            .expect(200);
        let failed = server.operator.get("/runs?state=failed").await.expect(200);
        assert_eq!(failed["runs"], json!([]), "{failed:#}");
        (ended["runs"].as_array().map(Vec::len) == Some(RUNS)).then_some(())
    })
    .await;
    eprintln!("{RUNS} runs in {:.1} s", begun.elapsed().as_secs_f64());

    let builds = server.operator.get("/builds?state=ended").await.expect(200);
    let builds = builds["builds"].as_array().expect("builds").clone();
    let mut made = BTreeMap::<String, usize>::new();
    for build in &builds {
        let cell = build["cell"].as_str().expect("a cell").to_owned();
        *made.entry(cell).or_default() += 1;
    }
    assert_eq!(made.len(), 2, "both cells made parts: {made:?}");
    let started = server.events_named("build.started").await;
    let once: BTreeSet<_> = started.iter().map(|e| e["subject"].to_string()).collect();
    assert_eq!((once.len(), started.len()), (builds.len(), builds.len()));
    let done = server.events_named("step.done").await;
    let once: BTreeSet<_> = done
        .iter()
        .map(|e| format!("{}/{}", e["payload"]["run"], e["payload"]["position"]))
        .collect();
    assert_eq!(once.len(), done.len(), "no step is recorded twice");
    for child in &mut processes {
        assert!(
            matches!(child.try_wait(), Ok(None)),
            "all of them still run"
        );
    }
}

async fn approve_cells(server: &Server, count: usize) {
    eventually("the cells to enrol", Duration::from_secs(20), || async {
        let asked = server.operator.get("/enrolments").await.expect(200);
        let asked = asked["enrolments"].as_array().cloned().unwrap_or_default();
        (asked.len() == count).then_some(asked)
    })
    .await;
    let asked = server.operator.get("/enrolments").await.expect(200);
    for enrolment in asked["enrolments"].as_array().into_iter().flatten() {
        let code = enrolment["code"].as_str().expect("a code");
        let path = format!("/enrolments/{code}/approve");
        server.operator.post(&path, &json!({})).await.expect(200);
    }
}
