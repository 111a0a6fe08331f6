//! A point cloud of a finished part, as a scanner delivers it.

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
    /// Orders and re-centres a scan whose coordinates are finite and that is not empty.
    pub(crate) fn new(scan: &Scan) -> Self {
        let (min, max) = extent(&scan.points);
        let centre = [0, 1, 2].map(|k| 0.5 * (min[k] + max[k]));
        let mut keyed: Vec<(u64, u32)> =
            scan.points.iter().enumerate().map(|(i, p)| (hash(*p), i as u32)).collect();
        keyed.sort_unstable_by(|a, b| {
            let (p, q) = (scan.points[a.1 as usize], scan.points[b.1 as usize]);
            a.0.cmp(&b.0).then_with(|| p.map(f64::to_bits).cmp(&q.map(f64::to_bits)))
        });
        let points = keyed
            .iter()
            .map(|&(_, i)| crate::mesh::sub(scan.points[i as usize], centre))
            .collect();
        let normals = scan
            .normals
            .as_ref()
            .filter(|normals| normals.len() == scan.points.len())
            .map(|normals| keyed.iter().map(|&(_, i)| normals[i as usize]).collect());
        Self { points, normals, centre }
    }
}

/// Smallest and largest coordinates; zero for no points.
pub(crate) fn extent(points: &[[f64; 3]]) -> ([f64; 3], [f64; 3]) {
    let Some(&first) = points.first() else { return ([0.0; 3], [0.0; 3]) };
    points.iter().fold((first, first), |(min, max), p| {
        ([0, 1, 2].map(|k| p[k].min(min[k])), [0, 1, 2].map(|k| p[k].max(max[k])))
    })
}

/// SplitMix64 over the bits of the coordinates.
fn hash(p: [f64; 3]) -> u64 {
    p.iter().fold(0x9e37_79b9_7f4a_7c15, |state, x| {
        let mut z = (state ^ x.to_bits()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
