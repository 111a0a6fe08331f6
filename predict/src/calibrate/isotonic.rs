//! Scores to probabilities by the best monotone curve (isotonic regression, pool adjacent violators).

use serde::{Deserialize, Serialize};

/// A monotone map from score to probability: straight lines between the centres of the pooled blocks,
/// flat beyond the first and the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Strictly increasing centres of the blocks, same length as `shares`, never empty.
    scores: Vec<f64>,
    /// Non-decreasing shares of the blocks.
    shares: Vec<f64>,
}

/// A block of neighbouring scores with one share.
#[derive(Debug, Clone, Copy)]
struct Block {
    score: f64,
    share: f64,
    weight: f64,
}

impl Block {
    fn pooled(self, other: Self) -> Self {
        let weight = self.weight + other.weight;
        let mean = |a: f64, b: f64| (a * self.weight + b * other.weight) / weight;
        Self {
            score: mean(self.score, other.score),
            share: mean(self.share, other.share),
            weight,
        }
    }
}

impl Isotonic {
    /// Fits the curve to `(score, outcome 0..1, weight)`.
    ///
    /// Neighbouring examples may watch the same events: `overlap` says how many of them amount to one
    /// independent observation. However clear the record, it cannot prove that something never
    /// happens, so the lowest share is at least, and the highest at most, what half an observation to
    /// the contrary would make of its block. Without any weight the answer is ½ throughout.
    pub fn fit(examples: &[(f64, f64, f64)], overlap: f64) -> Self {
        let mut sorted: Vec<Block> = examples
            .iter()
            .filter(|(score, _, weight)| *weight > 0.0 && score.is_finite())
            .map(|&(score, share, weight)| Block {
                score,
                share,
                weight,
            })
            .collect();
        sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
        let mut blocks: Vec<Block> = Vec::new();
        for mut next in sorted {
            while let Some(&last) = blocks.last()
                && (last.share >= next.share || last.score >= next.score)
            {
                next = last.pooled(next);
                blocks.pop();
            }
            blocks.push(next);
        }
        if blocks.is_empty() {
            blocks.push(Block {
                score: 0.0,
                share: 0.5,
                weight: 0.0,
            });
        }
        soften_ends(&mut blocks, overlap.max(1e-9));
        Self {
            scores: blocks.iter().map(|block| block.score).collect(),
            shares: blocks.iter().map(|block| block.share).collect(),
        }
    }

    /// The probability that belongs to a score.
    pub fn probability(&self, score: f64) -> f64 {
        let after = self.scores.partition_point(|&own| own < score);
        if after == 0 {
            return self.shares[0];
        }
        if after == self.scores.len() {
            return self.shares[after - 1];
        }
        let [low, high] = [self.scores[after - 1], self.scores[after]];
        let way = (score - low) / (high - low);
        let [from, to] = [self.shares[after - 1], self.shares[after]];
        (from + way * (to - from)).clamp(from, to)
    }

    /// Whether the curve is one [`Isotonic::fit`] could have made, whoever wrote it.
    pub(crate) fn is_sound(&self) -> bool {
        let ordered = |values: &[f64]| values.windows(2).all(|pair| pair[0] <= pair[1]);
        !self.scores.is_empty()
            && self.scores.len() == self.shares.len()
            && self.scores.iter().all(|score| score.is_finite())
            && self.shares.iter().all(|share| (0.0..=1.0).contains(share))
            && self.scores.windows(2).all(|pair| pair[0] < pair[1])
            && ordered(&self.shares)
    }
}

/// Leaves half an observation's worth of doubt at both ends, without passing the next block.
fn soften_ends(blocks: &mut [Block], overlap: f64) {
    let doubt = |block: &Block| 0.5 / (block.weight / overlap + 1.0);
    let n = blocks.len();
    let above = blocks.get(1).map_or(0.5, |next| next.share);
    let below = n.checked_sub(2).map_or(0.5, |place| blocks[place].share);
    if let Some(first) = blocks.first_mut() {
        first.share = first.share.max(doubt(first).min(above));
    }
    if let Some(last) = blocks.last_mut() {
        last.share = last.share.min((1.0 - doubt(last)).max(below));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn violators_are_pooled() {
        // The textbook case: 1, 3, 2, 4 pools the middle two.
        let examples = [
            (1.0, 0.1, 1.0),
            (2.0, 0.3, 1.0),
            (3.0, 0.2, 1.0),
            (4.0, 0.4, 1.0),
        ];
        let curve = Isotonic::fit(&examples, 1e-6);
        assert_eq!(curve.probability(1.0), 0.1);
        assert!((curve.probability(2.5) - 0.25).abs() < 1e-12);
        assert_eq!(curve.probability(9.0), 0.4);
    }

    #[test]
    fn certainty_is_bounded_and_nothing_known_is_even_odds() {
        let clear: Vec<_> = (0..18)
            .map(|i| (f64::from(i / 9), f64::from(i / 9), 1.0))
            .collect();
        // Nine of nine: half an observation to the contrary makes it 9.5 of 10.
        let curve = Isotonic::fit(&clear, 1.0);
        assert_eq!(curve.probability(-5.0), 0.05);
        assert_eq!(curve.probability(5.0), 0.95);
        // If nine examples are one observation, it is 1.5 of 2.
        assert_eq!(Isotonic::fit(&clear, 9.0).probability(5.0), 0.75);
        let always = Isotonic::fit(&[(1.0, 1.0, 3.0)], 1.0);
        assert_eq!(always.probability(1.0), 0.875);
        assert_eq!(Isotonic::fit(&[], 1.0).probability(3.0), 0.5);
    }

    proptest! {
        #[test]
        fn the_curve_is_monotone_and_sound(
            examples in prop::collection::vec((-1e6..1e6, 0.0..=1.0, 0.0..3.0), 0..60),
            mut asked in prop::collection::vec(-2e6..2e6, 2..20),
        ) {
            let curve = Isotonic::fit(&examples, 1.0);
            prop_assert!(curve.is_sound());
            asked.sort_by(f64::total_cmp);
            let answers: Vec<f64> = asked.iter().map(|&score| curve.probability(score)).collect();
            prop_assert!(answers.windows(2).all(|pair| pair[0] <= pair[1]));
        }
    }
}
