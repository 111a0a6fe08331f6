//! A finished ensemble: what it answers, and how much of the answer each feature is responsible for.

use serde::{Deserialize, Serialize};

/// One tree as columns; a node's right child follows its left child.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Tree {
    /// The feature a node asks for.
    pub(super) feature: Vec<u32>,
    /// Values up to this, and missing ones, go left.
    pub(super) threshold: Vec<f64>,
    /// The left child; 0 in a leaf.
    pub(super) left: Vec<u32>,
    /// What the node would answer if it were a leaf.
    pub(super) value: Vec<f64>,
}

impl Tree {
    /// The next node for this row, or nothing in a leaf.
    fn next(&self, node: usize, row: &[f64]) -> Option<usize> {
        let left = self.left[node] as usize;
        if left == 0 {
            return None;
        }
        let goes_right = row[self.feature[node] as usize] > self.threshold[node];
        Some(left + usize::from(goes_right))
    }

    /// Whether every index stays inside and every path goes on, so that walking ends.
    fn is_sound(&self, features: usize) -> bool {
        let nodes = self.value.len();
        let same = [self.feature.len(), self.threshold.len(), self.left.len()];
        nodes > 0
            && same.iter().all(|&len| len == nodes)
            && self.value.iter().all(|value| value.is_finite())
            && (0..nodes).all(|node| {
                let left = self.left[node] as usize;
                let is_split = left > node
                    && left + 1 < nodes
                    && (self.feature[node] as usize) < features
                    && !self.threshold[node].is_nan();
                left == 0 || is_split
            })
    }
}

/// An ensemble of regression trees whose answers add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boosted {
    pub(super) base: f64,
    pub(super) features: usize,
    pub(super) trees: Vec<Tree>,
}

impl Boosted {
    /// The number of features a row must have.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The answer for one row of features.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let leaf = |tree: &Tree| {
            let mut node = 0;
            while let Some(next) = tree.next(node, row) {
                node = next;
            }
            tree.value[node]
        };
        self.trees
            .iter()
            .map(leaf)
            .fold(self.base, |sum, value| sum + value)
    }

    /// The answer of the ensemble before any feature is asked, from which contributions start.
    pub fn mean_answer(&self) -> f64 {
        self.trees
            .iter()
            .map(|tree| tree.value[0])
            .fold(self.base, |sum, value| sum + value)
    }

    /// How much each feature moved the answer away from the mean: along a row's path through a tree,
    /// every step's change of the answer belongs to the feature asked there (Saabas, 2014).
    /// Together with [`Boosted::mean_answer`] they add up to the prediction.
    pub fn contributions(&self, row: &[f64]) -> Vec<f64> {
        let mut credit = vec![0.0; self.features];
        for tree in &self.trees {
            let mut node = 0;
            while let Some(next) = tree.next(node, row) {
                credit[tree.feature[node] as usize] += tree.value[next] - tree.value[node];
                node = next;
            }
        }
        credit
    }

    /// Whether the ensemble can be walked with rows of this many features, whoever wrote it.
    pub(crate) fn is_sound(&self, features: usize) -> bool {
        self.base.is_finite()
            && self.features == features
            && self.trees.iter().all(|tree| tree.is_sound(features))
    }
}
