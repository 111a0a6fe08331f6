//! The additive-manufacturing filter: nothing prints in the air.
//!
//! Langelaar's layer filter (2017, doi 10.1007/s00158-016-1522-2) in three dimensions, built along
//! +z: a voxel may be at most as dense as the densest of the five voxels below it (the one straight
//! below and its four neighbours, so overhangs up to 45 degrees print without support). Maximum and
//! minimum are smooth, so that the filter has an exact adjoint.

/// Exponent of the smooth maximum.
const P: f64 = 40.0;
/// Roundness of the smooth minimum.
const EPSILON: f64 = 1e-4;
/// Density at which the smooth maximum of five equal values is exact.
const EXACT_AT: f64 = 0.5;

/// Voxels that never need support and always give it: frozen interfaces.
pub type Frozen<'a> = &'a [bool];

/// What the printer would make of the densities `x`; frozen voxels are left alone.
#[must_use]
pub fn print(counts: [usize; 3], x: &[f64], frozen: Frozen<'_>) -> Vec<f64> {
    let plane = counts[0] * counts[1];
    let mut printed = x.to_vec();
    for n in plane..x.len() {
        if !frozen[n] {
            let support = support(power_sum(counts, &printed, n));
            printed[n] = least(x[n], support);
        }
    }
    printed
}

/// Sensitivities of the densities `x` from those of the printed ones.
#[must_use]
pub fn adjoint(
    counts: [usize; 3],
    x: &[f64],
    printed: &[f64],
    frozen: Frozen<'_>,
    d: &[f64],
) -> Vec<f64> {
    let plane = counts[0] * counts[1];
    let q = exponent();
    let mut lambda = d.to_vec();
    let mut out = d.to_vec();
    for n in (plane..x.len()).rev() {
        if frozen[n] {
            continue;
        }
        let sum = power_sum(counts, printed, n);
        let gap = x[n] - support(sum);
        let root = (gap * gap + EPSILON).sqrt();
        out[n] = lambda[n] * 0.5 * (1.0 - gap / root);
        if sum > 1e-250 {
            let to_support = lambda[n] * 0.5 * (1.0 + gap / root);
            let factor = to_support * P / q * sum.powf(1.0 / q - 1.0);
            for below in supports(counts, n).into_iter().flatten() {
                lambda[below] += factor * power(printed[below], 39);
            }
        }
    }
    out[..plane].copy_from_slice(&lambda[..plane]);
    for (n, frozen) in frozen.iter().enumerate() {
        if *frozen {
            out[n] = lambda[n];
        }
    }
    out
}

/// Voxels denser than one half with nothing denser than one half among their five supports.
#[must_use]
pub fn unsupported(counts: [usize; 3], printed: &[f64]) -> usize {
    (counts[0] * counts[1]..printed.len())
        .filter(|&n| {
            printed[n] > 0.5
                && supports(counts, n)
                    .into_iter()
                    .flatten()
                    .all(|below| printed[below] <= 0.5)
        })
        .count()
}

fn exponent() -> f64 {
    P + 5.0f64.ln() / EXACT_AT.ln()
}

fn supports(counts: [usize; 3], n: usize) -> [Option<usize>; 5] {
    let [nx, ny, _] = counts;
    let (i, j) = (n % nx, n / nx % ny);
    let below = n - nx * ny;
    [
        Some(below),
        (i > 0).then(|| below - 1),
        (i + 1 < nx).then(|| below + 1),
        (j > 0).then(|| below - nx),
        (j + 1 < ny).then(|| below + nx),
    ]
}

fn power_sum(counts: [usize; 3], printed: &[f64], n: usize) -> f64 {
    supports(counts, n)
        .into_iter()
        .flatten()
        .map(|below| power(printed[below], 40))
        .sum()
}

fn power(x: f64, exponent: i32) -> f64 {
    x.max(0.0).powi(exponent)
}

fn support(sum: f64) -> f64 {
    if sum > 1e-250 {
        sum.powf(1.0 / exponent())
    } else {
        0.0
    }
}

fn least(x: f64, support: f64) -> f64 {
    let gap = x - support;
    (0.5 * (x + support - (gap * gap + EPSILON).sqrt() + EPSILON.sqrt())).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_adjoint_agrees_with_finite_differences() {
        let counts = [4, 3, 5];
        let mut rng = Rng::new(9);
        let mut x: Vec<f64> = (0..60).map(|_| 0.2 + 0.7 * rng.uniform()).collect();
        let weights: Vec<f64> = (0..60).map(|_| rng.normal()).collect();
        let mut frozen = vec![false; 60];
        frozen[30] = true;
        let value = |x: &[f64]| -> f64 {
            print(counts, x, &frozen)
                .iter()
                .zip(&weights)
                .map(|(a, b)| a * b)
                .sum()
        };
        let gradient = adjoint(counts, &x, &print(counts, &x, &frozen), &frozen, &weights);
        for n in 0..60 {
            let (before, h) = (x[n], 1e-6);
            x[n] = before + h;
            let up = value(&x);
            x[n] = before - h;
            let down = value(&x);
            x[n] = before;
            let numeric = (up - down) / (2.0 * h);
            let scale = gradient[n].abs().max(1e-2);
            assert!(
                (numeric - gradient[n]).abs() < 1e-5 * scale,
                "{n}: {numeric} {}",
                gradient[n]
            );
        }
    }

    #[test]
    fn a_ceiling_in_the_air_does_not_print_but_a_45_degree_wedge_does() {
        let counts = [9, 3, 5];
        let at = |i: usize, j: usize, k: usize| (k * 3 + j) * 9 + i;
        let (mut ceiling, mut wedge) = (vec![0.0; 135], vec![0.0; 135]);
        for j in 0..3 {
            for i in 0..9 {
                ceiling[at(i, j, 4)] = 1.0;
                for k in 0..5 {
                    wedge[at(i, j, k)] = if i <= k { 1.0 } else { 0.0 };
                }
            }
        }
        let free = vec![false; 135];
        assert!(print(counts, &ceiling, &free).iter().all(|&x| x < 0.1));
        let printed = print(counts, &wedge, &free);
        assert!(printed.iter().zip(&wedge).all(|(p, w)| (p - w).abs() < 0.1));
        assert_eq!(unsupported(counts, &printed), 0);
        assert_eq!(unsupported(counts, &ceiling), 27);
    }
}
