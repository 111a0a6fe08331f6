//! `forewright plugin …`: from what a compiler made to a plugin that is checked, tested, recorded and signed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::binary::forewright;

/// An action that answers what it is given, and writes so to its log; one without a key it refuses.
const ECHO: &str = r#"(module
  (import "forewright:plugin/host@1.0.0" "log"
    (func $log (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "answers what it is given")
  (data (i32.const 64) "refused")
  (global $free (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 3))))
  (func (export "forewright:plugin/act@1.0.0#run") (param i32 i32 i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 16) (i32.const 24) (i32.const 0) (i32.const 0))
    (if (i32.eqz (local.get 3))
      (then
        (i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1032) (i32.const 0))
        (i32.store (i32.const 1040) (i32.const 64))
        (i32.store (i32.const 1044) (i32.const 7))
        (return (i32.const 1024))))
    (i32.store (i32.const 1032) (local.get 0))
    (i32.store (i32.const 1036) (local.get 1))
    (i32.const 1024)))"#;

const MANIFEST: &str = r#"name = "echo"
version = "1.0.0"
world = "action"
interface = "forewright:plugin@1"
description = "answers what it is given"
[action]
input = {}
output = {}
[tests]
cases = "cases/*.toml"
[build]
command = "cp made.wasm guest.wasm && echo built"
module = "guest.wasm"
"#;

const ANSWERS: &str = r#"
[request.act]
input = '{"fan": 7, "speed": 0.25}'
key = "k"
[expect]
answer = { speed = 0.2500001 }
tolerance = 1e-6
"#;

const REFUSES: &str = r#"
about = "an action without a key"
[request.act]
input = '{}'
key = ""
[expect]
fails = "plugin.declared.invalid-input"
says = "refused"
"#;

/// A project's folder, as its author has it.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempfile::tempdir().expect("a folder"));
        project.write("plugin.toml", MANIFEST);
        project.compile(ECHO);
        std::fs::create_dir(project.path("cases")).expect("made");
        project.write("cases/answers.toml", ANSWERS);
        project.write("cases/refuses.toml", REFUSES);
        project
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("written");
    }

    fn compile(&self, text: &str) {
        let module = wat::parse_str(text).expect("a module");
        std::fs::write(self.path("made.wasm"), module).expect("written");
    }

    /// Runs `forewright plugin …` in the folder.
    fn plugin(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(forewright());
        let output = command
            .arg("plugin")
            .args(arguments)
            .current_dir(self.0.path())
            .output();
        output.expect("forewright can be started")
    }

    /// The same, and the document it prints; whether it ended well.
    fn document(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self.plugin(&[arguments, &["--json"]].concat());
        let document = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), document.expect(&said))
    }
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[test]
fn a_module_becomes_a_plugin_that_passes_its_authors_cases() {
    let project = Project::new();
    let built = project.plugin(&["build"]);
    assert!(built.status.success(), "{}", said(&built));
    let told = String::from_utf8_lossy(&built.stdout);
    assert!(
        told.starts_with("./echo-1.0.0.wasm ("),
        "what a build prints is no result: {told}"
    );
    assert!(said(&built).contains("\nbuilt\n"));

    let (ok, tested) = project.document(&["test"]);
    assert!(ok, "{tested:#}");
    assert_eq!(tested["passed"], 2);
    assert_eq!(tested["cases"][0]["name"], "cases/answers.toml");
    assert_eq!(
        tested["cases"][0]["log"],
        json!(["info answers what it is given"])
    );

    project.write("cases/answers.toml", &ANSWERS.replace("0.2500001", "0.3"));
    let tested = project.plugin(&["test"]);
    assert_eq!(tested.status.code(), Some(1));
    let told = said(&tested);
    for line in [
        "ok      cases/refuses.toml",
        "FAILED  cases/answers.toml",
        "answer.speed: 0.25 instead of 0.3",
        "log: info answers what it is given",
        "1 of 2 cases passed",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[test]
fn what_every_plugin_meets_is_scored() {
    let project = Project::new();
    let (ok, checked) = project.document(&["check"]);
    assert!(!ok, "it answers what is no JSON");
    let verdicts = checked["verdicts"].as_array().expect("verdicts");
    assert!(verdicts.len() >= 40, "{}", verdicts.len());
    let passed = verdicts.iter().filter(|verdict| verdict["passed"] == true);
    assert_eq!(checked["passed"], passed.count());
    let verdict = verdicts
        .iter()
        .find(|verdict| verdict["name"] == "input: cut off");
    assert_eq!(verdict.expect("the case")["passed"], false);
    let told = said(&project.plugin(&["check", "echo-1.0.0.wasm"]));
    assert!(told.contains("FAILED  input: cut off"), "{told}");
}

#[test]
fn a_recorded_call_ends_the_same_and_another_version_is_told_apart() {
    let project = Project::new();
    let called = project.plugin(&["call", ".", "cases/answers.toml", "--record", "call.bin"]);
    assert!(called.status.success(), "{}", said(&called));
    assert_eq!(called.stdout, b"{\"fan\": 7, \"speed\": 0.25}\n");
    let same = project.plugin(&["replay", "call.bin", "echo-1.0.0.wasm"]);
    assert!(same.status.success(), "{}", said(&same));
    assert_eq!(same.stdout, b"the same, bit for bit\n");

    // The next version answers an object of its own.
    let object = r#"{"speed": 0.75}"#;
    let text = format!("(data (i32.const 64) {object:?})");
    let next = ECHO
        .replace("(data (i32.const 64) \"refused\")", &text)
        .replace(
            "(i32.store (i32.const 1032) (local.get 0))",
            "(i32.store (i32.const 1032) (i32.const 64))",
        )
        .replace(
            "(i32.store (i32.const 1036) (local.get 1))",
            "(i32.store (i32.const 1036) (i32.const 15))",
        );
    project.compile(&next);
    project.write("plugin.toml", &MANIFEST.replace("1.0.0", "1.1.0"));
    let (ok, replayed) = project.document(&["replay", "call.bin", "."]);
    assert!(!ok);
    assert_eq!(replayed["same_plugin"], false);
    let differs = [
        "answer.fan: is missing; it is to be 7",
        "answer.speed: 0.75 instead of 0.25",
    ];
    assert_eq!(replayed["differs"], json!(differs));
}

#[test]
fn a_signature_is_one_while_nothing_is_changed() {
    let project = Project::new();
    let key = project.plugin(&["key", "author.key"]);
    assert!(key.status.success(), "{}", said(&key));
    project.write(
        "keys.toml",
        &String::from_utf8_lossy(&key.stdout).replace("you", "acme"),
    );
    let again = project.plugin(&["key", "author.key"]);
    assert_eq!(again.status.code(), Some(1), "a key is never overwritten");
    assert!(project.plugin(&["build"]).status.success());
    let inspect = ["inspect", "echo-1.0.0.wasm", "--keys", "keys.toml"];
    let (_, unsigned) = project.document(&inspect);
    assert_eq!(unsigned["signer"], Value::Null);
    assert!(
        project
            .plugin(&["sign", "echo-1.0.0.wasm", "--key", "author.key"])
            .status
            .success()
    );
    let (_, signed) = project.document(&inspect);
    assert_eq!(signed["signer"], "acme");
    assert_eq!(signed["manifest"]["name"], "echo");
    let (_, stranger) = project.document(&inspect[..2]);
    let why = stranger["not_trusted"].as_str().expect("a reason");
    assert!(why.contains("unknown key"), "{why}");
    let shown = said(&project.plugin(&inspect));
    assert!(shown.contains("by `acme`"), "{shown}");

    let file = project.path("echo-1.0.0.wasm");
    let whole = std::fs::read(&file).expect("a file");
    change(&file, &whole, b"answers what it is given\"\n[action]");
    let (_, forged) = project.document(&inspect);
    let why = forged["not_trusted"].as_str().expect("a reason");
    assert!(
        why.contains("the signature by `acme` does not fit"),
        "{why}"
    );
    change(&file, &whole, b"refused");
    let changed = project.plugin(&inspect);
    assert_eq!(changed.status.code(), Some(1));
    let told = said(&changed);
    assert!(
        told.contains("the manifest says that the component is"),
        "{told}"
    );
}

/// Writes a file whose bytes are others where this stands first: a letter in the manifest, or in what the guest says.
fn change(file: &Path, whole: &[u8], place: &[u8]) {
    let mut bytes = whole.to_vec();
    let at = bytes.windows(place.len()).position(|bytes| bytes == place);
    bytes[at.expect("the place")] ^= 0x20;
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn what_is_no_plugin_is_refused_with_the_next_thing_to_do() {
    let project = Project::new();
    let told = |arguments: &[&str]| {
        let output = project.plugin(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    for (file, text, words) in [
        (
            "plugin.toml",
            MANIFEST.replace("action\"", "actor\""),
            "there is no world `actor`",
        ),
        (
            "plugin.toml",
            MANIFEST.replace("plugin@1", "plugin@2"),
            "this host speaks `forewright:plugin@1`",
        ),
        (
            "plugin.toml",
            MANIFEST.replace("\"cp ", "\"false; exit 7; "),
            "the build failed",
        ),
        (
            "plugin.toml",
            MANIFEST.replace("guest.wasm\"\n", "other.wasm\"\n"),
            "failed to read module `./other.wasm`",
        ),
        (
            "plugin.toml",
            MANIFEST
                .split("[build]")
                .next()
                .unwrap_or_default()
                .to_owned(),
            "[build]",
        ),
        (
            "plugin.toml",
            MANIFEST.replace("cases/*", "*/*"),
            "`*` may stand in a file's name",
        ),
        (
            "plugin.toml",
            MANIFEST.replace("\"guest.wasm\"", "\"echo-1.0.0.wasm\""),
            "would be written over",
        ),
        (
            "cases/answers.toml",
            ANSWERS.replace("act", "design"),
            "case `./cases/answers.toml`: `request`",
        ),
        (
            "cases/answers.toml",
            ANSWERS.replace("key =", "kex ="),
            "missing field `key`",
        ),
        (
            "cases/answers.toml",
            ANSWERS.replace("[expect]", "[hope]"),
            "unknown field `hope`",
        ),
        (
            "cases/answers.toml",
            ANSWERS
                .split("[expect]")
                .next()
                .unwrap_or_default()
                .to_owned(),
            "the case has no `[expect]`",
        ),
    ] {
        project.write("plugin.toml", MANIFEST);
        project.write("cases/answers.toml", ANSWERS);
        project.write(file, &text);
        let told = told(&["test"]);
        assert!(told.contains(words), "{words}\n{told}");
    }
    project.write("plugin.toml", MANIFEST);
    project.compile("(module (memory (export \"memory\") 1))");
    let missing = told(&["build"]);
    assert!(missing.contains("the module is no `action`"), "{missing}");
    let stranger = told(&["check", "plugin.toml"]);
    assert!(
        stranger.contains("`plugin.toml` is no plugin: the file is not WebAssembly"),
        "{stranger}"
    );
}

#[test]
fn a_project_is_begun_in_an_empty_folder_by_a_right_name() {
    let clean = tempfile::tempdir().expect("a folder");
    let begin = |name: &str, language: &str| {
        let mut command = Command::new(forewright());
        command.args(["plugin", "new", name, "--lang", language]);
        command
            .args(["--world", "action"])
            .current_dir(clean.path());
        command.output().expect("forewright can be started")
    };
    assert!(begin("tickets", "c").status.success());
    for file in [
        "plugin.toml",
        "plugin.c",
        "build.sh",
        "bindings/plugin.h",
        "README.md",
    ] {
        assert!(clean.path().join("tickets").join(file).exists(), "{file}");
    }
    for (name, language, why) in [
        ("tickets", "c", "`tickets` is not empty"),
        ("Tickets!", "c", "`name` of the manifest"),
        ("others", "cobol", "no template for `cobol`"),
    ] {
        let refused = begin(name, language);
        assert!(
            !refused.status.success() && said(&refused).contains(why),
            "{}",
            said(&refused)
        );
    }
    assert!(!clean.path().join("Tickets!").exists() && !clean.path().join("others").exists());
}

#[test]
fn bindings_follow_what_is_asked_for() {
    let clean = tempfile::tempdir().expect("a folder");
    let path = |file: &str| clean.path().join("tickets").join(file);
    let forewright = |arguments: &[&str]| {
        let mut command = Command::new(forewright());
        command
            .arg("plugin")
            .args(arguments)
            .current_dir(clean.path());
        command.output().expect("forewright can be started")
    };
    let began = forewright(&["new", "tickets", "--lang", "c", "--world", "action"]);
    assert!(began.status.success(), "{}", said(&began));
    let header = || std::fs::read_to_string(path("bindings/plugin.h")).expect("a header");
    assert!(!header().contains("http_send"));
    let manifest = std::fs::read_to_string(path("plugin.toml")).expect("a manifest");
    let asks = "[capabilities]\nhttp = { origins = [\"https://tickets.example\"] }\n";
    std::fs::write(path("plugin.toml"), manifest + asks).expect("written");
    // There may be no compiler here; the bindings are written before it is asked for.
    std::fs::write(path("build.sh"), "exit 1").expect("written");
    let built = forewright(&["build", "tickets"]);
    assert!(
        said(&built).contains("the build failed"),
        "{}",
        said(&built)
    );
    assert!(header().contains("extern bool http_send("));
}
