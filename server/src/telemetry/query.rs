//! Ranges of one series: merging what is sealed with what is not, and down-sampling.

use std::sync::Arc;

use serde::Serialize;

use super::{chunk::Block, codec::Samples, head::merge_into, store::TelemetryError};

/// The most points one range query answers with.
pub const MAX_POINTS: usize = 100_000;

/// Which samples are asked for, and how finely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// The asset.
    pub asset: String,
    /// The metric.
    pub metric: String,
    /// The first instant, included.
    pub from_ms: i64,
    /// The last instant, included.
    pub to_ms: i64,
    /// The width of a bucket; without one every sample is its own bucket.
    pub step_ms: Option<i64>,
}

/// The samples of one stretch of time, summarised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bucket {
    /// Where the stretch begins; a multiple of the step.
    pub time_ms: i64,
    /// The smallest value in it.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// How many samples there are, at least one.
    pub count: u64,
}

/// A series and how far it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeriesInfo {
    /// The asset.
    pub asset: Arc<str>,
    /// The metric.
    pub metric: Arc<str>,
    /// Its first sample, in milliseconds since 1970.
    pub first_ms: i64,
    /// Its last sample.
    pub last_ms: i64,
    /// How many samples it has.
    pub count: u64,
}

/// Refuses what no answer can be given to.
pub(super) fn check(query: &RangeQuery) -> Result<(), TelemetryError> {
    let (from_ms, to_ms) = (query.from_ms, query.to_ms);
    if from_ms > to_ms {
        return Err(TelemetryError::EmptyRange { from_ms, to_ms });
    }
    let Some(step_ms) = query.step_ms else {
        return Ok(());
    };
    if step_ms < 1 {
        return Err(TelemetryError::InvalidStep { step_ms });
    }
    let buckets = to_ms
        .div_euclid(step_ms)
        .abs_diff(from_ms.div_euclid(step_ms));
    if buckets >= MAX_POINTS as u64 {
        return Err(TelemetryError::TooManyPoints { limit: MAX_POINTS });
    }
    Ok(())
}

/// The samples of one series within `from_ms..=to_ms`: blocks first, the head over them.
pub(super) fn samples(
    blocks: &[Block],
    head: &Samples,
    from_ms: i64,
    to_ms: i64,
) -> Result<Samples, TelemetryError> {
    let mut all = Samples::default();
    for block in blocks {
        let points = block.points()?;
        let first = points.times_ms.partition_point(|&time| time < from_ms);
        let end = points.times_ms.partition_point(|&time| time <= to_ms);
        if first < end {
            all.times_ms.extend_from_slice(&points.times_ms[first..end]);
            all.values.extend_from_slice(&points.values[first..end]);
        }
    }
    merge_into(&mut all, &head.times_ms, &head.values);
    Ok(all)
}

/// Summarises a range; a block that lies within one bucket is not even decompressed.
pub(super) fn buckets(
    query: &RangeQuery,
    blocks: &[Block],
    head: &Samples,
) -> Result<Vec<Bucket>, TelemetryError> {
    let (from_ms, to_ms) = (query.from_ms, query.to_ms);
    let Some(step_ms) = query.step_ms else {
        let points = samples(blocks, head, from_ms, to_ms)?;
        if points.times_ms.len() > MAX_POINTS {
            return Err(TelemetryError::TooManyPoints { limit: MAX_POINTS });
        }
        let mut summary = Summary::new(1);
        summary.add_all(&points);
        return Ok(summary.finish());
    };
    let mut summary = Summary::new(step_ms);
    let mut unsealed = 0;
    for (place, block) in blocks.iter().enumerate() {
        let extent = block.extent;
        let upto = blocks
            .get(place + 1)
            .map_or(usize::MAX, |next| {
                head.times_ms
                    .partition_point(|&time| time < next.extent.start_ms)
            })
            .min(head.times_ms.len());
        let before = head
            .times_ms
            .partition_point(|&time| time < extent.start_ms)
            .max(unsealed);
        summary.add_all(&slice(head, unsealed, before));
        let over = slice(head, before, upto);
        unsealed = upto;
        let whole = from_ms <= extent.start_ms && extent.end_ms <= to_ms;
        let one_bucket = extent.start_ms.div_euclid(step_ms) == extent.end_ms.div_euclid(step_ms);
        let untouched = over
            .times_ms
            .first()
            .is_none_or(|&time| time > extent.end_ms);
        if whole && one_bucket && untouched {
            summary.add_block(block);
            summary.add_all(&over);
        } else {
            summary.add_all(&samples(
                std::slice::from_ref(block),
                &over,
                from_ms,
                to_ms,
            )?);
        }
    }
    summary.add_all(&slice(head, unsealed, head.times_ms.len()));
    Ok(summary.finish())
}

fn slice(points: &Samples, first: usize, end: usize) -> Samples {
    Samples {
        times_ms: points.times_ms[first..end].to_vec(),
        values: points.values[first..end].to_vec(),
    }
}

/// Buckets under construction; points must come in order of time.
struct Summary {
    step_ms: i64,
    done: Vec<Bucket>,
    /// The sum of the last bucket, whose mean is not yet known.
    sum: f64,
}

impl Summary {
    fn new(step_ms: i64) -> Self {
        Self {
            step_ms,
            done: Vec::new(),
            sum: 0.0,
        }
    }

    fn add_all(&mut self, points: &Samples) {
        for (&time_ms, &value) in points.times_ms.iter().zip(&points.values) {
            self.add(time_ms, value, value, value, 1);
        }
    }

    fn add_block(&mut self, block: &Block) {
        let count = block.extent.count as u64;
        self.add(
            block.extent.start_ms,
            block.min,
            block.max,
            block.sum,
            count,
        );
    }

    fn add(&mut self, time_ms: i64, min: f64, max: f64, sum: f64, count: u64) {
        let time_ms = time_ms.div_euclid(self.step_ms) * self.step_ms;
        match self.done.last_mut() {
            Some(last) if last.time_ms == time_ms => {
                last.min = last.min.min(min);
                last.max = last.max.max(max);
                last.count += count;
                self.sum += sum;
            }
            _ => {
                self.close();
                let mean = 0.0;
                self.done.push(Bucket {
                    time_ms,
                    min,
                    max,
                    mean,
                    count,
                });
                self.sum = sum;
            }
        }
    }

    fn close(&mut self) {
        if let Some(last) = self.done.last_mut() {
            // Clamped, since rounding or overflow of the sum must not leave the range of the data.
            last.mean = (self.sum / last.count as f64).clamp(last.min, last.max);
        }
    }

    fn finish(mut self) -> Vec<Bucket> {
        self.close();
        self.done
    }
}
