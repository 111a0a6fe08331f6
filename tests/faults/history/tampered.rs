//! A checker that finds nothing may be blind: a true history is spoilt in every way it should notice.

use serde_json::json;

use super::forewright::History;
use super::text;

/// A way to spoil a history, and a word of what has to be said then; `false` where it holds nothing to spoil.
type Tampering = (&'static str, fn(&mut History) -> bool);

const TAMPERINGS: [Tampering; 15] = [
    ("was recorded 0 times", |h| {
        remove(h, "event", |e| e["name"] == "run.ended")
    }),
    ("and told [2, 0] times", |h| {
        twice(h, "event", |e| e["name"] == "step.done")
    }),
    ("two facts have one number", |h| {
        twice(h, "event", |e| e["name"] == "run.advanced")
    }),
    ("the audit is broken", |h| {
        change(
            h,
            "audit",
            |a| text(a, "verb") == "start_run",
            "actor",
            "nobody",
        )
    }),
    ("the audit is broken", |h| {
        remove(h, "audit", |a| text(a, "verb") == "step.done")
    }),
    ("was journalled twice", |h| {
        twice(h, "journal", |j| j["outcome"].is_string())
    }),
    ("has no answer", |h| {
        change(h, "journal", |j| j["outcome"].is_string(), "outcome", "")
    }),
    ("differ by", |h| remove(h, "run", |_| true)),
    ("was started twice for", |h| twice(h, "run", |_| true)),
    ("told its message 0 times", |h| {
        remove(h, "outbox", |_| true)
    }),
    ("told its message 2 times", |h| twice(h, "outbox", |_| true)),
    ("is stranded", |h| {
        change(h, "build", |_| true, "state", "waiting")
    }),
    ("the machines moved 2 times", |h| {
        let Some(line) = h.motions.iter().find(|line| line["did"] == "moving") else {
            return false;
        };
        h.motions.push(line.clone());
        true
    }),
    ("a machine moved without leave", |h| {
        let line = h.motions.iter_mut().find(|line| line["did"] == "moving");
        line.map(|line| line["fence"] = json!(99)).is_some()
    }),
    ("whose plate was seen empty", |h| {
        let Some(line) = h.motions.iter().find(|line| line["did"] == "moving") else {
            return false;
        };
        let seen = json!({ "on_plate": "nothing", "fence": line["fence"] }).to_string();
        let told = json!({
            "seq": i64::MAX, "name": "build.resolved", "subject": line["build"], "payload": seen,
        });
        h.tables.get_mut("event").expect("read").push(told);
        true
    }),
];

/// The tamperings that went unnoticed.
pub(crate) fn unnoticed(history: &History) -> Vec<&'static str> {
    let spoilt = TAMPERINGS.iter().filter(|(word, tamper)| {
        let mut spoilt = history.clone();
        assert!(tamper(&mut spoilt), "there is nothing to spoil: {word}");
        !spoilt.faults().0.iter().any(|fault| fault.contains(word))
    });
    spoilt.map(|(word, _)| *word).collect()
}

fn place(h: &History, table: &str, of: fn(&serde_json::Value) -> bool) -> Option<usize> {
    h.tables[table].iter().position(of)
}

fn remove(h: &mut History, table: &'static str, of: fn(&serde_json::Value) -> bool) -> bool {
    let at = place(h, table, of);
    at.map(|at| h.tables.get_mut(table).expect("read").remove(at))
        .is_some()
}

fn twice(h: &mut History, table: &'static str, of: fn(&serde_json::Value) -> bool) -> bool {
    let Some(at) = place(h, table, of) else {
        return false;
    };
    let rows = h.tables.get_mut(table).expect("read");
    rows.insert(at, rows[at].clone());
    true
}

fn change(
    h: &mut History,
    table: &'static str,
    of: fn(&serde_json::Value) -> bool,
    column: &str,
    value: &str,
) -> bool {
    let Some(at) = place(h, table, of) else {
        return false;
    };
    h.tables.get_mut(table).expect("read")[at][column] = json!(value);
    true
}
