//! Are probabilities honest? Brier score, skill against the base rate, and the reliability diagram.

use serde::{Deserialize, Serialize};

/// How well probabilities matched what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Mean squared difference between probability and outcome; lower is better.
    pub brier: f64,
    /// The Brier score of always answering the base rate.
    pub brier_base: f64,
    /// `1 − brier / brier_base`; absent where everything or nothing happened.
    pub skill: Option<f64>,
    /// Expected calibration error over the bins.
    pub calibration_error: f64,
    /// The share of outcomes that happened.
    pub base_rate: f64,
    /// How many probabilities were judged.
    pub n: usize,
    /// Bins of equal count, by rising probability.
    pub bins: Vec<ReliabilityBin>,
}

/// One bin of the reliability diagram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Mean probability in the bin.
    pub predicted: f64,
    /// Share that happened.
    pub observed: f64,
    /// How many probabilities fell into the bin.
    pub n: usize,
}

/// Judges `(probability, outcome 0..1, weight)`; entries of weight 0 are left out.
pub fn reliability(pairs: &[(f64, f64, f64)], bins: usize) -> Reliability {
    let mut pairs: Vec<_> = pairs.iter().copied().filter(|pair| pair.2 > 0.0).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = pairs.iter().map(|pair| pair.2).sum();
    let mean = |of: &dyn Fn(&(f64, f64, f64)) -> f64, part: &[(f64, f64, f64)]| {
        let weight: f64 = part.iter().map(|pair| pair.2).sum();
        let sum: f64 = part.iter().map(|pair| pair.2 * of(pair)).sum();
        if weight > 0.0 { sum / weight } else { 0.0 }
    };
    let brier = mean(&|pair| (pair.0 - pair.1).powi(2), &pairs);
    let base_rate = mean(&|pair| pair.1, &pairs);
    let brier_base = base_rate * (1.0 - base_rate);
    let mut error = 0.0;
    let mut drawn = Vec::new();
    for bin in 0..bins {
        let part = &pairs[pairs.len() * bin / bins..pairs.len() * (bin + 1) / bins];
        if part.is_empty() {
            continue;
        }
        let predicted = mean(&|pair| pair.0, part);
        let observed = mean(&|pair| pair.1, part);
        let weight: f64 = part.iter().map(|pair| pair.2).sum();
        error += weight / total * (predicted - observed).abs();
        drawn.push(ReliabilityBin {
            predicted,
            observed,
            n: part.len(),
        });
    }
    Reliability {
        brier,
        brier_base,
        skill: (brier_base > 1e-12).then(|| 1.0 - brier / brier_base),
        calibration_error: error,
        base_rate,
        n: pairs.len(),
        bins: drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_rate_has_no_skill_and_the_truth_has_all() {
        let outcomes = [0.0, 1.0, 0.0, 0.0];
        let dull: Vec<_> = outcomes.iter().map(|&y| (0.25, y, 1.0)).collect();
        let wise: Vec<_> = outcomes.iter().map(|&y| (y, y, 1.0)).collect();
        assert!(reliability(&dull, 10).skill.expect("mixed outcomes").abs() < 1e-12);
        assert_eq!(reliability(&wise, 10).skill, Some(1.0));
        assert_eq!(reliability(&wise, 2).calibration_error, 0.0);
    }

    #[test]
    fn overconfidence_shows_in_the_bins() {
        let pairs: Vec<_> = (0..100).map(|i| (0.9, f64::from(i % 2), 1.0)).collect();
        let judged = reliability(&pairs, 1);
        assert!((judged.calibration_error - 0.4).abs() < 1e-12);
        assert_eq!(judged.bins[0].n, 100);
    }

    #[test]
    fn one_sided_outcomes_have_no_skill_to_speak_of() {
        assert_eq!(reliability(&[(0.9, 1.0, 1.0)], 10).skill, None);
        assert_eq!(reliability(&[], 10).n, 0);
    }
}
