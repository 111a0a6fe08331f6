//! The lines of the sources that commit, beside those somebody died at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::store::failpoints::Place;

/// Lines that commit and that no life comes to, by file: how many at most. Each keeps one change by itself with what is
/// told of it, and who asked for it asks again; or it is the way of many endings at once, of which a life has few.
const LEFT_OUT: [(&str, usize); 29] = [
    ("api/cells.rs", 2),
    ("api/enrolments.rs", 4),
    ("api/fleet.rs", 1),
    ("api/localities.rs", 1),
    ("api/parts.rs", 1),
    ("api/plugin_keys.rs", 2),
    // The settings of a plugin.
    ("api/plugins.rs", 1),
    ("api/policies.rs", 1),
    ("api/rules.rs", 3),
    ("api/script.rs", 3),
    ("api/start.rs", 1),
    ("api/technicians.rs", 1),
    ("api/tokens.rs", 2),
    ("api/uploads.rs", 4),
    ("api/windows.rs", 1),
    ("first_token.rs", 2),
    ("fleet/ask.rs", 1),
    ("fleet/score.rs", 2),
    // What is compared is compared anew with the next tick.
    ("host/detector.rs", 1),
    ("host/predictor.rs", 1),
    ("jobs/advance_run.rs", 2),
    ("jobs/deliver_outbox.rs", 1),
    // Within a life no lease runs out; what ran out and was not taken back is seen by the next look.
    ("jobs/expire_leases.rs", 2),
    ("jobs/expire_uploads.rs", 1),
    ("process.rs", 1),
    ("queue/finisher.rs", 2),
    ("store/database.rs", 1),
    // The door itself.
    ("store/transaction.rs", 1),
    ("telemetry/store.rs", 3),
];

/// Files in which more lines commit than somebody died at and is left out.
pub(super) fn passed_over(died_at: &BTreeSet<Place>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in sources(&root) {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let commits = commits_of(&std::fs::read_to_string(&file).unwrap());
        let in_it = |place: &&Place| place.file.ends_with(&format!("src/{name}"));
        let died = died_at.iter().filter(in_it).count();
        let known = LEFT_OUT.iter().find(|(file, _)| *file == name);
        let left_out = known.map_or(0, |(_, count)| *count);
        if commits > died + left_out {
            found.push(format!(
                "{name}: nobody died at {} of {commits} commits, and {left_out} are left out",
                commits - died
            ));
        }
    }
    found
}

/// How many lines commit, those of tests aside.
fn commits_of(text: &str) -> usize {
    let marks = text
        .match_indices("\n#[cfg(test)]\n")
        .map(|(at, mark)| (at, at + mark.len()));
    let mut of_modules = marks.filter(|(_, next)| {
        let line = text[*next..].lines().next().unwrap_or_default();
        line.ends_with("mod tests {")
    });
    let end = of_modules.next().map_or(text.len(), |(at, _)| at);
    text[..end].matches(".commit()").count()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                sources(&path)
                    .into_iter()
                    .filter(|_| !name.ends_with("_tests")),
            );
        } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") && name != "testing.rs" {
            found.push(path);
        }
    }
    found.sort();
    found
}
