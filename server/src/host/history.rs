//! Samples of an asset onto one regular grid, as models want them.

use std::collections::BTreeMap;

use predict::history::UnitHistory;
use predict::series::{Grid, ResampleError, Samples, resample};

use super::lives::Life;

/// The metric that says how busy an asset is, 0–1.
pub(super) const UTILISATION: &str = "utilisation";
/// The finest step a history is told in.
const FINEST_MS: i64 = 60_000;
/// The longest history, in rows; the oldest rows go first.
const MOST_ROWS: i64 = 20_000;
/// How many steps a sample is believed without a newer one.
const HOLD_STEPS: i64 = 3;

/// The earliest moment that a history told in steps of `step_ms` up to `last_ms` can depend on.
#[must_use]
pub fn reach(last_ms: i64, step_ms: i64) -> i64 {
    last_ms.saturating_sub(step_ms.saturating_mul(MOST_ROWS + HOLD_STEPS))
}

/// The histories of the lives of one asset, told at the asset's pace; a life nobody measured is left out.
///
/// A life that has just begun has too few samples to have a pace of its own. The first life goes by the asset's
/// name, so that an asset in which nothing was ever replaced is told as one unit.
pub(super) fn life_histories(
    asset: &str,
    samples: &BTreeMap<String, Samples>,
    lives: &[Life],
) -> Result<Vec<UnitHistory>, ResampleError> {
    let step_ms = usual_step(samples);
    let mut histories = Vec::with_capacity(lives.len());
    for (place, life) in lives.iter().enumerate() {
        let unit = match place {
            0 => asset.to_owned(),
            _ => format!("{asset}#{}", place + 1),
        };
        let lived = within(samples, life);
        let history = unit_history(&unit, &lived, step_ms, life.failed)?;
        if !history.rows.is_empty() {
            histories.push(history);
        }
    }
    Ok(histories)
}

/// What was measured in a life; metrics that were not are left out.
fn within(samples: &BTreeMap<String, Samples>, life: &Life) -> BTreeMap<String, Samples> {
    let lived = |samples: &Samples| {
        let times = &samples.times_ms;
        let first = times.partition_point(|&time| time < life.from_ms);
        let end = times.partition_point(|&time| time <= life.until_ms);
        // A life that ended before it began was told wrong, and measured never.
        let lived = first..end.max(first);
        Samples {
            times_ms: times[lived.clone()].to_vec(),
            values: samples.values[lived].to_vec(),
        }
    };
    samples
        .iter()
        .map(|(metric, samples)| (metric.clone(), lived(samples)))
        .filter(|(_, samples)| !samples.times_ms.is_empty())
        .collect()
}

/// All metrics of a unit on a grid of steps of `step_ms`, laid so that the last sample falls into the last row.
///
/// The step is told, not found: what has just begun has too few samples to have a pace of its own.
pub fn unit_history(
    unit: &str,
    samples: &BTreeMap<String, Samples>,
    step_ms: i64,
    failed: bool,
) -> Result<UnitHistory, ResampleError> {
    let metrics: Vec<String> = samples.keys().cloned().collect();
    let times = || samples.values().flat_map(|s| s.times_ms.iter().copied());
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok(UnitHistory {
            unit: unit.to_owned(),
            step_ms,
            metrics,
            rows: Vec::new(),
            failed,
        });
    };
    let count = ((last - first) / step_ms + 1).min(MOST_ROWS);
    let grid = Grid {
        start_ms: last - (count - 1) * step_ms,
        step_ms,
        count: usize::try_from(count).unwrap_or_default(),
        hold_ms: step_ms * HOLD_STEPS,
    };
    let columns: Vec<Vec<f64>> = samples
        .values()
        .map(|samples| resample(samples, &grid))
        .collect::<Result<_, _>>()?;
    let rows = (0..grid.count)
        .map(|row| columns.iter().map(|column| column[row]).collect())
        .collect();
    Ok(UnitHistory {
        unit: unit.to_owned(),
        step_ms,
        metrics,
        rows,
        failed,
    })
}

/// The median distance of two samples of the same metric, rounded to whole minutes.
fn usual_step(samples: &BTreeMap<String, Samples>) -> i64 {
    let mut gaps: Vec<i64> = samples
        .values()
        .flat_map(|s| s.times_ms.windows(2).map(|pair| pair[1] - pair[0]))
        .filter(|gap| *gap > 0)
        .collect();
    gaps.sort_unstable();
    let median = gaps.get(gaps.len() / 2).copied().unwrap_or(FINEST_MS);
    ((median + FINEST_MS / 2) / FINEST_MS * FINEST_MS).max(FINEST_MS)
}

/// The mean of a metric in each step of `[from, to)`; `None` where nothing was measured.
pub(super) fn means(
    samples: &Samples,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
) -> Result<Vec<Option<f64>>, ResampleError> {
    let step_ms = step_ms.max(1);
    let count = ((to_ms - from_ms).max(0) + step_ms - 1) / step_ms;
    let grid = Grid {
        start_ms: from_ms,
        step_ms,
        count: usize::try_from(count).unwrap_or_default(),
        hold_ms: step_ms * HOLD_STEPS,
    };
    let means = resample(samples, &grid)?;
    Ok(means
        .into_iter()
        .map(|mean| mean.is_finite().then_some(mean))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_history_keeps_the_pace_of_its_samples() {
        let samples = |values: &[f64]| Samples {
            times_ms: (0..values.len() as i64).map(|n| n * HOUR).collect(),
            values: values.to_vec(),
        };
        let metrics = BTreeMap::from([
            ("a".to_owned(), samples(&[1.0, 2.0, 3.0])),
            ("b".to_owned(), samples(&[4.0, 5.0, 6.0])),
        ]);
        assert_eq!(usual_step(&metrics), HOUR);
        let history = unit_history("fan-1", &metrics, HOUR, true).unwrap();
        assert_eq!(history.step_ms, HOUR);
        assert_eq!(history.metrics, ["a", "b"]);
        assert_eq!(history.rows, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
        assert!(history.failed);
    }

    #[test]
    fn every_life_is_a_unit_of_its_own() {
        let metrics = BTreeMap::from([(
            "a".to_owned(),
            Samples {
                times_ms: (0..6).map(|n| n * HOUR).collect(),
                values: (0..6).map(f64::from).collect(),
            },
        )]);
        let life = |from_ms, until_ms, failed| Life {
            from_ms,
            until_ms,
            failed,
        };
        let whole = life_histories("fan-1", &metrics, &[life(0, 9 * HOUR, true)]).unwrap();
        assert_eq!(
            whole,
            [unit_history("fan-1", &metrics, HOUR, true).unwrap()]
        );
        let lives = [
            life(0, 2 * HOUR, false),
            life(2 * HOUR + 1, 2 * HOUR + 2, false),
            life(3 * HOUR, 4 * HOUR, true),
            life(5 * HOUR, 9 * HOUR, false),
        ];
        let told = life_histories("fan-1", &metrics, &lives).unwrap();
        let plain: Vec<_> = told
            .iter()
            .map(|h| (h.unit.as_str(), h.step_ms, h.rows.len(), h.failed))
            .collect();
        let expected = [
            ("fan-1", HOUR, 3, false),
            ("fan-1#3", HOUR, 2, true),
            ("fan-1#4", HOUR, 1, false),
        ];
        assert_eq!(plain, expected, "the second life was never measured");
    }

    #[test]
    fn what_lies_out_of_reach_changes_no_history() {
        let count = MOST_ROWS + 50;
        let metrics = |from_ms: i64| {
            let times: Vec<i64> = (0..count).map(|n| n * HOUR + HOUR / 3).collect();
            let times: Vec<i64> = times.into_iter().filter(|&time| time >= from_ms).collect();
            let values = times.iter().map(|&time| time as f64).collect();
            let samples = Samples {
                times_ms: times,
                values,
            };
            BTreeMap::from([("a".to_owned(), samples)])
        };
        let last = (count - 1) * HOUR + HOUR / 3;
        let within_reach = metrics(reach(last, HOUR));
        assert!(within_reach["a"].times_ms.len() < count as usize);
        let told = unit_history("fan-1", &within_reach, HOUR, false).unwrap();
        assert_eq!(
            told,
            unit_history("fan-1", &metrics(0), HOUR, false).unwrap()
        );
        assert_eq!(told.rows.len(), MOST_ROWS as usize);
    }

    #[test]
    fn a_mean_is_unknown_where_nothing_was_measured() {
        let samples = Samples {
            times_ms: vec![0, HOUR],
            values: vec![0.5, 0.7],
        };
        let means = means(&samples, 0, 8 * HOUR, HOUR).unwrap();
        assert_eq!(means.len(), 8);
        assert_eq!(&means[..2], [Some(0.5), Some(0.7)]);
        assert_eq!(means[7], None);
    }
}
