//! The telemetry tables: the same statements on Postgres and SQLite.

use std::{fmt::Write as _, sync::Arc};

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};

use super::{
    codec::{Samples, decode, encode},
    log,
    seal::Extent,
    store::TelemetryError,
};

/// How many rows one statement writes or names, well within both databases' parameter limits.
const ROWS_PER_STATEMENT: usize = 400;

/// How many batches were accepted, and how many of them are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) appended: i64,
    pub(super) flushed: i64,
}

/// A series and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedSeries {
    pub(super) id: i64,
    pub(super) asset: Arc<str>,
    pub(super) metric: Arc<str>,
}

/// One batch read from the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogRow {
    pub(super) id: i64,
    pub(super) entries: Vec<log::Entry>,
}

/// What is sealed of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) first_ms: Option<i64>,
    pub(super) last_ms: Option<i64>,
    pub(super) count: i64,
}

/// One stored block with its aggregates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) series: i64,
    pub(super) extent: Extent,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) bytes: Vec<u8>,
}

impl Block {
    /// Compresses the points of one block; there must be at least one.
    pub(super) fn of(series: i64, points: &Samples) -> Option<Self> {
        let extent = Extent {
            start_ms: *points.times_ms.first()?,
            end_ms: *points.times_ms.last()?,
            count: points.times_ms.len(),
        };
        let fold =
            |start, with: fn(f64, f64) -> f64| points.values.iter().copied().fold(start, with);
        Some(Self {
            series,
            extent,
            min: fold(f64::INFINITY, f64::min),
            max: fold(f64::NEG_INFINITY, f64::max),
            sum: points.values.iter().sum(),
            bytes: encode(&points.times_ms, &points.values),
        })
    }

    /// The points of the block.
    pub(super) fn points(&self) -> Result<Samples, TelemetryError> {
        let decoded = decode(&self.bytes);
        let (times_ms, values) = decoded.map_err(|source| TelemetryError::DamagedBlock {
            series: self.series,
            end_ms: self.extent.end_ms,
            source,
        })?;
        Ok(Samples { times_ms, values })
    }
}

/// Locks the state against all other writers until the transaction ends.
pub(super) async fn lock_state(txn: &impl ConnectionTrait) -> Result<State, TelemetryError> {
    let sql = "UPDATE telemetry_state SET appended = appended WHERE id = 1 \
               RETURNING appended, flushed";
    let row = txn.query_one_raw(plain(txn, sql)).await?;
    let row = row.ok_or(TelemetryError::NotMigrated)?;
    Ok(State {
        appended: row.try_get_by_index(0)?,
        flushed: row.try_get_by_index(1)?,
    })
}

/// Records what a locked transaction has appended or flushed.
pub(super) async fn set_state(txn: &impl ConnectionTrait, state: State) -> Result<(), DbErr> {
    let sql = "UPDATE telemetry_state SET appended = $1, flushed = $2 WHERE id = 1";
    let values = [state.appended.into(), state.flushed.into()];
    txn.execute_raw(filled(txn, sql, values)).await?;
    Ok(())
}

/// The state and all rows of the log after `after`, seen at one instant.
pub(super) async fn log_after(
    db: &impl ConnectionTrait,
    after: i64,
) -> Result<(State, Vec<LogRow>), TelemetryError> {
    let sql = "SELECT s.appended, s.flushed, w.id, w.bytes FROM telemetry_state s \
               LEFT JOIN sample_wal w ON w.id > $1 WHERE s.id = 1 ORDER BY w.id";
    let found = db.query_all_raw(filled(db, sql, [after.into()])).await?;
    let first = found.first().ok_or(TelemetryError::NotMigrated)?;
    let state = State {
        appended: first.try_get_by_index(0)?,
        flushed: first.try_get_by_index(1)?,
    };
    let mut rows = Vec::new();
    for row in &found {
        let Some(id) = row.try_get_by_index::<Option<i64>>(2)? else {
            continue;
        };
        let bytes: Vec<u8> = row.try_get_by_index(3)?;
        let entries = log::decode(&bytes).ok_or(TelemetryError::DamagedLog { batch: id })?;
        rows.push(LogRow { id, entries });
    }
    Ok((state, rows))
}

/// Adds one row to the log.
pub(super) async fn insert_log(
    txn: &impl ConnectionTrait,
    batch: i64,
    bytes: Vec<u8>,
) -> Result<(), DbErr> {
    let sql = "INSERT INTO sample_wal (id, bytes) VALUES ($1, $2)";
    let values = [batch.into(), bytes.into()];
    txn.execute_raw(filled(txn, sql, values)).await?;
    Ok(())
}

/// Drops the rows of the log up to `batch`.
pub(super) async fn delete_log(txn: &impl ConnectionTrait, batch: i64) -> Result<(), DbErr> {
    let sql = "DELETE FROM sample_wal WHERE id <= $1";
    txn.execute_raw(filled(txn, sql, [batch.into()])).await?;
    Ok(())
}

/// The series numbered above `after`, in order.
pub(super) async fn series_after(
    db: &impl ConnectionTrait,
    after: i64,
) -> Result<Vec<NamedSeries>, DbErr> {
    let sql = "SELECT id, asset, metric FROM series WHERE id > $1 ORDER BY id";
    let rows = db.query_all_raw(filled(db, sql, [after.into()])).await?;
    let named = |row: &QueryResult| {
        Ok(NamedSeries {
            id: row.try_get_by_index(0)?,
            asset: row.try_get_by_index::<String>(1)?.into(),
            metric: row.try_get_by_index::<String>(2)?.into(),
        })
    };
    rows.iter().map(named).collect()
}

/// Creates series under the numbers they carry.
pub(super) async fn insert_series(
    txn: &impl ConnectionTrait,
    series: &[NamedSeries],
) -> Result<(), DbErr> {
    for part in series.chunks(ROWS_PER_STATEMENT) {
        let mut sql = "INSERT INTO series (id, asset, metric) VALUES ".to_owned();
        push_rows(&mut sql, part.len(), 3);
        let values = part.iter().flat_map(|named| {
            [
                Value::from(named.id),
                named.asset.to_string().into(),
                named.metric.to_string().into(),
            ]
        });
        txn.execute_raw(filled(txn, sql, values)).await?;
    }
    Ok(())
}

/// What is sealed of each given series, in the order given, with the newest block of those where
/// it has fewer than `seal_points`.
pub(super) async fn sealed_ends(
    db: &impl ConnectionTrait,
    series: &[i64],
    seal_points: usize,
) -> Result<Vec<(Sealed, Option<Block>)>, DbErr> {
    let mut ends = Vec::with_capacity(series.len());
    for part in series.chunks(ROWS_PER_STATEMENT) {
        let mut sql = "SELECT s.id, s.first_ms, s.last_ms, s.count AS all_points, b.series_id, \
                       b.end_ms, b.start_ms, b.count, b.min, b.max, b.sum, b.bytes \
                       FROM series s LEFT JOIN block b \
                       ON b.series_id = s.id AND b.end_ms = s.last_ms AND b.count < $1 \
                       WHERE s.id IN ("
            .to_owned();
        push_list(&mut sql, 2, part.len());
        sql.push_str(") ORDER BY s.id");
        let values = [Value::from(to_i64(seal_points))]
            .into_iter()
            .chain(part.iter().map(|&id| id.into()));
        let rows = db.query_all_raw(filled(db, sql, values)).await?;
        let mut found: Vec<(i64, (Sealed, Option<Block>))> = Vec::with_capacity(rows.len());
        for row in &rows {
            let sealed = Sealed {
                first_ms: row.try_get_by_index(1)?,
                last_ms: row.try_get_by_index(2)?,
                count: row.try_get_by_index(3)?,
            };
            let tail = row.try_get_by_index::<Option<i64>>(4)?;
            let tail = tail.map(|_| read_block(row, 4)).transpose()?;
            found.push((row.try_get_by_index(0)?, (sealed, tail)));
        }
        let lookup = |id: &i64| {
            let place = found.binary_search_by_key(id, |entry| entry.0);
            place.map_or((Sealed::default(), None), |place| found[place].1.clone())
        };
        ends.extend(part.iter().map(lookup));
    }
    Ok(ends)
}

/// Where the blocks of a series lie that hold or neighbour times from `from_ms` on.
pub(super) async fn extents_from(
    db: &impl ConnectionTrait,
    series: i64,
    from_ms: i64,
) -> Result<Vec<Extent>, DbErr> {
    let sql = "SELECT start_ms, end_ms, count FROM block WHERE series_id = $1 AND end_ms >= \
               COALESCE((SELECT MAX(end_ms) FROM block WHERE series_id = $1 AND end_ms < $2), $2) \
               ORDER BY end_ms";
    let statement = filled(db, sql, [series.into(), from_ms.into()]);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(|row| read_extent(row, [0, 1, 2])).collect()
}

/// The blocks of a series that overlap `from_ms..=to_ms`, in order of time.
pub(super) async fn blocks_within(
    db: &impl ConnectionTrait,
    series: i64,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Block>, DbErr> {
    let sql = "SELECT series_id, end_ms, start_ms, count, min, max, sum, bytes FROM block \
               WHERE series_id = $1 AND end_ms >= $2 AND start_ms <= $3 AND end_ms <= COALESCE(\
               (SELECT MIN(end_ms) FROM block WHERE series_id = $1 AND end_ms >= $3), $3) \
               ORDER BY end_ms";
    let values = [series.into(), from_ms.into(), to_ms.into()];
    let rows = db.query_all_raw(filled(db, sql, values)).await?;
    rows.iter().map(|row| read_block(row, 0)).collect()
}

/// The blocks of several series that overlap `from_ms..=to_ms`, by series and time.
pub(super) async fn blocks_of_many(
    db: &impl ConnectionTrait,
    series: &[i64],
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Block>, DbErr> {
    let mut blocks = Vec::new();
    for part in series.chunks(ROWS_PER_STATEMENT) {
        let mut sql = "SELECT series_id, end_ms, start_ms, count, min, max, sum, bytes FROM block \
                       WHERE end_ms >= $1 AND start_ms <= $2 AND series_id IN ("
            .to_owned();
        push_list(&mut sql, 3, part.len());
        sql.push_str(") ORDER BY series_id, end_ms");
        let values = [Value::from(from_ms), to_ms.into()]
            .into_iter()
            .chain(part.iter().map(|&id| id.into()));
        let rows = db.query_all_raw(filled(db, sql, values)).await?;
        for row in &rows {
            blocks.push(read_block(row, 0)?);
        }
    }
    Ok(blocks)
}

/// Drops blocks named by series and end.
pub(super) async fn delete_blocks(
    txn: &impl ConnectionTrait,
    keys: &[(i64, i64)],
) -> Result<(), DbErr> {
    for part in keys.chunks(ROWS_PER_STATEMENT) {
        let mut sql = "DELETE FROM block WHERE (series_id, end_ms) IN (VALUES ".to_owned();
        push_rows(&mut sql, part.len(), 2);
        sql.push(')');
        let values = part.iter().flat_map(|key| [key.0.into(), key.1.into()]);
        txn.execute_raw(filled(txn, sql, values)).await?;
    }
    Ok(())
}

/// Adds blocks; those they replace must be gone.
pub(super) async fn insert_blocks(
    txn: &impl ConnectionTrait,
    blocks: &[Block],
) -> Result<(), DbErr> {
    for part in blocks.chunks(ROWS_PER_STATEMENT) {
        let mut sql = "INSERT INTO block \
                       (series_id, end_ms, start_ms, count, min, max, sum, bytes) VALUES "
            .to_owned();
        push_rows(&mut sql, part.len(), 8);
        let values = part.iter().flat_map(|block| {
            [
                Value::from(block.series),
                block.extent.end_ms.into(),
                block.extent.start_ms.into(),
                to_i64(block.extent.count).into(),
                block.min.into(),
                block.max.into(),
                block.sum.into(),
                block.bytes.clone().into(),
            ]
        });
        txn.execute_raw(filled(txn, sql, values)).await?;
    }
    Ok(())
}

/// Records what is sealed of each series.
pub(super) async fn set_sealed(
    txn: &impl ConnectionTrait,
    rows: &[(NamedSeries, Sealed)],
) -> Result<(), DbErr> {
    for part in rows.chunks(ROWS_PER_STATEMENT) {
        let mut sql =
            "INSERT INTO series (id, asset, metric, first_ms, last_ms, count) VALUES ".to_owned();
        push_rows(&mut sql, part.len(), 6);
        sql.push_str(
            " ON CONFLICT (id) DO UPDATE SET first_ms = excluded.first_ms, \
             last_ms = excluded.last_ms, count = excluded.count",
        );
        let values = part.iter().flat_map(|(named, sealed)| {
            [
                Value::from(named.id),
                named.asset.to_string().into(),
                named.metric.to_string().into(),
                sealed.first_ms.into(),
                sealed.last_ms.into(),
                sealed.count.into(),
            ]
        });
        txn.execute_raw(filled(txn, sql, values)).await?;
    }
    Ok(())
}

/// The series that have a block ending before `before_ms`.
pub(super) async fn series_ending_before(
    txn: &impl ConnectionTrait,
    before_ms: i64,
) -> Result<Vec<i64>, DbErr> {
    let sql = "SELECT id FROM series WHERE first_ms < $1 ORDER BY id";
    let rows = txn
        .query_all_raw(filled(txn, sql, [before_ms.into()]))
        .await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// Drops the blocks of one series that end before `before_ms`, and says how many points went.
pub(super) async fn prune_series(
    txn: &impl ConnectionTrait,
    series: i64,
    before_ms: i64,
) -> Result<u64, DbErr> {
    let key = || [Value::from(series), before_ms.into()];
    let sql = "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM block \
               WHERE series_id = $1 AND end_ms < $2";
    let row = txn.query_one_raw(filled(txn, sql, key())).await?;
    let points: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    let sql = "DELETE FROM block WHERE series_id = $1 AND end_ms < $2";
    txn.execute_raw(filled(txn, sql, key())).await?;
    let sql = "UPDATE series SET count = count - $2, \
               first_ms = (SELECT MIN(start_ms) FROM block WHERE series_id = $1), \
               last_ms = (SELECT MAX(end_ms) FROM block WHERE series_id = $1) WHERE id = $1";
    let values = [series.into(), points.into()];
    txn.execute_raw(filled(txn, sql, values)).await?;
    Ok(points.unsigned_abs())
}

fn read_block(row: &QueryResult, at: usize) -> Result<Block, DbErr> {
    Ok(Block {
        series: row.try_get_by_index(at)?,
        extent: read_extent(row, [at + 2, at + 1, at + 3])?,
        min: row.try_get_by_index(at + 4)?,
        max: row.try_get_by_index(at + 5)?,
        sum: row.try_get_by_index(at + 6)?,
        bytes: row.try_get_by_index(at + 7)?,
    })
}

fn read_extent(row: &QueryResult, [start, end, count]: [usize; 3]) -> Result<Extent, DbErr> {
    let count: i64 = row.try_get_by_index(count)?;
    Ok(Extent {
        start_ms: row.try_get_by_index(start)?,
        end_ms: row.try_get_by_index(end)?,
        count: usize::try_from(count).unwrap_or(0),
    })
}

fn plain(db: &impl ConnectionTrait, sql: &str) -> Statement {
    Statement::from_string(db.get_database_backend(), sql)
}

fn filled(
    db: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(db.get_database_backend(), sql, values)
}

/// Writes `($1, $2), ($3, $4)` for two rows of two columns.
fn push_rows(sql: &mut String, rows: usize, columns: usize) {
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        push_list(sql, row * columns + 1, columns);
        sql.push(')');
    }
}

/// Writes `$3, $4` for a list of two that begins at the third parameter.
fn push_list(sql: &mut String, first: usize, count: usize) {
    for place in first..first + count {
        let comma = if place == first { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(sql, "{comma}${place}");
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
