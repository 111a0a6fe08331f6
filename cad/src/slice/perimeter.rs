//! Walls: loops along the outline, one spacing apart, and what they leave over.

use crate::slice::polygon::{self, Contour, Region, Shape};

/// Gaps narrower than this are left to the neighbouring beads, mm.
const NARROWEST_GAP_MM: f64 = 0.08;
/// A ring that misses less than this needs no search for gaps, mm².
const GAP_AREA_MM2: f64 = 0.05;

/// An outermost loop whose beads need this much more than its ring holds is mostly doubled.
const DOUBLED: f64 = 1.1;

/// The walls of one island of a layer.
pub(crate) struct Walls {
    /// Centre lines and share of the usual flow, outermost depth first.
    pub(crate) loops: Vec<(Vec<Contour>, f64)>,
    /// What the walls enclose, to be filled.
    pub(crate) inner: Region,
    /// Places too narrow for a wall at their depth, to be filled with short strokes.
    pub(crate) gaps: Region,
}

/// Lays `count` walls inside `outline`.
///
/// The centre of the first runs half a *spacing* inside: a bead of stadium section, width `w` and
/// height `h`, has the area `h * spacing`, so walls one spacing apart fill the layer exactly and
/// the outermost bead bulges over the outline by as much as its rounded corners fall short.
pub(crate) fn walls(outline: &Shape, spacing: f64, count: usize) -> Walls {
    let outline = vec![outline.clone()];
    let mut loops = Vec::with_capacity(count);
    let mut gaps = Region::new();
    let mut core = outline.clone();
    for depth in 0..count {
        if core.is_empty() {
            break;
        }
        let outer = depth as f64 * spacing;
        let mut centre = polygon::offset(&outline, -(outer + spacing / 2.0));
        let inside = polygon::offset(&outline, -(outer + spacing));
        let ring = polygon::area(&core) - polygon::area(&inside);
        let mut beads = length(&centre) * spacing;
        let mut flow = 1.0;
        if beads - ring > GAP_AREA_MM2 {
            // Somewhere the loop's two sides overlap. Inside, the place is left to gap fill; the
            // outermost loop must stay, and where most of it is doubled it gets less plastic.
            if depth > 0 {
                centre = polygon::open(&centre, spacing / 2.0);
                beads = length(&centre) * spacing;
            } else if beads > ring * DOUBLED {
                flow = ring / beads;
            }
        }
        if ring - beads > GAP_AREA_MM2 {
            let reached = polygon::offset(&centre, spacing / 2.0);
            let gap = polygon::open(&polygon::subtract(&core, &reached), NARROWEST_GAP_MM / 2.0);
            gaps.extend(gap);
        }
        loops.push((centre.into_iter().flatten().collect(), flow));
        core = inside;
    }
    Walls {
        loops,
        inner: core,
        gaps,
    }
}

fn length(region: &Region) -> f64 {
    region
        .iter()
        .flatten()
        .map(|c| polygon::contour_length(c))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::polygon::tests::rectangle;

    #[test]
    fn walls_and_inside_fill_a_rectangle_exactly() {
        let walls = walls(&rectangle(0.0, 0.0, 20.0, 10.0)[0], 0.4, 3);
        let beads: f64 = walls
            .loops
            .iter()
            .flat_map(|l| &l.0)
            .map(|c| polygon::contour_length(c) * 0.4)
            .sum();
        assert_eq!(walls.loops.len(), 3);
        assert!((beads + polygon::area(&walls.inner) - 200.0).abs() < 1e-3);
        assert!(walls.gaps.is_empty());
    }

    #[test]
    fn a_rib_too_narrow_for_its_walls_leaves_a_gap() {
        let walls = walls(&rectangle(0.0, 0.0, 20.0, 1.0)[0], 0.4, 2);
        assert!(walls.inner.is_empty());
        assert!(
            (polygon::area(&walls.gaps) - 19.2 * 0.2).abs() < 0.1,
            "{:?}",
            walls.gaps
        );
    }
}
