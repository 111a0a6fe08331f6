//! The safety rules: reads G-code with a parser of its own and says line by line what is wrong.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::slice::parse::{self, Command};
use crate::slice::printer::{Dialect, Printer};

/// Below this temperature plastic does not flow, °C.
const COLD_C: f64 = 170.0;
/// After this many violations the rest of the file is not worth reading.
const MOST_VIOLATIONS: usize = 200;
/// Rounding in the file: positions, mm.
const ROUNDING_MM: f64 = 0.0011;
/// Moves with fewer mm³ than this are too short to tell their flow from rounding.
const LEAST_FLOW_VOLUME_MM3: f64 = 0.002;
/// More filament drawn back than this never comes back into the melt zone, mm.
const MOST_RETRACTED_MM: f64 = 12.0;
/// What the file must end with, so that a cut transfer is noticed: ours, and those of the slicers
/// an operator may use instead.
const END_MARKERS: [&str; 3] = ["END_OF_GCODE", "prusaslicer_config = end", "End of Gcode"];

/// One safety rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The line is no G-code.
    Syntax,
    /// The printer does not know the command, or it is not allowed in a part program.
    UnknownCommand,
    /// Nothing may move along an axis before it is homed.
    Unhomed,
    /// Plastic may flow only after the nozzle was waited for (`M109`) and while it is hot.
    ColdExtrusion,
    /// The nozzle stays inside the printable volume.
    OutsideBed,
    /// A feature of the part cannot take more plastic back than it gave.
    NegativeExtrusion,
    /// Filament that was drawn back must be restored before extruding, and never too much.
    Retraction,
    /// Layers go up, by no more than a nozzle's width.
    LayerOrder,
    /// Every move has a feed rate above zero.
    FeedRate,
    /// No temperature above the printer's limit.
    Temperature,
    /// No more plastic per second than the hot end melts.
    Flow,
    /// The heaters are off at the end.
    HeatersOn,
    /// The file ends with its end marker.
    EndMarker,
    /// The file extrudes something.
    NothingExtruded,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "syntax",
            Self::UnknownCommand => "unknown_command",
            Self::Unhomed => "unhomed",
            Self::ColdExtrusion => "cold_extrusion",
            Self::OutsideBed => "outside_bed",
            Self::NegativeExtrusion => "negative_extrusion",
            Self::Retraction => "retraction",
            Self::LayerOrder => "layer_order",
            Self::FeedRate => "feed_rate",
            Self::Temperature => "temperature",
            Self::Flow => "flow",
            Self::HeatersOn => "heaters_on",
            Self::EndMarker => "end_marker",
            Self::NothingExtruded => "nothing_extruded",
        })
    }
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}: {message} ({rule})")]
pub struct Violation {
    /// Line of the file, from 1.
    pub line: usize,
    /// The rule.
    pub rule: Rule,
    /// What happened there.
    pub message: String,
}

/// What a clean file does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LintReport {
    /// Lines of the file.
    pub lines: usize,
    /// Moves of the nozzle.
    pub moves: usize,
    /// Heights at which plastic is laid down.
    pub layers: usize,
    /// Filament pushed out, retractions apart, mm.
    pub filament_mm: f64,
    /// The same as plastic, mm³.
    pub volume_mm3: f64,
    /// Hottest nozzle asked for, °C.
    pub max_nozzle_c: f64,
    /// Highest flow of any move, mm³/s.
    pub max_flow_mm3_s: f64,
    /// Corner of the extruded volume, mm.
    pub min: [f64; 3],
    /// The opposite corner, mm.
    pub max: [f64; 3],
    /// Plastic by `;TYPE:`, mm³.
    pub by_feature_mm3: BTreeMap<String, f64>,
}

/// Checks a program against the printer that is to run it.
///
/// # Errors
/// All violations, by line; after some hundred the rest is not read.
pub fn lint(gcode: &str, printer: &Printer) -> Result<LintReport, Vec<Violation>> {
    let mut state = State::new(printer);
    let mut last_comment = None;
    for (i, text) in gcode.lines().enumerate() {
        state.line = i + 1;
        if state.violations.len() >= MOST_VIOLATIONS {
            break;
        }
        match parse::line(text) {
            Err(message) => {
                last_comment = None;
                state.blame(Rule::Syntax, message);
            }
            Ok(line) => {
                if let Some(command) = &line.command {
                    last_comment = None;
                    state.execute(command);
                } else if let Some(comment) = line.comment {
                    last_comment = Some(comment);
                    if let Some(feature) = comment.strip_prefix("TYPE:") {
                        state.end_feature();
                        feature.clone_into(&mut state.feature);
                    }
                }
            }
        }
    }
    state.end(last_comment);
    if state.violations.is_empty() {
        Ok(state.report)
    } else {
        Err(state.violations)
    }
}

struct State<'a> {
    printer: &'a Printer,
    line: usize,
    report: LintReport,
    violations: Vec<Violation>,
    position: [f64; 3],
    homed: [bool; 3],
    relative: bool,
    relative_filament: bool,
    filament: f64,
    /// Filament drawn back and not yet restored, mm.
    retracted: f64,
    /// Feed rate in force, mm/min.
    feed: Option<f64>,
    /// Nozzle and bed as asked for, °C.
    nozzle_c: f64,
    bed_c: f64,
    /// Whether the nozzle was waited for since it was last made hotter.
    hot: bool,
    feature: String,
    /// Filament pushed out while moving since the feature began, mm.
    feature_filament: f64,
    layer_z: Option<f64>,
}

impl<'a> State<'a> {
    fn new(printer: &'a Printer) -> Self {
        let report = LintReport {
            min: [f64::INFINITY; 3],
            max: [f64::NEG_INFINITY; 3],
            ..LintReport::default()
        };
        Self {
            printer,
            line: 0,
            report,
            violations: Vec::new(),
            position: [0.0; 3],
            homed: [false; 3],
            relative: false,
            relative_filament: false,
            filament: 0.0,
            retracted: 0.0,
            feed: None,
            nozzle_c: 0.0,
            bed_c: 0.0,
            hot: false,
            feature: String::new(),
            feature_filament: 0.0,
            layer_z: None,
        }
    }

    fn blame(&mut self, rule: Rule, message: String) {
        self.violations.push(Violation {
            line: self.line,
            rule,
            message,
        });
    }

    fn execute(&mut self, command: &Command) {
        match (command.letter, command.code) {
            ('G', 0 | 1) => self.moved(command),
            ('G', 4 | 21) => {}
            ('G', 28) => self.home(command),
            ('G', 90) => (self.relative, self.relative_filament) = (false, false),
            ('G', 91) => (self.relative, self.relative_filament) = (true, true),
            ('G', 92) => self.set_position(command),
            ('M', 82) => self.relative_filament = false,
            ('M', 83) => self.relative_filament = true,
            ('M', 104 | 109) => self.heat_nozzle(command),
            ('M', 140 | 190) => self.heat_bed(command),
            // Fan, motors off, status, wait for moves, messages, flow and speed left alone.
            ('M', 18 | 73 | 84 | 105 | 106 | 107 | 117 | 204 | 400) | ('T', 0) => {}
            ('M', 205) if self.printer.dialect == Dialect::Marlin => {}
            (letter, code) => {
                let dialect = self.printer.dialect;
                self.blame(
                    Rule::UnknownCommand,
                    format!(
                        "`{letter}{code}` is not a command a part program for {dialect:?} may use"
                    ),
                );
            }
        }
    }

    fn home(&mut self, command: &Command) {
        let named = ['X', 'Y', 'Z'].map(|axis| command.get(axis).is_some());
        let all = !named.contains(&true);
        for (axis, named) in named.into_iter().enumerate() {
            if all || named {
                self.homed[axis] = true;
                self.position[axis] = 0.0;
            }
        }
    }

    fn set_position(&mut self, command: &Command) {
        for word in &command.words {
            match word.letter {
                'E' => self.filament = word.value,
                // Moving the origin would make every check of the bed worthless.
                'X' | 'Y' | 'Z' => self.blame(
                    Rule::UnknownCommand,
                    format!(
                        "`G92` moves the origin of {}; only E may be set",
                        word.letter
                    ),
                ),
                _ => {}
            }
        }
    }

    fn heat_nozzle(&mut self, command: &Command) {
        let Some(asked) = command.get('S').or_else(|| command.get('R')) else {
            return self.blame(
                Rule::Syntax,
                format!("`M{}` names no temperature", command.code),
            );
        };
        let limit = self.printer.max_nozzle_c;
        if asked > limit {
            self.blame(
                Rule::Temperature,
                format!("nozzle is set to {asked} °C, the limit is {limit} °C"),
            );
        }
        self.report.max_nozzle_c = self.report.max_nozzle_c.max(asked);
        if command.code == 109 {
            self.hot = asked >= COLD_C;
        } else if asked > self.nozzle_c + 30.0 || asked < COLD_C {
            self.hot = false;
        }
        self.nozzle_c = asked;
    }

    fn heat_bed(&mut self, command: &Command) {
        let Some(asked) = command.get('S').or_else(|| command.get('R')) else {
            return self.blame(
                Rule::Syntax,
                format!("`M{}` names no temperature", command.code),
            );
        };
        let limit = self.printer.max_bed_c;
        if asked > limit {
            self.blame(
                Rule::Temperature,
                format!("bed is set to {asked} °C, the limit is {limit} °C"),
            );
        }
        self.bed_c = asked;
    }

    fn moved(&mut self, command: &Command) {
        self.report.moves += 1;
        if let Some(feed) = command.get('F') {
            if feed <= 0.0 {
                self.blame(Rule::FeedRate, format!("feed rate is {feed}"));
            }
            self.feed = (feed > 0.0).then_some(feed);
        }
        let mut to = self.position;
        for (axis, letter) in ['X', 'Y', 'Z'].into_iter().enumerate() {
            let Some(value) = command.get(letter) else {
                continue;
            };
            to[axis] = if self.relative {
                self.position[axis] + value
            } else {
                value
            };
            if !self.homed[axis] {
                self.homed[axis] = true;
                self.blame(Rule::Unhomed, format!("{letter} moves before it is homed"));
            }
        }
        let filament = match command.get('E') {
            None => 0.0,
            Some(value) if self.relative_filament => value,
            Some(value) => value - self.filament,
        };
        self.filament += filament;
        let way = crate::mesh::length(crate::mesh::sub(to, self.position));
        if self.feed.is_none() && (way > 0.0 || filament != 0.0) {
            self.feed = Some(f64::INFINITY);
            self.blame(Rule::FeedRate, "move has no feed rate".to_owned());
        }
        self.check_inside(to);
        let from = std::mem::replace(&mut self.position, to);
        if filament != 0.0 {
            self.extrude(filament, from, to, way);
        }
    }

    fn check_inside(&mut self, to: [f64; 3]) {
        let bed = self.printer.bed;
        for (axis, (letter, limit)) in [('X', bed.x_mm), ('Y', bed.y_mm), ('Z', bed.z_mm)]
            .into_iter()
            .enumerate()
        {
            let value = to[axis];
            if value != self.position[axis]
                && !(-ROUNDING_MM..=limit + ROUNDING_MM).contains(&value)
            {
                self.blame(
                    Rule::OutsideBed,
                    format!("{letter} goes to {value:.3}, the printer has 0 to {limit}"),
                );
            }
        }
    }

    fn extrude(&mut self, filament: f64, from: [f64; 3], to: [f64; 3], way: f64) {
        if !self.hot {
            // Once is enough: the rest of the file would only repeat it.
            self.hot = true;
            let temperature = self.nozzle_c;
            self.blame(
                Rule::ColdExtrusion,
                format!("filament moves while the nozzle is not known to be hot (set to {temperature} °C, not waited for)"),
            );
        }
        if way == 0.0 {
            self.retracted -= filament;
            if self.retracted > MOST_RETRACTED_MM {
                let retracted = std::mem::take(&mut self.retracted);
                self.blame(
                    Rule::Retraction,
                    format!("{retracted:.2} mm of filament are drawn back"),
                );
            }
            if self.retracted < 0.0 {
                // More than was drawn back: a blob in place, it counts as plastic.
                self.push_out(-self.retracted);
                self.retracted = 0.0;
            }
            return;
        }
        self.feature_filament += filament;
        if filament < 0.0 {
            self.retracted -= filament;
            return;
        }
        if self.retracted > 1e-6 {
            let retracted = std::mem::take(&mut self.retracted);
            self.blame(
                Rule::Retraction,
                format!("extrusion begins with {retracted:.3} mm of filament still drawn back"),
            );
        }
        self.push_out(filament);
        for p in [from, to] {
            for (axis, v) in p.into_iter().enumerate() {
                self.report.min[axis] = self.report.min[axis].min(v);
                self.report.max[axis] = self.report.max[axis].max(v);
            }
        }
        self.check_flow(filament, way);
        self.check_layer(from[2], to[2]);
    }

    fn push_out(&mut self, filament: f64) {
        let volume = filament * self.printer.filament_mm2();
        self.report.filament_mm += filament;
        self.report.volume_mm3 += volume;
        *self
            .report
            .by_feature_mm3
            .entry(self.feature.clone())
            .or_default() += volume;
    }

    fn check_flow(&mut self, filament: f64, way: f64) {
        let volume = filament * self.printer.filament_mm2();
        let Some(feed) = self.feed.filter(|f| f.is_finite()) else {
            return;
        };
        if volume < LEAST_FLOW_VOLUME_MM3 {
            return;
        }
        let flow = volume * feed / 60.0 / way;
        self.report.max_flow_mm3_s = self.report.max_flow_mm3_s.max(flow);
        let limit = self.printer.max_flow_mm3_s;
        // Rounding of short moves is worth some per cent.
        if flow > limit * (1.01 + 0.002 / way) {
            self.blame(
                Rule::Flow,
                format!("move asks for {flow:.2} mm³/s, the hot end melts {limit}"),
            );
        }
    }

    fn check_layer(&mut self, from: f64, to: f64) {
        if (from - to).abs() > ROUNDING_MM {
            return self.blame(
                Rule::LayerOrder,
                format!("extrusion goes from Z {from:.3} to {to:.3}, layers are level"),
            );
        }
        let below = self.layer_z.unwrap_or(0.0);
        if self.layer_z.is_some_and(|z| (to - z).abs() <= ROUNDING_MM) {
            return;
        }
        self.layer_z = Some(to);
        self.report.layers += 1;
        let nozzle = self.printer.nozzle_mm;
        if to < below {
            self.blame(
                Rule::LayerOrder,
                format!("layer at Z {to:.3} lies below the last at {below:.3}"),
            );
        } else if to - below > nozzle + ROUNDING_MM {
            self.blame(
                Rule::LayerOrder,
                format!(
                    "layer at Z {to:.3} hangs {:.3} above the last, the nozzle spans {nozzle}",
                    to - below
                ),
            );
        }
    }

    fn end_feature(&mut self) {
        let net = std::mem::take(&mut self.feature_filament);
        if net < -1e-6 {
            let feature = std::mem::take(&mut self.feature);
            self.blame(
                Rule::NegativeExtrusion,
                format!(
                    "feature `{}` ends with {net:.4} mm of filament",
                    feature.escape_default()
                ),
            );
        }
    }

    fn end(&mut self, last_comment: Option<&str>) {
        self.end_feature();
        self.report.lines = self.line;
        if self.violations.len() >= MOST_VIOLATIONS {
            return;
        }
        if !last_comment.is_some_and(|comment| END_MARKERS.contains(&comment)) {
            self.blame(
                Rule::EndMarker,
                format!(
                    "file does not end with `;{}`, it may be cut",
                    END_MARKERS[0]
                ),
            );
        }
        if self.nozzle_c > 0.0 || self.bed_c > 0.0 {
            let (nozzle, bed) = (self.nozzle_c, self.bed_c);
            self.blame(
                Rule::HeatersOn,
                format!("heaters are left on: nozzle {nozzle} °C, bed {bed} °C"),
            );
        }
        if self.report.volume_mm3 == 0.0 {
            self.blame(Rule::NothingExtruded, "file extrudes nothing".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal clean program; line 9 is its first printing move.
    const CLEAN: &str = "M140 S60\nM104 S210\nG21\nG90\nM83\nG28\nM109 S210\nG1 X10 Y10 Z0.2 F3000\n\
        G1 X20 Y10 E0.3 F1200\nG1 E-1 F2100\nG0 X30\nG1 E1 F2100\n;TYPE:FILL\nG1 X40 E0.3 F1200\n\
        G1 X40 Y20 Z0.4\nG1 X20 E0.6\nM104 S0\nM140 S0\nM84\n;END_OF_GCODE\n";

    fn marlin() -> Printer {
        Printer::named("generic_marlin").unwrap()
    }

    /// The rules the program breaks, after replacing `from` by `to`.
    fn broken(from: &str, to: &str) -> Vec<(usize, Rule)> {
        assert!(CLEAN.contains(from), "{from}");
        lint(&CLEAN.replacen(from, to, 1), &marlin())
            .map(|_| Vec::new())
            .unwrap_or_else(|violations| violations.iter().map(|v| (v.line, v.rule)).collect())
    }

    #[test]
    fn a_clean_program_is_summed_up() {
        let report = lint(CLEAN, &marlin()).unwrap();
        assert_eq!((report.moves, report.layers, report.lines), (8, 2, 20));
        assert!((report.filament_mm - 1.2).abs() < 1e-9);
        assert_eq!(
            (report.min, report.max),
            ([10.0, 10.0, 0.2], [40.0, 20.0, 0.4])
        );
        assert!((report.by_feature_mm3["FILL"] / marlin().filament_mm2() - 0.9).abs() < 1e-9);
    }

    #[test]
    fn every_rule_is_enforced_at_its_line() {
        for (from, to, line, rule) in [
            ("E0.3", "E0..3", 9, Rule::Syntax),
            ("G21", "G20", 3, Rule::UnknownCommand),
            ("G21", "M997", 3, Rule::UnknownCommand),
            ("G21", "G92 X5", 3, Rule::UnknownCommand),
            ("G28\n", "", 7, Rule::Unhomed),
            ("G28", "G28 X Y", 8, Rule::Unhomed),
            ("M109", "M104", 9, Rule::ColdExtrusion),
            ("M109 S210", "M109 S150", 9, Rule::ColdExtrusion),
            ("X20 Y10", "X221 Y10", 9, Rule::OutsideBed),
            ("X10 Y10", "X10 Y-1", 8, Rule::OutsideBed),
            ("X20 E0.6", "X20 E-0.6", 20, Rule::NegativeExtrusion),
            ("G1 E1 F2100\n", "", 13, Rule::Retraction),
            ("E-1", "E-13", 10, Rule::Retraction),
            ("X20 E0.6", "X20 Z0.5 E0.6", 16, Rule::LayerOrder),
            ("Y20 Z0.4", "Y20 Z0.1", 16, Rule::LayerOrder),
            ("Y20 Z0.4", "Y20 Z1.4", 16, Rule::LayerOrder),
            ("Z0.2 F3000", "Z0.2", 8, Rule::FeedRate),
            ("E0.3 F1200", "E0.3 F0", 9, Rule::FeedRate),
            ("M104 S210", "M104 S270", 2, Rule::Temperature),
            ("M140 S60", "M140 S120", 1, Rule::Temperature),
            ("E0.3 F1200", "E30 F1200", 9, Rule::Flow),
            ("M104 S0", "M104 S20", 20, Rule::HeatersOn),
            (";END_OF_GCODE\n", "", 19, Rule::EndMarker),
        ] {
            let found = broken(from, to);
            assert!(found.contains(&(line, rule)), "{from} -> {to}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|v| v.1 == rule || rule == Rule::NegativeExtrusion),
                "{found:?}"
            );
        }
    }
}
