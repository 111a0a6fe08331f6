//! `heatmap.png`: a heatmap for people without a browser.
//!
//! Every cell carries its value as text and its level as pips, doubt is hatched, and the colours (cividis) keep their
//! order for every kind of colour vision. Everything is drawn at twice the size and averaged down.

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_8X13, FONT_9X18_BOLD, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{BinaryColor, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyleBuilder, Rectangle, RoundedRectangle};
use embedded_graphics::text::{Baseline, Text};

use super::views::{Cell, Confidence, Heatmap};
use crate::model::Timestamp;

const WIDTH: u32 = 1600;
const MARGIN: i32 = 40;
const TOP: i32 = 150;
const CELL_HEIGHT: i32 = 50;
const GAP: i32 = 6;
/// Between assets of different kinds.
const KIND_GAP: i32 = 14;
const LEGEND_HEIGHT: i32 = 104;

const PAPER: Rgb888 = Rgb888::new(0xfb, 0xfa, 0xf7);
const INK: Rgb888 = Rgb888::new(0x1d, 0x23, 0x2e);
const FADED: Rgb888 = Rgb888::new(0x5d, 0x65, 0x70);
const RULE: Rgb888 = Rgb888::new(0xd8, 0xd6, 0xcf);
const UNKNOWN: Rgb888 = Rgb888::new(0xe6, 0xe4, 0xde);
/// Known to be nothing: no window is planned.
const QUIET: Rgb888 = Rgb888::new(0xf0, 0xef, 0xe9);
const WHITE: Rgb888 = Rgb888::new(0xff, 0xff, 0xff);

/// Why no picture came of it.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The encoder failed.
    #[error("failed to encode the heatmap as PNG")]
    Encode(#[source] png::EncodingError),
}

/// Draws a heatmap as PNG: columns are racks, cells are assets.
///
/// # Errors
///
/// [`PictureError::Encode`].
pub fn heatmap_png(heatmap: &Heatmap) -> Result<Vec<u8>, PictureError> {
    let plan = Plan::of(heatmap);
    let mut canvas = Canvas::new(WIDTH, plan.height);
    header(&mut canvas, heatmap);
    for (col, title) in &heatmap.columns {
        let x = plan.x(*col);
        let text = shorten(title, plan.width, &FONT_9X18_BOLD);
        let indent = (plan.width - text_width(&text, &FONT_9X18_BOLD)) / 2;
        canvas.text(&text, x + indent, TOP - 32, &FONT_9X18_BOLD, 2, INK);
    }
    for cell in &heatmap.cells {
        let (x, y) = (plan.x(cell.col), plan.y(cell.row));
        draw_cell(&mut canvas, heatmap, cell, (x, y, plan.width));
    }
    legend(&mut canvas, heatmap, plan.height as i32 - LEGEND_HEIGHT);
    canvas.png().map_err(PictureError::Encode)
}

/// Where columns and rows lie.
struct Plan {
    columns: Vec<u32>,
    /// Row number and top edge.
    rows: Vec<(u32, i32)>,
    width: i32,
    height: u32,
}

impl Plan {
    fn of(heatmap: &Heatmap) -> Self {
        let columns: Vec<u32> = heatmap.columns.keys().copied().collect();
        let mut rows: Vec<u32> = heatmap.cells.iter().map(|c| c.row).collect();
        rows.sort_unstable();
        rows.dedup();
        let mut y = TOP;
        let mut above: Option<&str> = None;
        let placed: Vec<(u32, i32)> = rows
            .into_iter()
            .map(|row| {
                let kind = heatmap
                    .cells
                    .iter()
                    .find(|c| c.row == row)
                    .map(|c| c.kind.as_str());
                if above.is_some() && kind != above {
                    y += KIND_GAP;
                }
                above = kind;
                let top = y;
                y += CELL_HEIGHT + GAP;
                (row, top)
            })
            .collect();
        let count = i32::try_from(columns.len().max(1)).unwrap_or(1);
        let width = (WIDTH as i32 - 2 * MARGIN - (count - 1) * GAP) / count;
        Self {
            columns,
            rows: placed,
            width: width.max(8),
            height: (y + LEGEND_HEIGHT + 16).max(320) as u32,
        }
    }

    fn x(&self, col: u32) -> i32 {
        let index = self.columns.iter().position(|c| *c == col).unwrap_or(0);
        MARGIN + index as i32 * (self.width + GAP)
    }

    fn y(&self, row: u32) -> i32 {
        self.rows.iter().find(|r| r.0 == row).map_or(TOP, |r| r.1)
    }
}

fn header(canvas: &mut Canvas, heatmap: &Heatmap) {
    let layer = heatmap.layer;
    canvas.text(layer.title(), MARGIN, 26, &FONT_10X20, 4, INK);
    canvas.text(layer.subtitle(), MARGIN, 74, &FONT_10X20, 2, FADED);
    let time = speaks_of(heatmap).to_string();
    let when = format!(
        "as of {} {} UTC",
        &time[..10],
        time.get(11..16).unwrap_or("")
    );
    let doubtful = count(heatmap, Confidence::Low);
    let unknown = count(heatmap, Confidence::None);
    let what = format!(
        "{} assets, {doubtful} doubtful, {unknown} unknown",
        heatmap.cells.len()
    );
    let right = |text: &str, font: &MonoFont| WIDTH as i32 - MARGIN - text_width(text, font);
    canvas.text(&when, right(&when, &FONT_10X20), 42, &FONT_10X20, 2, INK);
    canvas.text(&what, right(&what, &FONT_10X20), 74, &FONT_10X20, 2, FADED);
    canvas.fill((MARGIN, 104, WIDTH as i32 - 2 * MARGIN, 1), 0, RULE);
}

/// The moment of the newest value in it: a picture does not get newer by being drawn again.
fn speaks_of(heatmap: &Heatmap) -> Timestamp {
    let youngest = heatmap.cells.iter().filter_map(|cell| cell.age_s).min();
    heatmap.now.plus_ms(-1_000 * youngest.unwrap_or(0))
}

fn count(heatmap: &Heatmap, confidence: Confidence) -> usize {
    let same = |c: &&Cell| c.confidence == confidence;
    heatmap.cells.iter().filter(same).count()
}

fn draw_cell(canvas: &mut Canvas, heatmap: &Heatmap, cell: &Cell, (x, y, width): (i32, i32, i32)) {
    let area = (x, y, width, CELL_HEIGHT);
    let unknown = cell.confidence == Confidence::None;
    let colour = match cell.value {
        Some(value) => cividis(heatmap.layer.position(value)),
        None if unknown => UNKNOWN,
        None => QUIET,
    };
    let ink = if is_dark(colour) { WHITE } else { INK };
    if cell.level == 4 && !unknown {
        canvas.fill((x - 3, y - 3, width + 6, CELL_HEIGHT + 6), 9, INK);
    }
    canvas.fill(area, 6, colour);
    if cell.confidence != Confidence::High {
        canvas.hatch(area, blend(colour, ink, 0.22));
    }
    let name = shorten(&cell.asset, width - 16, &FONT_7X13);
    canvas.text(&name, x + 8, y + 6, &FONT_7X13, 2, blend(colour, ink, 0.86));
    let text = shorten(&cell.text, width - 16, &FONT_9X18_BOLD);
    canvas.text(&text, x + 8, y + 25, &FONT_9X18_BOLD, 2, ink);
    if !unknown {
        pips(
            canvas,
            cell.level,
            (x + width - 8, y + CELL_HEIGHT - 10),
            colour,
            ink,
        );
    }
}

/// Four small bars that fill up with the level.
fn pips(canvas: &mut Canvas, level: u8, (right, bottom): (i32, i32), colour: Rgb888, ink: Rgb888) {
    for i in 0..4_i32 {
        let height = 4 + 3 * i;
        let filled = if i < i32::from(level) { 0.95 } else { 0.22 };
        let x = right - (4 - i) * 6;
        canvas.fill(
            (x, bottom - height, 4, height),
            1,
            blend(colour, ink, filled),
        );
    }
}

fn legend(canvas: &mut Canvas, heatmap: &Heatmap, top: i32) {
    canvas.fill((MARGIN, top, WIDTH as i32 - 2 * MARGIN, 1), 0, RULE);
    let mut x = MARGIN;
    for entry in &heatmap.legend {
        let colour = match (entry.level, heatmap.layer) {
            (0, super::Layer::Maintenance) => QUIET,
            (level, _) => cividis((f64::from(level) + 0.5) / 5.0),
        };
        let ink = if is_dark(colour) { WHITE } else { INK };
        canvas.fill((x, top + 22, 44, 26), 5, colour);
        pips(canvas, entry.level, (x + 35, top + 42), colour, ink);
        canvas.text(&entry.text, x + 54, top + 28, &FONT_8X13, 2, INK);
        x += 54 + text_width(&entry.text, &FONT_8X13) + 34;
    }
    let note = "the bars repeat what the colour says";
    let right = WIDTH as i32 - MARGIN - text_width(note, &FONT_8X13);
    if right > x {
        canvas.text(note, right, top + 28, &FONT_8X13, 2, FADED);
    }
    let mut x = MARGIN;
    let doubt = blend(cividis(0.5), WHITE, 0.3);
    for (colour, hatch, text) in [
        (
            cividis(0.5),
            doubt,
            "hatched: older than 2 h, or proposed and not yet agreed",
        ),
        (
            UNKNOWN,
            blend(UNKNOWN, INK, 0.30),
            "grey and hatched: nothing is known",
        ),
    ] {
        canvas.fill((x, top + 60, 44, 26), 5, colour);
        canvas.hatch((x, top + 60, 44, 26), hatch);
        canvas.text(text, x + 54, top + 66, &FONT_8X13, 2, INK);
        x += 54 + text_width(text, &FONT_8X13) + 34;
    }
}

/// Text that fits a width; what does not fit is cut with a full stop.
fn shorten(text: &str, width: i32, font: &MonoFont) -> String {
    let fits = (width / font.character_size.width as i32).max(1) as usize;
    if text.chars().count() <= fits {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(fits - 1).collect();
    cut.push('.');
    cut
}

fn text_width(text: &str, font: &MonoFont) -> i32 {
    text.chars().count() as i32 * font.character_size.width as i32
}

/// The colour map cividis (Nuñez, Anderton, Renslow 2018), in the polynomial form of d3-scale-chromatic.
fn cividis(t: f64) -> Rgb888 {
    let t = t.clamp(0.0, 1.0);
    let byte = |v: f64| v.round().clamp(0.0, 255.0) as u8;
    let r = -4.54 - t * (35.34 - t * (2381.73 - t * (6402.7 - t * (7024.72 - t * 2710.57))));
    let g = 32.49 + t * (170.73 + t * (52.82 - t * (131.46 - t * (176.58 - t * 67.37))));
    let b = 81.24 + t * (442.36 - t * (2482.43 - t * (6167.24 - t * (6614.94 - t * 2475.67))));
    Rgb888::new(byte(r), byte(g), byte(b))
}

fn luminance(colour: Rgb888) -> f64 {
    let linear = |v: u8| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 {
            v / 12.92
        } else {
            ((v + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * linear(colour.r()) + 0.7152 * linear(colour.g()) + 0.0722 * linear(colour.b())
}

/// Whether white is easier to read on it than ink.
fn is_dark(colour: Rgb888) -> bool {
    let contrast = |a: f64, b: f64| (a.max(b) + 0.05) / (a.min(b) + 0.05);
    contrast(luminance(colour), 1.0) > contrast(luminance(colour), luminance(INK))
}

fn blend(under: Rgb888, over: Rgb888, share: f64) -> Rgb888 {
    let mix = |a: u8, b: u8| (f64::from(a) * (1.0 - share) + f64::from(b) * share).round() as u8;
    Rgb888::new(
        mix(under.r(), over.r()),
        mix(under.g(), over.g()),
        mix(under.b(), over.b()),
    )
}

/// Pixels at twice the size of the picture.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Rgb888>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize * 2, height as usize * 2);
        Self {
            width,
            height,
            pixels: vec![PAPER; width * height],
        }
    }

    /// Fills a rectangle (x, y, width, height) with round corners.
    fn fill(&mut self, (x, y, w, h): (i32, i32, i32, i32), radius: u32, colour: Rgb888) {
        let area = Rectangle::new(
            Point::new(2 * x, 2 * y),
            Size::new(2 * w.max(0) as u32, 2 * h.max(0) as u32),
        );
        let style = PrimitiveStyleBuilder::new().fill_color(colour).build();
        let shape = RoundedRectangle::with_equal_corners(area, Size::new_equal(2 * radius));
        let Ok(()) = shape.into_styled(style).draw(self);
    }

    /// Draws diagonal lines into a rectangle.
    fn hatch(&mut self, (x, y, w, h): (i32, i32, i32, i32), colour: Rgb888) {
        let inset = 4;
        for py in 2 * y + inset..2 * (y + h) - inset {
            for px in 2 * x + inset..2 * (x + w) - inset {
                if (px + py).rem_euclid(20) < 4 {
                    self.set(px, py, colour);
                }
            }
        }
    }

    /// Writes one line; `scale` 2 is the font's own size in the picture, 4 twice that.
    fn text(&mut self, text: &str, x: i32, y: i32, font: &MonoFont, scale: u32, colour: Rgb888) {
        let mut mask = Mask::of(text, font);
        for _ in 0..scale.ilog2() {
            mask = mask.doubled();
        }
        for (i, set) in mask.bits.iter().enumerate() {
            if *set {
                let (px, py) = ((i % mask.width) as i32, (i / mask.width) as i32);
                self.set(2 * x + px, 2 * y + py, colour);
            }
        }
    }

    fn set(&mut self, x: i32, y: i32, colour: Rgb888) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if x < self.width && y < self.height {
            self.pixels[y * self.width + x] = colour;
        }
    }

    /// Averages four pixels to one and encodes the picture.
    fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let four = [(0, 0), (1, 0), (0, 1), (1, 1)]
                    .map(|(dx, dy)| self.pixels[(2 * y + dy) * self.width + 2 * x + dx]);
                let mean = |channel: fn(&Rgb888) -> u8| {
                    (four.iter().map(|p| u32::from(channel(p))).sum::<u32>() + 2) / 4
                };
                rgb.extend([mean(Rgb888::r), mean(Rgb888::g), mean(Rgb888::b)].map(|v| v as u8));
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&rgb)?;
        writer.finish()?;
        Ok(bytes)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        for Pixel(at, colour) in pixels {
            self.set(at.x, at.y, colour);
        }
        Ok(())
    }
}

/// One line of text as bits.
struct Mask {
    width: usize,
    height: usize,
    bits: Vec<bool>,
}

impl Mask {
    fn of(text: &str, font: &MonoFont) -> Self {
        let width = text_width(text, font).max(1) as usize;
        let height = font.character_size.height as usize;
        let mut mask = Self {
            width,
            height,
            bits: vec![false; width * height],
        };
        let style = MonoTextStyle::new(font, BinaryColor::On);
        let Ok(_) = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut mask);
        mask
    }

    /// Twice the size with smoothed diagonals (Scale2x).
    fn doubled(&self) -> Self {
        let (width, height) = (self.width * 2, self.height * 2);
        let mut bits = vec![false; width * height];
        for y in 0..self.height as i32 {
            for x in 0..self.width as i32 {
                let (up, down) = (self.bit(x, y - 1), self.bit(x, y + 1));
                let (left, right) = (self.bit(x - 1, y), self.bit(x + 1, y));
                let own = self.bit(x, y);
                let corner = |a: bool, b: bool, not_a: bool, not_b: bool| {
                    if a == b && a != not_a && b != not_b {
                        a
                    } else {
                        own
                    }
                };
                let (px, py) = (2 * x as usize, 2 * y as usize);
                bits[py * width + px] = corner(left, up, down, right);
                bits[py * width + px + 1] = corner(up, right, left, down);
                bits[(py + 1) * width + px] = corner(down, left, right, up);
                bits[(py + 1) * width + px + 1] = corner(right, down, up, left);
            }
        }
        Self {
            width,
            height,
            bits,
        }
    }

    fn bit(&self, x: i32, y: i32) -> bool {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height;
        inside && self.bits[y as usize * self.width + x as usize]
    }
}

impl OriginDimensions for Mask {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Mask {
    type Color = BinaryColor;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        let bounds = self.bounding_box();
        for Pixel(at, colour) in pixels {
            if bounds.contains(at) {
                self.bits[at.y as usize * self.width + at.x as usize] = colour.is_on();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lighter_means_more_for_every_eye() {
        let steps: Vec<f64> = (0..=50)
            .map(|i| luminance(cividis(f64::from(i) / 50.0)))
            .collect();
        assert!(steps.windows(2).all(|s| s[1] > s[0]));
    }

    #[test]
    fn the_hall_becomes_a_picture_and_the_same_one_again() {
        use super::super::Layer;
        let draw = |layer| heatmap_png(&sample(layer)).unwrap();
        let risk = draw(Layer::FailureRisk);
        assert_eq!(&risk[1..4], b"PNG");
        assert_eq!(risk, draw(Layer::FailureRisk));
        assert_ne!(risk, draw(Layer::Utilisation));
    }

    /// The built-in hall with made-up facts of every sort.
    fn sample(layer: super::super::Layer) -> Heatmap {
        use super::super::{Facts, WindowFact, heatmap};
        use crate::model::{Timestamp, WindowState};
        let hall = crate::demo::Hall::built_in().unwrap();
        let now = Timestamp(1_772_442_420_000);
        let facts = (0_i64..)
            .zip(&hall.assets)
            .map(|(i, asset)| {
                let spread = f64::from(u32::try_from(i * 7919 % 1000).unwrap()) / 1000.0;
                let old = now.plus_ms(if i % 17 == 0 {
                    -9 * 3_600_000
                } else {
                    -240_000
                });
                let window = (i % 13 == 4).then(|| WindowFact {
                    from: now.plus_ms((i * i * 97 % 300 - 2) * 3_600_000),
                    to: now.plus_ms((i * i * 97 % 300 - 1) * 3_600_000),
                    state: if i % 2 == 0 {
                        WindowState::Accepted
                    } else {
                        WindowState::Proposed
                    },
                });
                let facts = Facts {
                    utilisation: hall.utilisation_at(&asset.id, now).map(|u| (u, old)),
                    failure_risk: (asset.kind == "fan_tray" && asset.col < 10)
                        .then_some((spread.powi(4), old)),
                    window,
                };
                (asset.id.clone(), facts)
            })
            .collect();
        heatmap(&hall.twin(), &facts, layer, now)
    }

    #[test]
    fn text_is_readable_on_every_colour() {
        for i in 0..=100 {
            let colour = cividis(f64::from(i) / 100.0);
            let ink = luminance(if is_dark(colour) { WHITE } else { INK });
            let ground = luminance(colour);
            let contrast = (ink.max(ground) + 0.05) / (ink.min(ground) + 0.05);
            assert!(contrast >= 3.9, "{contrast} at {i}");
        }
    }
}
