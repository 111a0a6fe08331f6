//! Remaining life on NASA's turbofan data (C-MAPSS FD001) under protocol C1, and the data's reader.
//!
//! One cycle counts as one hour. Engines of the training file run to failure; engines of the test file
//! are cut off, and a third file holds the cycles they had left.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Progress;
use crate::failure::{Evaluation, FailureModel, ScoreError, TrainError, Training, phm, rmse};
use crate::history::{HistoryError, UnitHistory};

/// The sensors protocol C1 reads; the others do not change in FD001.
pub const C1_SENSORS: [&str; 14] = [
    "sensor_2",
    "sensor_3",
    "sensor_4",
    "sensor_7",
    "sensor_8",
    "sensor_9",
    "sensor_11",
    "sensor_12",
    "sensor_13",
    "sensor_14",
    "sensor_15",
    "sensor_17",
    "sensor_20",
    "sensor_21",
];

/// The life beyond which protocol C1 does not tell engines apart.
pub const C1_CAP: f64 = 125.0;

const COLUMNS: usize = 26;
const CYCLE_MS: i64 = 3_600_000;

/// The turbofan data.
#[derive(Debug, Clone, PartialEq)]
pub struct Turbofans {
    /// Engines that ran to failure.
    pub train: Vec<UnitHistory>,
    /// Engines that were cut off before they failed.
    pub test: Vec<UnitHistory>,
    /// The cycles each engine of `test` had left after its last row.
    pub left: Vec<f64>,
}

/// Why the data cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A line is not what the format says.
    #[error("{file}, line {line}, column {column}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The column of the table, counted from 1.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// Engines and remaining lives do not match.
    #[error("{engines} test engines but {lives} remaining lives")]
    Lives {
        /// Engines in the test file.
        engines: usize,
        /// Lines in the file of remaining lives.
        lives: usize,
    },
}

/// Why the protocol did not finish.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The histories lack a sensor.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Scoring failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// What protocol C1 prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// RMSE with the true life capped at 125 cycles.
    pub rmse_capped: f64,
    /// RMSE with the true life as it is.
    pub rmse_raw: f64,
    /// Sum of the PHM'08 scores, true life capped.
    pub phm_capped: f64,
    /// Sum of the PHM'08 scores, true life as it is.
    pub phm_raw: f64,
    /// Test engines.
    pub engines: usize,
    /// What folds over the training engines had said before.
    pub evaluation: Evaluation,
}

/// Reads `train_FD001.txt`, `test_FD001.txt` and `RUL_FD001.txt` from a folder.
pub fn load(folder: &Path) -> Result<Turbofans, DataError> {
    let open = |name: &str| {
        let path = folder.join(name);
        match File::open(&path) {
            Ok(file) => Ok(BufReader::new(file)),
            Err(source) => Err(DataError::Read { path, source }),
        }
    };
    let train = parse_engines(open("train_FD001.txt")?, "train_FD001.txt", true)?;
    let test = parse_engines(open("test_FD001.txt")?, "test_FD001.txt", false)?;
    let left = parse_lives(open("RUL_FD001.txt")?, "RUL_FD001.txt")?;
    if test.len() != left.len() {
        return Err(DataError::Lives {
            engines: test.len(),
            lives: left.len(),
        });
    }
    Ok(Turbofans { train, test, left })
}

/// Parses a table of engines; `failed` says whether each ran to failure. `name` is for messages.
pub fn parse_engines(
    reader: impl BufRead,
    name: &str,
    failed: bool,
) -> Result<Vec<UnitHistory>, DataError> {
    let settings = (1..=3).map(|number| format!("setting_{number}"));
    let metrics: Vec<String> = settings
        .chain((1..=21).map(|number| format!("sensor_{number}")))
        .collect();
    let mut engines: Vec<UnitHistory> = Vec::new();
    each_line(reader, name, |line, values| {
        let wrong = |column: usize, problem: String| {
            Err(DataError::Line {
                file: name.to_owned(),
                line,
                column,
                problem,
            })
        };
        if values.len() != COLUMNS {
            return wrong(
                values.len(),
                format!("{} columns, expected {COLUMNS}", values.len()),
            );
        }
        let unit = format!("engine-{}", values[0]);
        if engines.last().is_none_or(|engine| engine.unit != unit) {
            if engines.iter().any(|engine| engine.unit == unit) {
                return wrong(1, format!("engine {} appears again", values[0]));
            }
            let (metrics, rows) = (metrics.clone(), Vec::new());
            engines.push(UnitHistory {
                unit,
                step_ms: CYCLE_MS,
                metrics,
                rows,
                failed,
            });
        }
        let Some(engine) = engines.last_mut() else {
            return Ok(());
        };
        let expected = engine.rows.len() + 1;
        if values[1] != expected as f64 {
            return wrong(
                2,
                format!("cycle {} where {expected} should follow", values[1]),
            );
        }
        engine.rows.push(values[2..].to_vec());
        Ok(())
    })?;
    Ok(engines)
}

/// Parses remaining lives, one number per line. `name` is for messages.
pub fn parse_lives(reader: impl BufRead, name: &str) -> Result<Vec<f64>, DataError> {
    let mut lives = Vec::new();
    each_line(reader, name, |line, values| match values {
        &[life] if life >= 0.0 => {
            lives.push(life);
            Ok(())
        }
        _ => {
            let problem = "expected one number that is not negative".to_owned();
            Err(DataError::Line {
                file: name.to_owned(),
                line,
                column: 1,
                problem,
            })
        }
    })?;
    Ok(lives)
}

/// Hands over the numbers of every line that is not blank.
fn each_line(
    mut reader: impl BufRead,
    name: &str,
    mut take: impl FnMut(usize, &[f64]) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut text = String::new();
    let mut values = Vec::new();
    for line in 1.. {
        text.clear();
        let read = reader.read_line(&mut text);
        let path = || PathBuf::from(name);
        if read.map_err(|source| DataError::Read {
            path: path(),
            source,
        })? == 0
        {
            break;
        }
        values.clear();
        for (column, field) in text.split_ascii_whitespace().enumerate() {
            match field.parse::<f64>() {
                Ok(value) if value.is_finite() => values.push(value),
                _ => {
                    let problem = format!("`{field}` is not a number");
                    let file = name.to_owned();
                    return Err(DataError::Line {
                        file,
                        line,
                        column: column + 1,
                        problem,
                    });
                }
            }
        }
        if !values.is_empty() {
            take(line, &values)?;
        }
    }
    Ok(())
}

/// Runs protocol C1: trains on the engines that failed, predicts the others from their last window.
pub fn run(data: &Turbofans, seed: u64, progress: Progress<'_>) -> Result<Report, ProtocolError> {
    let pick = |units: &[UnitHistory]| {
        units
            .iter()
            .map(|unit| unit.select(&C1_SENSORS))
            .collect::<Result<Vec<_>, _>>()
    };
    let training = Training {
        window: 30,
        cap: C1_CAP,
        seed,
        ..Training::default()
    };
    let (model, evaluation) = FailureModel::train(&pick(&data.train)?, &training, progress)?;
    let mut pairs = Vec::with_capacity(data.test.len());
    for (unit, &left) in pick(&data.test)?.iter().zip(&data.left) {
        pairs.push((model.expected_life_hours(unit)?, left));
    }
    let capped = || {
        pairs
            .iter()
            .map(|&(predicted, left)| (predicted, left.min(C1_CAP)))
    };
    Ok(Report {
        rmse_capped: rmse(capped()),
        rmse_raw: rmse(pairs.iter().copied()),
        phm_capped: phm(capped()),
        phm_raw: phm(pairs.iter().copied()),
        engines: pairs.len(),
        evaluation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(edit: impl Fn(&mut Vec<Vec<String>>)) -> Result<Vec<UnitHistory>, DataError> {
        let mut rows: Vec<Vec<String>> = [(1, 1), (1, 2), (2, 1)]
            .map(|(unit, cycle)| {
                let rest = (2..COLUMNS).map(|column| format!("{column}.5"));
                [format!("{unit}"), format!("{cycle}")]
                    .into_iter()
                    .chain(rest)
                    .collect()
            })
            .into();
        edit(&mut rows);
        let text: String = rows.iter().map(|row| row.join(" ") + "  \n").collect();
        parse_engines(text.as_bytes(), "t.txt", true)
    }

    #[test]
    fn engines_are_told_apart() {
        let engines = table(|_| {}).expect("well formed");
        assert_eq!(engines.len(), 2);
        assert_eq!(engines[0].rows.len(), 2);
        assert_eq!(engines[0].metrics[3], "sensor_1");
        assert_eq!(engines[0].rows[0][3], 5.5);
    }

    #[test]
    fn bad_lines_are_named() {
        type Edit = fn(&mut Vec<Vec<String>>);
        let cases: [(Edit, &str); 4] = [
            (
                |rows| rows[1][4] = "x".into(),
                "t.txt, line 2, column 5: `x` is not a number",
            ),
            (
                |rows| rows[2].truncate(9),
                "t.txt, line 3, column 9: 9 columns, expected 26",
            ),
            (
                |rows| rows[1][1] = "7".into(),
                "t.txt, line 2, column 2: cycle 7 where 2 should follow",
            ),
            (
                |rows| rows.push(rows[0].clone()),
                "t.txt, line 4, column 1: engine 1 appears again",
            ),
        ];
        for (edit, message) in cases {
            assert_eq!(table(edit).expect_err("broken").to_string(), message);
        }
        let error = parse_lives(&b"3\n-1\n"[..], "r.txt")
            .expect_err("negative")
            .to_string();
        assert_eq!(
            error,
            "r.txt, line 2, column 1: expected one number that is not negative"
        );
    }
}
