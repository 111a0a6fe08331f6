//! Predicts when parts fail: the further a metric has moved since its first row, the more of such parts fail each day.
//!
//! Begin with `judge`, which sees one part's history and says what is ahead of it. The contract's types and their units
//! are in `wit/deps/forewright-plugin/predictor.wit`.

use plugin_sdk::info;
use plugin_sdk::predict::{Column, Duration, History, Outlook, PluginError, Reason, Request, Risk};

const DAY_MS: f64 = 86_400_000.0;
/// A metric that has moved further says nothing more.
const MOST_MOVED: f64 = 1_000.0;

struct Drift;

impl plugin_sdk::Predictor for Drift {
    fn predict(request: Request) -> Result<Vec<Outlook>, PluginError> {
        info!("judges {} assets", request.histories.len());
        let outlooks = request
            .histories
            .iter()
            .map(|history| judge(history, &request.horizons));
        Ok(outlooks.collect())
    }
}

plugin_sdk::predictor!(Drift);

fn judge(history: &History, horizons: &[Duration]) -> Outlook {
    let mut worst: Option<(&Column, f64, f64)> = None;
    for column in &history.columns {
        let Some((moved, last)) = moved(&column.values) else {
            continue;
        };
        if worst.is_none_or(|(_, most, _)| moved > most) {
            worst = Some((column, moved, last));
        }
    }
    let Some((column, moved, last)) = worst else {
        return Outlook::Declined("nothing was measured".to_owned());
    };
    let moved = moved.min(MOST_MOVED);
    let failures_a_day = 0.001 + 0.01 * moved;
    let probability = |horizon: &Duration| {
        let expected = failures_a_day * horizon / DAY_MS;
        if expected > 1e9 {
            1.0
        } else {
            expected / (1.0 + expected)
        }
    };
    Outlook::Risk(Risk {
        probabilities: horizons.iter().map(probability).collect(),
        remaining_life: Vec::new(),
        reasons: vec![Reason {
            metric: column.metric.clone(),
            feature: "last".to_owned(),
            value: last,
            typical: f64::NAN,
            contribution: moved * DAY_MS,
        }],
    })
}

/// How far a metric has moved since the first row that is known, relative to where it was, and its last known value.
/// `NaN` is a row of which nothing is known.
fn moved(values: &[f64]) -> Option<(f64, f64)> {
    let known = || values.iter().copied().filter(|value| !value.is_nan());
    let (first, last) = (known().next()?, known().next_back()?);
    let moved = (last - first).abs() / (first.abs() + 1.0);
    // Values too great to compare have moved far.
    Some((if moved.is_finite() { moved } else { MOST_MOVED }, last))
}
