//! The gate: a challenger serves only after it has clearly beaten the champion on the same past.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// A challenger must be better by this share of the champion's loss.
pub const LEAST_GAIN: f64 = 0.02;
/// And chance must explain that with less than this probability.
pub const MOST_CHANCE: f64 = 0.05;
/// Redraws of the bootstrap.
const REDRAWS: usize = 200;

/// What the gate found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Mean loss of the champion.
    pub champion_loss: f64,
    /// Mean loss of the challenger.
    pub challenger_loss: f64,
    /// Share of redraws in which the challenger was no better.
    pub chance: f64,
    /// Whether the challenger may serve.
    pub passed: bool,
}

/// Compares losses of champion and challenger, paired by origin and in order of time.
///
/// The differences are redrawn in blocks of `block` neighbours (moving-block bootstrap, Künsch, 1989),
/// because forecasts from neighbouring origins share most of their errors.
pub fn compare(champion: &[f64], challenger: &[f64], block: usize, seed: u64) -> Gate {
    let n = champion.len().min(challenger.len());
    let mean = |losses: &[f64]| losses[..n].iter().sum::<f64>() / n.max(1) as f64;
    let [champion_loss, challenger_loss] = [mean(champion), mean(challenger)];
    let gains: Vec<f64> = (0..n).map(|i| champion[i] - challenger[i]).collect();
    let chance = chance_of_no_gain(&gains, block.clamp(1, n.max(1)), seed);
    let better = challenger_loss < champion_loss * (1.0 - LEAST_GAIN);
    Gate {
        champion_loss,
        challenger_loss,
        chance,
        passed: better && chance < MOST_CHANCE,
    }
}

fn chance_of_no_gain(gains: &[f64], block: usize, seed: u64) -> f64 {
    // Fewer than three blocks say nothing about chance.
    if gains.len() < 3 * block {
        return 1.0;
    }
    let mut sums = vec![0.0];
    for gain in gains {
        sums.push(sums[sums.len() - 1] + gain);
    }
    let mut rng = Rng::new(seed);
    let blocks = gains.len().div_ceil(block);
    let worse = (0..REDRAWS).filter(|_| {
        let draw = |_| {
            let start = rng.below(gains.len() - block + 1);
            sums[start + block] - sums[start]
        };
        // Not greater rather than at most: a sum that is no number is no gain.
        (0..blocks).map(draw).sum::<f64>().partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)
    });
    worse.count() as f64 / REDRAWS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_gain_passes_and_luck_does_not() {
        let mut rng = Rng::new(6);
        let champion: Vec<f64> = (0..200).map(|_| 1.0 + 0.3 * rng.normal()).collect();
        let better: Vec<f64> = champion.iter().map(|loss| loss * 0.9).collect();
        let noise: Vec<f64> = (0..200).map(|_| 1.0 + 0.3 * rng.normal()).collect();
        assert!(compare(&champion, &better, 5, 1).passed);
        assert!(!compare(&champion, &noise, 5, 1).passed);
        assert!(!compare(&champion, &champion, 5, 1).passed);
    }

    #[test]
    fn a_gain_too_small_to_matter_does_not_pass() {
        let champion = vec![1.0; 100];
        assert!(!compare(&champion, &[0.99; 100], 5, 1).passed);
        assert!(compare(&champion, &[0.97; 100], 5, 1).passed);
    }

    #[test]
    fn too_few_origins_prove_nothing() {
        assert!(!compare(&[1.0; 8], &[0.1; 8], 5, 1).passed);
        assert!(!compare(&[], &[], 5, 1).passed);
        assert!(!compare(&[1.0; 30], &[f64::NAN; 30], 5, 1).passed);
    }

    #[test]
    fn false_passes_are_as_rare_as_promised() {
        let mut rng = Rng::new(12);
        let mut passes = 0;
        for seed in 0..400 {
            let draw = |rng: &mut Rng| (0..60).map(|_| 1.0 + rng.normal()).collect::<Vec<_>>();
            let (a, b) = (draw(&mut rng), draw(&mut rng));
            passes += u32::from(compare(&a, &b, 3, seed).passed);
        }
        // 5 % of 400 are 20; the block bootstrap is a little liberal at this length.
        assert!(passes < 45, "{passes}");
    }
}
