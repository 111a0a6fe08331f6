//! Sealing: the points of the head become blocks, inside the transaction that empties the log.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;

use super::{
    chunk::{self, Block, NamedSeries, Sealed},
    codec::{MOST_SAMPLES, Samples},
    head::Unsealed,
    seal::{Extent, cut, place},
    store::TelemetryError,
};

/// Rewrites the blocks of some series so that they hold their unsealed points.
pub(super) async fn seal(
    txn: &impl ConnectionTrait,
    unsealed: Vec<Unsealed>,
    seal_points: usize,
) -> Result<(), TelemetryError> {
    // A block may reach twice this before it is cut.
    let seal_points = seal_points.clamp(1, MOST_SAMPLES / 2);
    let ids: Vec<i64> = unsealed.iter().map(|one| one.series.id).collect();
    let ends = chunk::sealed_ends(txn, &ids, seal_points).await?;
    let mut rewrites = Vec::with_capacity(unsealed.len());
    for (one, (sealed, tail)) in unsealed.into_iter().zip(ends) {
        let first = one.points.times_ms.first().copied();
        // Nearly always the points follow what is sealed: only the newest block can change.
        let in_order = sealed.last_ms < first;
        let (extents, blocks) = if in_order {
            let extents = tail.iter().map(|tail| tail.extent).collect();
            (extents, tail.into_iter().map(|tail| (0, tail)).collect())
        } else {
            blocks_around(txn, &one, seal_points).await?
        };
        rewrites.push(Rewrite {
            series: one.series,
            points: one.points,
            extents,
            blocks,
            sealed,
        });
    }
    let compress = move || {
        rewrites
            .into_iter()
            .map(|one| one.run(seal_points))
            .collect()
    };
    let written: Result<Vec<Rewritten>, TelemetryError> = tokio::task::spawn_blocking(compress)
        .await
        .map_err(|_| TelemetryError::Interrupted)?;
    let (mut gone, mut blocks, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    for one in written? {
        gone.extend(one.gone);
        blocks.extend(one.blocks);
        sealed.push((one.series, one.sealed));
    }
    chunk::delete_blocks(txn, &gone).await?;
    chunk::insert_blocks(txn, &blocks).await?;
    chunk::set_sealed(txn, &sealed).await?;
    Ok(())
}

/// Where the blocks from the first of some late points on lie, and those of them that change.
async fn blocks_around(
    txn: &impl ConnectionTrait,
    one: &Unsealed,
    seal_points: usize,
) -> Result<(Vec<Extent>, BTreeMap<usize, Block>), TelemetryError> {
    let (series, first) = (one.series.id, one.points.times_ms.first());
    let first = first.copied().unwrap_or(i64::MAX);
    let extents = chunk::extents_from(txn, series, first).await?;
    let mut blocks = BTreeMap::new();
    for placement in place(&extents, &one.points, seal_points) {
        if let Some(at) = placement.block {
            let end_ms = extents[at].end_ms;
            let found = chunk::blocks_within(txn, series, end_ms, end_ms).await?;
            blocks.extend(found.into_iter().map(|block| (at, block)));
        }
    }
    Ok((extents, blocks))
}

/// New points of one series and the stored blocks they may change.
struct Rewrite {
    series: NamedSeries,
    points: Samples,
    /// Every block the points could meet; those that change are in `blocks`, by position.
    extents: Vec<Extent>,
    blocks: BTreeMap<usize, Block>,
    sealed: Sealed,
}

/// What to delete and insert for one series.
struct Rewritten {
    series: NamedSeries,
    gone: Vec<(i64, i64)>,
    blocks: Vec<Block>,
    sealed: Sealed,
}

impl Rewrite {
    fn run(self, seal_points: usize) -> Result<Rewritten, TelemetryError> {
        let mut gone = Vec::new();
        let mut blocks = Vec::new();
        let mut count = self.sealed.count;
        for placement in place(&self.extents, &self.points, seal_points) {
            let stored = placement.block.and_then(|at| self.blocks.get(&at));
            let old = match stored {
                Some(block) => {
                    gone.push((self.series.id, block.extent.end_ms));
                    count -= i64::try_from(block.extent.count).unwrap_or(0);
                    block.points()?
                }
                None => Samples::default(),
            };
            for piece in cut(old, &placement.points, seal_points) {
                count += i64::try_from(piece.times_ms.len()).unwrap_or(0);
                blocks.extend(Block::of(self.series.id, &piece));
            }
        }
        let (first, last) = (self.points.times_ms.first(), self.points.times_ms.last());
        let sealed = Sealed {
            first_ms: self.sealed.first_ms.into_iter().chain(first.copied()).min(),
            last_ms: self.sealed.last_ms.max(last.copied()),
            count,
        };
        Ok(Rewritten {
            series: self.series,
            gone,
            blocks,
            sealed,
        })
    }
}
