//! What one printer can do: its TOML description, read strictly, and the shipped ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The shipped printers: name and description.
const SHIPPED: [(&str, &str); 3] = [
    (
        "generic_marlin",
        include_str!("../../printers/generic_marlin.toml"),
    ),
    ("prusa_mk4", include_str!("../../printers/prusa_mk4.toml")),
    ("voron_24", include_str!("../../printers/voron_24.toml")),
];

/// One fused-filament printer, all limits and habits. The bed's corner is the origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Printer {
    /// Stable name, as builds and briefs give it.
    pub name: String,
    /// For people.
    pub title: String,
    /// Firmware the G-code is written for.
    pub dialect: Dialect,
    /// Printable volume.
    pub bed: Bed,
    /// Nozzle bore, mm.
    pub nozzle_mm: f64,
    /// Filament diameter, mm.
    pub filament_mm: f64,
    /// Hottest allowed nozzle, °C.
    pub max_nozzle_c: f64,
    /// Hottest allowed bed, °C.
    pub max_bed_c: f64,
    /// Most plastic the hot end melts, mm³/s.
    pub max_flow_mm3_s: f64,
    /// Allowed deviation at corners, which sets cornering speed, mm.
    pub junction_deviation_mm: f64,
    /// Allowed layer heights.
    pub layer_height: LayerHeights,
    /// Speeds by feature.
    pub speed_mm_s: Speeds,
    /// Accelerations.
    pub acceleration_mm_s2: Accelerations,
    /// How filament is drawn back for travel.
    pub retraction: Retraction,
    /// Materials this printer is set up for, by name.
    pub materials: BTreeMap<String, Material>,
}

/// G-code dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Marlin 2.
    Marlin,
    /// Klipper, which reads Marlin's words but sets its limits by macro.
    Klipper,
}

/// Printable volume, from the origin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bed {
    /// Width, mm.
    pub x_mm: f64,
    /// Depth, mm.
    pub y_mm: f64,
    /// Height, mm.
    pub z_mm: f64,
}

/// Allowed layer heights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerHeights {
    /// Thinnest, mm.
    pub min_mm: f64,
    /// Thickest, mm.
    pub max_mm: f64,
}

/// Speeds by feature, mm/s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speeds {
    /// The wall one sees.
    pub outer_wall: f64,
    /// Walls behind it.
    pub inner_wall: f64,
    /// Solid infill and gaps.
    pub solid: f64,
    /// Sparse infill.
    pub sparse: f64,
    /// Everything on the first layer, the skirt too.
    pub first_layer: f64,
    /// Moves without extrusion.
    pub travel: f64,
}

/// Accelerations, mm/s².
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerations {
    /// While extruding.
    pub print: f64,
    /// While travelling.
    pub travel: f64,
}

/// How filament is drawn back for travel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retraction {
    /// Filament drawn back, mm.
    pub length_mm: f64,
    /// Speed of it, mm/s.
    pub speed_mm_s: f64,
    /// Shorter travels do not retract, mm.
    pub min_travel_mm: f64,
    /// Lift while travelling retracted, mm; zero for none.
    pub z_hop_mm: f64,
}

/// How a material is printed here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Material {
    /// Nozzle, °C.
    pub nozzle_c: f64,
    /// Bed, °C.
    pub bed_c: f64,
    /// Part fan from the second layer on, 0 to 1.
    pub fan: f64,
    /// Most of this plastic the hot end melts well, mm³/s.
    pub max_flow_mm3_s: f64,
    /// A layer is slowed down to take at least this long, s.
    pub min_layer_s: f64,
    /// Density of the filament.
    pub density_g_cm3: f64,
}

/// Why a printer description is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PrinterError {
    /// No shipped printer has this name.
    #[error("unknown printer `{name}`; known are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// It is not TOML of the expected shape.
    #[error("printer description, line {line}: {message}")]
    Toml {
        /// Line of the mistake, from 1.
        line: usize,
        /// What the parser says, naming the field.
        message: String,
    },
    /// A number is out of its range.
    #[error("printer `{printer}`: `{field}` is {value}, but must be {expected}")]
    Range {
        /// Name of the printer.
        printer: String,
        /// Path of the field.
        field: String,
        /// What it is.
        value: f64,
        /// What it must be.
        expected: String,
    },
    /// There is no material at all.
    #[error("printer `{printer}`: `materials` is empty")]
    NoMaterial {
        /// Name of the printer.
        printer: String,
    },
}

impl Printer {
    /// A shipped printer.
    ///
    /// # Errors
    /// If none has this name.
    pub fn named(name: &str) -> Result<Self, PrinterError> {
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Self::from_toml(text),
            None => Err(PrinterError::Unknown {
                name: name.to_owned(),
                known: Self::names().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Names of the shipped printers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// Reads a description; unknown, missing and impossible fields are errors that name the field.
    ///
    /// # Errors
    /// If the text is not such a description.
    pub fn from_toml(text: &str) -> Result<Self, PrinterError> {
        let printer: Self = toml::from_str(text).map_err(|error| PrinterError::Toml {
            line: error.span().map_or(1, |span| {
                1 + text
                    .bytes()
                    .take(span.start)
                    .filter(|&b| b == b'\n')
                    .count()
            }),
            message: error.message().to_owned(),
        })?;
        printer.validate()?;
        Ok(printer)
    }

    /// Cross-section of the filament, mm².
    #[must_use]
    pub fn filament_mm2(&self) -> f64 {
        std::f64::consts::FRAC_PI_4 * self.filament_mm * self.filament_mm
    }

    fn validate(&self) -> Result<(), PrinterError> {
        let check = |field: &str, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                return Ok(());
            }
            Err(PrinterError::Range {
                printer: self.name.clone(),
                field: field.to_owned(),
                value,
                expected: format!("from {low} to {high}"),
            })
        };
        check("bed.x_mm", self.bed.x_mm, 10.0, 2000.0)?;
        check("bed.y_mm", self.bed.y_mm, 10.0, 2000.0)?;
        check("bed.z_mm", self.bed.z_mm, 10.0, 2000.0)?;
        check("nozzle_mm", self.nozzle_mm, 0.1, 2.0)?;
        check("filament_mm", self.filament_mm, 1.0, 4.0)?;
        check("max_nozzle_c", self.max_nozzle_c, 150.0, 500.0)?;
        check("max_bed_c", self.max_bed_c, 0.0, 200.0)?;
        check("max_flow_mm3_s", self.max_flow_mm3_s, 0.5, 200.0)?;
        check(
            "junction_deviation_mm",
            self.junction_deviation_mm,
            0.001,
            1.0,
        )?;
        check("layer_height.min_mm", self.layer_height.min_mm, 0.01, 2.0)?;
        let highest = self.nozzle_mm;
        check(
            "layer_height.max_mm",
            self.layer_height.max_mm,
            self.layer_height.min_mm,
            highest,
        )?;
        let speeds = self.speed_mm_s;
        for (field, value) in [
            ("speed_mm_s.outer_wall", speeds.outer_wall),
            ("speed_mm_s.inner_wall", speeds.inner_wall),
            ("speed_mm_s.solid", speeds.solid),
            ("speed_mm_s.sparse", speeds.sparse),
            ("speed_mm_s.first_layer", speeds.first_layer),
            ("speed_mm_s.travel", speeds.travel),
        ] {
            check(field, value, 1.0, 2000.0)?;
        }
        check(
            "acceleration_mm_s2.print",
            self.acceleration_mm_s2.print,
            10.0,
            100_000.0,
        )?;
        check(
            "acceleration_mm_s2.travel",
            self.acceleration_mm_s2.travel,
            10.0,
            100_000.0,
        )?;
        check("retraction.length_mm", self.retraction.length_mm, 0.0, 10.0)?;
        check(
            "retraction.speed_mm_s",
            self.retraction.speed_mm_s,
            1.0,
            200.0,
        )?;
        check(
            "retraction.min_travel_mm",
            self.retraction.min_travel_mm,
            0.0,
            100.0,
        )?;
        check("retraction.z_hop_mm", self.retraction.z_hop_mm, 0.0, 5.0)?;
        if self.materials.is_empty() {
            return Err(PrinterError::NoMaterial {
                printer: self.name.clone(),
            });
        }
        for (name, material) in &self.materials {
            let at = |field: &str| format!("materials.{name}.{field}");
            check(&at("nozzle_c"), material.nozzle_c, 150.0, self.max_nozzle_c)?;
            check(&at("bed_c"), material.bed_c, 0.0, self.max_bed_c)?;
            check(&at("fan"), material.fan, 0.0, 1.0)?;
            check(
                &at("max_flow_mm3_s"),
                material.max_flow_mm3_s,
                0.5,
                self.max_flow_mm3_s,
            )?;
            check(&at("min_layer_s"), material.min_layer_s, 0.0, 300.0)?;
            check(&at("density_g_cm3"), material.density_g_cm3, 0.5, 10.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_printer_reads_and_bears_its_name() {
        for name in Printer::names() {
            assert_eq!(Printer::named(name).unwrap().name, name);
        }
        let error = Printer::named("makerbot").unwrap_err().to_string();
        assert!(
            error.contains("makerbot") && error.contains("prusa_mk4"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named_by_field_and_line() {
        let text = SHIPPED[0].1;
        let wrong = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Printer::from_toml(&text.replacen(from, to, 1))
                .unwrap_err()
                .to_string()
        };
        assert!(
            wrong("nozzle_mm = 0.4", "nozle_mm = 0.4").contains("line 4: unknown field `nozle_mm`")
        );
        assert!(wrong("nozzle_mm = 0.4\n", "").contains("missing field `nozzle_mm`"));
        assert!(wrong("nozzle_mm = 0.4", "nozzle_mm = \"x\"").contains("line 4"));
        assert!(wrong("nozzle_mm = 0.4", "nozzle_mm = nan").contains("`nozzle_mm` is NaN"));
        assert!(
            wrong("nozzle_c = 210", "nozzle_c = 300").contains("`materials.pla.nozzle_c` is 300")
        );
        assert!(wrong("dialect = \"marlin\"", "dialect = \"latin\"").contains("latin"));
    }
}
