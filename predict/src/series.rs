//! Irregular samples onto a regular grid: time-weighted means, and gaps that stay gaps.

use serde::{Deserialize, Serialize};

/// The samples of one metric, as they came.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Samples {
    /// When, in milliseconds.
    pub times_ms: Vec<i64>,
    /// What, as many as there are times.
    pub values: Vec<f64>,
}

/// A regular grid: `count` cells of `step_ms`, the first one beginning at `start_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Where the first cell begins.
    pub start_ms: i64,
    /// Length of a cell.
    pub step_ms: i64,
    /// Number of cells.
    pub count: usize,
    /// How long a sample is believed; after that its cell is a gap until the next sample.
    pub hold_ms: i64,
}

/// Why samples cannot be resampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResampleError {
    /// Times and values do not pair up.
    #[error("{times} times but {values} values")]
    Lengths {
        /// Number of times.
        times: usize,
        /// Number of values.
        values: usize,
    },
    /// The step or the hold is not a positive time.
    #[error("grid has a step of {step_ms} ms and a hold of {hold_ms} ms, both must be positive")]
    Grid {
        /// The step.
        step_ms: i64,
        /// The hold.
        hold_ms: i64,
    },
}

impl Samples {
    /// The samples in order of time; of several at the same time the last one given counts, and
    /// values that are not finite are dropped.
    fn in_order(&self) -> Vec<(i64, f64)> {
        let pairs = self
            .times_ms
            .iter()
            .copied()
            .zip(self.values.iter().copied());
        let mut pairs: Vec<(i64, f64)> = pairs.filter(|pair| pair.1.is_finite()).collect();
        pairs.sort_by_key(|pair| pair.0);
        let mut kept: Vec<(i64, f64)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match kept.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => kept.push(pair),
            }
        }
        kept
    }
}

/// The time-weighted mean of each cell of a grid; NaN where nothing is known.
///
/// A sample holds until the next one, but no longer than `hold_ms`. The mean of a cell weighs each
/// value by the time it held within the cell, so bursts of samples count no more than silence.
pub fn resample(samples: &Samples, grid: &Grid) -> Result<Vec<f64>, ResampleError> {
    let [times, values] = [samples.times_ms.len(), samples.values.len()];
    if times != values {
        return Err(ResampleError::Lengths { times, values });
    }
    let Grid {
        step_ms,
        count,
        hold_ms,
        ..
    } = *grid;
    if step_ms <= 0 || hold_ms <= 0 {
        return Err(ResampleError::Grid { step_ms, hold_ms });
    }
    let ordered = samples.in_order();
    let mut sums = vec![0.0; count];
    let mut weights = vec![0.0; count];
    for (place, &(from, value)) in ordered.iter().enumerate() {
        let next = ordered.get(place + 1).map_or(i64::MAX, |next| next.0);
        let until = next.min(from.saturating_add(hold_ms));
        spread(value, [from, until], grid, &mut sums, &mut weights);
    }
    let mean = |(sum, weight): (f64, f64)| if weight > 0.0 { sum / weight } else { f64::NAN };
    Ok(sums.into_iter().zip(weights).map(mean).collect())
}

/// Adds a value that held over a span to every cell it touches.
fn spread(value: f64, span: [i64; 2], grid: &Grid, sums: &mut [f64], weights: &mut [f64]) {
    // Wide integers: times may lie anywhere in 64 bits.
    let [start, step] = [i128::from(grid.start_ms), i128::from(grid.step_ms)];
    let [from, until] = span.map(i128::from);
    let end = start + step * grid.count as i128;
    let (from, until) = (from.max(start), until.min(end));
    let mut at = from;
    while at < until {
        let cell = ((at - start) / step) as usize;
        let edge = (start + step * (cell as i128 + 1)).min(until);
        let weight = (edge - at) as f64;
        sums[cell] += value * weight;
        weights[cell] += weight;
        at = edge;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(pairs: &[(i64, f64)]) -> Samples {
        Samples {
            times_ms: pairs.iter().map(|pair| pair.0).collect(),
            values: pairs.iter().map(|pair| pair.1).collect(),
        }
    }

    const GRID: Grid = Grid {
        start_ms: 0,
        step_ms: 10,
        count: 4,
        hold_ms: 20,
    };

    #[test]
    fn means_are_weighted_by_time_and_old_samples_expire() {
        // 1.0 over 0..5, 3.0 over 5..25 (held for 20), nothing after.
        let got = resample(&samples(&[(0, 1.0), (5, 3.0)]), &GRID).expect("well formed");
        assert_eq!(got[..3], [2.0, 3.0, 3.0]);
        assert!(got[3].is_nan());
    }

    #[test]
    fn order_and_duplicates_have_defined_results() {
        let tidy = resample(&samples(&[(0, 1.0), (20, 5.0)]), &GRID);
        let messy = resample(&samples(&[(20, 4.0), (0, 1.0), (20, 5.0)]), &GRID);
        assert_eq!(
            tidy.map(|x| x[..3].to_vec()),
            messy.map(|x| x[..3].to_vec())
        );
    }

    #[test]
    fn impossible_grids_are_refused() {
        let error = resample(&samples(&[]), &Grid { step_ms: 0, ..GRID }).expect_err("step 0");
        assert!(error.to_string().contains("step of 0 ms"));
        let lopsided = Samples {
            times_ms: vec![1],
            values: vec![],
        };
        assert!(resample(&lopsided, &GRID).is_err());
    }

    proptest! {
        #[test]
        fn means_lie_within_the_values_whatever_the_times(
            pairs in prop::collection::vec((any::<i64>(), -100.0..100.0), 0..40),
            near in prop::collection::vec((-50_i64..80, -100.0..100.0), 0..40),
        ) {
            let pairs: Vec<_> = pairs.into_iter().chain(near).collect();
            let got = resample(&samples(&pairs), &GRID).expect("well formed");
            prop_assert!(got.iter().all(|x| x.is_nan() || (-100.0..=100.0001).contains(&x.abs())));
        }
    }
}
