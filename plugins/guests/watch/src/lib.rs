//! Finds what is unusual in each metric by what the metric itself did before: single values far off (spikes), stretches that
//! lie elsewhere than any of the past (drifts), and sensors that say the same for ever (stuck).
//!
//! Everything goes by medians, so that what was unusual in the past does not make the present usual.

use plugin_sdk::detect::{Anomaly, Instant, PluginError, Request, Series};
use plugin_sdk::info;

/// So many values at least tell what is normal.
const LEARNT: usize = 32;
/// A median absolute deviation of normal values times this is their standard deviation.
const NORMAL: f64 = 1.4826;
/// How many deviations off is a spike.
const SPIKE: f64 = 8.0;
/// The past is cut into so many stretches, whose medians say how far a stretch may lie.
const STRETCHES: usize = 16;
/// How many deviations of those a stretch that drifted lies off, and its values of their own.
const DRIFT: (f64, f64) = (6.0, 1.5);
/// One such stretch may be chance.
const DRIFTED: usize = 2;
/// So many equal values in a row, where values vary, are no measurement.
const STUCK: usize = 24;
/// The most anomalies that the contract lets an answer have.
const MOST: usize = 10_000;

/// A span in which one metric is unusual, by value numbers.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    kind: &'static str,
    first: usize,
    last: usize,
    score: f64,
}

struct Watch;

impl plugin_sdk::Detector for Watch {
    fn detect(request: Request) -> Result<Vec<Anomaly>, PluginError> {
        let mut found: Vec<Anomaly> = Vec::new();
        for series in &request.series {
            let told = Told::of(series);
            let learnt = told.times.partition_point(|time| *time < request.since);
            for span in spans(&told.values, learnt) {
                let anomaly = Anomaly {
                    start: told.times[span.first],
                    end: told.times[span.last],
                    score: span.score,
                    kind: span.kind.to_owned(),
                    metrics: vec![series.metric.clone()],
                };
                if anomaly.end >= request.since {
                    found.push(anomaly);
                }
            }
        }
        info!("{} spans are unusual", found.len());
        let mut anomalies = merged(found);
        // The newest are worth most.
        anomalies.drain(..anomalies.len().saturating_sub(MOST));
        Ok(anomalies)
    }
}

plugin_sdk::detector!(Watch);

/// The samples of a metric that say something.
struct Told {
    times: Vec<Instant>,
    values: Vec<f64>,
}

impl Told {
    fn of(series: &Series) -> Self {
        let samples = series.times.iter().zip(&series.values);
        let (times, values) = samples.filter(|(_, value)| value.is_finite()).unzip();
        Self { times, values }
    }
}

/// What is unusual in values of which the first `learnt` are there to learn from.
fn spans(values: &[f64], learnt: usize) -> Vec<Span> {
    let (past, present) = values.split_at(learnt.min(values.len()));
    if past.len() < LEARNT || present.is_empty() {
        return Vec::new();
    }
    let (middle, spread) = spread(past);
    let mut found = spikes(present, middle, spread);
    found.extend(drifts(past, present, middle, spread));
    if spread > 0.0 {
        found.extend(stuck(present));
    }
    for span in &mut found {
        span.first += learnt;
        span.last += learnt;
    }
    found
}

fn spikes(present: &[f64], middle: f64, spread: f64) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    for (n, value) in present.iter().enumerate() {
        let off = (value - middle).abs() / smallest(spread, middle);
        if off <= SPIKE {
            continue;
        }
        let spike = Span {
            kind: "spike",
            first: n,
            last: n,
            score: 1.0 - SPIKE / off,
        };
        join(&mut found, spike);
    }
    found
}

/// Adds a span, or makes the last one longer if it goes on without a gap.
fn join(found: &mut Vec<Span>, span: Span) {
    match found.last_mut() {
        Some(before) if before.last + 1 == span.first => {
            before.last = span.last;
            before.score = before.score.max(span.score);
        }
        _ => found.push(span),
    }
}

fn drifts(past: &[f64], present: &[f64], middle: f64, spread_of_values: f64) -> Vec<Span> {
    let length = past.len() / STRETCHES;
    let medians: Vec<f64> = past.chunks_exact(length).map(median).collect();
    // What wanders wandered in the past too: that is what a drift is held against.
    let (_, wander) = spread(&medians);
    let allowed = (DRIFT.0 * wander).max(DRIFT.1 * smallest(spread_of_values, middle));
    let mut found: Vec<Span> = Vec::new();
    // Counted from the end: what goes on until now has to show there.
    let rest = present.len() % length;
    for (n, stretch) in present[rest..].chunks_exact(length).enumerate() {
        let off = (median(stretch) - middle).abs();
        if off <= allowed {
            continue;
        }
        let drift = Span {
            kind: "drift",
            first: rest + n * length,
            last: rest + (n + 1) * length - 1,
            score: 1.0 - allowed / off,
        };
        join(&mut found, drift);
    }
    found.retain(|span| span.last + 1 - span.first >= DRIFTED * length);
    found
}

fn stuck(present: &[f64]) -> Vec<Span> {
    let mut found = Vec::new();
    let mut first = 0;
    for n in 1..=present.len() {
        if present.get(n) == Some(&present[first]) {
            continue;
        }
        if n - first >= STUCK {
            found.push(Span {
                kind: "stuck",
                first,
                last: n - 1,
                score: 1.0 - STUCK as f64 / (2.0 * (n - first) as f64),
            });
        }
        first = n;
    }
    found
}

/// Those of one kind that overlap are one, which shows in several metrics.
fn merged(mut found: Vec<Anomaly>) -> Vec<Anomaly> {
    found.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.kind.cmp(&b.kind)));
    let mut all: Vec<(Anomaly, Vec<(f64, String)>)> = Vec::new();
    for anomaly in found {
        let strength = (anomaly.score, anomaly.metrics.concat());
        // Only the latest of a kind can overlap what begins later.
        let mut latest = all.iter_mut().rev();
        let latest = latest.find(|(other, _)| other.kind == anomaly.kind);
        match latest.filter(|(other, _)| other.end >= anomaly.start) {
            Some((other, strengths)) => {
                other.end = other.end.max(anomaly.end);
                other.score = other.score.max(anomaly.score);
                strengths.push(strength);
            }
            None => all.push((anomaly, vec![strength])),
        }
    }
    all.into_iter()
        .map(|(anomaly, mut strengths)| {
            strengths.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut metrics: Vec<String> = Vec::new();
            for (_, metric) in strengths {
                if !metrics.contains(&metric) {
                    metrics.push(metric);
                }
            }
            Anomaly { metrics, ..anomaly }
        })
        .collect()
}

/// The median, and the deviation around it as if it were a normal one's.
fn spread(values: &[f64]) -> (f64, f64) {
    let middle = median(values);
    let off: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    (middle, NORMAL * median(&off))
}

/// A deviation that a metric has which never moved: a millionth of what it says.
fn smallest(spread: f64, middle: f64) -> f64 {
    spread.max(middle.abs() * 1e-6).max(f64::MIN_POSITIVE)
}

/// Of values that are not none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    let half = sorted.len() / 2;
    *sorted.select_nth_unstable_by(half, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that wander a little, never twice the same.
    fn usual(count: usize) -> Vec<f64> {
        let value = |n: usize| 10.0 + (n as f64 * 0.7).sin() + 0.3 * (n as f64 * 1.9).cos();
        (0..count).map(value).collect()
    }

    #[test]
    fn the_usual_is_nothing_and_each_kind_is_itself() {
        assert_eq!(spans(&usual(400), 300), []);
        let mut spiky = usual(400);
        (spiky[350], spiky[351]) = (40.0, 55.0);
        let found = spans(&spiky, 300);
        assert_eq!(
            (found[0].kind, found[0].first, found[0].last),
            ("spike", 350, 351)
        );
        assert_eq!(found.len(), 1, "{found:?}");
        let mut drifting = usual(400);
        for value in &mut drifting[330..] {
            *value += 4.0;
        }
        let found = spans(&drifting, 300);
        assert_eq!((found[0].kind, found.len()), ("drift", 1), "{found:?}");
        assert!((325..=350).contains(&found[0].first), "{found:?}");
        assert_eq!(found[0].last, 399, "it goes on until now");
        let mut frozen = usual(400);
        frozen[360..].fill(10.25);
        assert_eq!(
            (spans(&frozen, 300)[0].kind, spans(&frozen, 300)[0].first),
            ("stuck", 360)
        );
    }

    #[test]
    fn a_metric_that_never_moved_is_not_stuck_and_what_is_short_is_nothing() {
        assert_eq!(spans(&[3.0; 400], 300), []);
        assert_eq!(spans(&usual(60), 31), []);
        assert_eq!(spans(&usual(60), 60), []);
        assert_eq!(spans(&[], 0), []);
        assert_eq!(spans(&usual(40), 400), []);
    }

    #[test]
    fn what_overlaps_is_one_with_its_strongest_metric_first() {
        let one = |start, end, score, metric: &str| Anomaly {
            start,
            end,
            score,
            kind: "drift".to_owned(),
            metrics: vec![metric.to_owned()],
        };
        let all = merged(vec![
            one(5.0, 9.0, 0.9, "b"),
            one(1.0, 6.0, 0.2, "a"),
            one(20.0, 21.0, 0.5, "a"),
        ]);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].start, all[0].end, all[0].score), (1.0, 9.0, 0.9));
        assert_eq!(all[0].metrics, ["b", "a"]);
    }
}
