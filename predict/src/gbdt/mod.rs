//! Histogram gradient boosting: our own, small, and the same bytes for any number of threads.
//!
//! Leaf-wise trees over binned features with second-order gains, as in `LightGBM` (Ke et al.,
//! 2017) and scikit-learn's `HistGradientBoosting`. One ensemble is grown by one thread in a fixed
//! order; parallelism lies above, between ensembles.

mod bins;
mod grow;
mod tree;

pub use bins::Binned;
pub use tree::Boosted;

use crate::rng::Rng;
use grow::Grower;

/// How an ensemble is grown.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Number of trees.
    pub trees: usize,
    /// Share of each tree's answer that is kept.
    pub learning_rate: f64,
    /// Most leaves per tree.
    pub leaves: usize,
    /// Fewest rows per leaf.
    pub min_leaf_rows: usize,
    /// Ridge penalty on leaf values.
    pub l2: f64,
    /// Share of the rows each tree sees, in (0, 1].
    pub row_share: f64,
    /// Share of the features each tree sees, in (0, 1].
    pub feature_share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trees: 300,
            learning_rate: 0.03,
            leaves: 15,
            min_leaf_rows: 20,
            l2: 1.0,
            row_share: 1.0,
            feature_share: 1.0,
        }
    }
}

/// What an ensemble learns to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// The mean of the target: squared error.
    Mean,
    /// The log-odds of a 0/1 target: logistic loss.
    LogOdds,
}

/// What is known of each training row.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The target of each row.
    pub values: &'a [f64],
    /// How much each row counts; rows of weight 0 are not looked at.
    pub weights: &'a [f64],
    /// Rows whose target is only a lower bound (censored): they pull a prediction up to the bound and
    /// never down. May be empty if there are none.
    pub at_least: &'a [bool],
}

/// Grows an ensemble on all rows of `data` that have a weight.
pub fn train(
    data: &Binned,
    targets: &Targets<'_>,
    objective: Objective,
    settings: &Settings,
    seed: u64,
) -> Boosted {
    let rows: Vec<u32> = (0..data.rows as u32)
        .filter(|&row| targets.weights[row as usize] > 0.0)
        .collect();
    let base = base_score(targets, &rows, objective);
    let mut boosted = Boosted {
        base,
        features: data.columns.len(),
        trees: Vec::new(),
    };
    if rows.len() < 2 * settings.min_leaf_rows || !is_varied(targets.values, &rows) {
        return boosted;
    }
    let mut rng = Rng::new(seed);
    let mut scores = vec![base; data.rows];
    let mut gradients = vec![[0.0; 2]; data.rows];
    let mut grower = Grower::new(data, settings);
    for _ in 0..settings.trees {
        for &row in &rows {
            let row = row as usize;
            gradients[row] = gradient(targets, row, scores[row], objective);
        }
        let sampled = sample_rows(&rows, settings.row_share, &mut rng);
        let features = sample_features(data.columns.len(), settings.feature_share, &mut rng);
        let grown = grower.grow(&gradients, sampled, &features);
        for &row in &rows {
            scores[row as usize] += grown.answer_of_bins(data, row as usize);
        }
        boosted.trees.push(grown.into_tree(data));
    }
    boosted
}

/// The best constant answer.
fn base_score(targets: &Targets<'_>, rows: &[u32], objective: Objective) -> f64 {
    let mut total = 0.0;
    let mut weight = 0.0;
    for &row in rows {
        total += targets.weights[row as usize] * targets.values[row as usize];
        weight += targets.weights[row as usize];
    }
    let mean = if weight > 0.0 { total / weight } else { 0.0 };
    match objective {
        Objective::Mean => mean,
        Objective::LogOdds => {
            // Half an observation of either kind keeps a one-sided set finite.
            let share = (mean * weight + 0.5) / (weight + 1.0);
            (share / (1.0 - share)).ln()
        }
    }
}

fn is_varied(values: &[f64], rows: &[u32]) -> bool {
    let mut values = rows.iter().map(|&row| values[row as usize]);
    let first = values.next();
    values.any(|value| Some(value) != first)
}

/// First and second derivative of the loss of one row.
fn gradient(targets: &Targets<'_>, row: usize, score: f64, objective: Objective) -> [f64; 2] {
    let weight = targets.weights[row];
    let target = targets.values[row];
    match objective {
        Objective::Mean => {
            let satisfied = score >= target && targets.at_least.get(row) == Some(&true);
            if satisfied {
                [0.0, 0.0]
            } else {
                [weight * (score - target), weight]
            }
        }
        Objective::LogOdds => {
            let share = sigmoid(score);
            [
                weight * (share - target),
                weight * (share * (1.0 - share)).max(1e-12),
            ]
        }
    }
}

/// The probability that belongs to log-odds.
pub fn sigmoid(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

fn sample_rows(rows: &[u32], share: f64, rng: &mut Rng) -> Vec<u32> {
    if share >= 1.0 {
        return rows.to_vec();
    }
    rows.iter()
        .copied()
        .filter(|_| rng.uniform() < share)
        .collect()
}

fn sample_features(count: usize, share: f64, rng: &mut Rng) -> Vec<usize> {
    let mut features: Vec<usize> = (0..count).collect();
    if share < 1.0 {
        rng.shuffle(&mut features);
        features.truncate(((count as f64 * share).ceil() as usize).max(1));
        features.sort_unstable();
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = 3·[a > 0.5] + b on a grid, with a useless third column.
    fn example(rows: usize) -> (Vec<Vec<f64>>, Vec<f64>) {
        let mut rng = Rng::new(5);
        let columns: Vec<Vec<f64>> = (0..3)
            .map(|_| (0..rows).map(|_| rng.uniform()).collect())
            .collect();
        let target = |row: usize| 3.0 * f64::from(columns[0][row] > 0.5) + columns[1][row];
        let values = (0..rows).map(target).collect();
        (columns, values)
    }

    fn row_of(columns: &[Vec<f64>], row: usize) -> Vec<f64> {
        columns.iter().map(|column| column[row]).collect()
    }

    #[test]
    fn a_step_and_a_slope_are_learnt_and_credited_to_their_columns() {
        let (columns, values) = example(2000);
        let data = Binned::new(&columns);
        let weights = vec![1.0; values.len()];
        let targets = Targets {
            values: &values,
            weights: &weights,
            at_least: &[],
        };
        let settings = Settings {
            learning_rate: 0.1,
            ..Settings::default()
        };
        let model = train(&data, &targets, Objective::Mean, &settings, 1);
        let mut worst = 0.0_f64;
        // Beside the step itself, where a bin holds rows of both sides.
        let clear = |row: &usize| (columns[0][*row] - 0.5).abs() > 0.01;
        for row in (0..values.len()).filter(clear) {
            let error = model.predict(&row_of(&columns, row)) - values[row];
            worst = worst.max(error.abs());
        }
        assert!(worst < 0.35, "{worst}");
        let row = row_of(&columns, 3);
        let credit = model.contributions(&row);
        let total = model.mean_answer() + credit.iter().sum::<f64>();
        assert!((total - model.predict(&row)).abs() < 1e-9);
        assert!(credit[0].abs() > 10.0 * credit[2].abs());
    }

    #[test]
    fn a_lower_bound_pulls_up_and_never_down() {
        let columns = vec![(0..400).map(|row| f64::from(row % 2)).collect::<Vec<f64>>()];
        // Even rows: known to be 10. Odd rows: half known to be 10, half "at least 2" (no news).
        let values: Vec<f64> = (0..400)
            .map(|row| if row % 4 == 3 { 2.0 } else { 10.0 })
            .collect();
        let at_least: Vec<bool> = (0..400).map(|row| row % 4 == 3).collect();
        let weights = vec![1.0; 400];
        let data = Binned::new(&columns);
        let settings = Settings {
            l2: 0.0,
            learning_rate: 0.3,
            ..Settings::default()
        };
        let censored = Targets {
            values: &values,
            weights: &weights,
            at_least: &at_least,
        };
        let naive = Targets {
            values: &values,
            weights: &weights,
            at_least: &[],
        };
        let fair = train(&data, &censored, Objective::Mean, &settings, 1);
        let fooled = train(&data, &naive, Objective::Mean, &settings, 1);
        assert!((fair.predict(&[1.0]) - 10.0).abs() < 0.01);
        assert!((fooled.predict(&[1.0]) - 6.0).abs() < 0.01);
    }

    #[test]
    fn log_odds_recover_a_known_share() {
        let columns = vec![
            (0..1000)
                .map(|row| f64::from(row % 2))
                .collect::<Vec<f64>>(),
        ];
        // Column 0 → share 0.1, column 1 → share 0.7.
        let values: Vec<f64> = (0..1000)
            .map(|row| {
                let place = row / 2 % 10;
                f64::from(place < if row % 2 == 0 { 1 } else { 7 })
            })
            .collect();
        let weights = vec![1.0; 1000];
        let targets = Targets {
            values: &values,
            weights: &weights,
            at_least: &[],
        };
        let settings = Settings {
            l2: 0.0,
            ..Settings::default()
        };
        let model = train(
            &Binned::new(&columns),
            &targets,
            Objective::LogOdds,
            &settings,
            1,
        );
        assert!((sigmoid(model.predict(&[0.0])) - 0.1).abs() < 0.005);
        assert!((sigmoid(model.predict(&[1.0])) - 0.7).abs() < 0.005);
    }

    #[test]
    fn missing_values_and_one_sided_targets_are_no_trouble() {
        let columns = vec![vec![f64::NAN; 100], (0..100).map(f64::from).collect()];
        let weights = vec![1.0; 100];
        let ones = vec![1.0; 100];
        let targets = Targets {
            values: &ones,
            weights: &weights,
            at_least: &[],
        };
        let settings = Settings::default();
        let model = train(
            &Binned::new(&columns),
            &targets,
            Objective::LogOdds,
            &settings,
            1,
        );
        assert!(sigmoid(model.predict(&[f64::NAN, f64::NAN])) > 0.99);
    }
}
