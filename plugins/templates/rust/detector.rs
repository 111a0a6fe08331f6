//! Finds spikes: samples that lie more than four standard deviations from the mean of what came before `since`.
//!
//! Begin with `spikes`, which sees one series. The contract's types and their units are in
//! `wit/deps/forewright-plugin/detector.wit`.

use plugin_sdk::detect::{Anomaly, Instant, PluginError, Request, Series};
use plugin_sdk::info;

/// Samples that it takes to learn what is normal.
const FEWEST: usize = 8;
/// Standard deviations from the mean; what lies further out is unusual.
const LIMIT: f64 = 4.0;
/// The most anomalies that the contract lets an answer have.
const MOST: usize = 10_000;

struct Spikes;

impl plugin_sdk::Detector for Spikes {
    fn detect(request: Request) -> Result<Vec<Anomaly>, PluginError> {
        info!(
            "looks at {} series of {}",
            request.series.len(),
            request.asset.id
        );
        let mut anomalies = Vec::new();
        for series in &request.series {
            spikes(series, request.since, &mut anomalies);
        }
        anomalies.sort_by(|a, b| a.start.total_cmp(&b.start));
        anomalies.truncate(MOST);
        Ok(anomalies)
    }
}

plugin_sdk::detector!(Spikes);

/// Adds the spikes of a series. Unusual samples that follow each other are one.
fn spikes(series: &Series, since: Instant, anomalies: &mut Vec<Anomaly>) {
    let samples = || {
        series
            .times
            .iter()
            .copied()
            .zip(series.values.iter().copied())
    };
    let before = samples()
        .filter(|&(time, _)| time < since)
        .map(|(_, value)| value);
    let Some((mean, deviation)) = normal(before.filter(|value| !value.is_nan())) else {
        return;
    };

    let mut open: Option<Anomaly> = None;
    for (time, value) in samples().filter(|&(time, _)| time >= since) {
        let distance = (value - mean).abs() / deviation;
        if distance > LIMIT {
            let anomaly = open.get_or_insert_with(|| Anomaly {
                start: time,
                end: time,
                score: 0.0,
                kind: "spike".to_owned(),
                metrics: vec![series.metric.clone()],
            });
            anomaly.end = time;
            anomaly.score = anomaly.score.max(1.0 - LIMIT / distance);
        } else {
            // A usual sample, or one that told nothing.
            anomalies.extend(open.take());
        }
    }
    anomalies.extend(open);
}

/// The mean and the standard deviation, where enough is known and both can be told.
fn normal(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let count = values.clone().count();
    if count < FEWEST {
        return None;
    }
    let mean = values.clone().sum::<f64>() / count as f64;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
    // Of a series that stands still, rounding alone is no deviation.
    let deviation = variance.sqrt().max(1e-9 * (1.0 + mean.abs()));
    (mean.is_finite() && variance.is_finite()).then_some((mean, deviation))
}
