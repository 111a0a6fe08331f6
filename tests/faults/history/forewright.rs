//! What must hold of a Forewright database when all is quiet again, and of what its cells wrote down meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tests::{Rows, digest};

use super::leases::{self, Counts};
use super::witness::{self, Seen};
use super::{document, number, text};

/// A history as it was found.
#[derive(Clone)]
pub(crate) struct History {
    /// The lives of the steps.
    pub(crate) steps: BTreeMap<String, Vec<Seen>>,
    /// The lives of the leases of builds.
    pub(crate) leases: BTreeMap<String, Vec<Seen>>,
    builds: BTreeMap<String, Vec<Seen>>,
    pub(super) tables: BTreeMap<&'static str, Vec<Value>>,
    /// Lines of the cells' books.
    pub(super) motions: Vec<Value>,
    /// The runs whose start was answered.
    asked: BTreeSet<String>,
}

const TABLES: [(&str, &str); 7] = [
    ("run", "SELECT id, state, event, failure FROM run"),
    (
        "step",
        "SELECT id, run_id, position, kind, state, attempt, max_attempts, input FROM step",
    ),
    (
        "journal",
        "SELECT run_id, position, ordinal, outcome FROM journal",
    ),
    (
        "build",
        "SELECT id, state, ending, physical_starts FROM build",
    ),
    (
        "event",
        "SELECT seq, name, subject, payload FROM event ORDER BY seq",
    ),
    ("audit", "SELECT * FROM audit ORDER BY seq"),
    ("outbox", "SELECT id, payload FROM outbox"),
];

impl History {
    /// Reads all of it.
    pub(crate) fn read(rows: &Rows, books: &[PathBuf], asked: BTreeSet<String>) -> Self {
        let lines = books.iter().flat_map(|book| {
            let text = std::fs::read_to_string(book).unwrap_or_default();
            let lines = text.lines().map(serde_json::from_str::<Value>);
            lines.filter_map(Result::ok).collect::<Vec<_>>()
        });
        Self {
            steps: witness::lives(rows, "step"),
            leases: witness::lives(rows, "lease"),
            builds: witness::lives(rows, "build"),
            tables: TABLES.map(|(name, sql)| (name, rows.all(sql))).into(),
            motions: lines.collect(),
            asked,
        }
    }

    /// Everything that is wrong; nothing if all is well.
    pub(crate) fn faults(&self) -> (Vec<String>, Counts) {
        let (mut found, counts) = leases::faults(&self.steps);
        self.check_runs(&mut found);
        self.check_steps(&mut found);
        self.check_events(&mut found);
        self.check_audit(&mut found);
        self.check_messages(&mut found);
        self.check_builds(&mut found);
        self.check_motions(&mut found);
        (found, counts)
    }

    fn events(&self, name: &str) -> BTreeMap<&str, Vec<Value>> {
        let mut by_subject = BTreeMap::<&str, Vec<Value>>::new();
        for event in self.tables["event"].iter().filter(|e| e["name"] == name) {
            let told = by_subject.entry(text(event, "subject")).or_default();
            told.push(document(event, "payload"));
        }
        by_subject
    }

    /// Every run asked for is there once and succeeded.
    fn check_runs(&self, found: &mut Vec<String>) {
        let (mut ids, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        for run in &self.tables["run"] {
            ids.insert(text(run, "id").to_owned());
            let token = document(run, "event")["token"].to_string();
            if !tokens.insert(token.clone()) {
                found.push(format!("run {} was started twice for {token}", run["id"]));
            }
            if run["state"] != "succeeded" {
                found.push(format!(
                    "run {} is {}: {}",
                    run["id"], run["state"], run["failure"]
                ));
            }
        }
        if ids != self.asked {
            let lost: Vec<_> = self.asked.symmetric_difference(&ids).collect();
            found.push(format!(
                "runs asked for and runs there are differ by {lost:?}"
            ));
        }
        for (name, told) in [
            ("run.started", self.events("run.started")),
            ("run.ended", self.events("run.ended")),
        ] {
            for id in &ids {
                let times = told.get(id.as_str()).map_or(0, Vec::len);
                if times != 1 {
                    found.push(format!("`{name}` of run {id} was recorded {times} times"));
                }
            }
        }
    }

    /// Every step ended once, and its answer in the journal says the same.
    fn check_steps(&self, found: &mut Vec<String>) {
        let mut answers = BTreeMap::new();
        for entry in &self.tables["journal"] {
            let at = (text(entry, "run_id"), text(entry, "position"));
            if answers.insert(at, text(entry, "outcome")).is_some() {
                found.push(format!("{at:?} was journalled twice"));
            }
            if text(entry, "outcome").is_empty() {
                found.push(format!("{at:?} has no answer"));
            }
        }
        let mut ordinals = BTreeSet::new();
        for entry in &self.tables["journal"] {
            if !ordinals.insert((text(entry, "run_id"), number(entry, "ordinal"))) {
                found.push(format!("two entries at one place of a journal: {entry}"));
            }
        }
        let (done, failed) = (self.events("step.done"), self.events("step.failed"));
        for step in self.tables["step"].iter().filter(|s| s["position"] != "@") {
            let id = text(step, "id");
            let answer = answers.get(&(text(step, "run_id"), text(step, "position")));
            let word = answer.and_then(|a| serde_json::from_str::<Value>(a).ok());
            let ended_well = word.as_ref().is_some_and(|a| a.get("err").is_none());
            let told = [&done, &failed].map(|events| events.get(id).map_or(0, Vec::len));
            let fine = match text(step, "state") {
                "done" => ended_well && told == [1, 0],
                "failed" => !ended_well && told == [0, 1],
                _ => false,
            };
            if !fine {
                found.push(format!(
                    "step {step} was answered {answer:?} and told {told:?} times"
                ));
            }
        }
    }

    /// Facts have numbers that rise; a build is started once under a fence and ends once.
    fn check_events(&self, found: &mut Vec<String>) {
        let numbers: Vec<_> = self.tables["event"]
            .iter()
            .map(|e| number(e, "seq"))
            .collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            found.push("two facts have one number".into());
        }
        for (build, starts) in self.events("build.started") {
            let fences: BTreeSet<_> = starts.iter().map(|s| number(s, "fence")).collect();
            if fences.len() != starts.len() {
                found.push(format!(
                    "build {build} was started twice under one fence: {starts:?}"
                ));
            }
        }
    }

    /// Every row of the audit follows from the one before.
    fn check_audit(&self, found: &mut Vec<String>) {
        let mut before = String::new();
        for row in &self.tables["audit"] {
            let mut bytes = format!("{before}\n{}\n", number(row, "at"));
            for name in ["actor", "verb", "subject", "detail"] {
                let text = text(row, name);
                bytes += &format!("{}\n{text}\n", text.len());
            }
            let hash: String = Sha256::digest(bytes)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            if text(row, "hash") != hash {
                found.push(format!("the audit is broken at {row}"));
                return;
            }
            before = hash;
        }
        let mut ends = BTreeSet::new();
        for row in &self.tables["audit"] {
            let verb = text(row, "verb");
            if ["step.done", "step.failed", "end_build"].contains(&verb)
                && !ends.insert((verb, text(row, "subject")))
            {
                found.push(format!("audited twice: {row}"));
            }
        }
    }

    /// What a step tells the world is told once, and not at all by a step that never ended well.
    fn check_messages(&self, found: &mut Vec<String>) {
        let mut told = BTreeMap::<String, usize>::new();
        for message in &self.tables["outbox"] {
            let payload = document(message, "payload");
            *told.entry(payload["token"].to_string()).or_default() += 1;
        }
        for step in self.tables["step"].iter().filter(|s| s["kind"] == "notify") {
            let token = document(step, "input")["payload"]["token"].to_string();
            let times = told.get(&token).copied().unwrap_or(0);
            let fine = times == 1 || (times == 0 && step["state"] != "done");
            if !fine {
                found.push(format!("step {step} told its message {times} times"));
            }
        }
    }

    /// Builds end; one whose lease was lost after the start is offered again only when the plate was seen empty.
    fn check_builds(&self, found: &mut Vec<String>) {
        let resolved = self.events("build.resolved");
        for build in self.tables["build"]
            .iter()
            .filter(|b| b["state"] != "ended")
        {
            found.push(format!("build {build} is stranded"));
        }
        for (id, life) in &self.builds {
            let mut offered = 0;
            for pair in life.windows(2) {
                let (old, new) = (&pair[0], &pair[1]);
                let known = match (old.state.as_str(), new.state.as_str()) {
                    ("waiting", "leased") => old.fence.map(|f| f + 1) == new.fence,
                    ("uncertain", "waiting") => {
                        offered += 1;
                        old.fence == new.fence
                    }
                    ("staged", "started") => old.attempt.map(|n| n + 1) == new.attempt,
                    ("leased", "staged" | "waiting") | ("staged", "waiting") => true,
                    ("started", "uncertain" | "ended") | ("uncertain", "ended") => true,
                    (old, new) => old == new,
                };
                if !known || old.fence > new.fence {
                    found.push(format!("build {id}: {old:?} became {new:?}"));
                }
            }
            let seen = resolved.get(id.as_str()).into_iter().flatten();
            let empty = seen.filter(|r| r["on_plate"] == "nothing").count();
            if offered > empty {
                found.push(format!(
                    "build {id} was uncertain and offered again {offered} times, its plate was seen empty {empty} times"
                ));
            }
        }
    }

    /// The machines moved once for each build, with the server's leave, and what they made is what was recorded.
    fn check_motions(&self, found: &mut Vec<String>) {
        let granted = self.events("build.started");
        let resolved = self.events("build.resolved");
        let mut moved = BTreeMap::<&str, Vec<&Value>>::new();
        for line in self.motions.iter().filter(|line| line["did"] == "moving") {
            let build = text(line, "build");
            let starts = granted.get(build).into_iter().flatten();
            if !starts.into_iter().any(|s| s["fence"] == line["fence"]) {
                found.push(format!("a machine moved without leave: {line}"));
            }
            moved.entry(build).or_default().push(line);
        }
        for build in &self.tables["build"] {
            let id = text(build, "id");
            let motions = moved.get(id).map_or(&[][..], Vec::as_slice);
            for seen in resolved.get(id).into_iter().flatten() {
                let of_plate = |line: &&&Value| line["fence"] == seen["fence"];
                if seen["on_plate"] == "nothing" && motions.iter().any(|line| of_plate(&line)) {
                    found.push(format!(
                        "build {build} moved under {seen}, whose plate was seen empty"
                    ));
                }
            }
            if motions.len() != 1 {
                found.push(format!(
                    "the machines moved {} times for build {build}: {motions:?}",
                    motions.len()
                ));
                continue;
            }
            let scan = format!("a scan of {id} made under {}", motions[0]["fence"]);
            let ending = text(build, "ending");
            if ending.contains("sha256:") && !ending.contains(&digest(scan.as_bytes())) {
                found.push(format!(
                    "build {build} ended with another scan than {}",
                    motions[0]
                ));
            }
        }
    }

    /// How many builds there were, and how often a machine moved.
    pub(crate) fn builds(&self) -> (usize, usize) {
        let moving = self.motions.iter().filter(|line| line["did"] == "moving");
        (self.tables["build"].len(), moving.count())
    }

    /// How many steps the queue gave up, as those may be that are tried once.
    pub(crate) fn given_up(&self) -> usize {
        let steps = self.tables["step"].iter();
        let failed = steps.filter(|s| s["state"] == "failed" && s["kind"] == "notify");
        failed.count()
    }
}
