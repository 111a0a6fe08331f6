//! What a person sees of a demonstration: one line a stage, on a terminal with a bar while it works.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::Demo;
use super::collect::Report;
use super::source::Source;
use super::stand::Stand;
use crate::cli::output;

/// Writes to stderr, so that stdout is free for the report.
pub(super) struct Show {
    bars: MultiProgress,
    terminal: bool,
    begun: Instant,
}

/// One stage that is under way.
pub(super) struct Stage<'a> {
    show: &'a Show,
    name: String,
    bar: ProgressBar,
    begun: Instant,
}

/// The stages of a run, as its steps come and go.
pub(super) struct Track<'a> {
    show: &'a Show,
    told: BTreeSet<String>,
    open: Option<(String, Stage<'a>)>,
}

impl Show {
    /// Bars where stderr is a terminal, plain lines elsewhere.
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            terminal,
            begun: Instant::now(),
        }
    }

    pub(super) fn title(&self, demo: &Demo, source: &Source, stand: &Stand) {
        self.line(&format!(
            "Forewright: from telemetry to a verified part — {}",
            source.title
        ));
        let again = if stand.resumed {
            ", going on where it was cut off"
        } else {
            ""
        };
        self.line(&format!(
            "  clock starts at {}, machine seed {}, injected defect: {}{again}",
            source.ends, demo.seed, demo.defect
        ));
    }

    /// Begins a stage.
    pub(super) fn stage(&self, name: &str, doing: &str) -> Stage<'_> {
        let bar = self.bars.add(ProgressBar::new(1_000));
        let style =
            ProgressStyle::with_template("  {spinner:.cyan} {prefix:10} {bar:24.cyan/dim} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Stage {
            show: self,
            name: name.to_owned(),
            bar,
            begun: Instant::now(),
        }
    }

    /// Follows a run.
    pub(super) fn track(&self) -> Track<'_> {
        Track {
            show: self,
            told: BTreeSet::new(),
            open: None,
        }
    }

    pub(super) fn summary(&self, out: &Path, report: &Report) -> anyhow::Result<()> {
        output::line(&format!(
            "\nThe loop closed in {:.1} s. {}\n",
            self.begun.elapsed().as_secs_f64(),
            report.headline
        ))?;
        let mut files: Vec<_> = std::fs::read_dir(out)?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != "demo.json")
            .collect();
        files.sort();
        output::line(&format!(
            "Results in {}: {}",
            out.display(),
            files.join(", ")
        ))
    }

    pub(super) fn kept(&self, stand: &Stand) {
        self.line(&format!(
            "Dashboard: {}   (ctrl-c stops it)",
            stand.dashboard
        ));
    }

    fn line(&self, text: &str) {
        if self.terminal {
            let _ = self.bars.println(text);
        } else {
            output::note(text);
        }
    }
}

impl Stage<'_> {
    /// How far it is, 0–1.
    pub(super) fn share(&self, share: f64, doing: &str) {
        self.bar
            .set_position((share.clamp(0.0, 1.0) * 1_000.0) as u64);
        self.bar.set_message(doing.to_owned());
    }

    /// It happened.
    pub(super) fn done(self, said: &str) {
        self.end('✓', said);
    }

    fn end(self, mark: char, said: &str) {
        self.bar.finish_and_clear();
        let seconds = self.begun.elapsed().as_secs_f64();
        self.show.line(&format!(
            "  {mark} {:10} {seconds:5.1} s  {said}",
            self.name
        ));
    }
}

impl Track<'_> {
    /// Tells what changed since the last look.
    pub(super) fn update(&mut self, run: &Value) {
        for step in run["steps"].as_array().into_iter().flatten() {
            let (Some(position), Some(kind)) = (step["position"].as_str(), step["kind"].as_str())
            else {
                continue;
            };
            if self.told.contains(position) {
                continue;
            }
            if self.open.as_ref().is_none_or(|(at, _)| at != position) {
                self.open = Some((position.to_owned(), self.show.stage(kind, "")));
            }
            match step["state"].as_str() {
                Some("done") => self.close(position, '✓', &said(kind, &step["output"])),
                Some("failed" | "cancelled") => {
                    self.close(
                        position,
                        '✗',
                        step["error"]["message"].as_str().unwrap_or("failed"),
                    );
                }
                _ => {
                    if let Some((_, stage)) = &self.open {
                        let phase = step["phase"].as_str().unwrap_or_default();
                        stage.share(step["progress"].as_f64().unwrap_or(0.0), phase);
                    }
                    return;
                }
            }
        }
    }

    /// Nothing more will come.
    pub(super) fn finish(self) {
        if let Some((_, stage)) = self.open {
            stage.bar.finish_and_clear();
        }
    }

    fn close(&mut self, position: &str, mark: char, said: &str) {
        self.told.insert(position.to_owned());
        if let Some((_, stage)) = self.open.take() {
            stage.end(mark, said);
        }
    }
}

/// A step's output in a line.
fn said(kind: &str, output: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    match kind {
        "predict" => {
            let reason = &output["reasons"][0];
            format!(
                "fails within 1 d with {:.1} % probability, within 7 d with {:.1} %; first reason: {} ({})",
                100.0 * number(&output["fps"]["1d"]),
                100.0 * number(&output["fps"]["7d"]),
                text(&reason["metric"]),
                text(&reason["feature"])
            )
        }
        "allocate" => text(&output["reason"]),
        "redesign" | "simulate" => {
            let c = &output["certificate"];
            let whose = match output["plugin"]["name"].as_str() {
                Some(plugin) => format!(", designed by {plugin}"),
                None => String::new(),
            };
            format!(
                "{:.1} g, {:.1} MPa at most, {:.3} mm at most, factor of safety {:.2} (needs {:.1}){whose}",
                number(&c["mass_g"]),
                number(&c["max_von_mises_mpa"]),
                number(&c["max_displacement_mm"]),
                number(&c["factor_of_safety"]),
                number(&c["required_fos"])
            )
        }
        "slice" => {
            let e = &output["estimate"];
            let minutes = number(&e["seconds"]) / 60.0;
            format!(
                "{} layers, {:.1} m of filament, {} h {:02.0} min on {}",
                e["layers"],
                number(&e["filament_mm"]) / 1e3,
                (minutes / 60.0).floor(),
                minutes % 60.0,
                text(&output["printer"])
            )
        }
        "make" => format!(
            "{} points scanned of {:.1} cm³ deposited",
            output["report"]["points"],
            number(&output["report"]["deposited_mm3"]) / 1e3
        ),
        "verify" => format!(
            "{}: {}",
            text(&output["disposition"]).to_uppercase(),
            text(&output["reasons"][0]["message"])
        ),
        "schedule" => {
            let who = output["technician"].as_str().unwrap_or("nobody yet");
            format!(
                "{} to {} by {who}",
                text(&output["from"]),
                text(&output["to"])
            )
        }
        "swap" => format!(
            "put in within the window of {} to {}",
            text(&output["from"]),
            text(&output["to"])
        ),
        "record_outcome" => format!("{} at {}", text(&output["kind"]), text(&output["at"])),
        _ => String::new(),
    }
}
