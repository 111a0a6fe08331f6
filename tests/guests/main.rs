//! From `forewright plugin new` to a plugin that passes its tests and the conformance kit, in a clean folder, for each
//! language and world; says how long each took. `make test-guests` brings the compilers and runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::binary::forewright;

const WORLDS: [&str; 6] = [
    "predictor",
    "detector",
    "designer",
    "verifier",
    "scheduler",
    "action",
];

/// The compilers that `scripts/install.sh guests` brought.
struct Tools(PathBuf);

impl Tools {
    fn new() -> Self {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
        let tools = std::env::var_os("FOREWRIGHT_TOOLS").map_or(beside, PathBuf::from);
        let tools = tools.canonicalize();
        Self(tools.expect("scripts/install.sh guests brings the compilers into .tools/"))
    }

    /// What an author has on their machine.
    fn forewright(&self, folder: &Path, arguments: &[&str]) -> Output {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = [self.0.join("python/bin"), self.0.join("node/bin")];
        let path = own.into_iter().chain(std::env::split_paths(&path));
        let bin = self.0.join("guests/node_modules/.bin");
        let output = Command::new(forewright())
            .args(arguments)
            .current_dir(folder)
            .env("PATH", std::env::join_paths(path).expect("a path"))
            .env("ASC", bin.join("asc"))
            .env("COMPONENTIZE_QJS", bin.join("componentize-qjs"))
            .env(
                "FOREWRIGHT_WASM_CARGO",
                self.0.join("guests/rust/bin/cargo"),
            )
            // The standard library is built once for all of them.
            .env("CARGO_TARGET_DIR", self.0.join("guests/rust-target"))
            .output();
        output.expect("forewright can be started")
    }

    /// The document that a command prints, and how long it took. Panics with all it said if it does not end well.
    fn document(&self, folder: &Path, arguments: &[&str]) -> (Value, Duration) {
        let began = Instant::now();
        let output = self.forewright(folder, &[arguments, &["--json"]].concat());
        let took = began.elapsed();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
        (serde_json::from_str(&out).expect(&out), took)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Begins projects in a language, one for each world, and does what an author does next.
fn day_of_an_author(language: &str, worlds: &[&str]) {
    let tools = Tools::new();
    for world in worlds {
        let clean = tempfile::tempdir().expect("a folder");
        let (name, began) = (format!("my-{world}"), Instant::now());
        let new = ["plugin", "new", &name, "--lang", language, "--world", world];
        tools.document(clean.path(), &new);
        let project = clean.path().join(&name);
        let (tested, _) = tools.document(&project, &["plugin", "test"]);
        let to_tested = began.elapsed();
        assert_eq!(tested["ok"], true, "{tested:#}");
        let plugin = project.join(format!("{name}-0.1.0.wasm"));
        let bytes = std::fs::metadata(&plugin).expect("it was built").len();
        let (checked, check) =
            tools.document(&project, &["plugin", "check", &plugin.to_string_lossy()]);
        assert_eq!(checked["ok"], true, "{checked:#}");
        assert!(checked["cases"].as_u64() >= Some(30), "{checked:#}");
        println!(
            "{language} {world}: {:.1} s from new to tested, {bytes} bytes; {} of {} cases of the kit, {:.1} s",
            to_tested.as_secs_f64(),
            checked["passed"],
            checked["cases"],
            check.as_secs_f64()
        );
    }
}

/// Puts another source, manifest and case into a project that goes through every door.
fn through_every_door(language: &str, source: &str) {
    let tools = Tools::new();
    let clean = tempfile::tempdir().expect("a folder");
    let new = [
        "plugin", "new", "doors", "--lang", language, "--world", "action",
    ];
    tools.document(clean.path(), &new);
    let project = clean.path().join("doors");
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/capabilities");
    for file in [source, "plugin.toml", "case.toml"] {
        std::fs::copy(probe.join(file), project.join(file)).expect("copied");
    }
    let (tested, _) = tools.document(&project, &["plugin", "test"]);
    assert_eq!(tested["passed"], 1, "{tested:#}");
}

mod from_new_to_tested {
    use super::{WORLDS, day_of_an_author, through_every_door};

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn c() {
        day_of_an_author("c", &WORLDS);
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn zig() {
        day_of_an_author("zig", &WORLDS);
    }

    /// Its side of every door is written by hand.
    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn zig_through_every_door() {
        through_every_door("zig", "action.zig");
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn assemblyscript() {
        day_of_an_author("assemblyscript", &WORLDS);
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn rust() {
        day_of_an_author("rust", &WORLDS);
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn javascript() {
        day_of_an_author("js", &WORLDS);
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn python() {
        // A minute or more each: `FOREWRIGHT_GUESTS=all` does all of them.
        let all = std::env::var("FOREWRIGHT_GUESTS").is_ok_and(|which| which == "all");
        day_of_an_author("python", if all { &WORLDS } else { &WORLDS[..1] });
    }
}

/// Plugins that ship with the server, each built as its author builds it.
mod from_new_to_tested_shipped {
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::Tools;

    /// Builds a shipped plugin, has it pass its cases and the kit, and answers its file.
    fn shipped(tools: &Tools, name: &str, out: &Path) -> PathBuf {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/guests");
        let project = project.join(name).canonicalize().expect("it is there");
        let file = out.join(format!("{name}.wasm"));
        let path = file.to_string_lossy().into_owned();
        tools.document(&project, &["plugin", "build", "--output", &path]);
        let (tested, _) = tools.document(&project, &["plugin", "test"]);
        assert_eq!(tested["ok"], true, "{tested:#}");
        let (checked, took) = tools.document(&project, &["plugin", "check", &path]);
        assert_eq!(checked["ok"], true, "{checked:#}");
        println!(
            "{name}: {} bytes; {} of {} cases of the kit, {:.1} s",
            std::fs::metadata(&file).expect("it was built").len(),
            checked["passed"],
            checked["cases"],
            took.as_secs_f64()
        );
        file
    }

    /// What a stage of a demonstration came to.
    fn stage(tools: &Tools, folder: &Path, name: &str, more: &[&str]) -> Value {
        let demo = [&["demo", "--out", "out"], more].concat();
        let (report, _) = tools.document(folder, &demo);
        let mut stages = report["stages"].as_array().expect("stages").iter();
        let stage = stages.find(|stage| stage["stage"] == name);
        stage.expect("it happened")["output"].clone()
    }

    fn numbers(told: &Value, at: &str, into: &mut Vec<(String, f64)>) {
        match told {
            Value::Number(number) => into.push((at.to_owned(), number.as_f64().expect("a number"))),
            Value::Array(all) => {
                for (n, one) in all.iter().enumerate() {
                    numbers(one, &format!("{at}/{n}"), into);
                }
            }
            Value::Object(all) => {
                for (name, one) in all {
                    numbers(one, &format!("{at}/{name}"), into);
                }
            }
            _ => {}
        }
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn the_failure_model_scores_as_the_one_in_the_server() {
        let tools = Tools::new();
        let folder = tempfile::tempdir().expect("a folder");
        let file = shipped(&tools, "failure-model", folder.path());
        // What this machine measures is never twice the same.
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cmapss");
        let Ok(recorded) = recorded.canonicalize() else {
            println!("skipped: the recorded engines are not in ../shared/data/cmapss");
            return;
        };
        let source = format!("cmapss:{}", recorded.display());
        let (built_in, by_plugin) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&built_in).expect("a folder");
        std::fs::create_dir(&by_plugin).expect("a folder");
        let own = stage(
            &tools,
            &built_in,
            "predict",
            &["--source", &source, "--defect", "none"],
        );
        let path = file.to_string_lossy();
        let theirs = stage(
            &tools,
            &by_plugin,
            "predict",
            &[
                "--source",
                &source,
                "--defect",
                "none",
                "--asset",
                own["asset"].as_str().expect("an asset"),
                "--predictor",
                &path,
            ],
        );
        assert_eq!(own["plugin"], Value::Null);
        assert_eq!(theirs["plugin"]["name"], "failure-model");
        for part in ["fps", "reasons", "remaining_life_hours"] {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            numbers(&own[part], part, &mut a);
            numbers(&theirs[part], part, &mut b);
            assert!(!a.is_empty() && a.len() == b.len(), "{own:#} {theirs:#}");
            for ((name, a), (_, b)) in a.iter().zip(&b) {
                assert!(
                    (a - b).abs() <= 1e-9,
                    "{name}: {a} built in, {b} by the plugin"
                );
            }
        }
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn the_ribs_are_made_and_hold() {
        let tools = Tools::new();
        let folder = tempfile::tempdir().expect("a folder");
        let file = shipped(&tools, "ribs", folder.path());
        let more = ["--defect", "none", "--designer", &file.to_string_lossy()];
        let redesign = stage(&tools, folder.path(), "redesign", &more);
        assert_eq!(redesign["plugin"]["name"], "ribs", "{redesign:#}");
        assert_eq!(redesign["holds"], true);
        assert!(folder.path().join("out/part.stl").is_file());
    }

    #[test]
    #[ignore = "needs the compilers that `make test-guests` brings"]
    fn the_others_pass_their_cases_and_the_kit() {
        let tools = Tools::new();
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["watch", "layers", "crew", "tickets"] {
            shipped(&tools, name, folder.path());
        }
    }
}
