//! One sample, what is asked of it, and how a batch is answered item by item.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use serde::Serialize;

/// One measurement of one metric of one asset.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The asset it was taken from.
    pub asset: Arc<str>,
    /// What was measured; the unit is part of the name.
    pub metric: Arc<str>,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// The reading.
    pub value: f64,
}

/// An item of a batch that was not stored, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its position in the batch, counted from zero.
    pub index: usize,
    /// The field at fault; empty where the item as a whole is.
    pub field: Cow<'static, str>,
    /// What is wrong with it, and where it helps the remedy.
    pub reason: String,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AppendReport {
    /// Items now stored durably.
    pub accepted: usize,
    /// Items left out, in order of their position.
    pub rejected: Vec<Rejected>,
}

/// The limits of the store; the head never grows beyond them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The most series the store keeps; a sample that would begin one more is rejected.
    pub max_series: usize,
    /// The most samples held in memory before they are sealed.
    pub max_samples_in_memory: usize,
    /// The number of points of a full block.
    pub seal_points: usize,
    /// The most samples of one batch.
    pub max_batch_samples: usize,
    /// How far ahead of the clock a sample may be, in milliseconds.
    pub max_ahead_ms: i64,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            max_series: 100_000,
            max_samples_in_memory: 500_000,
            seal_points: 1024,
            max_batch_samples: 100_000,
            max_ahead_ms: 24 * 60 * 60 * 1000,
        }
    }
}

/// The longest asset or metric name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// The value Prometheus writes when a series has ended; it is a sign, not a sample.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The points of one series found in a batch, in order of time, the last of equal times kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) asset: Arc<str>,
    pub(super) metric: Arc<str>,
    pub(super) times_ms: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// Where in the batch the points came from, replaced ones included.
    pub(super) indices: Vec<usize>,
}

/// Sorts a batch into series and leaves out what cannot be stored.
///
/// Groups come in order of first appearance. Stale markers vanish without a word.
pub(super) fn sort_batch(
    samples: &[Sample],
    now_ms: i64,
    limits: &HeadLimits,
) -> (Vec<Group>, Vec<Rejected>) {
    let mut rejected = Vec::new();
    let mut groups: Vec<Unsorted> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut last: Option<usize> = None;
    for (index, sample) in samples.iter().enumerate() {
        if sample.value.to_bits() == STALE_MARKER_BITS {
            continue;
        }
        if let Some((field, reason)) = fault(sample, now_ms, limits) {
            let field = Cow::Borrowed(field);
            rejected.push(Rejected {
                index,
                field,
                reason,
            });
            continue;
        }
        let same = |place: &usize| {
            groups[*place].asset == sample.asset && groups[*place].metric == sample.metric
        };
        let place = last.filter(same).unwrap_or_else(|| {
            *places
                .entry((&sample.asset, &sample.metric))
                .or_insert_with(|| {
                    groups.push(Unsorted::of(sample));
                    groups.len() - 1
                })
        });
        groups[place]
            .points
            .push((sample.time_ms, sample.value, index));
        last = Some(place);
    }
    (
        groups.into_iter().map(Unsorted::into_sorted).collect(),
        rejected,
    )
}

struct Unsorted {
    asset: Arc<str>,
    metric: Arc<str>,
    points: Vec<(i64, f64, usize)>,
}

impl Unsorted {
    fn of(sample: &Sample) -> Self {
        Self {
            asset: Arc::clone(&sample.asset),
            metric: Arc::clone(&sample.metric),
            points: Vec::new(),
        }
    }

    fn into_sorted(mut self) -> Group {
        // Stable, so among equal times the one that came last stays last and wins.
        self.points.sort_by_key(|point| point.0);
        let mut group = Group {
            asset: self.asset,
            metric: self.metric,
            times_ms: Vec::with_capacity(self.points.len()),
            values: Vec::with_capacity(self.points.len()),
            indices: Vec::with_capacity(self.points.len()),
        };
        for (time_ms, value, index) in self.points {
            if group.times_ms.last() == Some(&time_ms) {
                group.times_ms.pop();
                group.values.pop();
            }
            group.times_ms.push(time_ms);
            group.values.push(value);
            group.indices.push(index);
        }
        group
    }
}

fn fault(sample: &Sample, now_ms: i64, limits: &HeadLimits) -> Option<(&'static str, String)> {
    if let Some(reason) = name_fault(&sample.asset) {
        return Some(("asset", reason));
    }
    if let Some(reason) = name_fault(&sample.metric) {
        return Some(("metric", reason));
    }
    if sample.time_ms < 0 {
        return Some(("time", "lies before 1970".to_owned()));
    }
    let latest = now_ms.saturating_add(limits.max_ahead_ms);
    if sample.time_ms > latest {
        let ahead_s = sample.time_ms.saturating_sub(now_ms) / 1000;
        let reason =
            format!("lies {ahead_s} s ahead of this server's clock; check the clock of the sender");
        return Some(("time", reason));
    }
    if !sample.value.is_finite() {
        return Some(("value", format!("{} is not a finite number", sample.value)));
    }
    None
}

fn name_fault(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        let length = name.len();
        return Some(format!(
            "is {length} bytes long, more than {MAX_NAME_BYTES}"
        ));
    }
    name.chars()
        .any(char::is_control)
        .then(|| "contains a control character".to_owned())
}
