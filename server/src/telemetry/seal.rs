//! Which stored blocks a flush rewrites so that blocks stay sorted, apart and well filled.

use super::{codec::Samples, head::merge_into};

/// Where a stored block lies, without its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) count: usize,
}

/// New points for one place: a stored block to merge them with, or none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    /// The position in the given extents of the block to rewrite.
    pub(super) block: Option<usize>,
    pub(super) points: Samples,
}

/// Distributes sorted new points over the stored blocks around them.
///
/// A point inside a block goes there. Points in a gap extend the block before or after it if that
/// has room, else begin a new one. `blocks` are sorted, apart, and include the neighbours of every
/// point. Rewriting in place never makes two blocks overlap.
pub(super) fn place(blocks: &[Extent], points: &Samples, seal_points: usize) -> Vec<Placement> {
    let mut placements: Vec<Placement> = Vec::new();
    for (&time_ms, &value) in points.times_ms.iter().zip(&points.values) {
        let next = blocks.partition_point(|block| block.end_ms < time_ms);
        let inside = blocks.get(next).is_some_and(|b| b.start_ms <= time_ms);
        let room = |place: usize| blocks.get(place).is_some_and(|b| b.count < seal_points);
        let block = if inside {
            Some(next)
        } else if next > 0 && room(next - 1) {
            Some(next - 1)
        } else {
            Some(next).filter(|&next| room(next))
        };
        let same_gap = |last: &Placement| {
            let last_time = last.points.times_ms.last().copied().unwrap_or(time_ms);
            blocks.partition_point(|block| block.end_ms < last_time) == next
        };
        match placements.last_mut() {
            Some(last) if last.block == block && (block.is_some() || same_gap(last)) => {
                last.points.times_ms.push(time_ms);
                last.points.values.push(value);
            }
            _ => placements.push(Placement {
                block,
                points: Samples {
                    times_ms: vec![time_ms],
                    values: vec![value],
                },
            }),
        }
    }
    placements
}

/// Merges new points over old ones and cuts the result into blocks.
///
/// Every block but the last has exactly `seal_points`; the last has fewer than twice as many, so a
/// full block that receives a late point is not torn apart.
pub(super) fn cut(mut old: Samples, new: &Samples, seal_points: usize) -> Vec<Samples> {
    merge_into(&mut old, &new.times_ms, &new.values);
    let mut pieces = Vec::new();
    while old.times_ms.len() >= 2 * seal_points {
        let rest = Samples {
            times_ms: old.times_ms.split_off(seal_points),
            values: old.values.split_off(seal_points),
        };
        pieces.push(std::mem::replace(&mut old, rest));
    }
    if !old.times_ms.is_empty() {
        pieces.push(old);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SEAL: usize = 4;

    fn samples(points: &BTreeMap<i64, f64>) -> Samples {
        Samples {
            times_ms: points.keys().copied().collect(),
            values: points.values().copied().collect(),
        }
    }

    fn extent(block: &Samples) -> Extent {
        Extent {
            start_ms: block.times_ms[0],
            end_ms: *block.times_ms.last().expect("never empty"),
            count: block.times_ms.len(),
        }
    }

    /// One flush, on blocks in memory.
    fn flush(blocks: &mut Vec<Samples>, points: &Samples) {
        let extents: Vec<Extent> = blocks.iter().map(extent).collect();
        let mut after: Vec<Samples> = Vec::new();
        let placements = place(&extents, points, SEAL);
        let touched: Vec<usize> = placements.iter().filter_map(|p| p.block).collect();
        for placement in &placements {
            let old = placement
                .block
                .map_or_else(Samples::default, |b| blocks[b].clone());
            after.extend(cut(old, &placement.points, SEAL));
        }
        for (place, block) in blocks.drain(..).enumerate() {
            if !touched.contains(&place) {
                after.push(block);
            }
        }
        after.sort_by_key(|block| block.times_ms[0]);
        *blocks = after;
    }

    proptest! {
        #[test]
        fn blocks_stay_apart_and_complete(
            batches in prop::collection::vec(
                prop::collection::btree_map(0i64..200, -5.0..5.0f64, 1..30), 1..12)
        ) {
            let mut blocks = Vec::new();
            let mut all = BTreeMap::new();
            for batch in &batches {
                all.extend(batch.iter().map(|(&t, &v)| (t, v)));
                flush(&mut blocks, &samples(batch));
            }
            let mut times_ms = Vec::new();
            let mut values = Vec::new();
            for block in &blocks {
                prop_assert!(!block.times_ms.is_empty() && block.times_ms.len() < 2 * SEAL);
                times_ms.extend_from_slice(&block.times_ms);
                values.extend_from_slice(&block.values);
            }
            prop_assert_eq!(Samples { times_ms, values }, samples(&all));
        }

        #[test]
        fn points_in_order_fill_blocks(count in 1i64..200, batch in 1i64..20) {
            let mut blocks = Vec::new();
            for start in (0..count).step_by(usize::try_from(batch).expect("small")) {
                let points = (start..(start + batch).min(count)).map(|t| (t, 0.0)).collect();
                flush(&mut blocks, &samples(&points));
            }
            let full = blocks.iter().filter(|block| block.times_ms.len() >= SEAL).count();
            prop_assert!(full + 1 >= blocks.len());
        }
    }
}
