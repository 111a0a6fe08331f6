//! Fan trays that wear out: a documented physical model that stands in for history nobody recorded.
//!
//! The live samples of a host are measured; how its fans wore before is not known. This model makes
//! that history, seeded and without pretending to be measured. Its chain of causes:
//!
//! 1. **Lubrication is what ends a small fan's bearing.** Fatigue does not: by ISO 281 the basic rating
//!    life `L10 = (C/P)³` million revolutions of a 608 bearing (C ≈ 3.3 kN) under a fan's 30 N is
//!    longer than 10⁶ hours at 6,000 rpm. Grease life halves for every 15 K (SKF, *Rolling bearings*,
//!    "Grease life for capped bearings"; 10–15 K is the usual Arrhenius-like rule) and falls with
//!    speed.
//! 2. **Units differ.** Lives follow a Weibull law; a slope of 1.9 gives the ratio L50/L10 ≈ 2.7 that
//!    SKF states for grease lives.
//! 3. **Wear feeds itself.** Once lubrication has failed (four fifths of the life here), clearance and
//!    debris grow with the wear that is already there: exponentially. Clearance lets the rotor
//!    run out of balance, and vibration grows with imbalance and with the square of the speed.
//! 4. **Friction shows.** It heats the bearing and costs current (fan power grows with the cube of the
//!    speed; the rest is friction), and a worn fan does not quite reach its speed.
//! 5. **The end** is vibration of 7.1 mm/s RMS: beyond the 4.5 mm/s where zone D ("dangerous") of ISO
//!    10816-1, class I (small machines; carried on by ISO 20816) begins, by one step of its 1.6 series.
//!
//! The hall of the model is hot and dusty (contamination shortens life by ISO 281's `a_ISO` ≈ 0.1), so
//! that lives are months, not decades: the law is the same, only the clock is faster.

use crate::history::UnitHistory;
use crate::rng::Rng;

/// The metrics of a fan tray, in the order of its rows.
pub const METRICS: [&str; 5] = [
    "vibration_mm_s",
    "bearing_temp_c",
    "motor_current_a",
    "speed_rpm",
    "utilisation",
];

/// One row per hour.
pub const STEP_MS: i64 = 3_600_000;

/// A fan counts as failed at this vibration (RMS).
pub const FAILURE_MM_S: f64 = 7.1;

/// Grease life that nine in ten reach, at [`RATED_TEMP_C`] and [`RATED_RPM`], contamination included.
const L10_HOURS: f64 = 900.0;
const RATED_TEMP_C: f64 = 60.0;
const RATED_RPM: f64 = 6000.0;
const WEIBULL_SLOPE: f64 = 1.9;
const KELVIN_PER_HALVING: f64 = 15.0;
/// The share of life after which lubrication no longer keeps surfaces apart.
const LUBRICATED_SHARE: f64 = 0.8;
/// Wear's growth over what is left of life after that: vibration from 1 to about 10 mm/s.
const WEAR_GROWTH: f64 = 3.4;
/// No fan is followed longer; the slowest in a cool hall would take years.
const MOST_HOURS: usize = 10_000;

/// One fan as it leaves the factory, and its wear so far.
#[derive(Debug, Clone)]
struct Fan {
    rng: Rng,
    /// This unit's life in units of L10.
    life: f64,
    balance_mm_s: f64,
    cooling_k: f64,
    ambient_c: f64,
    motor_a: f64,
    bearing_temp_c: f64,
    /// Share of the life that is used up; beyond 1 if the fan still runs.
    used: f64,
    hour: usize,
}

/// Histories of fans that ran to failure, one row per hour.
///
/// `load_profile` is the hall's utilisation (0..1) hour by hour and repeats; an empty one means 0.5.
/// The same seed gives the same histories, and a unit's history does not depend on `units`.
pub fn fleet(seed: u64, units: usize, load_profile: &[f64]) -> Vec<UnitHistory> {
    (0..units)
        .map(|number| run_to_failure(seed, number, load_profile))
        .collect()
}

/// Fans now in service: unlike those of [`fleet`], of various ages and still running.
///
/// The first is well into the last tenth of its life and shows it; the others have lived between a
/// twentieth and four fifths of theirs.
pub fn current(seed: u64, units: usize, load_profile: &[f64]) -> Vec<UnitHistory> {
    let alive = |number: usize| {
        // Another part of the seed's sequence than the fans of the past.
        let whole = run_to_failure(!seed, number, load_profile);
        let mut rng = Rng::for_part(!seed, (1 << 32) + number as u64);
        let lived = if number == 0 {
            0.97
        } else {
            0.05 + 0.75 * rng.uniform()
        };
        let rows = ((whole.rows.len() as f64 * lived) as usize).max(1);
        let unit = format!("fan-{:03}", number + 1);
        UnitHistory {
            unit,
            failed: false,
            ..whole.cut(rows)
        }
    };
    (0..units).map(alive).collect()
}

fn run_to_failure(seed: u64, number: usize, load_profile: &[f64]) -> UnitHistory {
    let mut fan = Fan::new(Rng::for_part(seed, number as u64));
    let mut rows = Vec::new();
    let mut over = 0;
    // Three hours in a row, so that one noisy reading ends nothing.
    while over < 3 && rows.len() < MOST_HOURS {
        let load = match load_profile {
            [] => 0.5,
            profile => profile[rows.len() % profile.len()],
        };
        let row = fan.live_an_hour(load);
        over = if row[0] >= FAILURE_MM_S { over + 1 } else { 0 };
        rows.push(row);
    }
    UnitHistory {
        unit: format!("worn-fan-{:03}", number + 1),
        step_ms: STEP_MS,
        metrics: METRICS.map(str::to_owned).into(),
        rows,
        failed: over == 3,
    }
}

impl Fan {
    fn new(mut rng: Rng) -> Self {
        // Weibull: the life that a share `u` of fans does not reach, as a multiple of L10.
        let not_reached = rng.uniform().clamp(0.01, 0.99);
        let of_l10 = ((1.0 - not_reached).ln() / 0.9_f64.ln()).powf(1.0 / WEIBULL_SLOPE);
        let mut about =
            |mean: f64, share: f64| mean * (1.0 + share * rng.normal().clamp(-3.0, 3.0));
        let balance_mm_s = about(0.9, 0.12);
        let cooling_k = about(14.0, 0.08);
        let ambient_c = about(38.0, 0.06);
        let motor_a = about(1.8, 0.05);
        let bearing_temp_c = ambient_c + cooling_k;
        Self {
            life: of_l10,
            balance_mm_s,
            cooling_k,
            ambient_c,
            motor_a,
            bearing_temp_c,
            used: 0.0,
            hour: 0,
            rng,
        }
    }

    /// Runs for an hour and answers what its sensors say.
    fn live_an_hour(&mut self, load: f64) -> Vec<f64> {
        let load = if load.is_finite() {
            load.clamp(0.0, 1.0)
        } else {
            0.5
        };
        let utilisation = (load + 0.04 * self.rng.normal()).clamp(0.0, 1.0);
        let wear = self.wear();
        // The controller spins the fan up with the load; a worn one falls a little short.
        let speed_rpm = (3600.0 + 3200.0 * utilisation) * (1.0 - 0.004 * wear.min(20.0));
        let pace = speed_rpm / RATED_RPM;
        let friction = 1.0 + 0.12 * wear;
        let day = (self.hour % 24) as f64 / 24.0 * std::f64::consts::TAU;
        let ambient_c = self.ambient_c + 2.0 * day.sin() + 6.0 * utilisation;
        let settled_c = ambient_c + self.cooling_k * pace * friction.sqrt();
        // The tray's heat capacity: it follows with a time constant of about three hours.
        self.bearing_temp_c += 0.3 * (settled_c - self.bearing_temp_c);
        self.age(speed_rpm);
        let vibration = (self.balance_mm_s + 0.26 * wear) * pace.powi(2).max(0.35);
        let current = self.motor_a * (0.75 * pace.powi(3) + 0.25 * friction * pace);
        let mut noisy = |value: f64, share: f64| value * (1.0 + share * self.rng.normal());
        vec![
            noisy(vibration, 0.05).max(0.0),
            noisy(self.bearing_temp_c, 0.008),
            noisy(current, 0.02).max(0.0),
            noisy(speed_rpm, 0.004).max(0.0),
            utilisation,
        ]
    }

    /// Uses up an hour of life: faster when hot, and in proportion to speed.
    fn age(&mut self, speed_rpm: f64) {
        let heat = 2.0_f64.powf((self.bearing_temp_c - RATED_TEMP_C) / KELVIN_PER_HALVING);
        self.used += heat * (speed_rpm / RATED_RPM) / (L10_HOURS * self.life);
        self.hour += 1;
    }

    /// Bearing clearance beyond new, in units of its first stage of growth.
    fn wear(&self) -> f64 {
        let dry = (self.used - LUBRICATED_SHARE) / (1.0 - LUBRICATED_SHARE);
        // While lubricated there is only slow running-in.
        let slow = 0.3 * self.used.min(1.0);
        slow + if dry > 0.0 {
            (WEAR_GROWTH * dry).exp() - 1.0
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fans_run_to_failure_and_seeds_decide() {
        let fans = fleet(1, 12, &[0.3, 0.8]);
        assert_eq!(fans, fleet(1, 12, &[0.3, 0.8]));
        assert_eq!(fans[..4], fleet(1, 4, &[0.3, 0.8])[..]);
        assert_ne!(fans[0], fleet(2, 1, &[0.3, 0.8])[0]);
        for fan in &fans {
            fan.check().expect("rectangular");
            assert!(fan.failed, "{} lasted {} hours", fan.unit, fan.rows.len());
            assert!(fan.rows.iter().flatten().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn heat_shortens_life_by_the_rule_it_states() {
        // Hours until life is used up, at a bearing held at a given temperature.
        let hours = |temp: f64| {
            let mut fan = Fan::new(Rng::new(4));
            fan.bearing_temp_c = temp;
            while fan.used < 1.0 {
                fan.age(RATED_RPM);
            }
            fan.hour as f64
        };
        let ratio = hours(RATED_TEMP_C) / hours(RATED_TEMP_C + KELVIN_PER_HALVING);
        assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
    }

    #[test]
    fn lives_spread_as_grease_lives_do() {
        let mut lives: Vec<f64> = (0..4000)
            .map(|n| Fan::new(Rng::for_part(3, n)).life)
            .collect();
        lives.sort_unstable_by(f64::total_cmp);
        assert!((lives[400] - 1.0).abs() < 0.06, "{}", lives[400]);
        let ratio = lives[2000] / lives[400];
        // (ln 2 / -ln 0.9)^(1/1.9) = 2.70.
        assert!((ratio - 2.7).abs() < 0.15, "{ratio}");
    }

    #[test]
    fn the_unit_that_is_failing_shakes_more_than_the_rest() {
        let fans = current(7, 8, &[0.5]);
        let last = |fan: &UnitHistory| {
            fan.rows
                .iter()
                .rev()
                .take(12)
                .map(|row| row[0])
                .sum::<f64>()
                / 12.0
        };
        assert!(fans.iter().all(|fan| !fan.failed));
        assert!(last(&fans[0]) > 3.0, "{}", last(&fans[0]));
        assert!(fans[1..].iter().all(|fan| last(fan) < last(&fans[0])));
    }
}
