//! Plane regions: union, intersection, difference, offset, area; the only file that names `i_overlay`.

use i_overlay::core::fill_rule::FillRule;
use i_overlay::core::overlay_rule::OverlayRule;
use i_overlay::float::simplify::SimplifyShape;
use i_overlay::float::single::SingleFloatOverlay;
use i_overlay::mesh::float::outline::offset::OutlineOffset;
use i_overlay::mesh::float::style::{LineJoin, OutlineStyle};

/// A point of the plane, mm.
pub(crate) type Point = [f64; 2];
/// A closed contour; the last point joins the first.
pub(crate) type Contour = Vec<Point>;
/// One outer contour, counter-clockwise, and its holes, clockwise.
pub(crate) type Shape = Vec<Contour>;
/// Disjoint shapes.
pub(crate) type Region = Vec<Shape>;

/// Corners sharper than this (interior angle) are cut off when offsetting instead of growing a spike.
const SHARPEST_MITRE: f64 = std::f64::consts::PI / 4.0;
/// Anything smaller is rounding dust, mm².
const DUST_MM2: f64 = 1e-4;

/// The region the contours wind around, overlaps merged.
pub(crate) fn union(contours: &Vec<Contour>) -> Region {
    if contours.is_empty() {
        return Region::new();
    }
    without_dust(contours.simplify_shape(FillRule::NonZero))
}

/// What `a` and `b` share.
pub(crate) fn intersect(a: &Region, b: &Region) -> Region {
    if a.is_empty() || b.is_empty() {
        return Region::new();
    }
    without_dust(a.overlay(b, OverlayRule::Intersect, FillRule::NonZero))
}

/// `a` without `b`.
pub(crate) fn subtract(a: &Region, b: &Region) -> Region {
    if a.is_empty() || b.is_empty() {
        return a.clone();
    }
    without_dust(a.overlay(b, OverlayRule::Difference, FillRule::NonZero))
}

/// Grows (`distance` > 0) or shrinks the region, with mitred corners.
pub(crate) fn offset(region: &Region, distance: f64) -> Region {
    offset_with(region, distance, LineJoin::Miter(SHARPEST_MITRE))
}

/// Grows or shrinks the region, with rounded corners.
pub(crate) fn offset_round(region: &Region, distance: f64) -> Region {
    offset_with(region, distance, LineJoin::Round(0.2))
}

fn offset_with(region: &Region, distance: f64, join: LineJoin<f64>) -> Region {
    if region.is_empty() || distance == 0.0 {
        return region.clone();
    }
    without_dust(region.outline(&OutlineStyle::new(distance).line_join(join)))
}

/// The region without the parts narrower than `2 * radius`.
pub(crate) fn open(region: &Region, radius: f64) -> Region {
    intersect(&offset(&offset(region, -radius), radius), region)
}

/// Signed area of a contour, mm²; positive if counter-clockwise.
pub(crate) fn contour_area(contour: &[Point]) -> f64 {
    let mut twice = 0.0;
    for (i, a) in contour.iter().enumerate() {
        let b = contour[(i + 1) % contour.len()];
        twice += a[0] * b[1] - b[0] * a[1];
    }
    twice / 2.0
}

/// Area of a shape, mm².
pub(crate) fn shape_area(shape: &Shape) -> f64 {
    shape.iter().map(|c| contour_area(c)).sum()
}

/// Area of a region, mm².
pub(crate) fn area(region: &Region) -> f64 {
    region.iter().map(shape_area).sum()
}

/// Length of a closed contour, mm.
pub(crate) fn contour_length(contour: &[Point]) -> f64 {
    (0..contour.len())
        .map(|i| distance(contour[i], contour[(i + 1) % contour.len()]))
        .sum()
}

/// Distance of two points, mm.
pub(crate) fn distance(a: Point, b: Point) -> f64 {
    let (dx, dy) = (a[0] - b[0], a[1] - b[1]);
    (dx * dx + dy * dy).sqrt()
}

/// Leaves out points that move a closed contour by less than `tolerance` (Douglas and Peucker).
pub(crate) fn simplify(contour: &[Point], tolerance: f64) -> Contour {
    let n = contour.len();
    if n < 4 {
        return contour.to_vec();
    }
    // Two anchors that are certainly corners of the shape: the first point and the farthest from it.
    let far = (1..n)
        .max_by(|&i, &j| {
            distance(contour[0], contour[i]).total_cmp(&distance(contour[0], contour[j]))
        })
        .unwrap_or(n / 2);
    let mut keep = vec![false; n + 1];
    (keep[0], keep[far]) = (true, true);
    let at = |i: usize| contour[i % n];
    let mut spans = vec![(0, far), (far, n)];
    while let Some((from, to)) = spans.pop() {
        let mut worst = (tolerance, 0);
        for i in from + 1..to {
            let d = distance_to_segment(at(i), at(from), at(to));
            if d > worst.0 {
                worst = (d, i);
            }
        }
        if worst.1 > 0 {
            keep[worst.1] = true;
            spans.push((from, worst.1));
            spans.push((worst.1, to));
        }
    }
    (0..n).filter(|&i| keep[i]).map(at).collect()
}

/// Distance of `p` from the segment `a`–`b`, mm.
pub(crate) fn distance_to_segment(p: Point, a: Point, b: Point) -> f64 {
    let d = [b[0] - a[0], b[1] - a[1]];
    let square = d[0] * d[0] + d[1] * d[1];
    if square == 0.0 {
        return distance(p, a);
    }
    let t = (((p[0] - a[0]) * d[0] + (p[1] - a[1]) * d[1]) / square).clamp(0.0, 1.0);
    distance(p, [a[0] + t * d[0], a[1] + t * d[1]])
}

fn without_dust(mut region: Region) -> Region {
    for shape in &mut region {
        let mut outer = true;
        shape.retain(|c| {
            let keep = std::mem::take(&mut outer) || contour_area(c).abs() > DUST_MM2;
            keep && c.len() > 2
        });
    }
    region.retain(|shape| shape.first().is_some_and(|c| contour_area(c) > DUST_MM2));
    region
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rectangle(x: f64, y: f64, w: f64, h: f64) -> Region {
        vec![vec![vec![[x, y], [x + w, y], [x + w, y + h], [x, y + h]]]]
    }

    #[test]
    fn regions_add_subtract_and_grow_as_areas_say() {
        let (a, b) = (
            rectangle(0.0, 0.0, 10.0, 10.0),
            rectangle(5.0, 5.0, 10.0, 10.0),
        );
        assert!((area(&intersect(&a, &b)) - 25.0).abs() < 1e-4);
        assert!((area(&subtract(&a, &b)) - 75.0).abs() < 1e-4);
        assert!((area(&offset(&a, -1.0)) - 64.0).abs() < 1e-4);
        assert!((area(&offset(&a, 1.0)) - 144.0).abs() < 1e-4);
        assert!(offset(&a, -5.1).is_empty());
        let ring = subtract(&a, &rectangle(3.0, 3.0, 4.0, 4.0));
        assert!((area(&offset(&ring, -1.0)) - (64.0 - 36.0)).abs() < 1e-4);
    }

    #[test]
    fn simplifying_keeps_corners_and_drops_points_on_straight_lines() {
        let dense: Contour = (0..40)
            .map(|i| {
                let t = f64::from(i % 10);
                match i / 10 {
                    0 => [t, 0.0],
                    1 => [10.0, t],
                    2 => [10.0 - t, 10.0],
                    _ => [0.0, 10.0 - t],
                }
            })
            .collect();
        assert_eq!(
            simplify(&dense, 0.01),
            [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]]
        );
    }
}
