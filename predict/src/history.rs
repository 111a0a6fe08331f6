//! What one unit lived through: its metrics on a regular grid, up to its failure or to now.

use serde::{Deserialize, Serialize};

/// The metrics of one unit (an asset, an engine) at equal steps of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitHistory {
    /// Which unit this is; only used to tell units apart.
    pub unit: String,
    /// Milliseconds from one row to the next.
    pub step_ms: i64,
    /// The names of the columns.
    pub metrics: Vec<String>,
    /// One row per step, one value per metric; NaN means "not known".
    pub rows: Vec<Vec<f64>>,
    /// Whether the unit failed at its last row. If not, it still ran when the record ended (censored).
    pub failed: bool,
}

/// Why a history cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// There is nothing to look at.
    #[error("history of unit `{unit}` has no rows")]
    Empty {
        /// The unit.
        unit: String,
    },
    /// A row does not have one value per metric.
    #[error("row {row} of unit `{unit}` has {found} values for {expected} metrics")]
    Ragged {
        /// The unit.
        unit: String,
        /// The row, counted from 0.
        row: usize,
        /// How many values the row has.
        found: usize,
        /// How many metrics the history names.
        expected: usize,
    },
    /// The step is zero or negative.
    #[error("step of unit `{unit}` is {step_ms} ms, not a positive time")]
    Step {
        /// The unit.
        unit: String,
        /// The step found.
        step_ms: i64,
    },
    /// A metric is missing.
    #[error("unit `{unit}` has no metric `{metric}`")]
    UnknownMetric {
        /// The unit.
        unit: String,
        /// The metric asked for.
        metric: String,
    },
}

impl UnitHistory {
    /// Hours from one row to the next.
    pub fn step_hours(&self) -> f64 {
        self.step_ms as f64 / 3_600_000.0
    }

    /// Checks that there are rows, that each has one value per metric, and that time moves on.
    pub fn check(&self) -> Result<(), HistoryError> {
        if self.step_ms <= 0 {
            let unit = self.unit.clone();
            return Err(HistoryError::Step {
                unit,
                step_ms: self.step_ms,
            });
        }
        if self.rows.is_empty() {
            return Err(HistoryError::Empty {
                unit: self.unit.clone(),
            });
        }
        let expected = self.metrics.len();
        match self.rows.iter().position(|row| row.len() != expected) {
            None => Ok(()),
            Some(row) => Err(HistoryError::Ragged {
                unit: self.unit.clone(),
                row,
                found: self.rows[row].len(),
                expected,
            }),
        }
    }

    /// The columns that hold the given metrics, in the given order.
    pub fn columns<S: AsRef<str>>(&self, metrics: &[S]) -> Result<Vec<usize>, HistoryError> {
        let find = |metric: &str| {
            let column = self.metrics.iter().position(|own| own == metric);
            column.ok_or_else(|| HistoryError::UnknownMetric {
                unit: self.unit.clone(),
                metric: metric.to_owned(),
            })
        };
        metrics.iter().map(|metric| find(metric.as_ref())).collect()
    }

    /// The same history with only the given metrics, in the given order.
    pub fn select<S: AsRef<str>>(&self, metrics: &[S]) -> Result<Self, HistoryError> {
        self.check()?;
        let columns = self.columns(metrics)?;
        let pick = |row: &Vec<f64>| columns.iter().map(|&column| row[column]).collect();
        Ok(Self {
            unit: self.unit.clone(),
            step_ms: self.step_ms,
            metrics: metrics
                .iter()
                .map(|metric| metric.as_ref().to_owned())
                .collect(),
            rows: self.rows.iter().map(pick).collect(),
            failed: self.failed,
        })
    }

    /// The first `rows` rows: what was known at that time. A cut-off before the end is not a failure.
    pub fn cut(&self, rows: usize) -> Self {
        let rows = rows.min(self.rows.len());
        Self {
            rows: self.rows[..rows].to_vec(),
            failed: self.failed && rows == self.rows.len(),
            unit: self.unit.clone(),
            step_ms: self.step_ms,
            metrics: self.metrics.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> UnitHistory {
        UnitHistory {
            unit: "fan-1".into(),
            step_ms: 3_600_000,
            metrics: vec!["a".into(), "b".into()],
            rows: vec![vec![1.0, 2.0], vec![3.0, 4.0]],
            failed: true,
        }
    }

    #[test]
    fn a_ragged_row_is_named() {
        let mut bad = history();
        bad.rows[1].pop();
        let message = bad.check().expect_err("ragged").to_string();
        assert_eq!(message, "row 1 of unit `fan-1` has 1 values for 2 metrics");
    }

    #[test]
    fn selecting_reorders_and_names_what_is_missing() {
        let picked = history().select(&["b", "a"]).expect("both exist");
        assert_eq!(picked.rows, vec![vec![2.0, 1.0], vec![4.0, 3.0]]);
        let missing = history().select(&["c"]).expect_err("no c");
        assert_eq!(missing.to_string(), "unit `fan-1` has no metric `c`");
    }

    #[test]
    fn a_cut_before_the_end_is_no_failure() {
        assert!(!history().cut(1).failed);
        assert!(history().cut(2).failed);
    }
}
