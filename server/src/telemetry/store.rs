//! The handle the rest of the server holds: append, flush and the queries.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};
use tokio::sync::Mutex;

use crate::store::database::begin_as_is;

use super::{
    chunk::{self, Block, NamedSeries, Sealed, State},
    codec::{CodecError, Samples},
    flush,
    head::Head,
    log,
    query::{self, Bucket, RangeQuery, SeriesInfo},
    sample::{AppendReport, Group, HeadLimits, Rejected, Sample, sort_batch},
};

/// How many series are sealed between two statements of a flush.
const SERIES_PER_ROUND: usize = 200;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The batch is larger than the limits allow; nothing of it was stored.
    #[error("batch has {count} samples, more than {limit}; send it in parts")]
    OversizedBatch {
        /// Samples in the batch.
        count: usize,
        /// The most a batch may have.
        limit: usize,
    },
    /// The range ends before it begins.
    #[error("range ends at {to_ms} ms, before it begins at {from_ms} ms")]
    EmptyRange {
        /// Where it begins.
        from_ms: i64,
        /// Where it ends.
        to_ms: i64,
    },
    /// The step is not a positive number of milliseconds.
    #[error("step of {step_ms} ms is not positive")]
    InvalidStep {
        /// The step asked for.
        step_ms: i64,
    },
    /// The answer would be too long.
    #[error("range holds more than {limit} points; ask for a larger step or a shorter range")]
    TooManyPoints {
        /// The most points of one answer.
        limit: usize,
    },
    /// The tables of the store are missing.
    #[error("telemetry tables are missing; run the migrations")]
    NotMigrated,
    /// A stored block cannot be read.
    #[error("failed to read the block of series {series} that ends at {end_ms} ms")]
    DamagedBlock {
        /// The number of the series.
        series: i64,
        /// The end of the block.
        end_ms: i64,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
    /// A row of the write-ahead log cannot be read.
    #[error("failed to read batch {batch} of the write-ahead log")]
    DamagedLog {
        /// The number of the batch.
        batch: i64,
    },
    /// The database refused or could not be reached; trying again may help.
    #[error("failed to use the telemetry tables")]
    Database(#[from] DbErr),
    /// Compression was cut off, as when the process ends.
    #[error("sealing was interrupted")]
    Interrupted,
}

/// The telemetry store; a clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: DatabaseConnection,
    /// For questions; may be the same pool as `db`.
    reader: DatabaseConnection,
    limits: HeadLimits,
    head: RwLock<Head>,
    /// Held while this process appends or flushes, so that it asks the database for one at a time.
    writer: Mutex<()>,
}

impl Telemetry {
    /// Opens the store and brings back what was acknowledged but not yet sealed.
    pub async fn open(db: DatabaseConnection, limits: HeadLimits) -> Result<Self, TelemetryError> {
        Self::open_with_reader(db.clone(), db, limits).await
    }

    /// The same with a second pool for questions, so that they do not queue behind writes.
    pub async fn open_with_reader(
        db: DatabaseConnection,
        reader: DatabaseConnection,
        limits: HeadLimits,
    ) -> Result<Self, TelemetryError> {
        let shared = Shared {
            db,
            reader,
            limits,
            head: RwLock::default(),
            writer: Mutex::default(),
        };
        let telemetry = Self {
            shared: Arc::new(shared),
        };
        telemetry.follow().await?;
        Ok(telemetry)
    }

    /// Stores a batch; when this returns, the accepted samples survive the end of the process.
    ///
    /// Samples may come in any order and more than once: at equal times the last one stored wins.
    /// What cannot be stored is reported per item. Prometheus stale markers are passed over.
    pub async fn append(
        &self,
        now_ms: i64,
        samples: Vec<Sample>,
    ) -> Result<AppendReport, TelemetryError> {
        let limits = &self.shared.limits;
        let (count, limit) = (samples.len(), limits.max_batch_samples);
        if count > limit {
            return Err(TelemetryError::OversizedBatch { count, limit });
        }
        let (groups, mut rejected) = sort_batch(&samples, now_ms, limits);
        let incoming: usize = groups.iter().map(|group| group.times_ms.len()).sum();
        if incoming == 0 {
            let accepted = 0;
            return Ok(AppendReport { accepted, rejected });
        }
        let _writer = self.shared.writer.lock().await;
        if self.head().samples() + incoming > limits.max_samples_in_memory {
            self.seal_all().await?;
        }
        let txn = begin_as_is(&self.shared.db).await?;
        let state = chunk::lock_state(&txn).await?;
        self.catch_up(&txn, state).await?;
        let placed = self.number(groups);
        let accepted = placed.accepted;
        rejected.extend(placed.rejected);
        rejected.sort_by_key(|item| item.index);
        if !placed.entries.is_empty() {
            let batch = state.appended + 1;
            chunk::insert_series(&txn, &placed.created).await?;
            chunk::insert_log(&txn, batch, log::encode(&placed.entries)).await?;
            let state = State {
                appended: batch,
                ..state
            };
            chunk::set_state(&txn, state).await?;
            txn.commit().await?;
            let mut head = self.head_mut();
            head.learn(&placed.created);
            head.apply(batch, &placed.entries);
        }
        Ok(AppendReport { accepted, rejected })
    }

    /// Seals everything in memory into blocks and empties the log.
    pub async fn flush(&self) -> Result<(), TelemetryError> {
        let _writer = self.shared.writer.lock().await;
        self.seal_all().await
    }

    /// Forgets sealed blocks that end before `before_ms`; answers how many samples went.
    pub async fn prune(&self, before_ms: i64) -> Result<u64, TelemetryError> {
        let _writer = self.shared.writer.lock().await;
        let txn = begin_as_is(&self.shared.db).await?;
        chunk::lock_state(&txn).await?;
        let mut pruned = 0;
        for series in chunk::series_ending_before(&txn, before_ms).await? {
            pruned += chunk::prune_series(&txn, series, before_ms).await?;
        }
        txn.commit().await?;
        Ok(pruned)
    }

    /// How many samples are in memory, not yet sealed.
    pub fn held_in_memory(&self) -> usize {
        self.head().samples()
    }

    /// Summarises a range of one series; a series that does not exist has no buckets.
    pub async fn query(&self, query: RangeQuery) -> Result<Vec<Bucket>, TelemetryError> {
        query::check(&query)?;
        let (from_ms, to_ms) = (query.from_ms, query.to_ms);
        let found = self
            .found(&query.asset, &query.metric, from_ms, to_ms)
            .await?;
        let Some((head, blocks)) = found else {
            return Ok(Vec::new());
        };
        query::buckets(&query, &blocks, &head)
    }

    /// The samples of one series within `from_ms..=to_ms`, as they were stored.
    pub async fn raw(
        &self,
        asset: &str,
        metric: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Samples, TelemetryError> {
        let Some((head, blocks)) = self.found(asset, metric, from_ms, to_ms).await? else {
            return Ok(Samples::default());
        };
        query::samples(&blocks, &head, from_ms, to_ms)
    }

    /// The samples of every metric of one asset within `from_ms..=to_ms`, in two statements;
    /// metrics without any are left out.
    pub async fn raw_many(
        &self,
        asset: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<BTreeMap<String, Samples>, TelemetryError> {
        if from_ms > to_ms {
            return Err(TelemetryError::EmptyRange { from_ms, to_ms });
        }
        self.follow().await?;
        // The head is read before the blocks: a flush in between then shows a sample twice, never
        // not at all.
        let heads: Vec<(NamedSeries, Samples)> = {
            let head = self.head();
            let names = head.names(Some(asset)).into_iter();
            let with_points = |named: NamedSeries| {
                let points = head.points(named.id, from_ms, to_ms);
                (named, points)
            };
            names.map(with_points).collect()
        };
        let mut ids: Vec<i64> = heads.iter().map(|(named, _)| named.id).collect();
        ids.sort_unstable();
        let blocks = chunk::blocks_of_many(&self.shared.reader, &ids, from_ms, to_ms).await?;
        let mut answer = BTreeMap::new();
        for (named, head) in heads {
            let first = blocks.partition_point(|block| block.series < named.id);
            let end = blocks.partition_point(|block| block.series <= named.id);
            let samples = query::samples(&blocks[first..end], &head, from_ms, to_ms)?;
            if !samples.times_ms.is_empty() {
                answer.insert(named.metric.to_string(), samples);
            }
        }
        Ok(answer)
    }

    /// The last sample of a metric of every asset that has it: its time, ms, and its value.
    pub async fn latest(
        &self,
        metric: &str,
    ) -> Result<std::collections::BTreeMap<String, (i64, f64)>, TelemetryError> {
        let mut latest = std::collections::BTreeMap::new();
        for series in self.series(None).await? {
            if &*series.metric != metric {
                continue;
            }
            let last = self
                .raw(&series.asset, metric, series.last_ms, series.last_ms)
                .await?;
            if let Some(&value) = last.values.last() {
                latest.insert(series.asset.to_string(), (series.last_ms, value));
            }
        }
        Ok(latest)
    }

    /// The time of the last sample of an asset, of whatever metric.
    pub async fn last_ms(&self, asset: &str) -> Result<Option<i64>, TelemetryError> {
        self.follow().await?;
        // The head is read first, as in `raw_many`.
        let (ids, unsealed): (Vec<i64>, Vec<Option<i64>>) = {
            let head = self.head();
            let names = head.names(Some(asset)).into_iter();
            let last = |id| {
                let points = head.points(id, i64::MIN, i64::MAX);
                (id, points.times_ms.last().copied())
            };
            names.map(|named| last(named.id)).unzip()
        };
        let sealed = chunk::sealed_ends(&self.shared.reader, &ids, 0).await?;
        let sealed = sealed.into_iter().filter_map(|(end, _)| end.last_ms);
        Ok(unsealed.into_iter().flatten().chain(sealed).max())
    }

    /// The series of one asset, or of all, sorted by asset and metric.
    pub async fn series(&self, asset: Option<&str>) -> Result<Vec<SeriesInfo>, TelemetryError> {
        self.follow().await?;
        let heads: Vec<(NamedSeries, Samples)> = {
            let head = self.head();
            let names = head.names(asset).into_iter();
            let with_points = |named: NamedSeries| {
                let points = head.points(named.id, i64::MIN, i64::MAX);
                (named, points)
            };
            names.map(with_points).collect()
        };
        let ids: Vec<i64> = heads.iter().map(|(named, _)| named.id).collect();
        let ends = chunk::sealed_ends(&self.shared.reader, &ids, 0).await?;
        let mut infos = Vec::with_capacity(heads.len());
        for ((named, head), (sealed, _)) in heads.into_iter().zip(ends) {
            let twice = self.points_in_both(&named, &head, sealed).await?;
            let first_ms = head.times_ms.first().copied();
            let last_ms = head.times_ms.last().copied();
            let count = sealed.count.unsigned_abs() + head.times_ms.len() as u64 - twice;
            let (Some(first_ms), Some(last_ms)) = (
                first_ms.into_iter().chain(sealed.first_ms).min(),
                last_ms.into_iter().chain(sealed.last_ms).max(),
            ) else {
                continue;
            };
            infos.push(SeriesInfo {
                asset: named.asset,
                metric: named.metric,
                first_ms,
                last_ms,
                count,
            });
        }
        Ok(infos)
    }

    /// How many points of the head replace sealed ones.
    async fn points_in_both(
        &self,
        named: &NamedSeries,
        head: &Samples,
        sealed: Sealed,
    ) -> Result<u64, TelemetryError> {
        let (Some(&first), Some(last)) = (head.times_ms.first(), sealed.last_ms) else {
            return Ok(0);
        };
        if first > last {
            return Ok(0);
        }
        let blocks = chunk::blocks_within(&self.shared.reader, named.id, first, last).await?;
        let stored = query::samples(&blocks, &Samples::default(), first, last)?;
        let sealed_too = |time: &&i64| stored.times_ms.binary_search(time).is_ok();
        Ok(head.times_ms.iter().filter(sealed_too).count() as u64)
    }

    /// The head's points and the blocks of one series within a range.
    async fn found(
        &self,
        asset: &str,
        metric: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Option<(Samples, Vec<Block>)>, TelemetryError> {
        if from_ms > to_ms {
            return Err(TelemetryError::EmptyRange { from_ms, to_ms });
        }
        self.follow().await?;
        let (number, points) = {
            let head = self.head();
            let Some(number) = head.number(asset, metric) else {
                return Ok(None);
            };
            (number, head.points(number, from_ms, to_ms))
        };
        let blocks = chunk::blocks_within(&self.shared.reader, number, from_ms, to_ms).await?;
        Ok(Some((points, blocks)))
    }

    /// Brings the head up to what other processes have written since.
    async fn follow(&self) -> Result<(), TelemetryError> {
        let at = self.position();
        let (state, mut rows) = chunk::log_after(&self.shared.reader, at.appended).await?;
        if state == at {
            return Ok(());
        }
        let mut flushed = at.flushed;
        if state.flushed != at.flushed {
            let (state, all) = chunk::log_after(&self.shared.reader, 0).await?;
            (flushed, rows) = (state.flushed, all);
        }
        self.learn_series(&self.shared.reader).await?;
        let mut head = self.head_mut();
        head.restart(flushed, &rows);
        head.follow(&rows);
        Ok(())
    }

    /// The same inside a transaction that has locked the state.
    async fn catch_up(
        &self,
        txn: &impl ConnectionTrait,
        state: State,
    ) -> Result<(), TelemetryError> {
        let at = self.position();
        if state == at {
            return Ok(());
        }
        let after = if state.flushed == at.flushed {
            at.appended
        } else {
            0
        };
        let (_, rows) = chunk::log_after(txn, after).await?;
        self.learn_series(txn).await?;
        let mut head = self.head_mut();
        head.restart(state.flushed, &rows);
        head.follow(&rows);
        Ok(())
    }

    async fn learn_series(&self, db: &impl ConnectionTrait) -> Result<(), TelemetryError> {
        let known = i64::try_from(self.head().series_count()).unwrap_or(i64::MAX);
        let series = chunk::series_after(db, known).await?;
        self.head_mut().learn(&series);
        Ok(())
    }

    /// Gives each group its series, new ones the next free numbers, as far as the limit allows.
    fn number(&self, groups: Vec<Group>) -> Numbered {
        let limit = self.shared.limits.max_series;
        let head = self.head();
        let mut numbered = Numbered::default();
        for group in groups {
            let known = head.number(&group.asset, &group.metric);
            let taken = head.series_count() + numbered.created.len();
            if known.is_none() && taken >= limit {
                let reason = format!(
                    "series `{}/{}` would exceed the limit of {limit} series",
                    group.asset, group.metric
                );
                numbered
                    .rejected
                    .extend(group.indices.iter().map(|&index| Rejected {
                        index,
                        field: "metric".into(),
                        reason: reason.clone(),
                    }));
                continue;
            }
            let series = known.unwrap_or_else(|| {
                let id = i64::try_from(taken + 1).unwrap_or(i64::MAX);
                numbered.created.push(NamedSeries {
                    id,
                    asset: group.asset,
                    metric: group.metric,
                });
                id
            });
            numbered.accepted += group.indices.len();
            numbered.entries.push(log::Entry {
                series,
                times_ms: group.times_ms,
                values: group.values,
            });
        }
        numbered
    }

    /// Seals everything; the caller holds the writer's lock.
    async fn seal_all(&self) -> Result<(), TelemetryError> {
        let txn = begin_as_is(&self.shared.db).await?;
        let state = chunk::lock_state(&txn).await?;
        self.catch_up(&txn, state).await?;
        if state.appended == state.flushed {
            return Ok(());
        }
        let mut unsealed = self.head().unsealed();
        while !unsealed.is_empty() {
            let rest = unsealed.split_off(unsealed.len().min(SERIES_PER_ROUND));
            let round = std::mem::replace(&mut unsealed, rest);
            flush::seal(&txn, round, self.shared.limits.seal_points).await?;
        }
        chunk::delete_log(&txn, state.appended).await?;
        let flushed = state.appended;
        chunk::set_state(&txn, State { flushed, ..state }).await?;
        txn.commit().await?;
        let mut head = self.head_mut();
        if head.appended == flushed {
            head.empty(flushed);
        }
        Ok(())
    }

    fn position(&self) -> State {
        let head = self.head();
        State {
            appended: head.appended,
            flushed: head.flushed,
        }
    }

    // A panic while the lock was held cannot leave the head half-applied in a way that matters:
    // the log is the truth, and a batch is applied only if it is the next.
    fn head(&self) -> std::sync::RwLockReadGuard<'_, Head> {
        self.shared
            .head
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn head_mut(&self) -> std::sync::RwLockWriteGuard<'_, Head> {
        self.shared
            .head
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch with its series known.
#[derive(Debug, Default)]
struct Numbered {
    accepted: usize,
    entries: Vec<log::Entry>,
    created: Vec<NamedSeries>,
    rejected: Vec<Rejected>,
}
