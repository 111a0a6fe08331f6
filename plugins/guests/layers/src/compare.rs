//! In what a layer differs from its section, further than the tolerance lets it.

use crate::picture::Picture;
use crate::section::{Frame, Section};

/// A place smaller than this is noise, in square millimetres.
const NOISE_MM2: f64 = 0.05;
/// A layer lies elsewhere if moving it takes away so much of what differs.
const EXPLAINS: f64 = 0.7;

/// What sort of difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// There is nothing where there has to be something.
    Missing,
    /// There is something where there has to be nothing.
    Extra,
    /// The layer as a whole lies elsewhere.
    Shift {
        /// How far, in millimetres.
        by_mm: f64,
    },
}

/// One place in which a layer differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Differs {
    /// What sort.
    pub kind: Kind,
    /// How large.
    pub area_mm2: f64,
    /// Its middle, by column and row; none where the whole layer is meant.
    pub at: Option<(f64, f64)>,
}

/// How clearly the image shows the layer, 0 to 1, and what differs.
#[must_use]
pub fn compare(
    picture: &Picture,
    section: &Section,
    frame: &Frame,
    tolerance_mm: f64,
) -> (f64, Vec<Differs>) {
    let seen = Mask {
        size: picture.size,
        set: material(picture, section),
    };
    let wanted = Mask {
        size: picture.size,
        set: section.solid.clone(),
    };
    if !shows_both(&wanted) || !shows_both(&seen) {
        // Without material and background in sight nobody can tell which is which.
        return (0.0, Vec::new());
    }
    let pixel_mm2 = frame.pixel_mm.0 * frame.pixel_mm.1;
    let reach = (
        (tolerance_mm / frame.pixel_mm.0).ceil() as usize + 1,
        (tolerance_mm / frame.pixel_mm.1).ceil() as usize + 1,
    );
    let off = wrong(&seen, &wanted, reach);
    if let Some(shift) = shift(&seen, &wanted, frame, reach, &off)
        && shift > tolerance_mm
    {
        let kind = Kind::Shift { by_mm: shift };
        let area_mm2 = off.iter().flatten().filter(|one| **one).count() as f64 * pixel_mm2;
        let at = None;
        return (picture.clear, vec![Differs { kind, area_mm2, at }]);
    }
    let [missing, extra] = off;
    let mut differs = Vec::new();
    for (kind, set) in [(Kind::Missing, missing), (Kind::Extra, extra)] {
        for (count, middle) in pieces(&set, picture.size) {
            let area_mm2 = count as f64 * pixel_mm2;
            if area_mm2 >= NOISE_MM2 {
                let at = Some(middle);
                differs.push(Differs { kind, area_mm2, at });
            }
        }
    }
    (picture.clear, differs)
}

/// Whether a hundredth at least is set, and a hundredth is not.
fn shows_both(mask: &Mask) -> bool {
    let set = mask.set.iter().filter(|set| **set).count();
    let few = mask.set.len() / 100;
    set > few && mask.set.len() - set > few
}

/// Which sort of pixel is material: the one that fits the section better.
fn material(picture: &Picture, section: &Section) -> Vec<bool> {
    let pixels = picture.bright.iter().zip(&section.solid);
    let same = pixels.filter(|(bright, solid)| bright == solid).count();
    let bright = 2 * same >= section.solid.len();
    picture.bright.iter().map(|one| *one == bright).collect()
}

/// Pixels that are set, row by row.
#[derive(Debug, Clone, PartialEq)]
struct Mask {
    size: (usize, usize),
    set: Vec<bool>,
}

impl Mask {
    /// The number of set pixels above and to the left of each corner of pixels.
    fn sums(&self) -> Vec<u32> {
        let (columns, rows) = self.size;
        let mut sums = vec![0; (columns + 1) * (rows + 1)];
        for row in 0..rows {
            let mut line = 0;
            for column in 0..columns {
                line += u32::from(self.set[row * columns + column]);
                sums[(row + 1) * (columns + 1) + column + 1] =
                    sums[row * (columns + 1) + column + 1] + line;
            }
        }
        sums
    }

    /// Moved by whole pixels; what comes in is empty.
    fn moved(&self, (right, down): (isize, isize)) -> Self {
        let (columns, rows) = self.size;
        let mut set = vec![false; self.set.len()];
        for row in 0..rows {
            let Some(from) = row.checked_add_signed(-down).filter(|from| *from < rows) else {
                continue;
            };
            for column in 0..columns {
                let source = column.checked_add_signed(-right);
                if let Some(source) = source.filter(|source| *source < columns) {
                    set[row * columns + column] = self.set[from * columns + source];
                }
            }
        }
        Self { set, ..*self }
    }

    /// The middle of what is set.
    fn middle(&self) -> Option<(f64, f64)> {
        let (mut count, mut right, mut down) = (0.0, 0.0, 0.0);
        for (n, _) in self.set.iter().enumerate().filter(|(_, set)| **set) {
            count += 1.0;
            right += (n % self.size.0) as f64;
            down += (n / self.size.0) as f64;
        }
        (count > 0.0).then(|| (right / count, down / count))
    }
}

/// What is missing and what is too much, each further than `reach` pixels within or without what is wanted.
fn wrong(seen: &Mask, wanted: &Mask, reach: (usize, usize)) -> [Vec<bool>; 2] {
    let (columns, rows) = wanted.size;
    let sums = wanted.sums();
    let (mut missing, mut extra) = (vec![false; seen.set.len()], vec![false; seen.set.len()]);
    for row in 0..rows {
        let (top, bottom) = (row.saturating_sub(reach.1), (row + reach.1 + 1).min(rows));
        for column in 0..columns {
            let left = column.saturating_sub(reach.0);
            let right = (column + reach.0 + 1).min(columns);
            let at = |row: usize, column: usize| sums[row * (columns + 1) + column];
            let around = at(bottom, right) + at(top, left) - at(top, right) - at(bottom, left);
            let whole = (bottom - top) * (right - left);
            let here = row * columns + column;
            missing[here] = around as usize == whole && !seen.set[here];
            extra[here] = around == 0 && seen.set[here];
        }
    }
    [missing, extra]
}

/// How far a layer lies off, in millimetres, if that explains most of what differs.
fn shift(
    seen: &Mask,
    wanted: &Mask,
    frame: &Frame,
    reach: (usize, usize),
    off: &[Vec<bool>; 2],
) -> Option<f64> {
    let (seen_at, wanted_at) = (seen.middle()?, wanted.middle()?);
    let by = (seen_at.0 - wanted_at.0, seen_at.1 - wanted_at.1);
    let back = (-by.0.round() as isize, -by.1.round() as isize);
    if back == (0, 0) {
        return None;
    }
    let count = |off: &[Vec<bool>; 2]| off.iter().flatten().filter(|one| **one).count();
    let (before, after) = (count(off), count(&wrong(&seen.moved(back), wanted, reach)));
    let explained = before > 0 && (after as f64) < (1.0 - EXPLAINS) * before as f64;
    explained.then(|| (by.0 * frame.pixel_mm.0).hypot(by.1 * frame.pixel_mm.1))
}

/// The connected pieces of what is set: how many pixels each has, and its middle.
fn pieces(set: &[bool], (columns, rows): (usize, usize)) -> Vec<(usize, (f64, f64))> {
    let mut seen = vec![false; set.len()];
    let mut found = Vec::new();
    for first in 0..set.len() {
        if !set[first] || seen[first] {
            continue;
        }
        seen[first] = true;
        let (mut todo, mut count, mut right, mut down) = (vec![first], 0, 0.0, 0.0);
        while let Some(pixel) = todo.pop() {
            let (column, row) = (pixel % columns, pixel / columns);
            count += 1;
            right += column as f64;
            down += row as f64;
            let beside = [
                (column > 0).then(|| pixel - 1),
                (column + 1 < columns).then(|| pixel + 1),
                (row > 0).then(|| pixel - columns),
                (row + 1 < rows).then(|| pixel + columns),
            ];
            for next in beside.into_iter().flatten() {
                if set[next] && !seen[next] {
                    seen[next] = true;
                    todo.push(next);
                }
            }
        }
        found.push((count, (right / count as f64, down / count as f64)));
    }
    found
}

#[cfg(test)]
mod tests {
    use plugin_sdk::verify::Pixels;

    use super::*;
    use crate::section::Mesh;

    /// A block of 20 × 10 × 5 mm.
    fn block() -> Mesh {
        let corner = |n: usize| {
            let end = |axis: usize, far: f64| if n >> axis & 1 == 1 { far } else { 0.0 };
            [end(0, 20.0), end(1, 10.0), end(2, 5.0)]
        };
        let quads = [
            [0, 2, 3, 1],
            [4, 5, 7, 6],
            [0, 1, 5, 4],
            [2, 6, 7, 3],
            [0, 4, 6, 2],
            [1, 3, 7, 5],
        ];
        let halves = quads
            .iter()
            .flat_map(|&[a, b, c, d]| [[a, b, c], [a, c, d]]);
        halves.map(|triangle| triangle.map(corner)).collect()
    }

    fn frame() -> Frame {
        let pixels = Pixels {
            origin: (-2.0, -2.0, 2.5),
            right: (0.1, 0.0, 0.0),
            down: (0.0, 0.1, 0.0),
        };
        Frame::of(&pixels).unwrap()
    }

    const SIZE: (usize, usize) = (240, 140);

    /// What a camera sees where `is` says there is material, in millimetres.
    fn seen(is: impl Fn(f64, f64) -> bool) -> Vec<Differs> {
        let grey: Vec<u8> = (0..SIZE.0 * SIZE.1)
            .map(|n| {
                let (x, y, _) = frame().place((n % SIZE.0) as f64, (n / SIZE.0) as f64);
                let noise = (n * 7919 % 13) as u8;
                if is(x, y) { 180 + noise } else { 40 + noise }
            })
            .collect();
        let picture = Picture::of(SIZE, &grey);
        let section = Section::of(&block(), &frame(), SIZE);
        let (clear, differs) = compare(&picture, &section, &frame(), 0.2);
        assert!(clear > 0.9, "{clear}");
        differs
    }

    fn in_block(x: f64, y: f64) -> bool {
        (0.0..20.0).contains(&x) && (0.0..10.0).contains(&y)
    }

    #[test]
    fn the_section_of_a_block_is_its_face() {
        let section = Section::of(&block(), &frame(), SIZE);
        let count = section.solid.iter().filter(|solid| **solid).count();
        assert!((19_800..=20_200).contains(&count), "{count}");
    }

    #[test]
    fn a_layer_as_it_should_be_does_not_differ() {
        assert_eq!(seen(in_block), []);
        // Within the tolerance neither.
        assert_eq!(seen(|x, y| in_block(x + 0.1, y - 0.1)), []);
    }

    #[test]
    fn an_image_that_shows_nothing_is_not_clear() {
        let section = Section::of(&block(), &frame(), SIZE);
        let noise = |n: usize| (20 + n * 7919 % 13) as u8;
        let dark: Vec<u8> = (0..SIZE.0 * SIZE.1).map(noise).collect();
        let (clear, _) = compare(&Picture::of(SIZE, &dark), &section, &frame(), 0.2);
        assert_eq!(clear, 0.0);
        let hot = |n: usize| if n.is_multiple_of(997) { 250 } else { noise(n) };
        let hot: Vec<u8> = (0..SIZE.0 * SIZE.1).map(hot).collect();
        let (clear, _) = compare(&Picture::of(SIZE, &hot), &section, &frame(), 0.2);
        assert_eq!(clear, 0.0);
    }

    #[test]
    fn a_hole_a_blob_and_a_shift_are_themselves() {
        let hole = seen(|x, y| in_block(x, y) && (x - 5.0).hypot(y - 5.0) > 1.0);
        assert_eq!((hole.len(), hole[0].kind), (1, Kind::Missing));
        let (u, v) = hole[0].at.unwrap();
        let (x, y, z) = frame().place(u, v);
        assert!((x - 5.0).abs() < 0.1 && (y - 5.0).abs() < 0.1 && z == 2.5);
        assert!(
            (hole[0].area_mm2 - std::f64::consts::PI).abs() < 0.3,
            "{hole:?}"
        );
        let blob = seen(|x, y| in_block(x, y) || (x - 21.0).hypot(y - 5.0) < 0.8);
        assert_eq!((blob.len(), blob[0].kind), (1, Kind::Extra));
        let shifted = seen(|x, y| in_block(x - 0.8, y));
        let [
            Differs {
                kind: Kind::Shift { by_mm },
                ..
            },
        ] = shifted[..]
        else {
            panic!("{shifted:?}");
        };
        assert!((by_mm - 0.8).abs() < 0.1, "{by_mm}");
    }
}
