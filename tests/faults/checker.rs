//! Reads a database through the API and says what should never have happened. Shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tests::Server;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn list(server: &Server, plural: &str) -> Vec<Value> {
    let path = format!("/{plural}?limit=500");
    let page = server.operator.get(&path).await.expect(200);
    assert!(page["next"].is_null(), "more than one page of {plural}");
    page[plural].as_array().cloned().unwrap_or_default()
}

/// Everything that is wrong; nothing if all is well.
pub(crate) async fn faults(server: &Server, cell: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let events = server.events().await;
    check_numbers(&events, &mut found);
    let runs = list(server, "runs").await;
    check_runs(&runs, &mut found);
    for run in &runs {
        check_journal(server, run, &events, &mut found).await;
    }
    let builds = list(server, "builds").await;
    check_builds(&builds, &events, cell, &mut found);
    found
}

/// Facts have distinct numbers that rise.
fn check_numbers(events: &[Value], found: &mut Vec<String>) {
    let numbers: Vec<_> = events.iter().map(|e| e["seq"].as_i64()).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        found.push("the numbers of events do not rise".into());
    }
}

/// One run was trained and one replaced the part; both succeeded.
fn check_runs(runs: &[Value], found: &mut Vec<String>) {
    let mut by_workflow = BTreeMap::<&str, usize>::new();
    for run in runs {
        *by_workflow.entry(text(run, "workflow")).or_default() += 1;
        if run["state"] != "succeeded" {
            found.push(format!("run {} is {}", run["id"], run["state"]));
        }
    }
    if by_workflow != BTreeMap::from([("replace_part", 1), ("train_model", 1)]) {
        found.push(format!(
            "there were other runs than asked for: {by_workflow:?}"
        ));
    }
}

/// Every call is journalled once and answered; every step ended once, with the answer the journal holds.
async fn check_journal(server: &Server, run: &Value, events: &[Value], found: &mut Vec<String>) {
    let id = text(run, "id");
    let journal = server.operator.get(&format!("/runs/{id}/journal")).await;
    let journal = journal.expect(200);
    let entries = journal["entries"].as_array().cloned().unwrap_or_default();
    let mut positions = BTreeSet::new();
    for entry in &entries {
        let position = text(entry, "position");
        if !positions.insert(position) {
            found.push(format!("run {id} journalled position {position} twice"));
        }
        if entry["outcome"].is_null() {
            found.push(format!(
                "run {id} succeeded without an answer at {position}"
            ));
        }
    }
    let view = server.see_run(id).await;
    for step in view["steps"].as_array().into_iter().flatten() {
        let position = text(step, "position");
        let ends: Vec<_> = events
            .iter()
            .filter(|e| ["step.done", "step.failed"].contains(&text(e, "name")))
            .filter(|e| e["payload"]["run"] == id && e["payload"]["position"] == position)
            .collect();
        if ends.len() != 1 {
            found.push(format!(
                "step {position} ({}) of run {id} was recorded {} times: {ends:?}",
                text(step, "kind"),
                ends.len()
            ));
        }
        if step["state"] != "done" || !positions.contains(position) {
            found.push(format!("run {id} succeeded with the step {step}"));
        }
    }
    for (name, times) in [("run.started", 1), ("run.ended", 1)] {
        let told = events
            .iter()
            .filter(|e| e["name"] == name && e["subject"] == id);
        let told = told.count();
        if told != times {
            found.push(format!("`{name}` of run {id} was recorded {told} times"));
        }
    }
}

/// No build was physically started twice, and the cell's own book says the same as the server's.
fn check_builds(builds: &[Value], events: &[Value], cell: &Path, found: &mut Vec<String>) {
    let mut moved = 0;
    for build in builds {
        let id = text(build, "id");
        let of_build: Vec<_> = events.iter().filter(|e| e["subject"] == id).collect();
        let mut fences = BTreeSet::new();
        let mut matter = 0_i64;
        for event in &of_build {
            match text(event, "name") {
                "build.started" => {
                    matter += 1;
                    if !fences.insert(event["payload"]["fence"].as_i64()) {
                        found.push(format!("build {id} was started twice under one fence"));
                    }
                    if matter > 1 {
                        found.push(format!(
                            "build {id} was started on a plate that is not empty"
                        ));
                    }
                }
                // The cell looked and found that the machine had not moved.
                "build.resolved" if event["payload"]["on_plate"] == "nothing" => matter = 0,
                _ => {}
            }
        }
        moved += matter;
        let ends = of_build
            .iter()
            .filter(|e| e["name"] == "build.ended")
            .count();
        if build["state"] != "ended" || ends != 1 || matter != 1 {
            found.push(format!(
                "build {id} moved matter {matter} times and ended {ends} times: {build}"
            ));
        }
    }
    if builds.len() != 2 {
        found.push(format!(
            "{} builds were ordered, one refused and one accepted are 2",
            builds.len()
        ));
    }
    let book = std::fs::read(cell.join("cell.json")).expect("the cell's book");
    let book: Value = serde_json::from_slice(&book).expect("the cell's book is JSON");
    if book["builds_started"] != moved {
        found.push(format!(
            "the machine moved {} times, the server knows of {moved}",
            book["builds_started"]
        ));
    }
    if !book["job"].is_null() {
        found.push(format!("the cell still has {} in hand", book["job"]));
    }
}
