//! The expanded uncertainty of a patch: scan noise, pose and calibration.

use nalgebra::{Matrix6, Vector6};

use crate::mesh::cross;

/// Coverage factor: about 95 %.
pub(crate) const K: f64 = 2.0;
/// Points closer together than a bead is wide share its texture and count once, mm².
const TEXTURE_AREA_MM2: f64 = 0.25;

/// Variance of the deviation at a place of the surface that comes from the pose, mm².
pub(crate) fn pose_variance(covariance: &Matrix6<f64>, point: [f64; 3], normal: [f64; 3]) -> f64 {
    let t = cross(point, normal);
    let j = Vector6::new(t[0], t[1], t[2], normal[0], normal[1], normal[2]);
    (j.transpose() * covariance * j)[(0, 0)].max(0.0)
}

/// Expanded uncertainty of the mean of a patch, mm.
pub(crate) fn expanded(
    sd: f64,
    count: usize,
    radius_mm: f64,
    pose_variance: f64,
    calibration_mm: f64,
) -> f64 {
    let patch = std::f64::consts::PI * radius_mm * radius_mm;
    let independent = (count as f64).min(patch / TEXTURE_AREA_MM2).max(1.0);
    K * (sd * sd / independent + pose_variance + calibration_mm * calibration_mm).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_points_help_until_the_texture_repeats() {
        let u = |n| expanded(0.1, n, 1.25, 0.0, 0.0);
        assert!((u(4) - 0.1).abs() < 1e-12);
        assert!(u(16) < u(4));
        assert!((u(1_000) - u(100)).abs() < 1e-12);
        assert!((expanded(0.0, 9, 1.0, 0.0004, 0.0) - 0.04).abs() < 1e-12);
    }

    #[test]
    fn a_turn_matters_at_a_lever_and_not_at_its_axis() {
        let mut covariance = Matrix6::zeros();
        covariance[(2, 2)] = 1e-6;
        assert!(
            (pose_variance(&covariance, [30.0, 0.0, 0.0], [0.0, 1.0, 0.0]) - 9e-4).abs() < 1e-12
        );
        assert!(pose_variance(&covariance, [30.0, 0.0, 0.0], [0.0, 0.0, 1.0]).abs() < 1e-15);
    }
}
