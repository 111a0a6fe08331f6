//! Every history, cut off at many points of its life: the rows a failure model learns from.

use super::features::FeaturePlan;
use super::training::TrainError;
use crate::calibrate::survival::Survival;
use crate::history::UnitHistory;
use crate::rng::Rng;

/// Most cut-offs a table has; longer records are thinned evenly.
const MOST_CUT_OFFS: usize = 20_000;

/// Inverse-probability weights are held below this, so that a few late units cannot rule the fit.
const MOST_WEIGHT: f64 = 20.0;

/// Features and facts of every cut-off, the features column by column.
pub(super) struct Table {
    pub(super) columns: Vec<Vec<f64>>,
    /// The unit of each cut-off.
    pub(super) units: Vec<u32>,
    /// Hours from each cut-off to the unit's last row.
    pub(super) left_hours: Vec<f64>,
    /// Whether that last row is a failure; if not, the unit lasts longer than `left_hours`.
    pub(super) failed: Vec<bool>,
    /// Hours from one cut-off of a unit to the next.
    pub(super) step_hours: f64,
}

/// What is known about failing within a horizon, per cut-off.
pub(super) struct Labels {
    /// 1 if the unit failed within the horizon.
    pub(super) values: Vec<f64>,
    /// 0 where nobody knows.
    pub(super) weights: Vec<f64>,
    /// How many neighbouring cut-offs see the same span of one horizon's length.
    pub(super) overlap: f64,
}

impl Table {
    pub(super) fn build(
        units: &[UnitHistory],
        plan: &FeaturePlan,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let cut_offs = |unit: &UnitHistory| unit.rows.len() + 1 - unit.rows.len().min(plan.window);
        let total: usize = units.iter().map(cut_offs).sum();
        let stride = total.div_ceil(MOST_CUT_OFFS).max(1);
        let mut table = Self {
            columns: vec![Vec::with_capacity(total / stride + 1); plan.len()],
            units: Vec::new(),
            left_hours: Vec::new(),
            failed: Vec::new(),
            step_hours: stride as f64 * units.first().map_or(1.0, UnitHistory::step_hours),
        };
        let mut features = Vec::with_capacity(plan.len());
        for (number, unit) in units.iter().enumerate() {
            let columns = unit.columns(&plan.metrics)?;
            // Thinned records start at different phases, or all would miss the same hours of life.
            let phase = Rng::for_part(seed, number as u64).below(stride.min(cut_offs(unit)));
            for left in (phase..cut_offs(unit)).step_by(stride) {
                features.clear();
                plan.extract(&unit.rows, unit.rows.len() - left, &columns, &mut features);
                for (column, &feature) in table.columns.iter_mut().zip(&features) {
                    column.push(feature);
                }
                table.units.push(number as u32);
                table.left_hours.push(left as f64 * unit.step_hours());
                table.failed.push(unit.failed);
            }
        }
        Ok(table)
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// The features of one cut-off.
    pub(super) fn row(&self, row: usize) -> Vec<f64> {
        self.columns.iter().map(|column| column[row]).collect()
    }

    /// Who failed within `hours` of each cut-off.
    ///
    /// Where the record ended first, nobody knows. Leaving those out would favour units that failed,
    /// so the others stand in for them: each counts by the inverse of its chance of being followed
    /// that long (inverse probability of censoring weights, Robins and Finkelstein, 2000).
    pub(super) fn labels(&self, hours: f64) -> Labels {
        let ends = self.left_hours.iter().zip(&self.failed);
        let ends: Vec<(f64, bool)> = ends.map(|(&left, &failed)| (left, !failed)).collect();
        let followed = Survival::fit(&ends);
        let weight = |time: f64| (1.0 / followed.before(time).max(1e-12)).min(MOST_WEIGHT);
        let label = |row: usize| {
            let left = self.left_hours[row];
            match self.failed[row] {
                true if left <= hours => (1.0, weight(left)),
                _ if left >= hours => (0.0, weight(hours)),
                _ => (0.0, 0.0),
            }
        };
        let (values, weights) = (0..self.len()).map(label).unzip();
        let overlap = (hours / self.step_hours).max(1.0);
        Labels {
            values,
            weights,
            overlap,
        }
    }
}

/// Gives every unit a fold, failed and running units spread evenly.
pub(super) fn folds(units: &[UnitHistory], count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..units.len()).collect();
    Rng::for_part(seed, u64::MAX).shuffle(&mut order);
    order.sort_by_key(|&unit| !units[unit].failed);
    let mut folds = vec![0; units.len()];
    for (place, unit) in order.into_iter().enumerate() {
        folds[unit] = place % count;
    }
    folds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(rows: usize, failed: bool) -> UnitHistory {
        UnitHistory {
            unit: "u".into(),
            step_ms: 3_600_000,
            metrics: vec!["a".into()],
            rows: (0..rows).map(|row| vec![row as f64]).collect(),
            failed,
        }
    }

    fn table(units: &[UnitHistory], window: usize) -> Table {
        let plan = FeaturePlan {
            window,
            metrics: vec!["a".into()],
        };
        Table::build(units, &plan, 1).expect("metric exists")
    }

    #[test]
    fn cut_offs_start_with_a_full_window_and_short_units_have_one() {
        let table = table(&[unit(10, true), unit(2, true)], 4);
        assert_eq!(table.len(), 7 + 1);
        assert_eq!(table.left_hours[6], 6.0);
        assert_eq!(table.columns[0][6], 3.0);
    }

    #[test]
    fn long_records_are_thinned() {
        let table = table(&[unit(50_000, true), unit(10, true)], 5);
        assert!(table.len() <= MOST_CUT_OFFS);
        assert!(table.units.contains(&1));
    }

    #[test]
    fn a_running_unit_is_unknown_only_near_its_end_and_others_stand_in() {
        let table = table(&[unit(20, true), unit(20, false)], 1);
        let labels = table.labels(5.0);
        // The failed unit: hours 0..=5 before the end are positive.
        assert_eq!(labels.values[..20].iter().sum::<f64>(), 6.0);
        assert!(labels.weights[..20].iter().all(|&weight| weight >= 1.0));
        // The running unit: the last five hours are unknown, the rest are negative.
        let unknown = labels.weights[20..]
            .iter()
            .filter(|&&weight| weight == 0.0)
            .count();
        assert_eq!(unknown, 5);
        assert_eq!(labels.values[20..].iter().sum::<f64>(), 0.0);
        // Weights restore the table's size, up to the steps of the estimate.
        let total: f64 = labels.weights.iter().sum();
        assert!((total - 40.0).abs() < 4.0, "{total}");
    }

    #[test]
    fn folds_spread_failures_evenly() {
        let units: Vec<_> = (0..20).map(|number| unit(3, number < 5)).collect();
        let folds = folds(&units, 5, 9);
        let mut failed: Vec<_> = folds[..5].to_vec();
        failed.sort_unstable();
        assert_eq!(failed, [0, 1, 2, 3, 4]);
    }
}
