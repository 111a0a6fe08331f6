//! From a predicted remaining life to its quantiles, by how far off such predictions were before.

use serde::{Deserialize, Serialize};

use super::fps::LifeHours;
use crate::calibrate::survival::Survival;

/// Bands of predicted life that have quantiles of their own.
const BANDS: usize = 12;
/// Fewest cut-offs in a band.
const LEAST_ROWS: usize = 50;

/// How far actual lives lay from a predicted life of about `centre` hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Band {
    pub(super) centre: f64,
    pub(super) offsets: LifeHours,
}

/// A predicted life and how the unit really ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) predicted: f64,
    /// Hours until the record ended.
    pub(super) left: f64,
    /// Whether it ended with a failure.
    pub(super) failed: bool,
}

/// Quantiles of actual minus predicted life, for neighbourhoods of the predicted life. Units still
/// running enter as "longer than" (Kaplan–Meier).
pub(super) fn bands(mut endings: Vec<Ending>) -> Vec<Band> {
    endings.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
    let count = (endings.len() / LEAST_ROWS).clamp(1, BANDS);
    let band = |number: usize| {
        let part = &endings[endings.len() * number / count..endings.len() * (number + 1) / count];
        let centre =
            part.iter().map(|ending| ending.predicted).sum::<f64>() / part.len().max(1) as f64;
        let error = |ending: &Ending| (ending.left - ending.predicted, ending.failed);
        let errors = Survival::fit(&part.iter().map(error).collect::<Vec<_>>());
        let [p05, p50, p95] = [0.05, 0.5, 0.95].map(|share| errors.quantile(share));
        Band {
            centre,
            offsets: LifeHours { p05, p50, p95 },
        }
    };
    (0..count).map(band).collect()
}

/// The quantiles around a predicted life, between the centres of the bands on either side.
pub(super) fn life_quantiles(bands: &[Band], life: f64) -> LifeHours {
    let after = bands.partition_point(|band| band.centre < life);
    let low = &bands[after.saturating_sub(1)];
    let high = &bands[after.min(bands.len() - 1)];
    let span = high.centre - low.centre;
    let way = if span > 0.0 {
        ((life - low.centre) / span).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let at = |of: fn(&LifeHours) -> f64| {
        let [from, to] = [of(&low.offsets), of(&high.offsets)];
        (life + from + way * (to - from)).max(0.0)
    };
    let p05 = at(|hours| hours.p05);
    let p50 = at(|hours| hours.p50).max(p05);
    LifeHours {
        p05,
        p50,
        p95: at(|hours| hours.p95).max(p50),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_endings_near_by_and_never_cross() {
        // Predictions around 10 are off by −5..5, those around 100 by −50..50.
        let near = |centre: f64, spread: f64| {
            (0..500).map(move |i| {
                let predicted = centre + f64::from(i % 7) * 0.1;
                let left = predicted + spread * (f64::from(i) / 250.0 - 1.0);
                Ending {
                    predicted,
                    left,
                    failed: true,
                }
            })
        };
        let bands = bands(near(10.0, 5.0).chain(near(100.0, 50.0)).collect());
        let [low, high] = [10.3, 100.3].map(|life| life_quantiles(&bands, life));
        assert!(
            (low.p05 - 5.8).abs() < 1.0 && (low.p95 - 14.8).abs() < 1.0,
            "{low:?}"
        );
        assert!(
            (high.p05 - 55.0).abs() < 9.0 && (high.p95 - 145.0).abs() < 9.0,
            "{high:?}"
        );
        for life in [0.0, 10.0, 55.0, 500.0] {
            let got = life_quantiles(&bands, life);
            assert!(0.0 <= got.p05 && got.p05 <= got.p50 && got.p50 <= got.p95);
        }
    }

    #[test]
    fn units_still_running_make_lives_longer() {
        let end = |i: i32, running: bool| Ending {
            predicted: 50.0,
            left: f64::from(i),
            failed: !running,
        };
        let all = bands((0..100).map(|i| end(i, false)).collect());
        let some = bands((0..100).map(|i| end(i, i % 2 == 0)).collect());
        assert!(life_quantiles(&some, 50.0).p50 > life_quantiles(&all, 50.0).p50);
    }
}
