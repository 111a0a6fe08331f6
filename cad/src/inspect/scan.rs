//! A point cloud of a finished part, as a scanner delivers it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Measured surface points in millimetres, in the scanner's own coordinates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Positions, mm.
    pub points: Vec<[f64; 3]>,
    /// Outward unit normals, one per point, if the scanner gives them.
    pub normals: Option<Vec<[f64; 3]>>,
    /// Declared standard deviation of one point along the normal, mm; 0 if unknown.
    pub sigma_mm: f64,
}

/// The points in an order that depends only on the set of points, re-centred.
///
/// Every prefix is a random subsample of the scan, so the levels of the registration are prefixes;
/// and a permuted scan gives the same bytes in every result.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    /// Positions relative to `centre`, mm.
    pub(crate) points: Vec<[f64; 3]>,
    /// Unit normals in the same order.
    pub(crate) normals: Option<Vec<[f64; 3]>>,
    /// What was subtracted: the centre of the bounding box, mm.
    pub(crate) centre: [f64; 3],
}

impl Ordered {
    /// Orders and re-centres a scan whose coordinates are finite, without the points that have no company
    /// within about `reach` and hence are dust, not surface.
    pub(crate) fn new(scan: &Scan, reach: f64) -> Self {
        let mut keyed: Vec<(u64, u32)> = companions(&scan.points, reach)
            .into_iter()
            .map(|i| (hash(scan.points[i as usize]), i))
            .collect();
        keyed.sort_unstable_by(|a, b| {
            let (p, q) = (scan.points[a.1 as usize], scan.points[b.1 as usize]);
            a.0.cmp(&b.0)
                .then_with(|| p.map(f64::to_bits).cmp(&q.map(f64::to_bits)))
        });
        let kept: Vec<[f64; 3]> = keyed
            .iter()
            .map(|&(_, i)| scan.points[i as usize])
            .collect();
        let (min, max) = extent(&kept);
        let centre = [0, 1, 2].map(|k| 0.5 * (min[k] + max[k]));
        let points = kept.iter().map(|p| crate::mesh::sub(*p, centre)).collect();
        let normals = scan
            .normals
            .as_ref()
            .filter(|normals| normals.len() == scan.points.len())
            .map(|normals| keyed.iter().map(|&(_, i)| normals[i as usize]).collect());
        Self {
            points,
            normals,
            centre,
        }
    }
}

/// Indices of the points with at least two others in the cubes around theirs.
fn companions(points: &[[f64; 3]], reach: f64) -> Vec<u32> {
    let cell = |p: &[f64; 3]| p.map(|x| (x / reach).floor() as i64);
    let mut counts: HashMap<[i64; 3], u32> = HashMap::new();
    for p in points {
        *counts.entry(cell(p)).or_default() += 1;
    }
    let crowded: HashMap<[i64; 3], bool> = counts
        .keys()
        .map(|&c| {
            let around =
                (0..27).map(|k| [c[0] + k % 3 - 1, c[1] + k / 3 % 3 - 1, c[2] + k / 9 - 1]);
            (c, around.filter_map(|c| counts.get(&c)).sum::<u32>() >= 3)
        })
        .collect();
    (0..points.len() as u32)
        .filter(|&i| crowded[&cell(&points[i as usize])])
        .collect()
}

/// Smallest and largest coordinates; zero for no points.
pub(crate) fn extent(points: &[[f64; 3]]) -> ([f64; 3], [f64; 3]) {
    let Some(&first) = points.first() else {
        return ([0.0; 3], [0.0; 3]);
    };
    points.iter().fold((first, first), |(min, max), p| {
        (
            [0, 1, 2].map(|k| p[k].min(min[k])),
            [0, 1, 2].map(|k| p[k].max(max[k])),
        )
    })
}

/// `SplitMix64` over the bits of the coordinates.
fn hash(p: [f64; 3]) -> u64 {
    p.iter().fold(0x9e37_79b9_7f4a_7c15, |state, x| {
        let mut z = (state ^ x.to_bits()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
