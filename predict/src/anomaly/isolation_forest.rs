//! Isolation forest (Liu, Ting and Zhou, ICDM 2008): what a few random cuts set apart is unusual.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Trees in a forest.
pub const TREES: usize = 100;
/// Rows each tree is grown on.
pub const SAMPLE: usize = 256;

const EULER: f64 = 0.577_215_664_901_532_9;

/// A fitted forest. Rows must have no missing values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IsolationForest {
    trees: Vec<Tree>,
    /// The path length that means "neither usual nor unusual".
    normal: f64,
}

/// One tree as columns; a node's right child follows its left child.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Tree {
    feature: Vec<u32>,
    threshold: Vec<f64>,
    /// The left child; 0 in a leaf.
    left: Vec<u32>,
    /// In a leaf, the expected path length there, its own depth included.
    depth: Vec<f64>,
}

impl IsolationForest {
    /// Grows a forest on rows of equal length.
    pub fn fit(rows: &[Vec<f64>], seed: u64) -> Self {
        let size = rows.len().min(SAMPLE);
        let grow = |number: usize| {
            let mut rng = Rng::for_part(seed, number as u64);
            let mut sample = draw(rows.len(), size, &mut rng);
            let limit = (size.max(2) as f64).log2().ceil() as usize;
            let mut tree = Tree::default();
            tree.push();
            tree.grow(0, rows, &mut sample, limit, 0, &mut rng);
            tree
        };
        Self {
            trees: (0..TREES).map(grow).collect(),
            normal: expected_path(size).max(1e-9),
        }
    }

    /// 0.5 for the usual, towards 1 for what is set apart at once.
    pub fn score(&self, row: &[f64]) -> f64 {
        let depth: f64 = self.trees.iter().map(|tree| tree.depth(row)).sum();
        let mean = depth / self.trees.len().max(1) as f64;
        2.0_f64.powf(-mean / self.normal)
    }

    /// Whether every walk through the forest ends, whoever wrote it.
    pub(super) fn is_sound(&self, features: usize) -> bool {
        let sound = |tree: &Tree| {
            let nodes = tree.left.len();
            let forward = |node: usize| {
                let left = tree.left[node] as usize;
                left == 0
                    || left > node && left + 1 < nodes && (tree.feature[node] as usize) < features
            };
            nodes > 0
                && [tree.feature.len(), tree.threshold.len(), tree.depth.len()] == [nodes; 3]
                && (0..nodes).all(forward)
        };
        self.normal > 0.0 && self.trees.iter().all(sound)
    }
}

/// Mean path length of an unsuccessful search in a binary tree of `n` nodes.
fn expected_path(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let last = (n - 1) as f64;
            2.0 * (last.ln() + EULER) - 2.0 * last / n as f64
        }
    }
}

/// `count` different rows of `total` (Floyd's algorithm keeps it proportional to `count`).
fn draw(total: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut drawn: Vec<usize> = Vec::with_capacity(count);
    for upper in total - count..total {
        let pick = rng.below(upper + 1);
        drawn.push(if drawn.contains(&pick) { upper } else { pick });
    }
    drawn
}

impl Tree {
    fn push(&mut self) -> usize {
        self.feature.push(0);
        self.threshold.push(0.0);
        self.left.push(0);
        self.depth.push(0.0);
        self.left.len() - 1
    }

    fn grow(
        &mut self,
        node: usize,
        rows: &[Vec<f64>],
        sample: &mut [usize],
        limit: usize,
        depth: usize,
        rng: &mut Rng,
    ) {
        let cut = if depth < limit {
            random_cut(rows, sample, rng)
        } else {
            None
        };
        let Some((feature, threshold)) = cut else {
            self.depth[node] = depth as f64 + expected_path(sample.len());
            return;
        };
        let mut middle = 0;
        for place in 0..sample.len() {
            if rows[sample[place]][feature] <= threshold {
                sample.swap(place, middle);
                middle += 1;
            }
        }
        let left = self.push();
        self.push();
        self.feature[node] = feature as u32;
        self.threshold[node] = threshold;
        self.left[node] = left as u32;
        let (low, high) = sample.split_at_mut(middle);
        self.grow(left, rows, low, limit, depth + 1, rng);
        self.grow(left + 1, rows, high, limit, depth + 1, rng);
    }

    fn depth(&self, row: &[f64]) -> f64 {
        let mut node = 0;
        while self.left[node] != 0 {
            let right = row[self.feature[node] as usize] > self.threshold[node];
            node = self.left[node] as usize + usize::from(right);
        }
        self.depth[node]
    }
}

/// A random feature that varies in the sample, and a random value within its range.
fn random_cut(rows: &[Vec<f64>], sample: &[usize], rng: &mut Rng) -> Option<(usize, f64)> {
    let features = sample.first().map_or(0, |&row| rows[row].len());
    let mut untried: Vec<usize> = (0..features).collect();
    while !untried.is_empty() {
        let feature = untried.swap_remove(rng.below(untried.len()));
        let values = sample.iter().map(|&row| rows[row][feature]);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        if low < high {
            let threshold = low + (high - low) * rng.uniform();
            // Rounding must not leave one side empty.
            return Some((feature, if threshold < high { threshold } else { low }));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_is_set_apart_and_the_middle_is_not() {
        let mut rng = Rng::new(1);
        let rows: Vec<Vec<f64>> = (0..2000)
            .map(|_| vec![rng.normal(), rng.normal()])
            .collect();
        let forest = IsolationForest::fit(&rows, 2);
        let [middle, edge, far] =
            [[0.0, 0.0], [2.0, 2.0], [8.0, -8.0]].map(|row| forest.score(&row));
        assert!(
            middle < 0.5 && middle < edge && edge < far && far > 0.7,
            "{middle} {edge} {far}"
        );
        assert_eq!(forest, IsolationForest::fit(&rows, 2));
        assert!(forest.is_sound(2) && !forest.is_sound(1));
    }

    #[test]
    fn the_mean_path_is_the_published_one() {
        // c(256) = 10.244770920116851 in the authors' reference implementation.
        assert!((expected_path(256) - 10.244_770_920_116_851).abs() < 1e-9);
    }

    #[test]
    fn equal_rows_cannot_be_told_apart() {
        let forest = IsolationForest::fit(&vec![vec![1.0, 2.0]; 50], 1);
        assert!((forest.score(&[1.0, 2.0]) - 0.5).abs() < 1e-9);
        assert_eq!(forest.score(&[9.0, 9.0]), forest.score(&[1.0, 2.0]));
    }
}
