//! How long the printer will take: trapezoidal speed profiles with junction deviation.

use serde::{Deserialize, Serialize};

/// What printing will take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Time of all moves, heating not counted.
    pub seconds: f64,
    /// Filament used, mm.
    pub filament_mm: f64,
    /// Plastic laid down, mm³.
    pub volume_mm3: f64,
    /// Number of layers.
    pub layers: usize,
}

/// One straight move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Motion {
    /// Direction of the nozzle; zero if only filament moves.
    pub(crate) direction: [f64; 3],
    /// Length of the path, or of the filament if nothing else moves, mm.
    pub(crate) length: f64,
    /// Speed asked for, mm/s.
    pub(crate) speed: f64,
    /// Acceleration along the move, mm/s².
    pub(crate) acceleration: f64,
}

/// Time of the moves in order, each slowed at its corners as a planner with unlimited look-ahead would.
pub(crate) fn seconds(motions: &[Motion], junction_deviation_mm: f64) -> f64 {
    // entry[i] is the speed between i-1 and i; the machine starts and ends at rest.
    let mut entry = vec![0.0; motions.len() + 1];
    for i in 1..motions.len() {
        entry[i] = corner_speed(&motions[i - 1], &motions[i], junction_deviation_mm);
    }
    for i in (0..motions.len()).rev() {
        let m = &motions[i];
        entry[i] = f64::min(
            entry[i],
            (entry[i + 1].powi(2) + 2.0 * m.acceleration * m.length).sqrt(),
        );
    }
    let mut total = 0.0;
    for (i, m) in motions.iter().enumerate() {
        let reach = (entry[i].powi(2) + 2.0 * m.acceleration * m.length).sqrt();
        entry[i + 1] = f64::min(entry[i + 1], reach);
        total += trapezoid(m, entry[i], entry[i + 1]);
    }
    total
}

/// Speed at which the corner may be taken: that on a circle which leaves it by the deviation.
fn corner_speed(a: &Motion, b: &Motion, deviation: f64) -> f64 {
    let slower = a.speed.min(b.speed);
    let still = |m: &Motion| m.direction == [0.0; 3];
    if still(a) || still(b) {
        return 0.0;
    }
    let cos = -(0..3).map(|i| a.direction[i] * b.direction[i]).sum::<f64>();
    if cos > 0.999_999 {
        return 0.0;
    }
    let half_sine = ((1.0 - cos) / 2.0).sqrt();
    if half_sine > 0.999_999 {
        return slower;
    }
    let acceleration = a.acceleration.min(b.acceleration);
    slower.min((acceleration * deviation * half_sine / (1.0 - half_sine)).sqrt())
}

fn trapezoid(m: &Motion, enter: f64, leave: f64) -> f64 {
    let up = (m.speed.powi(2) - enter.powi(2)) / (2.0 * m.acceleration);
    let down = (m.speed.powi(2) - leave.powi(2)) / (2.0 * m.acceleration);
    if up + down <= m.length {
        return (2.0 * m.speed - enter - leave) / m.acceleration + (m.length - up - down) / m.speed;
    }
    let peak = (m.acceleration * m.length + (enter.powi(2) + leave.powi(2)) / 2.0).sqrt();
    ((2.0 * peak - enter - leave) / m.acceleration).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn motion(direction: [f64; 3], length: f64) -> Motion {
        Motion {
            direction,
            length,
            speed: 100.0,
            acceleration: 1000.0,
        }
    }

    #[test]
    fn one_long_move_is_a_trapezoid_and_one_short_move_a_triangle() {
        // 5 mm up, 5 mm down at 0.1 s each, 90 mm at 100 mm/s.
        let long = seconds(&[motion([1.0, 0.0, 0.0], 100.0)], 0.02);
        assert!((long - 1.1).abs() < 1e-9);
        let short = seconds(&[motion([1.0, 0.0, 0.0], 2.5)], 0.02);
        assert!((short - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_straight_line_in_pieces_takes_as_long_as_in_one() {
        let pieces = vec![motion([0.0, 1.0, 0.0], 10.0); 10];
        assert!((seconds(&pieces, 0.02) - 1.1).abs() < 1e-6);
        let turn = [motion([1.0, 0.0, 0.0], 50.0), motion([0.0, 1.0, 0.0], 50.0)];
        // A right angle: v² = a δ s / (1 - s), s = sin 45°.
        let s = 0.5f64.sqrt();
        let v = (1000.0 * 0.02 * s / (1.0 - s)).sqrt();
        let expected = 2.0 * ((200.0 - v) / 1000.0 + (50.0 - 5.0 - (1e4 - v * v) / 2000.0) / 100.0);
        assert!((seconds(&turn, 0.02) - expected).abs() < 1e-9);
        let back = [
            motion([1.0, 0.0, 0.0], 50.0),
            motion([-1.0, 0.0, 0.0], 50.0),
        ];
        assert!((seconds(&back, 0.02) - 1.2).abs() < 1e-9);
    }
}
