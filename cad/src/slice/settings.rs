//! How a part is to be printed: layers, walls, infill, material.

use serde::{Deserialize, Serialize};

use crate::slice::printer::{Material, Printer};
use crate::units::Mm;

/// Print settings; what is left out has a sensible value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Height of every layer but the first.
    pub layer_height: Mm,
    /// Height of the first layer.
    pub first_layer_height: Mm,
    /// Width of an extruded line.
    pub width: Mm,
    /// Loops along the outline.
    pub walls: usize,
    /// Solid layers under every upward surface.
    pub top_layers: usize,
    /// Solid layers over every downward surface.
    pub bottom_layers: usize,
    /// Share of the inside that is filled, 0 to 1; 1 is solid.
    pub infill_density: f64,
    /// Shape of the sparse infill.
    pub infill_pattern: Pattern,
    /// Insides smaller than this are filled solid, mm².
    pub solid_below_mm2: f64,
    /// Loops around the part on the bed.
    pub skirt_loops: usize,
    /// Distance of the skirt from the part.
    pub skirt_gap: Mm,
    /// One of the printer's materials.
    pub material: String,
    /// Nozzle temperature, °C, instead of the material's.
    pub nozzle_c: Option<f64>,
    /// Bed temperature, °C, instead of the material's.
    pub bed_c: Option<f64>,
    /// Speed of all extrusion after the first layer, mm/s, instead of the printer's.
    pub speed_mm_s: Option<f64>,
}

/// Shape of sparse infill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Parallel lines, turned by 90° from layer to layer.
    Lines,
    /// Both directions on every layer.
    Grid,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            layer_height: Mm(0.2),
            first_layer_height: Mm(0.2),
            width: Mm(0.4),
            walls: 2,
            top_layers: 4,
            bottom_layers: 4,
            infill_density: 0.2,
            infill_pattern: Pattern::Grid,
            solid_below_mm2: 70.0,
            skirt_loops: 1,
            skirt_gap: Mm(5.0),
            material: "pla".to_owned(),
            nozzle_c: None,
            bed_c: None,
            speed_mm_s: None,
        }
    }
}

/// Why settings do not fit a printer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A number is out of its range.
    #[error("setting `{field}` is {value}, but must be from {low} to {high}")]
    Range {
        /// Name of the field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// Least allowed.
        low: f64,
        /// Most allowed.
        high: f64,
    },
    /// The printer has no such material.
    #[error("printer `{printer}` has no material `{material}`; it has {known}")]
    Material {
        /// Name of the printer.
        printer: String,
        /// The name asked for.
        material: String,
        /// What there is.
        known: String,
    },
    /// A temperature is above what the printer may reach.
    #[error(
        "{part} temperature {asked_c} °C is above the {limit_c} °C that printer `{printer}` allows"
    )]
    Temperature {
        /// `nozzle` or `bed`.
        part: &'static str,
        /// Name of the printer.
        printer: String,
        /// What was asked.
        asked_c: f64,
        /// What is allowed.
        limit_c: f64,
    },
    /// More plastic would be pushed than the hot end melts.
    #[error(
        "setting `speed_mm_s` of {speed_mm_s} needs {flow_mm3_s:.2} mm³/s of `{material}`, the limit is {limit_mm3_s}; use at most {most_mm_s:.1}"
    )]
    Flow {
        /// The speed asked for.
        speed_mm_s: f64,
        /// Flow at that speed.
        flow_mm3_s: f64,
        /// Name of the material.
        material: String,
        /// Flow allowed.
        limit_mm3_s: f64,
        /// Speed at the allowed flow.
        most_mm_s: f64,
    },
}

impl Settings {
    /// Checks all settings against the printer and answers how the material is printed,
    /// temperatures of the settings put in.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub fn resolve(&self, printer: &Printer) -> Result<Material, SettingsError> {
        let check = |field, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                return Ok(());
            }
            Err(SettingsError::Range {
                field,
                value,
                low,
                high,
            })
        };
        let heights = printer.layer_height;
        check(
            "layer_height",
            self.layer_height.0,
            heights.min_mm,
            heights.max_mm,
        )?;
        check(
            "first_layer_height",
            self.first_layer_height.0,
            heights.min_mm,
            heights.max_mm,
        )?;
        // A bead lower than wide is what the flow formula describes.
        let narrowest = self
            .layer_height
            .0
            .max(self.first_layer_height.0)
            .max(0.6 * printer.nozzle_mm);
        check("width", self.width.0, narrowest, 2.5 * printer.nozzle_mm)?;
        check("walls", self.walls as f64, 1.0, 100.0)?;
        check("top_layers", self.top_layers as f64, 0.0, 1000.0)?;
        check("bottom_layers", self.bottom_layers as f64, 0.0, 1000.0)?;
        check("infill_density", self.infill_density, 0.0, 1.0)?;
        check("solid_below_mm2", self.solid_below_mm2, 0.0, 1e6)?;
        check("skirt_loops", self.skirt_loops as f64, 0.0, 20.0)?;
        check("skirt_gap", self.skirt_gap.0, 0.0, 50.0)?;
        let Some(&(mut material)) = printer.materials.get(&self.material) else {
            return Err(SettingsError::Material {
                printer: printer.name.clone(),
                material: self.material.clone(),
                known: printer
                    .materials
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        };
        let limit = |part, asked_c: f64, limit_c: f64| {
            if asked_c <= limit_c {
                return Ok(asked_c);
            }
            Err(SettingsError::Temperature {
                part,
                printer: printer.name.clone(),
                asked_c,
                limit_c,
            })
        };
        if let Some(asked) = self.nozzle_c {
            material.nozzle_c = limit("nozzle", asked, printer.max_nozzle_c)?;
            check("nozzle_c", asked, 170.0, printer.max_nozzle_c)?;
        }
        if let Some(asked) = self.bed_c {
            material.bed_c = limit("bed", asked, printer.max_bed_c)?;
            check("bed_c", asked, 0.0, printer.max_bed_c)?;
        }
        if let Some(speed_mm_s) = self.speed_mm_s {
            check("speed_mm_s", speed_mm_s, 1.0, 2000.0)?;
            let section = bead_mm2(self.width.0, self.layer_height.0);
            let (flow_mm3_s, limit_mm3_s) = (section * speed_mm_s, material.max_flow_mm3_s);
            if flow_mm3_s > limit_mm3_s {
                return Err(SettingsError::Flow {
                    speed_mm_s,
                    flow_mm3_s,
                    material: self.material.clone(),
                    limit_mm3_s,
                    most_mm_s: limit_mm3_s / section,
                });
            }
        }
        Ok(material)
    }
}

/// Cross-section of a bead `width` wide and `height` high, a stadium, mm².
#[must_use]
pub fn bead_mm2(width: f64, height: f64) -> f64 {
    height * (width - height) + std::f64::consts::FRAC_PI_4 * height * height
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
            .resolve(&Printer::named("generic_marlin").unwrap())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn limits_are_hard_and_named() {
        assert!(refused(|s| s.layer_height = Mm(0.5)).contains("`layer_height` is 0.5"));
        assert!(refused(|s| s.layer_height = Mm(f64::NAN)).contains("`layer_height` is NaN"));
        assert!(refused(|s| s.width = Mm(0.1)).contains("`width`"));
        assert!(refused(|s| s.walls = 0).contains("`walls`"));
        assert!(refused(|s| s.material = "wood".into()).contains("abs, petg, pla"));
        assert!(refused(|s| s.nozzle_c = Some(300.0)).contains("nozzle temperature 300"));
        assert!(refused(|s| s.bed_c = Some(130.0)).contains("bed temperature 130"));
        assert!(refused(|s| s.speed_mm_s = Some(200.0)).contains("use at most"));
    }

    #[test]
    fn settings_survive_json_and_fill_in_defaults() {
        let settings = Settings {
            walls: 3,
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        assert_eq!(
            serde_json::from_str::<Settings>("{\"walls\":3}").unwrap(),
            settings
        );
        assert!(serde_json::from_str::<Settings>("{\"wals\":3}").is_err());
    }
}
