//! What a demonstration leaves behind: the report of every stage, and every file it made.

use std::collections::BTreeMap;
use std::path::Path;

use ::workflows::model::{Origin, Timestamp};
use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use super::source::Source;
use super::stand::Stand;
use super::{Demo, field};
use crate::artifacts::digest;

/// The stages of the loop, in order.
const STAGES: [&str; 12] = [
    "ingest", "predict", "decide", "allocate", "redesign", "simulate", "slice", "make", "verify",
    "schedule", "swap", "outcome",
];

/// `report.json`; its schema is `docs/report.schema.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Version of this shape.
    pub version: u32,
    /// What happened, in a line.
    pub headline: String,
    /// The source and where its telemetry comes from.
    pub source: Value,
    /// Seed of the simulated machine.
    pub seed: u64,
    /// What was injected into the first build.
    pub defect: String,
    /// The asset seen to.
    pub asset: String,
    /// The moment the clock started at: the source's last timestamp.
    pub clock_starts_at: Timestamp,
    /// The run that did it.
    pub run: String,
    /// Every stage, in order.
    pub stages: Vec<Stage>,
}

/// One stage of the loop.
#[derive(Debug, Serialize)]
pub(super) struct Stage {
    /// Its name.
    pub stage: String,
    /// What it was given.
    pub input: Value,
    /// What it gave back.
    pub output: Value,
    /// How long it took, s.
    pub seconds: f64,
    /// Where each input comes from.
    pub origin: BTreeMap<String, Origin>,
    /// What it made, digest by name.
    pub artifacts: BTreeMap<String, String>,
}

impl Report {
    pub(super) fn new(
        demo: &Demo,
        source: &Source,
        stand: &Stand,
        asset: &str,
        run: &Value,
        mut stages: Vec<Stage>,
    ) -> Self {
        stages.sort_by_key(|s| STAGES.iter().position(|name| *name == s.stage));
        let attempts = run["result"]["attempts"].as_u64().unwrap_or(0);
        let fps = run["result"]["fps"]["7d"].as_f64().unwrap_or(f64::NAN);
        Self {
            version: 1,
            headline: format!(
                "{asset} was going to fail within 7 days with {:.1} % probability; its part was redesigned, \
                 made {}, accepted and put in.",
                100.0 * fps,
                if attempts == 1 {
                    "once".to_owned()
                } else {
                    format!("{attempts} times until it was right")
                },
            ),
            source: json!({ "spec": demo.source, "title": source.title, "kind": source.kind, "origin": source.origin }),
            seed: demo.seed,
            defect: demo.defect.to_string(),
            asset: asset.to_owned(),
            clock_starts_at: stand.starts,
            run: run["id"].as_str().unwrap_or_default().to_owned(),
            stages,
        }
    }
}

/// Adds the stages that are steps of the run; several attempts are one stage.
pub(super) fn stages_of_run(
    stages: &mut Vec<Stage>,
    run: &Value,
    training: &Value,
    telemetry: Origin,
) -> anyhow::Result<()> {
    let steps = run["steps"].as_array().context("the run has no steps")?;
    for name in STAGES.iter().skip(1).filter(|n| **n != "decide") {
        let kind = if *name == "outcome" {
            "record_outcome"
        } else {
            name
        };
        let own: Vec<&Value> = steps.iter().filter(|s| s["kind"] == kind).collect();
        let last = own
            .last()
            .with_context(|| format!("the stage `{name}` did not happen"))?;
        let mut stage = Stage {
            stage: (*name).to_owned(),
            input: last["input"].clone(),
            output: last["output"].clone(),
            seconds: own.iter().map(|s| seconds(s)).sum(),
            origin: origins(name, telemetry),
            artifacts: BTreeMap::new(),
        };
        for (number, step) in own.iter().enumerate() {
            let suffix = if own.len() > 1 {
                format!("_{}", number + 1)
            } else {
                String::new()
            };
            for (artifact, digest) in step["artifacts"].as_object().into_iter().flatten() {
                let digest = digest.as_str().unwrap_or_default().to_owned();
                stage
                    .artifacts
                    .insert(format!("{artifact}{suffix}"), digest);
            }
        }
        if own.len() > 1 {
            let each = |s: &&Value| json!({ "input": s["input"], "output": s["output"], "seconds": seconds(s), "error": s["error"] });
            stage.output["attempts"] = own.iter().map(each).collect();
        }
        if *name == "predict" {
            let step = &training["steps"][0];
            stage
                .artifacts
                .insert("model".into(), field(&step["output"], "digest")?.to_owned());
            stage.output["training"] =
                json!({ "evaluation": step["output"]["evaluation"], "seconds": seconds(step) });
        }
        stages.push(stage);
    }
    Ok(())
}

/// Where the inputs of a stage come from, as far as they are not results of the stages before it.
fn origins(stage: &str, telemetry: Origin) -> BTreeMap<String, Origin> {
    let (from_telemetry, modelled): (&[&str], &[&str]) = match stage {
        "predict" => (&["history"], &[]),
        "allocate" => (&["fps"], &["hall", "utilisation"]),
        "redesign" => (
            &["features"],
            &["rotor_mass", "carried_mass", "transport_shock", "material"],
        ),
        "simulate" => (&[], &["material", "loads"]),
        "slice" => (&[], &["printer"]),
        "make" => (&[], &["machine", "scanner"]),
        "verify" => (&[], &["scan"]),
        "schedule" => (&["fps"], &["utilisation", "technicians", "outage_cost"]),
        "swap" | "outcome" => (&[], &["twin"]),
        _ => (&[], &[]),
    };
    let told = from_telemetry.iter().map(|name| (*name, telemetry));
    let told = told.chain(modelled.iter().map(|name| (*name, Origin::Modelled)));
    told.map(|(name, origin)| (name.to_owned(), origin))
        .collect()
}

fn seconds(step: &Value) -> f64 {
    let at = |name: &str| {
        step[name]
            .as_str()
            .and_then(|t| t.parse::<Timestamp>().ok())
    };
    match (at("started_at"), at("ended_at")) {
        (Some(begun), Some(ended)) => ended.since(begun) as f64 / 1e3,
        _ => 0.0,
    }
}

/// Fetches every file of the loop and checks each against its digest.
pub(super) async fn files(
    demo: &Demo,
    stand: &Stand,
    run: &Value,
    stages: &mut [Stage],
) -> anyhow::Result<()> {
    let steps = run["steps"].as_array().context("the run has no steps")?;
    let of = |kind: &'static str| steps.iter().filter(move |s| s["kind"] == kind);
    let last = |kind: &'static str| {
        of(kind)
            .next_back()
            .with_context(|| format!("no step `{kind}`"))
    };
    let out = &demo.out;

    let redesign = &last("redesign")?["output"];
    for (name, file) in [
        ("mesh", "part.stl"),
        ("threemf", "part.3mf"),
        ("step", "part.step"),
        ("image", "part.png"),
    ] {
        fetch(stand, field(redesign, name)?, &out.join(file)).await?;
    }
    let proof = field(&last("simulate")?["output"], "certificate_digest")?;
    fetch(stand, proof, &out.join("certificate.json")).await?;
    fetch(
        stand,
        field(&last("slice")?["output"], "gcode")?,
        &out.join("part.gcode"),
    )
    .await?;

    let judged: Vec<&Value> = of("verify").collect();
    for (number, step) in judged.iter().enumerate() {
        // The accepted build has the plain names; what was refused before it is numbered.
        let suffix = if number + 1 < judged.len() {
            format!("_{}", number + 1)
        } else {
            String::new()
        };
        let (input, output) = (&step["input"], &step["output"]);
        fetch(
            stand,
            field(input, "scan")?,
            &out.join(format!("scan{suffix}.ply")),
        )
        .await?;
        fetch(
            stand,
            field(output, "verdict")?,
            &out.join(format!("verdict{suffix}.json")),
        )
        .await?;
        fetch(
            stand,
            field(output, "image")?,
            &out.join(format!("deviation{suffix}.png")),
        )
        .await?;
    }

    let window = window(stand, &last("schedule")?["output"]).await?;
    let bytes = serde_json::to_vec_pretty(&window)?;
    write(&out.join("window.json"), &bytes)?;
    let heatmap = out.join("heatmap.png");
    let heatmap = std::fs::read(&heatmap)
        .with_context(|| format!("failed to read `{}`", heatmap.display()))?;

    for stage in stages.iter_mut() {
        match stage.stage.as_str() {
            "schedule" => stage.artifacts.insert("window".into(), digest(&bytes)),
            "outcome" => stage.artifacts.insert("heatmap".into(), digest(&heatmap)),
            "make" => {
                for (number, step) in judged.iter().enumerate() {
                    let name = if judged.len() > 1 {
                        format!("scan_{}", number + 1)
                    } else {
                        "scan".into()
                    };
                    stage
                        .artifacts
                        .insert(name, field(&step["input"], "scan")?.to_owned());
                }
                None
            }
            _ => None,
        };
    }
    Ok(())
}

/// The window and its work order, without the names the database gave them.
async fn window(stand: &Stand, output: &Value) -> anyhow::Result<Value> {
    let api = &stand.operator;
    let window: Value = api
        .get(&format!("/windows/{}", field(output, "window")?))
        .await?;
    let order: Value = api
        .get(&format!("/work_orders/{}", field(output, "work_order")?))
        .await?;
    Ok(json!({
        "asset": window["asset"],
        "from": window["from"],
        "to": window["to"],
        "technician": window["technician"],
        "part_ready_at": output["ready_at"],
        "reasons": window["reasons"],
        "alternatives": window["alternatives"],
        "work_order": {
            "bring": order["bring"], "procedure": order["procedure"],
            "reason": order["reason"], "technician": order["technician"],
        },
    }))
}

async fn fetch(stand: &Stand, named: &str, file: &Path) -> anyhow::Result<()> {
    let bytes = stand
        .operator
        .get_bytes(&format!("/artifacts/{named}"))
        .await?;
    let actual = digest(&bytes);
    anyhow::ensure!(
        actual == named,
        "the artifact `{named}` has the digest `{actual}`"
    );
    write(file, &bytes)
}

/// Writes `report.json`.
pub(super) fn write_report(out: &Path, report: &Report) -> anyhow::Result<()> {
    write(
        &out.join("report.json"),
        &serde_json::to_vec_pretty(report)?,
    )
}

/// The hall as it was scored. A demonstration that goes on after a kill keeps the picture: meanwhile its clock has moved,
/// and the same scores are old.
pub(super) async fn keep_heatmap(stand: &Stand, out: &Path) -> anyhow::Result<()> {
    let file = out.join("heatmap.png");
    if file.exists() {
        return Ok(());
    }
    let picture = "/twin/heatmap.png?layer=failure_risk";
    write(&file, &stand.operator.get_bytes(picture).await?)
}

/// All of it or nothing: what was half written when the process died would be taken for a result.
fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("failed to write `{}`", file.display()))
}
