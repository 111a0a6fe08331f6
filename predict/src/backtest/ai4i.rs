//! Failure probability of machine states (AI4I 2020) under protocol A1, and the data's reader.
//!
//! The boosted trees and the calibration are the failure model's; only the nine features are fixed by
//! the protocol instead of coming from windows, because the rows of this data have no past.

use std::io::{self, BufRead};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::calibrate::beta::BetaCurve;
use crate::calibrate::reliability::{Reliability, reliability};
use crate::gbdt::{Binned, Boosted, Objective, Settings, Targets, train};

const FOLDS: usize = 5;
const COLUMNS: usize = 14;

/// Machine states: nine features each, and whether the machine failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Machines {
    /// Air and process temperature, speed, torque, wear, type, and the three physics products: the
    /// columns of the table.
    pub columns: Vec<Vec<f64>>,
    /// 1 if the machine failed.
    pub failed: Vec<f64>,
}

/// Why the data cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The source cannot be read.
    #[error("failed to read the machine states")]
    Read(#[from] io::Error),
    /// A line is not what the format says.
    #[error("machine states, line {line}, column {column}: {problem}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
}

/// Parses `ai4i2020.csv`. The failure modes are the answer and are not read as features.
pub fn parse(reader: impl BufRead) -> Result<Machines, DataError> {
    let mut machines = Machines {
        columns: vec![Vec::new(); 9],
        failed: Vec::new(),
    };
    for (number, text) in reader.lines().enumerate().skip(1) {
        let text = text?;
        if text.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = text.trim_end().split(',').collect();
        let wrong = |column: usize, problem: String| DataError::Line {
            line: number + 1,
            column,
            problem,
        };
        if fields.len() != COLUMNS {
            let problem = format!("{} columns, expected {COLUMNS}", fields.len());
            return Err(wrong(fields.len(), problem));
        }
        let kind = match fields[2] {
            "L" => 0.0,
            "M" => 1.0,
            "H" => 2.0,
            other => return Err(wrong(3, format!("`{other}` is not L, M or H"))),
        };
        let read = |column: usize| match fields[column].parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(wrong(
                column + 1,
                format!("`{}` is not a number", fields[column]),
            )),
        };
        let [air, process, speed, torque, wear] =
            [read(3)?, read(4)?, read(5)?, read(6)?, read(7)?];
        let products = [process - air, speed * torque, wear * torque];
        let features = [air, process, speed, torque, wear, kind]
            .into_iter()
            .chain(products);
        for (column, feature) in machines.columns.iter_mut().zip(features) {
            column.push(feature);
        }
        machines.failed.push(f64::from(read(8)? > 0.0));
    }
    Ok(machines)
}

/// What protocol A1 prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Brier score, skill and calibration of the out-of-fold probabilities.
    pub reliability: Reliability,
    /// Failures observed per failure predicted in the tenth of rows with the highest probability.
    pub top_decile: f64,
}

/// Runs protocol A1: five stratified folds, calibration inside the training folds.
pub fn run(machines: &Machines, seed: u64) -> Report {
    let fold = stratified(&machines.failed, |_| true);
    let answer = |number: usize| {
        let known = |row: &usize| fold[*row] != number;
        let rows: Vec<usize> = (0..fold.len()).filter(known).collect();
        let answer = calibrated(machines, &rows, seed.wrapping_add(number as u64));
        let asked: Vec<usize> = (0..fold.len()).filter(|&row| fold[row] == number).collect();
        asked
            .into_iter()
            .map(|row| (row, answer(&features(machines, row))))
            .collect::<Vec<_>>()
    };
    let answers: Vec<Vec<(usize, f64)>> = (0..FOLDS).into_par_iter().map(answer).collect();
    let mut pairs: Vec<(f64, f64, f64)> = answers
        .into_iter()
        .flatten()
        .map(|(row, probability)| (probability, machines.failed[row], 1.0))
        .collect();
    let reliability = reliability(&pairs, 10);
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs.truncate(pairs.len() / 10);
    let observed: f64 = pairs.iter().map(|pair| pair.1).sum();
    let predicted: f64 = pairs.iter().map(|pair| pair.0).sum();
    Report {
        reliability,
        top_decile: if predicted > 0.0 {
            observed / predicted
        } else {
            0.0
        },
    }
}

/// Numbers the rows of each class from 0 in order; the fold is that number modulo [`FOLDS`].
fn stratified(failed: &[f64], keep: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut seen = [0; 2];
    let fold = |(row, &failed): (usize, &f64)| {
        if !keep(row) {
            return FOLDS;
        }
        let class = usize::from(failed > 0.0);
        seen[class] += 1;
        (seen[class] - 1) % FOLDS
    };
    failed.iter().enumerate().map(fold).collect()
}

fn features(machines: &Machines, row: usize) -> Vec<f64> {
    machines.columns.iter().map(|column| column[row]).collect()
}

/// Trees on the given rows, and a curve from folds within those rows.
fn calibrated(machines: &Machines, rows: &[usize], seed: u64) -> impl Fn(&[f64]) -> f64 {
    let mut is_known = vec![false; machines.failed.len()];
    rows.iter().for_each(|&row| is_known[row] = true);
    let inner = stratified(&machines.failed, |row| is_known[row]);
    let mut examples = Vec::with_capacity(rows.len());
    for number in 0..FOLDS {
        let part: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|&row| inner[row] != number)
            .collect();
        let trees = grow(machines, &part, seed);
        for &row in rows.iter().filter(|&&row| inner[row] == number) {
            examples.push((
                trees.predict(&features(machines, row)),
                machines.failed[row],
                1.0,
            ));
        }
    }
    let curve = BetaCurve::fit(&examples, 1.0);
    let trees = grow(machines, rows, seed);
    move |features| curve.probability(trees.predict(features))
}

fn grow(machines: &Machines, rows: &[usize], seed: u64) -> Boosted {
    let pick = |column: &Vec<f64>| rows.iter().map(|&row| column[row]).collect::<Vec<f64>>();
    let columns: Vec<Vec<f64>> = machines.columns.iter().map(pick).collect();
    let values = pick(&machines.failed);
    let weights = vec![1.0; rows.len()];
    let data = Binned::new(&columns);
    let targets = Targets {
        values: &values,
        weights: &weights,
        at_least: &[],
    };
    let settings = Settings {
        trees: 150,
        learning_rate: 0.06,
        min_leaf_rows: 5,
        l2: 0.1,
        ..Settings::default()
    };
    train(&data, &targets, Objective::LogOdds, &settings, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "UID,Product ID,Type,Air,Process,Speed,Torque,Wear,Machine failure,a,b,c,d,e\n";

    #[test]
    fn products_are_added_and_bad_lines_named() {
        let good = format!("{HEAD}1,M1,M,298.0,308.5,1500,40,10,1,0,0,0,0,0\n");
        let machines = parse(good.as_bytes()).expect("well formed");
        let row: Vec<f64> = features(&machines, 0);
        assert_eq!(row[5..], [1.0, 10.5, 60_000.0, 400.0]);
        assert_eq!(machines.failed, [1.0]);
        let bad = good.replace("1500", "fast");
        let message = parse(bad.as_bytes()).expect_err("no number").to_string();
        assert_eq!(
            message,
            "machine states, line 2, column 6: `fast` is not a number"
        );
    }
}
