//! Filling a region with parallel lines, joined to zigzags where neighbours are close.

use crate::slice::polygon::{
    Contour, Point, Region, contour_length, distance, distance_to_segment,
};

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

/// One end of a sparse line: where on the region's boundary it stops.
struct End {
    line: usize,
    /// Whether it is the line's last point.
    last: bool,
    contour: usize,
    /// Way along the contour, mm.
    along: f64,
}

/// Sparse lines in all `angles` at once, `spacing` apart, clipped to the region and joined along
/// its boundary: shortest joints first, each end once, no joint longer than `longest`.
pub(crate) fn anchored(
    region: &Region,
    angles: &[f64],
    spacing: f64,
    longest: f64,
) -> Vec<Vec<Point>> {
    let mut pieces: Vec<Vec<Point>> = angles
        .iter()
        .flat_map(|&angle| lines(region, angle, spacing, 0.0))
        .collect();
    let contours: Vec<&Contour> = region.iter().flatten().collect();
    let mut ends = Vec::with_capacity(2 * pieces.len());
    for (line, piece) in pieces.iter().enumerate() {
        for (last, &point) in [(false, &piece[0]), (true, &piece[piece.len() - 1])] {
            if let Some((contour, along)) = locate(&contours, point) {
                ends.push(End {
                    line,
                    last,
                    contour,
                    along,
                });
            }
        }
    }
    ends.sort_by(|a, b| a.contour.cmp(&b.contour).then(a.along.total_cmp(&b.along)));
    let mut joints = Vec::new();
    for group in ends
        .chunk_by(|a, b| a.contour == b.contour)
        .filter(|group| group.len() > 1)
    {
        let around = contour_length(contours[group[0].contour]);
        for (i, a) in group.iter().enumerate() {
            let b = &group[(i + 1) % group.len()];
            let way = (b.along - a.along).rem_euclid(around);
            if way <= longest {
                joints.push((way, a, b));
            }
        }
    }
    joints.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Each piece knows its chain by number; a joined chain lives on under one of its numbers.
    let mut chain_of: Vec<usize> = (0..pieces.len()).collect();
    let mut used = vec![[false; 2]; pieces.len()];
    for (_, a, b) in joints {
        let (p, q) = (chain_of[a.line], chain_of[b.line]);
        if p == q || used[a.line][usize::from(a.last)] || used[b.line][usize::from(b.last)] {
            continue;
        }
        used[a.line][usize::from(a.last)] = true;
        used[b.line][usize::from(b.last)] = true;
        let arc = arc(contours[a.contour], a.along, b.along);
        let (mut head, mut tail) = (
            std::mem::take(&mut pieces[p]),
            std::mem::take(&mut pieces[q]),
        );
        // The joint leaves the head's last point and enters the tail's first.
        if distance(head[0], arc[0]) < distance(head[head.len() - 1], arc[0]) {
            head.reverse();
        }
        let goal = arc[arc.len() - 1];
        if distance(tail[tail.len() - 1], goal) < distance(tail[0], goal) {
            tail.reverse();
        }
        head.extend(&arc[1..arc.len() - 1]);
        head.extend(tail);
        pieces[p] = head;
        chain_of
            .iter_mut()
            .filter(|chain| **chain == q)
            .for_each(|chain| *chain = p);
    }
    pieces.retain(|piece| piece.len() > 1);
    pieces
}

/// The contour a point lies on, and how far along.
fn locate(contours: &[&Contour], point: Point) -> Option<(usize, f64)> {
    let mut best = (1e-3, None);
    for (i, contour) in contours.iter().enumerate() {
        let mut along = 0.0;
        for (k, &a) in contour.iter().enumerate() {
            let b = contour[(k + 1) % contour.len()];
            let off = distance_to_segment(point, a, b);
            if off < best.0 {
                best = (off, Some((i, along + distance(a, point))));
            }
            along += distance(a, b);
        }
    }
    best.1
}

/// The contour from one place to another, in its own direction.
fn arc(contour: &Contour, from: f64, to: f64) -> Vec<Point> {
    let around = contour_length(contour);
    let way = (to - from).rem_euclid(around);
    let mut inner = Vec::new();
    let mut along = 0.0;
    let mut start = contour[0];
    let mut end = contour[0];
    for (k, &a) in contour.iter().enumerate() {
        let b = contour[(k + 1) % contour.len()];
        let length = distance(a, b);
        let at = |s: f64| [0, 1].map(|i| a[i] + (b[i] - a[i]) * ((s - along) / length));
        if (along..=along + length).contains(&from) {
            start = at(from);
        }
        if (along..=along + length).contains(&to) {
            end = at(to);
        }
        let past = (along - from).rem_euclid(around);
        if past > 0.0 && past < way {
            inner.push((past, a));
        }
        along += length;
    }
    inner.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut points = vec![start];
    points.extend(inner.into_iter().map(|(_, p)| p));
    points.push(end);
    points
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
    fn sparse_lines_are_joined_along_the_boundary() {
        let hole = rectangle(12.0, 12.0, 6.0, 6.0);
        let region = subtract(&rectangle(0.0, 0.0, 30.0, 30.0), &hole);
        let angles = [0.8, 0.8 + std::f64::consts::FRAC_PI_2];
        let single = anchored(&region, &angles, 4.0, 0.0);
        let joined = anchored(&region, &angles, 4.0, 20.0);
        assert!(
            joined.len() * 4 < single.len(),
            "{} {}",
            joined.len(),
            single.len()
        );
        let added = length(&joined) - length(&single);
        assert!(added > 30.0 && added < 0.6 * 144.0, "{added}");
        for w in joined.iter().flat_map(|line| line.windows(2)) {
            let middle = [(w[0][0] + w[1][0]) / 2.0, (w[0][1] + w[1][1]) / 2.0];
            assert!(middle.iter().all(|&v| v > -1e-6 && v < 30.0 + 1e-6));
            assert!(
                !middle.iter().all(|&v| v > 12.0 + 1e-6 && v < 18.0 - 1e-6),
                "{middle:?}"
            );
        }
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
