//! What is drawn on each layer and in which order: skirt, inner walls, outer wall, fill.

use crate::slice::infill;
use crate::slice::perimeter;
use crate::slice::polygon::{self, Contour, Point, Region, Shape, distance};
use crate::slice::settings::{Pattern, Settings, bead_mm2};

/// Skins reach this many spacings beyond what is exposed, to hold on to sparse infill below.
const SKIN_MARGIN: f64 = 4.0;
/// Sparse infill keeps this share of a spacing from the walls: a little less than half overlaps.
const ANCHOR_INSET: f64 = 0.4;
/// Sparse lines are joined along the walls over no more than this, mm.
const LONGEST_JOINT_MM: f64 = 30.0;

/// What a stroke is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Skirt,
    InnerWall,
    OuterWall,
    Gap,
    Solid,
    Sparse,
}

impl Role {
    /// The name slicers and viewers use in `;TYPE:` comments.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Skirt => "SKIRT",
            Self::InnerWall => "WALL-INNER",
            Self::OuterWall => "WALL-OUTER",
            Self::Gap => "GAP",
            Self::Solid => "SKIN",
            Self::Sparse => "FILL",
        }
    }

    /// Whether the stroke lies inside the walls, where a thread of ooze does no harm.
    pub(crate) const fn is_inside(self) -> bool {
        matches!(self, Self::Gap | Self::Solid | Self::Sparse)
    }
}

/// One continuous extrusion.
#[derive(Debug, Clone)]
pub(crate) struct Stroke {
    pub(crate) role: Role,
    pub(crate) points: Vec<Point>,
    /// Whether the last point is joined to the first.
    pub(crate) closed: bool,
    /// Number of the island on its layer.
    pub(crate) island: usize,
    /// Share of the usual plastic per length.
    pub(crate) flow: f64,
}

/// A layer: its top, its height, and its strokes.
pub(crate) struct Layer {
    pub(crate) z: f64,
    pub(crate) height: f64,
    pub(crate) strokes: Vec<Stroke>,
}

/// Distance of neighbouring beads that fill a layer of this height exactly, mm.
pub(crate) fn spacing(settings: &Settings, height: f64) -> f64 {
    bead_mm2(settings.width.0, height) / height
}

/// The strokes of one layer, unordered. `outlines` are the regions of all layers.
pub(crate) fn strokes(
    settings: &Settings,
    outlines: &[Region],
    layer: usize,
    height: f64,
) -> Vec<Stroke> {
    let spacing = spacing(settings, height);
    let mut strokes = Vec::new();
    for (island, shape) in outlines[layer].iter().enumerate() {
        let mut add = |role, lines: Vec<Vec<Point>>, closed, flow| {
            let stroke = |points| Stroke {
                role,
                points,
                closed,
                island,
                flow,
            };
            strokes.extend(lines.into_iter().map(stroke));
        };
        let walls = perimeter::walls(shape, spacing, settings.walls);
        for (depth, (loops, flow)) in walls.loops.into_iter().enumerate() {
            let role = if depth == 0 {
                Role::OuterWall
            } else {
                Role::InnerWall
            };
            let tidy = loops.iter().map(|c| polygon::simplify(c, 0.002)).collect();
            add(role, tidy, true, flow);
        }
        let (solid, sparse) = skins(settings, outlines, layer, &walls.inner, spacing);
        let angle = std::f64::consts::FRAC_PI_4;
        let turn = std::f64::consts::FRAC_PI_2;
        let this = if layer.is_multiple_of(2) {
            angle
        } else {
            angle + turn
        };
        add(
            Role::Gap,
            infill::lines(&walls.gaps, this, spacing, 2.0 * spacing),
            false,
            1.0,
        );
        add(
            Role::Solid,
            infill::lines(&solid, this, spacing, 2.5 * spacing),
            false,
            1.0,
        );
        if settings.infill_density > 0.0 && !sparse.is_empty() {
            let apart = spacing / settings.infill_density;
            // Joints run along the walls and hold on to them.
            let inset = polygon::offset(&sparse, -ANCHOR_INSET * spacing);
            let lines = match settings.infill_pattern {
                Pattern::Lines => infill::anchored(&inset, &[this], apart, LONGEST_JOINT_MM),
                Pattern::Grid => {
                    let angles = [angle, angle + turn];
                    infill::anchored(&inset, &angles, 2.0 * apart, LONGEST_JOINT_MM)
                }
            };
            add(Role::Sparse, lines, false, 1.0);
        }
    }
    strokes
}

/// Splits the inside of an island into the part near a surface above or below, and the rest.
fn skins(
    settings: &Settings,
    outlines: &[Region],
    layer: usize,
    inner: &Region,
    spacing: f64,
) -> (Region, Region) {
    if settings.infill_density >= 1.0 || inner.is_empty() {
        return (inner.clone(), Region::new());
    }
    let below = layer.checked_sub(settings.bottom_layers);
    let above = layer + settings.top_layers;
    let (Some(from), true) = (below, above < outlines.len()) else {
        return (inner.clone(), Region::new());
    };
    let mut deep = inner.clone();
    // The same outline again and again is the common case, and covers everything.
    let mut known = layer;
    for other in from..=above {
        if outlines[other] == outlines[layer] || outlines[other] == outlines[known] {
            continue;
        }
        known = other;
        deep = polygon::intersect(&deep, &outlines[other]);
        if deep.is_empty() {
            return (inner.clone(), deep);
        }
    }
    let exposed = polygon::open(&polygon::subtract(inner, &deep), 0.05);
    if exposed.is_empty() {
        return without_small(exposed, inner.clone(), settings.solid_below_mm2);
    }
    // Slivers of sparse infill hold nothing.
    let skin = polygon::intersect(&polygon::offset(&exposed, SKIN_MARGIN * spacing), inner);
    let sparse = polygon::open(&polygon::subtract(inner, &skin), spacing);
    let skin = polygon::open(&polygon::subtract(inner, &sparse), 0.05);
    without_small(skin, sparse, settings.solid_below_mm2)
}

/// Makes sparse parts of less than `least` mm² solid.
fn without_small(mut skin: Region, sparse: Region, least: f64) -> (Region, Region) {
    let (small, sparse): (Region, Region) = sparse
        .into_iter()
        .partition(|shape| polygon::shape_area(shape) < least);
    skin.extend(small);
    (skin, sparse)
}

/// Loops around everything on the first layer, outermost first.
pub(crate) fn skirt(settings: &Settings, outline: &Region, height: f64) -> Vec<Stroke> {
    let spacing = spacing(settings, height);
    (0..settings.skirt_loops)
        .rev()
        .flat_map(|i| {
            let away = settings.skirt_gap.0 + (i as f64 + 0.5) * spacing;
            polygon::offset_round(outline, away)
        })
        .filter_map(|shape: Shape| shape.into_iter().next())
        .map(|contour: Contour| Stroke {
            role: Role::Skirt,
            points: polygon::simplify(&contour, 0.02),
            closed: true,
            island: usize::MAX,
            flow: 1.0,
        })
        .collect()
}

/// Orders the strokes of a layer: the skirt, then island by island its inner walls, outer wall and
/// fill, always going to the nearest next. `head` is where the nozzle stands, before and after.
pub(crate) fn order(strokes: Vec<Stroke>, head: &mut Point) -> Vec<Stroke> {
    let mut ordered = Vec::with_capacity(strokes.len());
    let (skirt, mut rest): (Vec<_>, Vec<_>) =
        strokes.into_iter().partition(|s| s.role == Role::Skirt);
    for stroke in skirt {
        append_nearest(&mut ordered, vec![stroke], head);
    }
    while let Some(nearest) = rest
        .iter()
        .min_by(|a, b| reach(a, *head).1.total_cmp(&reach(b, *head).1))
        .map(|stroke| stroke.island)
    {
        let (island, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|s| s.island == nearest);
        rest = others;
        let mut groups: [Vec<Stroke>; 5] = Default::default();
        for stroke in island {
            let group = match stroke.role {
                Role::InnerWall | Role::Skirt => 0,
                Role::OuterWall => 1,
                Role::Gap => 2,
                Role::Solid => 3,
                Role::Sparse => 4,
            };
            groups[group].push(stroke);
        }
        for group in groups {
            append_nearest(&mut ordered, group, head);
        }
    }
    ordered
}

fn append_nearest(ordered: &mut Vec<Stroke>, mut group: Vec<Stroke>, head: &mut Point) {
    while let Some((i, start)) = group
        .iter()
        .enumerate()
        .map(|(i, stroke)| (i, reach(stroke, *head)))
        .min_by(|a, b| a.1.1.total_cmp(&b.1.1))
        .map(|(i, (start, _))| (i, start))
    {
        let mut stroke = group.swap_remove(i);
        if stroke.closed {
            stroke.points.rotate_left(start);
        } else if start > 0 {
            stroke.points.reverse();
        }
        let end = if stroke.closed {
            stroke.points.first()
        } else {
            stroke.points.last()
        };
        if let Some(&end) = end {
            *head = end;
            ordered.push(stroke);
        }
    }
}

/// Where the stroke is best begun, seen from `head`, and how far that is.
fn reach(stroke: &Stroke, head: Point) -> (usize, f64) {
    let last = stroke.points.len().saturating_sub(1);
    let step = if stroke.closed { 1 } else { last.max(1) };
    (0..stroke.points.len())
        .step_by(step)
        .map(|i| (i, distance(stroke.points[i], head)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, f64::INFINITY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::polygon::tests::rectangle;

    #[test]
    fn surfaces_get_skins_and_the_inside_stays_sparse() {
        let settings = Settings::default();
        let layers: Vec<Region> = (0..20)
            .map(|i| rectangle(0.0, 0.0, 20.0, if i < 10 { 20.0 } else { 10.0 }))
            .collect();
        let has = |layer: usize, role| {
            strokes(&settings, &layers, layer, 0.2)
                .iter()
                .any(|s| s.role == role)
        };
        assert!(has(0, Role::Solid) && !has(0, Role::Sparse));
        assert!(has(4, Role::Sparse) && !has(4, Role::Solid));
        assert!(
            has(7, Role::Sparse) && has(7, Role::Solid),
            "the step above shows in layer 7"
        );
        assert!(has(19, Role::Solid) && !has(19, Role::Sparse));
    }

    #[test]
    fn the_order_is_skirt_inner_outer_fill() {
        let settings = Settings {
            infill_density: 1.0,
            ..Settings::default()
        };
        let outline = rectangle(0.0, 0.0, 20.0, 10.0);
        let mut all = strokes(&settings, std::slice::from_ref(&outline), 0, 0.2);
        all.extend(skirt(&settings, &outline, 0.2));
        let roles: Vec<Role> = order(all, &mut [0.0, 0.0]).iter().map(|s| s.role).collect();
        assert_eq!(roles[..3], [Role::Skirt, Role::InnerWall, Role::OuterWall]);
        assert!(roles[3..].iter().all(|&r| r == Role::Solid));
    }
}
