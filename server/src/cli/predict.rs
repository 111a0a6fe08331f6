//! `forewright predict`: the numbers, without a server.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ::predict::backtest::{ai4i, cmapss};
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::output::{self, Progress};

/// The numbers, without a server.
#[derive(Debug, Subcommand)]
pub enum Predict {
    /// Run the pinned protocol of a public data set.
    Evaluate(Evaluate),
}

/// Run the pinned protocol of a public data set and print its figures beside the reference.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// The data set.
    #[arg(long, value_enum)]
    dataset: Dataset,
    /// The folder of the data set, or the folder above it.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Seed of the models.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dataset {
    /// Turbofan engines, C-MAPSS FD001: remaining life by protocol C1.
    Cmapss,
    /// Machine states, AI4I 2020: failure probability by protocol A1.
    Ai4i,
    #[value(hide = true)]
    Nab,
    #[value(hide = true)]
    Smd,
    #[value(hide = true)]
    Asd,
}

/// The result of a protocol.
#[derive(Debug, Serialize)]
struct Document<R> {
    dataset: &'static str,
    protocol: &'static str,
    seed: u64,
    /// The protocol's figures, as the rows below name them.
    columns: &'static [&'static str],
    figures: Vec<f64>,
    /// Published figures of the same protocol.
    reference: &'static [Reference],
    /// Everything the protocol measured.
    report: R,
}

/// The figures of another model under the same protocol.
#[derive(Debug, Serialize)]
struct Reference {
    model: &'static str,
    figures: &'static [f64],
}

const C1_COLUMNS: [&str; 4] = ["RMSE capped", "RMSE raw", "PHM capped", "PHM raw"];
const C1_DIGITS: [usize; 4] = [2, 2, 0, 0];
const C1_REFERENCE: [Reference; 2] = [
    Reference {
        model: "reference: gradient boosting, scikit-learn",
        figures: &[11.58, 12.90, 204.0, 233.0],
    },
    Reference {
        model: "reference: ridge regression",
        figures: &[14.75, 16.08, 367.0, 412.0],
    },
];

const A1_COLUMNS: [&str; 4] = ["Brier", "skill", "ECE10", "top decile obs/pred"];
const A1_DIGITS: [usize; 4] = [4, 3, 4, 2];
const A1_REFERENCE: [Reference; 2] = [
    Reference {
        model: "reference: random forest, scikit-learn",
        figures: &[0.0067, 0.795, 0.0012, 0.99],
    },
    Reference {
        model: "reference: gradient boosting, scikit-learn",
        figures: &[0.0079, 0.760, 0.0027, 1.04],
    },
];

impl Predict {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let Self::Evaluate(evaluate) = self;
        evaluate.run()
    }
}

impl Evaluate {
    fn run(self) -> anyhow::Result<()> {
        match self.dataset {
            Dataset::Cmapss => self.cmapss(),
            Dataset::Ai4i => self.ai4i(),
            Dataset::Nab | Dataset::Smd | Dataset::Asd => {
                let value = self.dataset.to_possible_value();
                let name = value.as_ref().map_or("", |value| value.get_name());
                bail!(
                    "the protocols of data set `{name}` are not in this version yet; there are \
                     those of `cmapss` and `ai4i`"
                )
            }
        }
    }

    fn cmapss(&self) -> anyhow::Result<()> {
        let files = ["train_FD001.txt", "test_FD001.txt", "RUL_FD001.txt"];
        let data = cmapss::load(&folder(&self.data, "cmapss", &files)?)?;
        let (train, test) = (data.train.len(), data.test.len());
        let what = format!("protocol C1: training on {train} engines");
        let mut progress = Progress::start(what);
        let report = cmapss::run(&data, self.seed, &mut |share| progress.tell(share))?;
        drop(progress);
        let figures = vec![
            report.rmse_capped,
            report.rmse_raw,
            report.phm_capped,
            report.phm_raw,
        ];
        let document = Document {
            dataset: "cmapss",
            protocol: "C1",
            seed: self.seed,
            columns: &C1_COLUMNS,
            figures,
            reference: &C1_REFERENCE,
            report,
        };
        if self.json {
            return output::json(&document);
        }
        output::line(&format!(
            "C-MAPSS FD001, protocol C1: remaining life of {test} engines, cycles"
        ))?;
        output::table(&document.rows(&C1_DIGITS))?;
        output::line("")?;
        let folds = &document.report.evaluation;
        output::line(&format!(
            "by {} folds over the {} engines of the training file: RMSE capped {:.2}, {:.0} % of \
             lives between p05 and p95",
            folds.folds,
            folds.units,
            folds.rmse_capped,
            folds.life_coverage * 100.0
        ))?;
        let heading = ["failure within", "Brier", "skill", "ECE10"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(folds.horizons.iter().map(|horizon| {
            let judged = &horizon.reliability;
            let skill = judged.skill.map(|skill| format!("{skill:.3}"));
            vec![
                format!("{} ({} cycles)", horizon.name, horizon.hours),
                format!("{:.4}", judged.brier),
                skill.unwrap_or_else(|| "–".to_owned()),
                format!("{:.4}", judged.calibration_error),
            ]
        }));
        output::table(&rows)
    }

    fn ai4i(&self) -> anyhow::Result<()> {
        let name = "ai4i2020.csv";
        let path = folder(&self.data, "ai4i2020", &[name])?.join(name);
        let file = File::open(&path)
            .with_context(|| format!("failed to read data set `{}`", path.display()))?;
        let machines = ai4i::parse(BufReader::new(file))?;
        let what = format!("protocol A1: {} machine states", machines.failed.len());
        let progress = Progress::start(what);
        let report = ai4i::run(&machines, self.seed);
        drop(progress);
        let judged = &report.reliability;
        let figures = vec![
            judged.brier,
            judged.skill.unwrap_or(0.0),
            judged.calibration_error,
            report.top_decile,
        ];
        let document = Document {
            dataset: "ai4i",
            protocol: "A1",
            seed: self.seed,
            columns: &A1_COLUMNS,
            figures,
            reference: &A1_REFERENCE,
            report,
        };
        if self.json {
            return output::json(&document);
        }
        output::line(&format!(
            "AI4I 2020, protocol A1: failure probability of {} machine states, {:.2} % of which \
             failed",
            document.report.reliability.n,
            document.report.reliability.base_rate * 100.0
        ))?;
        output::table(&document.rows(&A1_DIGITS))
    }
}

impl<R> Document<R> {
    /// Heading, own figures and those of the reference.
    fn rows(&self, digits: &[usize]) -> Vec<Vec<String>> {
        let row = |name: String, figures: &[f64]| {
            let figures = figures.iter().zip(digits);
            let figures = figures.map(|(figure, digits)| format!("{figure:.digits$}"));
            std::iter::once(name).chain(figures).collect()
        };
        let heading = self.columns.iter().map(|&column| column.to_owned());
        let mut rows = vec![
            std::iter::once(String::new()).chain(heading).collect(),
            row(format!("forewright, seed {}", self.seed), &self.figures),
        ];
        let reference = self.reference.iter();
        rows.extend(reference.map(|other| row(other.model.to_owned(), other.figures)));
        rows
    }
}

/// The folder itself if it holds the files, else the one of that name below it.
fn folder(data: &Path, name: &str, files: &[&str]) -> anyhow::Result<PathBuf> {
    let below = data.join(name);
    for folder in [data, &below] {
        if files.iter().all(|file| folder.join(file).is_file()) {
            return Ok(folder.to_owned());
        }
    }
    bail!(
        "neither `{}` nor `{}` holds {}",
        data.display(),
        below.display(),
        files.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_figure_in_every_column() {
        for (columns, digits, reference) in [
            (&C1_COLUMNS, &C1_DIGITS, &C1_REFERENCE),
            (&A1_COLUMNS, &A1_DIGITS, &A1_REFERENCE),
        ] {
            let document = Document {
                dataset: "",
                protocol: "",
                seed: 7,
                columns,
                figures: vec![1.0; 4],
                reference,
                report: (),
            };
            let rows = document.rows(digits);
            assert_eq!(rows.len(), 4);
            assert!(rows.iter().all(|row| row.len() == 5), "{rows:?}");
        }
    }

    #[test]
    fn data_sets_without_a_protocol_and_empty_folders_are_refused() {
        let evaluate = |dataset| Evaluate {
            dataset,
            data: "/nowhere".into(),
            seed: 0,
            json: true,
        };
        for (dataset, wanted) in [
            (Dataset::Smd, "`smd` are not in this version yet"),
            (Dataset::Cmapss, "`/nowhere/cmapss` holds train_FD001.txt"),
            (Dataset::Ai4i, "`/nowhere/ai4i2020` holds ai4i2020.csv"),
        ] {
            let error = evaluate(dataset).run().expect_err(wanted).to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
