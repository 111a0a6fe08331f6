//! Growing one tree: the leaf with the largest gain is split next, until there are enough leaves.

use super::Settings;
use super::bins::{Binned, MAX_BINS};
use super::tree::Tree;

/// The sums of one bin: first and second derivatives, and rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    gradient: f64,
    hessian: f64,
    rows: u32,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.gradient += other.gradient;
        self.hessian += other.hessian;
        self.rows += other.rows;
    }

    fn minus(&self, other: &Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            hessian: self.hessian - other.hessian,
            rows: self.rows - other.rows,
        }
    }

    /// The loss this group saves by having an answer of its own.
    fn worth(&self, l2: f64) -> f64 {
        self.gradient * self.gradient / (self.hessian + l2 + 1e-12)
    }
}

#[derive(Debug, Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    /// Bins up to this one go left.
    bin: u8,
    left: Sums,
}

/// A leaf that may still be split: its rows are `order[start..end]`.
struct Leaf {
    node: usize,
    start: usize,
    end: usize,
    total: Sums,
    histogram: Vec<Sums>,
    best: Option<Split>,
}

/// Grows trees on one table, reusing its working memory.
pub(super) struct Grower<'a> {
    data: &'a Binned,
    settings: &'a Settings,
    spare: Vec<Vec<Sums>>,
    moved: Vec<u32>,
    ordered: Vec<[f64; 2]>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(data: &'a Binned, settings: &'a Settings) -> Self {
        Self {
            data,
            settings,
            spare: Vec::new(),
            moved: Vec::new(),
            ordered: Vec::new(),
        }
    }

    /// Grows one tree on the given rows and features.
    pub(super) fn grow(
        &mut self,
        gradients: &[[f64; 2]],
        mut order: Vec<u32>,
        features: &[usize],
    ) -> Grown {
        let mut grown = Grown::default();
        let mut total = Sums::default();
        for &row in &order {
            let [gradient, hessian] = gradients[row as usize];
            total.add(&Sums {
                gradient,
                hessian,
                rows: 1,
            });
        }
        let root = grown.push(self.answer(&total));
        let histogram = self.histogram(&order, gradients, features);
        let best = self.best_split(&histogram, &total, features);
        let end = order.len();
        let mut leaves = vec![Leaf {
            node: root,
            start: 0,
            end,
            total,
            histogram,
            best,
        }];
        while leaves.len() < self.settings.leaves {
            let Some(place) = largest_gain(&leaves) else {
                break;
            };
            let leaf = leaves.swap_remove(place);
            let Some(split) = leaf.best else { break };
            let [left, right] =
                self.split(&mut grown, leaf, split, &mut order, gradients, features);
            leaves.push(left);
            leaves.push(right);
        }
        self.spare
            .extend(leaves.into_iter().map(|leaf| leaf.histogram));
        grown
    }

    fn answer(&self, total: &Sums) -> f64 {
        let step = total.gradient / (total.hessian + self.settings.l2 + 1e-12);
        -step * self.settings.learning_rate
    }

    fn split(
        &mut self,
        grown: &mut Grown,
        leaf: Leaf,
        split: Split,
        order: &mut [u32],
        gradients: &[[f64; 2]],
        features: &[usize],
    ) -> [Leaf; 2] {
        let middle = leaf.start + self.partition(&mut order[leaf.start..leaf.end], split);
        let totals = [split.left, leaf.total.minus(&split.left)];
        let answers = [self.answer(&totals[0]), self.answer(&totals[1])];
        let left_node = grown.branch(leaf.node, split, answers);
        let left_is_small = middle - leaf.start <= leaf.end - middle;
        let small = if left_is_small {
            leaf.start..middle
        } else {
            middle..leaf.end
        };
        let small = self.histogram(&order[small], gradients, features);
        // The larger child's histogram is what the smaller one leaves of the parent's.
        let mut large = leaf.histogram;
        for (sums, taken) in large.iter_mut().zip(&small) {
            *sums = sums.minus(taken);
        }
        let histograms = if left_is_small {
            [small, large]
        } else {
            [large, small]
        };
        let ranges = [(leaf.start, middle), (middle, leaf.end)];
        let mut side = 0;
        histograms.map(|histogram| {
            let best = self.best_split(&histogram, &totals[side], features);
            let (start, end) = ranges[side];
            side += 1;
            let node = left_node + side - 1;
            Leaf {
                node,
                start,
                end,
                total: totals[side - 1],
                histogram,
                best,
            }
        })
    }

    /// Sums per bin of each feature over the given rows, always in the order of the rows.
    fn histogram(&mut self, rows: &[u32], gradients: &[[f64; 2]], features: &[usize]) -> Vec<Sums> {
        let mut histogram = self.spare.pop().unwrap_or_default();
        histogram.clear();
        histogram.resize(features.len() * MAX_BINS, Sums::default());
        self.ordered.clear();
        self.ordered
            .extend(rows.iter().map(|&row| gradients[row as usize]));
        for (place, &feature) in features.iter().enumerate() {
            let bins = &mut histogram[place * MAX_BINS..(place + 1) * MAX_BINS];
            let column = &self.data.columns[feature];
            for (&row, &[gradient, hessian]) in rows.iter().zip(&self.ordered) {
                let sums = &mut bins[usize::from(column[row as usize])];
                sums.gradient += gradient;
                sums.hessian += hessian;
                sums.rows += 1;
            }
        }
        histogram
    }

    fn best_split(&self, histogram: &[Sums], total: &Sums, features: &[usize]) -> Option<Split> {
        let least = self.settings.min_leaf_rows as u32;
        let l2 = self.settings.l2;
        let whole = total.worth(l2);
        let mut best: Option<Split> = None;
        if total.rows < 2 * least {
            return None;
        }
        for (place, &feature) in features.iter().enumerate() {
            let bins = &histogram[place * MAX_BINS..(place + 1) * MAX_BINS];
            let mut left = Sums::default();
            for (bin, sums) in bins[..=self.data.edges[feature].len()].iter().enumerate() {
                left.add(sums);
                if sums.rows == 0 || left.rows < least {
                    continue;
                }
                if total.rows - left.rows < least {
                    break;
                }
                let gain = left.worth(l2) + total.minus(&left).worth(l2) - whole;
                if gain > best.map_or(1e-9, |best| best.gain) {
                    best = Some(Split {
                        gain,
                        feature,
                        bin: bin as u8,
                        left,
                    });
                }
            }
        }
        best
    }

    /// Moves the rows that go left to the front, keeping both orders; answers how many there are.
    fn partition(&mut self, rows: &mut [u32], split: Split) -> usize {
        let column = &self.data.columns[split.feature];
        self.moved.clear();
        let mut kept = 0;
        for place in 0..rows.len() {
            let row = rows[place];
            if column[row as usize] <= split.bin {
                rows[kept] = row;
                kept += 1;
            } else {
                self.moved.push(row);
            }
        }
        rows[kept..].copy_from_slice(&self.moved);
        kept
    }
}

fn largest_gain(leaves: &[Leaf]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, leaf) in leaves.iter().enumerate() {
        if let Some(split) = leaf.best
            && best.is_none_or(|(_, gain)| split.gain > gain)
        {
            best = Some((place, split.gain));
        }
    }
    best.map(|(place, _)| place)
}

/// A tree that still speaks in bins.
#[derive(Default)]
pub(super) struct Grown {
    tree: Tree,
    bins: Vec<u8>,
}

impl Grown {
    fn push(&mut self, value: f64) -> usize {
        self.tree.feature.push(0);
        self.tree.threshold.push(0.0);
        self.tree.left.push(0);
        self.tree.value.push(value);
        self.bins.push(0);
        self.bins.len() - 1
    }

    fn branch(&mut self, node: usize, split: Split, answers: [f64; 2]) -> usize {
        let left = self.push(answers[0]);
        self.push(answers[1]);
        self.tree.feature[node] = split.feature as u32;
        self.tree.left[node] = left as u32;
        self.bins[node] = split.bin;
        left
    }

    /// The answer for a row of the training table.
    pub(super) fn answer_of_bins(&self, data: &Binned, row: usize) -> f64 {
        let mut node = 0;
        while self.tree.left[node] != 0 {
            let bin = data.columns[self.tree.feature[node] as usize][row];
            node = self.tree.left[node] as usize + usize::from(bin > self.bins[node]);
        }
        self.tree.value[node]
    }

    /// The same tree over values instead of bins.
    pub(super) fn into_tree(self, data: &Binned) -> Tree {
        let mut tree = self.tree;
        for node in 0..tree.left.len() {
            if tree.left[node] != 0 {
                let edges = &data.edges[tree.feature[node] as usize];
                // Bin 0 alone on the left means "only missing values": no number is that small.
                let edge = usize::from(self.bins[node]).checked_sub(1);
                tree.threshold[node] = edge.map_or(f64::MIN, |edge| edges[edge]);
            }
        }
        tree
    }
}
