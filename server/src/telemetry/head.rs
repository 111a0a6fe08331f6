//! The samples not yet sealed, in memory, and the names of all series.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    chunk::{LogRow, NamedSeries},
    codec::Samples,
    log::Entry,
};

/// The unsealed end of the store, as far as this process has followed the log.
///
/// Series are numbered from 1 without gaps, so a number is a position. Batches are numbered alike:
/// a row of the log is applied exactly if it is the next one, which makes following it idempotent.
#[derive(Debug, Default)]
pub(super) struct Head {
    series: Vec<HeadSeries>,
    numbers: HashMap<Arc<str>, HashMap<Arc<str>, i64>>,
    /// Series with points in memory.
    dirty: HashSet<i64>,
    samples: usize,
    /// The newest batch applied.
    pub(super) appended: i64,
    /// The newest batch known to be sealed.
    pub(super) flushed: i64,
}

#[derive(Debug)]
struct HeadSeries {
    asset: Arc<str>,
    metric: Arc<str>,
    points: Samples,
}

/// The points of one series on their way into blocks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unsealed {
    pub(super) series: NamedSeries,
    pub(super) points: Samples,
}

impl Head {
    /// How many series exist.
    pub(super) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// How many samples are held in memory.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// The number of a series, if it exists.
    pub(super) fn number(&self, asset: &str, metric: &str) -> Option<i64> {
        self.numbers.get(asset)?.get(metric).copied()
    }

    /// The series of one asset, or of all, sorted by asset and metric.
    pub(super) fn names(&self, asset: Option<&str>) -> Vec<NamedSeries> {
        let named = |number: &i64| self.named(*number);
        let mut names: Vec<NamedSeries> = match asset {
            Some(asset) => self
                .numbers
                .get(asset)
                .into_iter()
                .flat_map(|metrics| metrics.values().filter_map(named))
                .collect(),
            None => (1..).map_while(|number| self.named(number)).collect(),
        };
        names.sort_by(|a, b| (&a.asset, &a.metric).cmp(&(&b.asset, &b.metric)));
        names
    }

    fn named(&self, number: i64) -> Option<NamedSeries> {
        let series = self.at(number)?;
        Some(NamedSeries {
            id: number,
            asset: Arc::clone(&series.asset),
            metric: Arc::clone(&series.metric),
        })
    }

    fn at(&self, number: i64) -> Option<&HeadSeries> {
        self.series.get(usize::try_from(number - 1).ok()?)
    }

    /// Learns of series created since; known ones are passed over.
    pub(super) fn learn(&mut self, series: &[NamedSeries]) {
        for named in series {
            if usize::try_from(named.id) != Ok(self.series.len() + 1) {
                continue;
            }
            self.series.push(HeadSeries {
                asset: Arc::clone(&named.asset),
                metric: Arc::clone(&named.metric),
                points: Samples::default(),
            });
            self.numbers
                .entry(Arc::clone(&named.asset))
                .or_default()
                .insert(Arc::clone(&named.metric), named.id);
        }
    }

    /// Applies one batch if it is the next.
    pub(super) fn apply(&mut self, batch: i64, entries: &[Entry]) {
        if batch != self.appended + 1 {
            return;
        }
        self.appended = batch;
        for entry in entries {
            let place = usize::try_from(entry.series - 1).ok();
            let Some(series) = place.and_then(|place| self.series.get_mut(place)) else {
                continue;
            };
            let before = series.points.times_ms.len();
            merge_into(&mut series.points, &entry.times_ms, &entry.values);
            self.samples += series.points.times_ms.len() - before;
            self.dirty.insert(entry.series);
        }
    }

    /// Applies rows read from the log that follow the batch this head stands at.
    pub(super) fn follow(&mut self, rows: &[LogRow]) {
        for row in rows {
            self.apply(row.id, &row.entries);
        }
    }

    /// Starts over behind a flush another process made; `rows` is all that is left in the log.
    pub(super) fn restart(&mut self, flushed: i64, rows: &[LogRow]) {
        let newest = rows.last().map_or(flushed, |row| row.id);
        if flushed <= self.flushed || newest < self.appended {
            return;
        }
        self.empty(flushed);
        self.follow(rows);
    }

    /// Forgets the points of all batches up to `flushed`, which must be the newest applied.
    pub(super) fn empty(&mut self, flushed: i64) {
        for number in std::mem::take(&mut self.dirty) {
            let place = usize::try_from(number - 1).unwrap_or(usize::MAX);
            if let Some(series) = self.series.get_mut(place) {
                series.points = Samples::default();
            }
        }
        self.samples = 0;
        self.appended = flushed;
        self.flushed = flushed;
    }

    /// A copy of everything in memory, by number of series.
    pub(super) fn unsealed(&self) -> Vec<Unsealed> {
        let mut numbers: Vec<i64> = self.dirty.iter().copied().collect();
        numbers.sort_unstable();
        let unsealed = |number: &i64| {
            Some(Unsealed {
                series: self.named(*number)?,
                points: self.at(*number)?.points.clone(),
            })
        };
        numbers.iter().filter_map(unsealed).collect()
    }

    /// The points of one series within `from_ms..=to_ms`.
    pub(super) fn points(&self, number: i64, from_ms: i64, to_ms: i64) -> Samples {
        let Some(series) = self.at(number) else {
            return Samples::default();
        };
        let times = &series.points.times_ms;
        let first = times.partition_point(|&time| time < from_ms);
        let end = times.partition_point(|&time| time <= to_ms).max(first);
        Samples {
            times_ms: times[first..end].to_vec(),
            values: series.points.values[first..end].to_vec(),
        }
    }
}

/// Merges sorted points into sorted points; at equal times the new value wins.
pub(super) fn merge_into(points: &mut Samples, times_ms: &[i64], values: &[f64]) {
    let Some(&first) = times_ms.first() else {
        return;
    };
    let keep = points.times_ms.partition_point(|&time| time < first);
    let old_times = points.times_ms.split_off(keep);
    let old_values = points.values.split_off(keep);
    if old_times.is_empty() {
        points.times_ms.extend_from_slice(times_ms);
        points.values.extend_from_slice(values);
        return;
    }
    let (mut old, mut new) = (0, 0);
    while old < old_times.len() || new < times_ms.len() {
        let take_new = match (old_times.get(old), times_ms.get(new)) {
            (Some(old_time), Some(new_time)) => {
                if old_time == new_time {
                    old += 1;
                }
                new_time <= old_time
            }
            (old_time, _) => old_time.is_none(),
        };
        if take_new {
            points.times_ms.push(times_ms[new]);
            points.values.push(values[new]);
            new += 1;
        } else {
            points.times_ms.push(old_times[old]);
            points.values.push(old_values[old]);
            old += 1;
        }
    }
}
