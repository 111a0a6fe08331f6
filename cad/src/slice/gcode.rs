//! Writing ordered layers as G-code; same input, same bytes, no clock.

use std::fmt::Write as _;

use crate::slice::estimate::{self, Estimate, Motion};
use crate::slice::plan::{Layer, Role, Stroke};
use crate::slice::polygon::{Point, distance};
use crate::slice::printer::{Dialect, Material, Printer};
use crate::slice::settings::{Settings, bead_mm2};

/// Cooling never slows a stroke below this, mm/s.
const SLOWEST_MM_S: f64 = 10.0;
/// Inside the walls, travels up to this length need no retraction, mm.
const OOZE_HIDDEN_MM: f64 = 6.0;
/// Vertical speed, mm/s.
const Z_MM_S: f64 = 10.0;

/// Everything the writer needs to know beside the layers.
pub(crate) struct Job<'a> {
    pub(crate) printer: &'a Printer,
    pub(crate) settings: &'a Settings,
    pub(crate) material: Material,
}

/// Writes the whole program.
pub(crate) fn write(job: &Job<'_>, layers: &[Layer]) -> (String, Estimate) {
    let mut writer = Writer {
        job,
        text: String::new(),
        position: [0.0, 0.0, 0.0],
        feed: 0,
        extruded: 0.0,
        written: 0,
        retracted: false,
        last: None,
        motions: Vec::new(),
    };
    writer.start(layers.len());
    for (number, layer) in layers.iter().enumerate() {
        writer.layer(number, layer);
    }
    writer.end();
    let estimate = Estimate {
        seconds: estimate::seconds(&writer.motions, job.printer.junction_deviation_mm),
        filament_mm: writer.written as f64 / 1e5,
        volume_mm3: writer.written as f64 / 1e5 * job.printer.filament_mm2(),
        layers: layers.len(),
    };
    (writer.text, estimate)
}

struct Writer<'a> {
    job: &'a Job<'a>,
    text: String,
    /// Where the nozzle stands, as the printer knows it: rounded to what was written.
    position: [f64; 3],
    /// Feed rate in force, mm/min.
    feed: i64,
    /// Filament that should have been extruded, retractions apart, mm.
    extruded: f64,
    /// What was written of it, in 1/100 000 mm: rounding never adds up.
    written: i64,
    retracted: bool,
    /// Role and island of the last stroke of this layer.
    last: Option<(Role, usize)>,
    motions: Vec<Motion>,
}

impl Writer<'_> {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(text);
        self.text.push('\n');
    }

    fn start(&mut self, layers: usize) {
        let (printer, material) = (self.job.printer, self.job.material);
        let settings = serde_json::to_string(self.job.settings).unwrap_or_default();
        self.line(format_args!(
            ";FLAVOR:{}",
            match printer.dialect {
                Dialect::Marlin => "Marlin",
                Dialect::Klipper => "Klipper",
            }
        ));
        self.line(format_args!("; sliced by Forewright"));
        self.line(format_args!("; printer: {}", printer.name));
        self.line(format_args!("; settings: {settings}"));
        self.line(format_args!(";LAYER_COUNT:{layers}"));
        self.line(format_args!("M140 S{} ; bed", material.bed_c));
        self.line(format_args!("M104 S{} ; nozzle", material.nozzle_c));
        self.line(format_args!("G21 ; mm"));
        self.line(format_args!("G90 ; absolute axes"));
        self.line(format_args!("M83 ; relative filament"));
        self.line(format_args!("M107"));
        self.line(format_args!("G28 ; home"));
        self.line(format_args!("M190 S{}", material.bed_c));
        self.line(format_args!("M109 S{}", material.nozzle_c));
        let acceleration = printer.acceleration_mm_s2;
        match printer.dialect {
            Dialect::Marlin => {
                self.line(format_args!(
                    "M204 P{} T{}",
                    acceleration.print, acceleration.travel
                ));
                self.line(format_args!("M205 J{}", printer.junction_deviation_mm));
            }
            Dialect::Klipper => self.line(format_args!("M204 S{}", acceleration.print)),
        }
        self.line(format_args!("G92 E0"));
    }

    fn end(&mut self) {
        self.line(format_args!(";TYPE:END"));
        self.retract();
        let top = self.job.printer.bed.z_mm;
        let z = (self.position[2] + 10.0).min(top);
        self.travel_z(z);
        self.travel_to([0.0, self.job.printer.bed.y_mm - 5.0]);
        self.line(format_args!("M104 S0"));
        self.line(format_args!("M140 S0"));
        self.line(format_args!("M107"));
        self.line(format_args!("M84"));
        self.line(format_args!(";END_OF_GCODE"));
    }

    fn layer(&mut self, number: usize, layer: &Layer) {
        self.line(format_args!(";LAYER:{number}"));
        self.line(format_args!(";Z:{:.3}", layer.z));
        self.line(format_args!(";HEIGHT:{:.3}", layer.height));
        if number == 1 && self.job.material.fan > 0.0 {
            let fan = (self.job.material.fan * 255.0).round();
            self.line(format_args!("M106 S{fan}"));
        }
        self.last = None;
        let slow = self.slow_down(number, layer);
        for stroke in &layer.strokes {
            self.stroke(
                stroke,
                layer,
                self.speed(stroke.role, number, layer.height),
                slow,
            );
        }
    }

    /// By how much the layer must be slowed to give it time to cool.
    fn slow_down(&self, number: usize, layer: &Layer) -> f64 {
        let (mut printing, mut travelling) = (0.0, 0.0);
        let mut at = [self.position[0], self.position[1]];
        for stroke in &layer.strokes {
            travelling += distance(at, stroke.points[0]) / self.job.printer.speed_mm_s.travel;
            for &point in path(stroke) {
                at = point;
            }
            printing += length(stroke) / self.speed(stroke.role, number, layer.height);
        }
        let least = self.job.material.min_layer_s;
        if printing <= 0.0 || printing + travelling >= least {
            return 1.0;
        }
        printing / (least - travelling).max(printing)
    }

    /// Speed of a role on a layer, held below what the hot end melts.
    fn speed(&self, role: Role, number: usize, height: f64) -> f64 {
        let speeds = self.job.printer.speed_mm_s;
        let usual = match role {
            Role::Skirt => speeds.first_layer,
            Role::OuterWall => speeds.outer_wall,
            Role::InnerWall => speeds.inner_wall,
            Role::Solid | Role::Gap => speeds.solid,
            Role::Sparse => speeds.sparse,
        };
        let asked = match self.job.settings.speed_mm_s {
            _ if number == 0 => usual.min(speeds.first_layer),
            Some(speed) => speed,
            None => usual,
        };
        asked.min(self.job.material.max_flow_mm3_s / bead_mm2(self.job.settings.width.0, height))
    }

    fn stroke(&mut self, stroke: &Stroke, layer: &Layer, speed: f64, slow: f64) {
        let Some(&start) = stroke.points.first() else {
            return;
        };
        self.approach(start, layer.z, stroke);
        if self.last.map(|(role, _)| role) != Some(stroke.role) {
            self.line(format_args!(";TYPE:{}", stroke.role.label()));
            self.line(format_args!(";WIDTH:{:.3}", self.job.settings.width.0));
        }
        self.last = Some((stroke.role, stroke.island));
        let section = bead_mm2(self.job.settings.width.0, layer.height);
        let per_mm = stroke.flow * section / self.job.printer.filament_mm2();
        let speed = (speed * slow).max(speed.min(SLOWEST_MM_S));
        let mut at = start;
        for &point in path(stroke).iter().skip(1) {
            self.extrude_to(point, distance(at, point) * per_mm, speed);
            at = point;
        }
        if stroke.closed {
            self.extrude_to(start, distance(at, start) * per_mm, speed);
        }
    }

    /// Goes to where a stroke begins, drawn back and lifted if the way is long or in the open.
    fn approach(&mut self, start: Point, z: f64, stroke: &Stroke) {
        let way = distance([self.position[0], self.position[1]], start);
        let hidden = way < OOZE_HIDDEN_MM
            && stroke.role.is_inside()
            && self
                .last
                .is_some_and(|(role, island)| role.is_inside() && island == stroke.island);
        let habit = self.job.printer.retraction;
        let retract = way >= habit.min_travel_mm && !hidden;
        if retract {
            self.retract();
        }
        let hop = if retract { habit.z_hop_mm } else { 0.0 };
        if self.position[2] < z + hop - 1e-9 {
            self.travel_z((z + hop).min(self.job.printer.bed.z_mm));
        }
        if way > 0.0005 {
            self.travel_to(start);
        }
        if (self.position[2] - z).abs() > 1e-9 {
            self.travel_z(z);
        }
        self.restore();
    }

    fn retract(&mut self) {
        if !self.retracted {
            self.retracted = true;
            self.filament(-self.job.printer.retraction.length_mm);
        }
    }

    fn restore(&mut self) {
        if self.retracted {
            self.retracted = false;
            self.filament(self.job.printer.retraction.length_mm);
        }
    }

    fn filament(&mut self, length: f64) {
        if length == 0.0 {
            return;
        }
        let speed = self.job.printer.retraction.speed_mm_s;
        self.text.push_str("G1 E");
        push_decimal(&mut self.text, (length * 1e5).round() as i64, 5);
        self.feed_and_end(speed);
        self.motions.push(Motion {
            direction: [0.0; 3],
            length: length.abs(),
            speed,
            acceleration: self.job.printer.acceleration_mm_s2.print,
        });
    }

    fn travel_z(&mut self, z: f64) {
        self.text.push_str("G0 Z");
        let micron = (z * 1e3).round() as i64;
        push_decimal(&mut self.text, micron, 3);
        self.feed_and_end(Z_MM_S);
        let to = [self.position[0], self.position[1], micron as f64 / 1e3];
        self.moved(to, Z_MM_S, self.job.printer.acceleration_mm_s2.travel);
    }

    fn travel_to(&mut self, point: Point) {
        let speed = self.job.printer.speed_mm_s.travel;
        self.text.push_str("G0");
        let to = self.push_point(point);
        self.feed_and_end(speed);
        let acceleration = match self.job.printer.dialect {
            Dialect::Marlin => self.job.printer.acceleration_mm_s2.travel,
            // One acceleration for everything is what the start of the program sets there.
            Dialect::Klipper => self.job.printer.acceleration_mm_s2.print,
        };
        self.moved(to, speed, acceleration);
    }

    fn extrude_to(&mut self, point: Point, filament: f64, speed: f64) {
        self.extruded += filament;
        let due = (self.extruded * 1e5).round() as i64 - self.written;
        let before = self.position;
        let mark = self.text.len();
        self.text.push_str("G1");
        let to = self.push_point(point);
        if due <= 0 || to == before {
            // Shorter than the printer can tell: its filament goes to the next move.
            self.text.truncate(mark);
            return;
        }
        self.text.push_str(" E");
        push_decimal(&mut self.text, due, 5);
        self.written += due;
        self.feed_and_end(speed);
        self.moved(to, speed, self.job.printer.acceleration_mm_s2.print);
    }

    fn push_point(&mut self, point: Point) -> [f64; 3] {
        let [x, y] = point.map(|v| (v * 1e3).round() as i64);
        self.text.push_str(" X");
        push_decimal(&mut self.text, x, 3);
        self.text.push_str(" Y");
        push_decimal(&mut self.text, y, 3);
        [x as f64 / 1e3, y as f64 / 1e3, self.position[2]]
    }

    fn feed_and_end(&mut self, speed: f64) {
        // Rounded down, so that no limit is exceeded by the rounding.
        let feed = ((speed * 60.0).floor() as i64).max(1);
        if feed != self.feed {
            self.feed = feed;
            self.line(format_args!(" F{feed}"));
        } else {
            self.text.push('\n');
        }
    }

    fn moved(&mut self, to: [f64; 3], speed: f64, acceleration: f64) {
        let delta = crate::mesh::sub(to, self.position);
        self.position = to;
        let length = crate::mesh::length(delta);
        if length > 0.0 {
            let direction = delta.map(|d| d / length);
            self.motions.push(Motion {
                direction,
                length,
                speed,
                acceleration,
            });
        }
    }
}

fn path(stroke: &Stroke) -> &[Point] {
    &stroke.points
}

fn length(stroke: &Stroke) -> f64 {
    let open: f64 = stroke.points.windows(2).map(|w| distance(w[0], w[1])).sum();
    match (stroke.closed, stroke.points.first(), stroke.points.last()) {
        (true, Some(&first), Some(&last)) => open + distance(last, first),
        _ => open,
    }
}

/// Writes `value / 10^places` without trailing zeros.
fn push_decimal(text: &mut String, value: i64, places: u32) {
    if value < 0 {
        text.push('-');
    }
    let scale = 10u64.pow(places);
    let magnitude = value.unsigned_abs();
    let _ = write!(text, "{}", magnitude / scale);
    let mut rest = magnitude % scale;
    if rest > 0 {
        let mut width = places as usize;
        while rest.is_multiple_of(10) {
            rest /= 10;
            width -= 1;
        }
        let _ = write!(text, ".{rest:0width$}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_short() {
        let decimal = |value, places| {
            let mut text = String::new();
            push_decimal(&mut text, value, places);
            text
        };
        assert_eq!(decimal(12_340, 3), "12.34");
        assert_eq!(decimal(-1_005, 3), "-1.005");
        assert_eq!(decimal(7, 5), "0.00007");
        assert_eq!(decimal(0, 3), "0");
        assert_eq!(decimal(-500, 3), "-0.5");
    }
}
