//! From a predicted failure mode and telemetry to the forces a replacement must carry.
//!
//! **Imbalance from bearing wear.** A rotor of mass `m` whose centre of mass lies `e` off the axis
//! pulls with `F = m e ω²`. ISO 21940-11 grades balance by `G = e ω` (a velocity), so
//! `F = m G ω`. A healthy fan is G 6.3 mm/s; as the bearing wears, the vibration velocity grows in
//! proportion to `e ω`, so the grade is scaled by the ratio of present to healthy vibration. Loose
//! bearings amplify: the force is multiplied by a dynamic factor that grows with that ratio, from 1
//! at health to [`LoadInputs::greatest_amplification`], because a rattling rotor meets the housing
//! near resonance. Both are smooth, so the load follows the telemetry continuously.
//!
//! The rotor turns about the boss's axis (z), so its pull may point anywhere in the x-y plane; two
//! perpendicular cases bound a linear structure. Static weight and a transport shock complete the
//! cases; they do not depend on telemetry.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use crate::brief::Load;

/// Standard gravity, m/s².
const G0: f64 = 9.806_65;
/// Balance grade of a healthy fan, mm/s (ISO 21940-11, G 6.3: fans).
const HEALTHY_GRADE_MM_S: f64 = 6.3;
/// Ratios beyond this are no bearing's vibration any more, but a broken sensor.
const GREATEST_RATIO: f64 = 50.0;

/// What is predicted to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    /// The rotor's imbalance grows because its bearing wears.
    ImbalanceFromBearingWear,
    /// The part is overloaded by handling: only weight and shock.
    HandlingOverload,
}

/// Telemetry features and what is known of the fan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadInputs {
    /// Present vibration over the vibration in health; 1 is healthy.
    pub vibration_ratio: f64,
    /// Speed of the rotor, 1/min.
    pub speed_rpm: f64,
    /// Mass of the rotor, kg.
    pub rotor_mass_kg: f64,
    /// Mass of everything the bracket carries, kg.
    pub carried_mass_kg: f64,
    /// Transport shock, in multiples of gravity.
    pub shock_g: f64,
    /// The dynamic factor a worn-out bearing tends to.
    pub greatest_amplification: f64,
}

/// Why no load follows from the inputs.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum LoadError {
    /// A number outside its range.
    #[error("load input `{field}` is {value}, it must lie between {least} and {greatest}")]
    OutOfRange {
        /// Which input.
        field: &'static str,
        /// What it was.
        value: f64,
        /// Smallest allowed.
        least: f64,
        /// Largest allowed.
        greatest: f64,
    },
}

impl Default for LoadInputs {
    fn default() -> Self {
        Self {
            vibration_ratio: 1.0,
            speed_rpm: 9000.0,
            rotor_mass_kg: 0.35,
            carried_mass_kg: 1.2,
            shock_g: 10.0,
            greatest_amplification: 3.0,
        }
    }
}

/// The force of imbalance in N, dynamic amplification included.
///
/// # Errors
/// If an input is outside its range.
pub fn imbalance_load(inputs: &LoadInputs) -> Result<f64, LoadError> {
    inputs.check()?;
    let omega = inputs.speed_rpm / 60.0 * TAU;
    let ratio = inputs.vibration_ratio.max(1.0);
    let grade_m_s = HEALTHY_GRADE_MM_S / 1000.0 * ratio;
    // Grows from 1 and saturates: half of the way at four times the healthy vibration.
    let wear = (ratio - 1.0) / (ratio - 1.0 + 3.0);
    let amplification = 1.0 + (inputs.greatest_amplification - 1.0) * wear;
    Ok(inputs.rotor_mass_kg * grade_m_s * omega * amplification)
}

/// The load cases for a failure mode, acting on the interface `at`.
///
/// # Errors
/// If an input is outside its range.
pub fn load_cases(
    mode: FailureMode,
    inputs: &LoadInputs,
    at: &str,
) -> Result<Vec<Load>, LoadError> {
    inputs.check()?;
    let case = |name: &str, force_n: [f64; 3]| Load {
        name: name.into(),
        at: at.into(),
        force_n,
        point_mm: None,
        weight: 1.0,
    };
    let weight = inputs.carried_mass_kg * G0;
    let shock = weight * (1.0 + inputs.shock_g);
    let mut cases = vec![
        case("transport shock down", [0.0, 0.0, -shock]),
        case(
            "transport shock sideways",
            [0.0, weight * inputs.shock_g, -weight],
        ),
    ];
    if mode == FailureMode::ImbalanceFromBearingWear {
        let pull = imbalance_load(inputs)?;
        cases.push(case("imbalance along x", [pull, 0.0, -weight]));
        cases.push(case("imbalance along y", [0.0, pull, -weight]));
    }
    Ok(cases)
}

impl LoadInputs {
    fn check(&self) -> Result<(), LoadError> {
        let ranges = [
            ("vibration_ratio", self.vibration_ratio, 0.0, GREATEST_RATIO),
            ("speed_rpm", self.speed_rpm, 1.0, 100_000.0),
            ("rotor_mass_kg", self.rotor_mass_kg, 1e-4, 100.0),
            ("carried_mass_kg", self.carried_mass_kg, 1e-4, 1000.0),
            ("shock_g", self.shock_g, 0.0, 500.0),
            (
                "greatest_amplification",
                self.greatest_amplification,
                1.0,
                20.0,
            ),
        ];
        for (field, value, least, greatest) in ranges {
            if !(value >= least && value <= greatest) {
                return Err(LoadError::OutOfRange {
                    field,
                    value,
                    least,
                    greatest,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_fan_pulls_with_mass_times_grade_times_speed() {
        let force = imbalance_load(&LoadInputs::default()).unwrap();
        let expected = 0.35 * 0.0063 * (9000.0 / 60.0 * TAU);
        assert!((force - expected).abs() < 1e-12);
    }

    #[test]
    fn the_load_follows_the_vibration_continuously_and_upwards() {
        let at = |vibration_ratio: f64| {
            imbalance_load(&LoadInputs {
                vibration_ratio,
                ..LoadInputs::default()
            })
            .unwrap()
        };
        let mut before = at(0.5);
        for n in 51..=1000 {
            let here = at(n as f64 / 100.0);
            assert!(here >= before && here - before < 0.15, "jump at {n}");
            before = here;
        }
        assert!(at(5.0) > 5.0 * at(1.0));
    }

    #[test]
    fn a_broken_sensor_is_refused_by_name() {
        for vibration_ratio in [-1.0, 1e3, f64::NAN] {
            let inputs = LoadInputs {
                vibration_ratio,
                ..LoadInputs::default()
            };
            assert!(
                imbalance_load(&inputs)
                    .unwrap_err()
                    .to_string()
                    .contains("vibration_ratio")
            );
        }
    }
}
