//! Filling a region with parallel lines, joined to zigzags where neighbours are close.

use crate::slice::polygon::{Point, Region, distance};

/// Strokes shorter than this are left out, mm.
const SHORTEST_MM: f64 = 0.05;

/// One stretch of a scan line inside the region, in the rotated frame.
#[derive(Clone, Copy)]
struct Span {
    y: f64,
    left: f64,
    right: f64,
}

/// Lines at `angle` (radians), `spacing` apart, clipped to the region.
///
/// Lines lie on one grid for all layers and islands. Neighbouring ends closer than `reach` are
/// joined; both ends are then drawn back by half the joint's length, so that a joined fill lays
/// down exactly the length, and so the volume, of the unjoined one and turns half a bead inside.
pub(crate) fn lines(region: &Region, angle: f64, spacing: f64, reach: f64) -> Vec<Vec<Point>> {
    let (sin, cos) = angle.sin_cos();
    let there = |p: Point| [cos * p[0] + sin * p[1], cos * p[1] - sin * p[0]];
    let back = |p: Point| [cos * p[0] - sin * p[1], sin * p[0] + cos * p[1]];
    zigzags(&spans(region, spacing, there), reach)
        .into_iter()
        .map(|line| line.into_iter().map(back).collect())
        .collect()
}

/// The stretches of each scan line inside the region, by line and then from left to right.
fn spans(region: &Region, spacing: f64, turn: impl Fn(Point) -> Point) -> Vec<Vec<Span>> {
    let mut cuts: Vec<(i64, f64)> = Vec::new();
    for contour in region.iter().flatten() {
        for (i, &a) in contour.iter().enumerate() {
            let (a, b) = (turn(a), turn(contour[(i + 1) % contour.len()]));
            let (low, high) = if a[1] < b[1] { (a, b) } else { (b, a) };
            // Line k lies at (k + 1/2) * spacing; half-open, so a vertex on a line is cut once.
            let from = (low[1] / spacing - 0.5).ceil() as i64;
            let to = (high[1] / spacing - 0.5).ceil() as i64;
            for k in from..to {
                let share = ((k as f64 + 0.5) * spacing - low[1]) / (high[1] - low[1]);
                cuts.push((k, low[0] + share * (high[0] - low[0])));
            }
        }
    }
    cuts.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut lines = Vec::new();
    let mut previous = None;
    for line in cuts.chunk_by(|a, b| a.0 == b.0) {
        let k = line[0].0;
        if previous.is_some_and(|p| k > p + 1) {
            lines.push(Vec::new());
        }
        previous = Some(k);
        let y = (k as f64 + 0.5) * spacing;
        let span = |pair: &[(i64, f64)]| Span {
            y,
            left: pair[0].1,
            right: pair[1].1,
        };
        lines.push(
            line.chunks_exact(2)
                .map(span)
                .filter(|s| s.right - s.left >= SHORTEST_MM)
                .collect(),
        );
    }
    lines
}

/// A zigzag being drawn: its points and the side its last line is left on.
struct Thread {
    points: Vec<Point>,
    leaves_right: bool,
    length: f64,
}

fn zigzags(lines: &[Vec<Span>], reach: f64) -> Vec<Vec<Point>> {
    let mut done = Vec::new();
    let mut open: Vec<Thread> = Vec::new();
    for line in lines {
        let mut next = Vec::with_capacity(line.len());
        for span in line {
            let entry = |right: bool| [if right { span.right } else { span.left }, span.y];
            let near = open
                .iter()
                .enumerate()
                .filter_map(|(i, thread)| {
                    let end = *thread.points.last()?;
                    let joint = distance(end, entry(thread.leaves_right));
                    // Drawing back must not use up either line (half of it may go at its other end).
                    let room = thread.length.min(span.right - span.left);
                    (joint <= reach && joint < room).then_some((i, joint))
                })
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let mut thread = match near {
                Some((i, joint)) => {
                    let mut thread = open.swap_remove(i);
                    let inward = if thread.leaves_right {
                        -joint / 2.0
                    } else {
                        joint / 2.0
                    };
                    if let Some(end) = thread.points.last_mut() {
                        end[0] += inward;
                    }
                    let from = entry(thread.leaves_right);
                    thread.points.push([from[0] + inward, from[1]]);
                    thread.leaves_right = !thread.leaves_right;
                    thread
                }
                None => Thread {
                    points: vec![entry(false)],
                    leaves_right: true,
                    length: 0.0,
                },
            };
            thread.points.push(entry(thread.leaves_right));
            thread.length = span.right - span.left;
            next.push(thread);
        }
        done.extend(open.drain(..).map(|thread| thread.points));
        open = next;
    }
    done.extend(open.into_iter().map(|thread| thread.points));
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::polygon::tests::rectangle;
    use crate::slice::polygon::{area, subtract};

    fn length(lines: &[Vec<Point>]) -> f64 {
        lines
            .iter()
            .flat_map(|l| l.windows(2))
            .map(|w| distance(w[0], w[1]))
            .sum()
    }

    #[test]
    fn solid_lines_cover_the_area_at_any_angle_joined_or_not() {
        let region = subtract(
            &rectangle(1.0, 2.0, 30.0, 20.0),
            &rectangle(10.0, 8.0, 6.0, 6.0),
        );
        for angle in [0.0, 0.3, std::f64::consts::FRAC_PI_4, 2.0] {
            for reach in [0.0, 1.0] {
                let covered = length(&lines(&region, angle, 0.4, reach)) * 0.4;
                let off = covered / area(&region) - 1.0;
                assert!(off.abs() < 0.01, "{angle} {reach}: {off}");
            }
        }
        let (joined, single) = (lines(&region, 0.8, 0.4, 1.0), lines(&region, 0.8, 0.4, 0.0));
        assert!(
            joined.len() < 10 && single.len() > 70,
            "{} {}",
            joined.len(),
            single.len()
        );
        assert!((length(&joined) - length(&single)).abs() < 1e-6);
    }

    #[test]
    fn lines_stay_inside() {
        for line in lines(&rectangle(0.0, 0.0, 10.0, 10.0), 0.7, 0.5, 1.5) {
            for p in line {
                assert!(
                    p.iter().all(|&x| (-1e-9..10.0 + 1e-9).contains(&x)),
                    "{p:?}"
                );
            }
        }
    }
}
