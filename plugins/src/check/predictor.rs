//! What a predictor meets.

use super::kit::{Case, roomy};
use super::samples::{NOW_MS, STRANGE, artifact, asset, garbage, wave};
use crate::call::Request;
use crate::manifest::Manifest;
use crate::v1::predict::{self, Column, History};
use crate::v1::types::Asset;

const HOUR_MS: f64 = 3_600_000.0;
const HORIZONS: [f64; 3] = [24.0 * HOUR_MS, 168.0 * HOUR_MS, 720.0 * HOUR_MS];
const METRICS: [(&str, f64); 3] = [
    ("speed", 5_400.0),
    ("temperature", 55.0),
    ("vibration", 1.4),
];

pub(super) fn cases(manifest: &Manifest) -> Vec<Case> {
    let step = manifest
        .predictor
        .as_ref()
        .map_or(HOUR_MS, |own| own.step_ms as f64);
    let make = Maker { step };
    let rows = |count| make.history(asset("fan-1"), count);
    let one = |history: History| make.request(vec![history]);
    let mut cases = vec![
        Case::new("plain", "three metrics over 200 rows", one(rows(200))),
        Case::new(
            "no assets",
            "an empty batch has an empty answer",
            make.request(Vec::new()),
        ),
        Case::new("no rows", "an asset nothing was measured of", one(rows(0))),
        Case::new("one row", "an asset that has just begun", one(rows(1))),
        Case::new("two rows", "too little for a trend", one(rows(2))),
        Case::new(
            "no metrics",
            "an asset without a single metric",
            one(History {
                columns: Vec::new(),
                ..rows(0)
            }),
        ),
        Case::new(
            "a thousand assets",
            "a batch is a batch",
            make.request(many(&make, 1_000, 20)),
        ),
        Case::new(
            "the same asset twice",
            "each has an outlook of its own",
            make.request(vec![rows(50), rows(50)]),
        ),
        Case::new(
            "a strange name",
            "names are any text",
            one(make.history(
                Asset {
                    kind: STRANGE.to_owned(),
                    labels: Vec::new(),
                    ..asset(STRANGE)
                },
                50,
            )),
        ),
        Case::new(
            "an empty name",
            "names are any text",
            one(make.history(asset(""), 50)),
        ),
        Case::new(
            "a long name",
            "names are any text",
            one(make.history(asset(&"x".repeat(10_000)), 50)),
        ),
        Case::new(
            "an unknown metric",
            "plugins are told what there is",
            one(renamed(rows(50), STRANGE)),
        ),
        Case::new(
            "one horizon",
            "as many probabilities as horizons",
            ahead(&make, &HORIZONS[..1]),
        ),
        Case::new(
            "no horizon",
            "as many probabilities as horizons",
            ahead(&make, &[]),
        ),
        Case::new(
            "a horizon of a millisecond",
            "horizons are any spans",
            ahead(&make, &[1.0]),
        ),
        Case::new(
            "a horizon of a century",
            "horizons are any spans",
            ahead(&make, &[876_000.0 * HOUR_MS]),
        ),
        Case::new(
            "a model that is none",
            "bytes are not what they are called",
            with_model(&make, &garbage()),
        ),
        Case::new(
            "an empty model",
            "bytes are not what they are called",
            with_model(&make, &[]),
        ),
        Case::new("a history that lies ahead", "clocks are wrong sometimes", {
            one(History {
                start: NOW_MS + 1_000.0 * HOUR_MS,
                ..rows(50)
            })
        }),
    ];
    cases.extend(odd_values(&make));
    cases.push(Case {
        limits: Some(roomy(&manifest.limits)),
        ..Case::new(
            "a million points",
            "fifty assets of 20,000 rows",
            make.request(narrow(&make, 50, 20_000)),
        )
    });
    cases
}

struct Maker {
    step: f64,
}

impl Maker {
    fn history(&self, asset: Asset, rows: u32) -> History {
        let column = |(metric, typical): (&str, f64)| Column {
            metric: metric.to_owned(),
            unit: String::new(),
            values: (0..rows).map(|n| wave(n, typical)).collect(),
        };
        let start = NOW_MS - f64::from(rows) * self.step;
        History {
            asset,
            installed: Some(start),
            start,
            step: self.step,
            columns: METRICS.map(column).to_vec(),
        }
    }

    fn request(&self, histories: Vec<History>) -> Request {
        Request::Predict(predict::Request {
            histories,
            horizons: HORIZONS.to_vec(),
            model: None,
        })
    }
}

fn many(make: &Maker, count: u32, rows: u32) -> Vec<History> {
    (0..count)
        .map(|n| make.history(asset(&format!("fan-{n}")), rows))
        .collect()
}

/// Of one metric only.
fn narrow(make: &Maker, count: u32, rows: u32) -> Vec<History> {
    let mut histories = many(make, count, rows);
    for history in &mut histories {
        history.columns.truncate(1);
    }
    histories
}

fn renamed(mut history: History, metric: &str) -> History {
    history.columns.truncate(1);
    history.columns[0].metric = metric.to_owned();
    history
}

fn ahead(make: &Maker, horizons: &[f64]) -> Request {
    let histories = vec![make.history(asset("fan-1"), 200)];
    Request::Predict(predict::Request {
        histories,
        horizons: horizons.to_vec(),
        model: None,
    })
}

fn with_model(make: &Maker, bytes: &[u8]) -> Request {
    let histories = vec![make.history(asset("fan-1"), 200)];
    let model = Some(artifact("model", "application/octet-stream", bytes));
    Request::Predict(predict::Request {
        histories,
        horizons: HORIZONS.to_vec(),
        model,
    })
}

/// Values that sensors really send.
fn odd_values(make: &Maker) -> Vec<Case> {
    type Odd = fn(u32) -> f64;
    let odd: [(&str, &str, Odd); 8] = [
        ("all unknown", "NaN is nothing known", |_| f64::NAN),
        ("half unknown", "NaN is nothing known", |n| {
            if n % 2 == 0 { f64::NAN } else { 1.0 }
        }),
        ("unknown at the end", "NaN is nothing known", |n| {
            if n > 190 { f64::NAN } else { 1.0 }
        }),
        ("all the same", "a stuck sensor", |_| 1.0),
        ("all zero", "a sensor without a signal", |_| 0.0),
        ("negative zero", "a zero like any other", |_| -0.0),
        ("huge", "numbers whose squares are infinite", |n| {
            if n % 2 == 0 { 1e300 } else { -1e300 }
        }),
        ("tiny", "numbers whose squares are zero", |n| {
            f64::MIN_POSITIVE * f64::from(n + 1) / 1e5
        }),
    ];
    let case = |(name, about, value): (&str, &'static str, Odd)| {
        let mut history = make.history(asset("fan-1"), 200);
        for column in &mut history.columns {
            column.values = (0..200).map(value).collect();
        }
        Case::new(
            format!("values: {name}"),
            about,
            make.request(vec![history]),
        )
    };
    odd.into_iter().map(case).collect()
}
