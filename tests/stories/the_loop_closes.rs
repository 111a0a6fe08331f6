//! The loop closes: from recorded engines, from a file and from this machine, with every number computed from its
//! input.
//!
//! The demonstrations on recorded engines are run once, two at a time, and several stories look at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;
use tests::{Demo, cmapss, digest, files_of};

const STAGES: [&str; 12] = [
    "ingest", "predict", "decide", "allocate", "redesign", "simulate", "slice", "make", "verify",
    "schedule", "swap", "outcome",
];

/// What one demonstration left.
struct Finished {
    report: Value,
    files: BTreeMap<String, String>,
    folder: TempDir,
}

impl Finished {
    async fn of(demo: impl FnOnce(&std::path::Path) -> Demo) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let demo = demo(&folder.path().join("out"));
        let report = demo.run().await;
        let files = files_of(&demo.out);
        Self {
            report,
            files,
            folder,
        }
    }

    fn stage(&self, name: &str) -> &Value {
        let stages = self.report["stages"].as_array().expect("stages");
        let found = stages.iter().find(|s| s["stage"] == name);
        found.unwrap_or_else(|| panic!("no stage `{name}`"))
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join("out").join(file)).expect("a file")
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&self.read(file)).expect("JSON")
    }

    /// Every artifact by stage and name.
    fn artifacts(&self) -> BTreeMap<(String, String), String> {
        let mut all = BTreeMap::new();
        for stage in self.report["stages"].as_array().expect("stages") {
            for (name, digest) in stage["artifacts"].as_object().expect("artifacts") {
                let stage = stage["stage"].as_str().expect("a name").to_owned();
                let digest = digest.as_str().expect("a digest").to_owned();
                all.insert((stage, name.clone()), digest);
            }
        }
        all
    }
}

/// The demonstrations on recorded engines.
struct Recorded {
    first: Finished,
    again: Finished,
    other_seed: Finished,
    other_asset: Finished,
}

fn recorded() -> Option<&'static Recorded> {
    RECORDED.as_ref()
}

/// An engine early in its life whose fan tray others depend on.
const OTHER_ASSET: &str = "fan-r02-06";

static RECORDED: LazyLock<Option<Recorded>> = LazyLock::new(|| {
    let engines = cmapss()?;
    let demo = |out: &std::path::Path| Demo::of_engines(&engines, out);
    let other = |out: &std::path::Path| {
        let demo = demo(out).with("--asset", OTHER_ASSET);
        demo.with("--defect", "none")
    };
    Some(block_on(async {
        let (first, again) = tokio::join!(Finished::of(demo), Finished::of(demo));
        let (other_seed, other_asset) = tokio::join!(
            Finished::of(|out| demo(out).with("--seed", "1")),
            Finished::of(other),
        );
        Recorded {
            first,
            again,
            other_seed,
            other_asset,
        }
    }))
});

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// What a stage made, whose digests depend on nothing random before the machine moves.
const UPSTREAM: [&str; 7] = [
    "ingest", "predict", "decide", "allocate", "redesign", "simulate", "slice",
];

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let Some(Recorded { first, again, .. }) = recorded() else {
        return;
    };
    assert_eq!(first.artifacts(), again.artifacts());
    let chosen = [
        "part.stl",
        "part.3mf",
        "part.step",
        "part.gcode",
        "certificate.json",
        "scan.ply",
        "scan_1.ply",
        "verdict.json",
        "verdict_1.json",
        "window.json",
        "heatmap.png",
    ];
    for file in chosen {
        assert_eq!(first.files[file], again.files[file], "{file}");
    }
    let model = ("predict".to_owned(), "model".to_owned());
    assert!(first.artifacts().contains_key(&model));
}

#[test]
fn another_seed_changes_scan_and_verdict_and_nothing_before_them() {
    let Some(Recorded {
        first, other_seed, ..
    }) = recorded()
    else {
        return;
    };
    let (ours, theirs) = (first.artifacts(), other_seed.artifacts());
    let upstream = |all: &BTreeMap<(String, String), String>| {
        let of = all
            .iter()
            .filter(|((stage, _), _)| UPSTREAM.contains(&stage.as_str()));
        of.map(|(k, v)| (k.clone(), v.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(upstream(&ours), upstream(&theirs));
    assert!(upstream(&ours).len() >= 6, "{ours:#?}");
    for file in ["scan.ply", "scan_1.ply", "verdict.json", "verdict_1.json"] {
        assert_ne!(first.files[file], other_seed.files[file], "{file}");
    }
    for file in [
        "part.stl",
        "part.3mf",
        "part.gcode",
        "certificate.json",
        "window.json",
    ] {
        assert_eq!(first.files[file], other_seed.files[file], "{file}");
    }
}

#[test]
fn another_engine_changes_everything_that_follows_from_it() {
    let Some(Recorded {
        first, other_asset, ..
    }) = recorded()
    else {
        return;
    };
    assert_ne!(first.report["asset"], other_asset.report["asset"]);
    let fps = |f: &Finished| f.stage("predict")["output"]["fps"].clone();
    assert_ne!(fps(first), fps(other_asset));
    let loads = |f: &Finished| f.stage("redesign")["output"]["loads"].clone();
    assert!(loads(first).is_array());
    assert_ne!(loads(first), loads(other_asset));
    for file in [
        "part.stl",
        "part.gcode",
        "certificate.json",
        "scan.ply",
        "window.json",
    ] {
        assert_ne!(first.files[file], other_asset.files[file], "{file}");
    }
    let ours = [first.json("window.json"), other_asset.json("window.json")];
    assert_ne!(ours[0]["from"], ours[1]["from"], "the windows themselves");
}

#[test]
fn a_defect_is_rejected_and_the_second_build_accepted() {
    let Some(Recorded {
        first, other_asset, ..
    }) = recorded()
    else {
        return;
    };
    let attempts = &first.stage("verify")["output"]["attempts"];
    let said: Vec<_> = attempts
        .as_array()
        .expect("two attempts")
        .iter()
        .map(|a| &a["output"]["disposition"])
        .collect();
    assert_eq!(said, ["reject", "accept"]);
    assert_eq!(first.stage("verify")["output"]["disposition"], "accept");

    // With the defect switched off the first is accepted.
    let verify = &other_asset.stage("verify")["output"];
    assert_eq!(verify["disposition"], "accept");
    assert!(verify["attempts"].is_null(), "{verify:#}");
    assert!(!other_asset.files.contains_key("scan_1.ply"));
}

fn assert_complete(demo: &Finished, origin: &str) {
    for file in [
        "report.json",
        "part.stl",
        "part.3mf",
        "part.step",
        "part.gcode",
        "certificate.json",
        "scan.ply",
        "verdict.json",
        "window.json",
        "heatmap.png",
    ] {
        assert!(!demo.read(file).is_empty(), "{file}");
    }
    let stages = demo.report["stages"].as_array().expect("stages");
    let names: Vec<_> = stages
        .iter()
        .map(|s| s["stage"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, STAGES);
    for stage in stages {
        for member in ["input", "output"] {
            assert!(stage[member].is_object(), "no `{member}` in {stage:#}");
        }
        assert!(
            stage["seconds"].as_f64().is_some_and(|s| s >= 0.0),
            "{stage:#}"
        );
        for (name, origin) in stage["origin"].as_object().expect("origin") {
            let known = ["measured", "recorded", "modelled"];
            assert!(
                known.contains(&origin.as_str().expect("a word")),
                "{name}: {origin}"
            );
        }
    }
    assert_eq!(demo.stage("ingest")["origin"]["telemetry"], origin);
    assert!(
        demo.report["clock_starts_at"]
            .as_str()
            .is_some_and(|t| t.ends_with('Z'))
    );

    // What the report names is what lies in the folder.
    let by_digest: BTreeSet<_> = demo.files.values().collect();
    let artifacts = demo.artifacts();
    for ((stage, name), named) in &artifacts {
        let fetched = [
            "mesh", "threemf", "step", "gcode", "scan", "verdict", "window", "heatmap",
        ];
        if fetched
            .iter()
            .any(|f| name == f || name.starts_with(&format!("{f}_")))
        {
            assert!(
                by_digest.contains(named),
                "{stage}.{name} is {named}, of no file"
            );
        }
    }
    let certificate = demo.json("certificate.json");
    let tight = certificate["watertight"]
        .as_object()
        .expect("a mesh report");
    for (fault, count) in tight.iter().filter(|(name, _)| *name != "components") {
        assert_eq!(*count, 0, "{fault} in {tight:?}");
    }
    assert_eq!(certificate["holds"], true, "{certificate:#}");
    assert!(demo.read("heatmap.png").starts_with(b"\x89PNG"));
    let verdict = demo.json("verdict.json");
    assert_eq!(verdict["verdict"]["disposition"], "accept", "{verdict:#}");
    assert_eq!(
        verdict["mesh"],
        digest(&demo.read("part.stl")),
        "what was measured against"
    );
    assert_eq!(verdict["scan"], digest(&demo.read("scan.ply")));
}

#[test]
fn every_result_is_left_behind() {
    let Some(Recorded {
        first, other_asset, ..
    }) = recorded()
    else {
        return;
    };
    assert_complete(first, "recorded");
    assert_complete(other_asset, "recorded");
}

#[test]
fn this_machine_is_a_source_too() {
    let host = block_on(Finished::of(|out| Demo::new("host", out)));
    assert_complete(&host, "modelled");
    let ingest = host.stage("ingest");
    assert_eq!(ingest["origin"]["this_machine"], "measured");
    let live = ingest["input"]["this_machine"]
        .as_object()
        .expect("live samples");
    assert!(live.len() >= 3, "{live:#?}");
}

/// Fans that ran to failure, and some trays of the hall at several ages: hours, vibration, temperature.
fn fans_csv() -> String {
    let mut text = String::from("seconds,fan,vibration_mm_s,celsius\n");
    let mut fan = |name: &str, number: u32, life: u32, age: u32, ends_hour: u32| {
        for hour in 0..age {
            let worn = (f64::from(hour) / f64::from(life)).powi(3);
            // A tremor of its own for each fan, the same in every run.
            let tremor = f64::from((hour * 37 + number * 101) % 17) / 17.0;
            let [vibration, celsius] =
                [2.0 + 6.0 * worn + 0.3 * tremor, 35.0 + 9.0 * worn + tremor];
            let at = 1_714_978_800 + (ends_hour - age + hour) * 3600;
            text += &format!("{at},{name},{vibration:.3},{celsius:.2}\n");
        }
    };
    for number in 0..12 {
        let life = 160 + 11 * number;
        fan(&format!("old-{number:02}"), number, life, life, 500);
    }
    for number in 0..8 {
        let name = format!("fan-r{:02}-{:02}", number / 4 + 1, number % 4 + 1);
        fan(&name, 50 + number, 220, 60 + 22 * number, 520);
    }
    text
}

#[test]
fn a_file_is_a_source_and_trays_it_does_not_name_are_left_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fans.csv");
    std::fs::write(&file, fans_csv()).expect("a file");
    let source = format!("csv:{}?time=seconds&unit=s&asset=fan&wide", file.display());
    let demo = block_on(Finished::of(|out| {
        Demo::new(&source, out).with("--defect", "none")
    }));
    assert_complete(&demo, "recorded");
    let evaluation = &demo.stage("predict")["output"]["training"]["evaluation"];
    assert_eq!(evaluation["failed_units"], 12, "{evaluation:#}");
    assert_eq!(evaluation["units"], 20, "{evaluation:#}");
    assert_eq!(evaluation["left_out_units"], 92, "{evaluation:#}");
}
