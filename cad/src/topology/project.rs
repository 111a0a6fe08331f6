//! Smoothed Heaviside projection: pushes densities to 0 and 1 as `beta` grows.

/// The threshold of the projection.
const ETA: f64 = 0.5;

/// The projected density.
#[must_use]
pub fn project(x: f64, beta: f64) -> f64 {
    let scale = (beta * ETA).tanh() + (beta * (1.0 - ETA)).tanh();
    ((beta * ETA).tanh() + (beta * (x - ETA)).tanh()) / scale
}

/// Its derivative.
#[must_use]
pub fn slope(x: f64, beta: f64) -> f64 {
    let scale = (beta * ETA).tanh() + (beta * (1.0 - ETA)).tanh();
    beta * (1.0 - (beta * (x - ETA)).tanh().powi(2)) / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_stay_and_the_slope_is_the_derivative() {
        for beta in [1.0, 4.0, 16.0] {
            assert!(project(0.0, beta).abs() < 1e-15);
            assert!((project(1.0, beta) - 1.0).abs() < 1e-15);
            for x in [0.1, 0.45, 0.8] {
                let h = 1e-6;
                let numeric = (project(x + h, beta) - project(x - h, beta)) / (2.0 * h);
                assert!((numeric - slope(x, beta)).abs() < 1e-6 * beta);
            }
        }
    }
}
