//! What a detector meets.

use super::kit::{Case, roomy};
use super::samples::{NOW_MS, STRANGE, asset, series, wave};
use crate::call::Request;
use crate::limits::Limits;
use crate::v1::detect;
use crate::v1::types::Series;

pub(super) fn cases(limits: &Limits) -> Vec<Case> {
    let plain = |count: u32| series("vibration", (0..count).map(|n| wave(n, 1.4)).collect());
    let mut cases = vec![
        Case::new(
            "plain",
            "one metric over 2,000 samples",
            of(vec![plain(2_000)]),
        ),
        Case::new(
            "no metrics",
            "an asset without a single metric",
            of(Vec::new()),
        ),
        Case::new(
            "no samples",
            "a metric that was never sent",
            of(vec![plain(0)]),
        ),
        Case::new("one sample", "too little for anything", of(vec![plain(1)])),
        Case::new("two samples", "too little for a spread", of(vec![plain(2)])),
        Case::new("fifty metrics", "a machine has many", of(metrics(50, 200))),
        Case::new(
            "a strange name",
            "names are any text",
            of(vec![named(STRANGE)]),
        ),
        Case::new("an empty name", "names are any text", of(vec![named("")])),
        Case::new(
            "a long name",
            "names are any text",
            of(vec![named(&"x".repeat(10_000))]),
        ),
        Case::new(
            "the same metric twice",
            "names need not be unique",
            of(vec![plain(200), plain(200)]),
        ),
        Case::new(
            "nothing to report",
            "all of it was reported before",
            since(NOW_MS + 1.0),
        ),
        Case::new(
            "everything to report",
            "nothing was reported before",
            since(0.0),
        ),
        Case::new(
            "of different lengths",
            "metrics come at their own pace",
            of(vec![named("a"), plain(200), plain(3)]),
        ),
        Case::new(
            "a gap of a year",
            "machines are switched off",
            of(vec![with_gap()]),
        ),
        Case::new(
            "a million years apart",
            "times are any numbers",
            of(vec![far_apart()]),
        ),
        Case::new(
            "a step",
            "a level that changes for good",
            of(vec![shaped(|n| if n < 1_000 { 1.0 } else { 9.0 })]),
        ),
        Case::new(
            "a spike",
            "one sample out of many",
            of(vec![shaped(|n| if n == 1_500 { 99.0 } else { 1.0 })]),
        ),
        Case::new(
            "a drift",
            "a level that changes slowly",
            of(vec![shaped(|n| f64::from(n) * 0.01)]),
        ),
    ];
    type Odd = fn(u32) -> f64;
    let odd: [(&str, Odd); 9] = [
        ("all unknown", |_| f64::NAN),
        ("half unknown", |n| if n % 2 == 0 { f64::NAN } else { 1.0 }),
        (
            "unknown at the end",
            |n| if n > 1_990 { f64::NAN } else { 1.0 },
        ),
        ("all the same", |_| 1.0),
        ("all zero", |_| 0.0),
        ("negative", |n| -wave(n, 3.0)),
        ("negative zero", |_| -0.0),
        ("huge", |n| if n % 2 == 0 { 1e300 } else { -1e300 }),
        ("tiny", |n| f64::MIN_POSITIVE * f64::from(n + 1) / 1e5),
    ];
    for (name, value) in odd {
        cases.push(Case::new(
            format!("values: {name}"),
            "values that sensors really send",
            of(vec![shaped(value)]),
        ));
    }
    cases.push(Case {
        limits: Some(roomy(limits)),
        ..Case::new(
            "a million points",
            "one metric at a sample a minute for two years",
            of(vec![plain(1_000_000)]),
        )
    });
    cases
}

fn of(series: Vec<Series>) -> Request {
    Request::Detect(detect::Request {
        asset: asset("fan-1"),
        series,
        since: NOW_MS - 3_600_000.0,
    })
}

fn since(since: f64) -> Request {
    Request::Detect(detect::Request {
        asset: asset("fan-1"),
        series: vec![named("vibration")],
        since,
    })
}

fn named(metric: &str) -> Series {
    series(metric, (0..200).map(|n| wave(n, 1.4)).collect())
}

fn metrics(count: u32, samples: u32) -> Vec<Series> {
    let one = |m: u32| {
        series(
            &format!("metric_{m:02}"),
            (0..samples).map(|n| wave(n + m, 1.0)).collect(),
        )
    };
    (0..count).map(one).collect()
}

fn shaped(value: impl Fn(u32) -> f64) -> Series {
    series("vibration", (0..2_000).map(value).collect())
}

fn with_gap() -> Series {
    let mut series = named("vibration");
    for time in &mut series.times[..100] {
        *time -= 365.0 * 86_400_000.0;
    }
    series
}

fn far_apart() -> Series {
    let mut series = named("vibration");
    series.times[0] = -8.64e15;
    series
}
