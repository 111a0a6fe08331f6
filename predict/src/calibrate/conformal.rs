//! Quantiles from past errors (split conformal prediction): no assumption on their distribution.

use serde::{Deserialize, Serialize};

/// The errors a model made on data it was not fitted to, ready to be read as quantiles.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Conformal {
    /// Sorted `actual − predicted`.
    errors: Vec<f64>,
}

impl Conformal {
    /// Keeps the finite errors.
    pub fn new(mut errors: Vec<f64>) -> Self {
        errors.retain(|error| error.is_finite());
        errors.sort_unstable_by(f64::total_cmp);
        Self { errors }
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The error that is not exceeded with probability `share`; 0 without errors.
    ///
    /// Read from the `n + 1` gaps between and beyond the `n` errors, which is what makes the coverage
    /// hold for finite `n`. Where the gap is open-ended, the outermost error is stretched by as much
    /// as its distance to the median would grow per halving of the tail.
    pub fn quantile(&self, share: f64) -> f64 {
        let n = self.errors.len();
        if n == 0 {
            return 0.0;
        }
        let place = share * (n + 1) as f64 - 1.0;
        let median = self.errors[n / 2];
        if place < 0.0 || place > (n - 1) as f64 {
            let tail = if place < 0.0 { share } else { 1.0 - share };
            let end = if place < 0.0 {
                self.errors[0]
            } else {
                self.errors[n - 1]
            };
            let missing = (1.0 / ((n + 1) as f64 * tail.max(1e-9))).max(1.0);
            return end + (end - median) * missing.log2() / ((n + 1) as f64).log2().max(1.0);
        }
        let below = place.floor() as usize;
        let above = (below + 1).min(n - 1);
        let way = place - below as f64;
        self.errors[below] * (1.0 - way) + self.errors[above] * way
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn intervals_cover_what_they_promise() {
        let mut rng = Rng::new(2);
        let (mut inside, trials) = (0, 4000);
        for _ in 0..trials {
            let past = Conformal::new((0..60).map(|_| rng.normal()).collect());
            let next = rng.normal();
            inside += usize::from(past.quantile(0.05) <= next && next <= past.quantile(0.95));
        }
        let coverage = f64::from(inside as u32) / f64::from(trials);
        // Standard error of a share of 0.9 over 4,000 trials: 0.005.
        assert!((coverage - 0.9).abs() < 0.02, "{coverage}");
    }

    #[test]
    fn no_errors_mean_no_spread() {
        assert_eq!(Conformal::default().quantile(0.95), 0.0);
        assert_eq!(Conformal::new(vec![f64::NAN]).len(), 0);
    }

    proptest! {
        #[test]
        fn quantiles_rise_with_their_share(
            errors in prop::collection::vec(-1e9..1e9, 1..50),
            mut shares in prop::collection::vec(0.001..0.999, 2..9),
        ) {
            let conformal = Conformal::new(errors);
            shares.sort_by(f64::total_cmp);
            let values: Vec<f64> = shares.iter().map(|&share| conformal.quantile(share)).collect();
            prop_assert!(values.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6));
        }
    }
}
