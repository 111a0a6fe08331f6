//! The little linear algebra the room needs, on dense row-major matrices, sums in a fixed order.

/// Solves `A·x = b` for a symmetric positive definite `A` (n × n) by Cholesky; nothing if it is not.
pub(crate) fn solve_positive_definite(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for row in 0..n {
        for column in 0..=row {
            let mut sum = a[row * n + column];
            for k in 0..column {
                sum -= a[row * n + k] * a[column * n + k];
            }
            if row == column {
                if !(sum.is_finite() && sum > 0.0) {
                    return None;
                }
                a[row * n + row] = sum.sqrt();
            } else {
                a[row * n + column] = sum / a[column * n + column];
            }
        }
    }
    for row in 0..n {
        for k in 0..row {
            b[row] -= a[row * n + k] * b[k];
        }
        b[row] /= a[row * n + row];
    }
    for row in (0..n).rev() {
        for k in row + 1..n {
            b[row] -= a[k * n + row] * b[k];
        }
        b[row] /= a[row * n + row];
    }
    b.iter().all(|x| x.is_finite()).then_some(b)
}

/// Eigenvalues and eigenvectors of a symmetric matrix (n × n), largest first, by Jacobi's rotations.
pub(crate) fn symmetric_eigen(mut a: Vec<f64>, n: usize) -> Vec<(f64, Vec<f64>)> {
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    let total: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..60 {
        let off: f64 = (0..n)
            .flat_map(|p| (0..p).map(move |q| (p, q)))
            .map(|(p, q)| a[p * n + q].powi(2))
            .sum();
        if off <= 1e-24 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    let vector = |i: usize| (0..n).map(|row| vectors[row * n + i]).collect();
    let mut pairs: Vec<(f64, Vec<f64>)> = (0..n).map(|i| (a[i * n + i], vector(i))).collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    pairs
}

/// One rotation that makes `a[p][q]` zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let [x, y] = [a[k * n + p], a[k * n + q]];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for k in 0..n {
        let [x, y] = [a[p * n + k], a[q * n + k]];
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
        let [x, y] = [vectors[k * n + p], vectors[k * n + q]];
        vectors[k * n + p] = c * x - s * y;
        vectors[k * n + q] = s * x + c * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved_and_an_indefinite_one_refused() {
        let x =
            solve_positive_definite(vec![4.0, 2.0, 2.0, 3.0], vec![8.0, 8.0]).expect("definite");
        assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] - 2.0).abs() < 1e-12);
        assert_eq!(
            solve_positive_definite(vec![1.0, 2.0, 2.0, 1.0], vec![1.0, 1.0]),
            None
        );
    }

    #[test]
    fn eigenpairs_satisfy_their_equation() {
        let a = vec![4.0, 1.0, 0.5, 1.0, 3.0, 0.2, 0.5, 0.2, 1.0];
        let pairs = symmetric_eigen(a.clone(), 3);
        let trace: f64 = pairs.iter().map(|pair| pair.0).sum();
        assert!((trace - 8.0).abs() < 1e-12);
        for (value, vector) in &pairs {
            for row in 0..3 {
                let image: f64 = (0..3).map(|k| a[row * 3 + k] * vector[k]).sum();
                assert!((image - value * vector[row]).abs() < 1e-10);
            }
        }
        assert!(pairs[0].0 > pairs[1].0 && pairs[1].0 > pairs[2].0);
    }
}
