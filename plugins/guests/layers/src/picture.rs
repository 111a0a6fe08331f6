//! An image, and which of its pixels are of the two sorts there are: one is material, the other what is behind it.

use std::io::Cursor;

/// The most pixels of an image.
const MOST: usize = 12 << 20;
/// Sorts of grey that are closer than this are noise of one.
const APART: f64 = 24.0;

/// A grey image in two sorts.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Columns and rows.
    pub size: (usize, usize),
    /// Row by row, whether a pixel is of the brighter sort.
    pub bright: Vec<bool>,
    /// How far the two sorts are apart: the share of all variation that is between them, 0 to 1; 0 where they are hardly two.
    pub clear: f64,
}

impl Picture {
    /// Reads a PNG of any colour.
    ///
    /// # Errors
    ///
    /// If it is none, or has too many pixels.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let said = |why: png::DecodingError| format!("it is no PNG that can be read: {why}");
        let mut reader = decoder.read_info().map_err(said)?;
        let size = (reader.info().width as usize, reader.info().height as usize);
        if size.0.saturating_mul(size.1) > MOST {
            return Err(format!(
                "it has {} × {} pixels, more than {MOST}",
                size.0, size.1
            ));
        }
        let room = reader
            .output_buffer_size()
            .ok_or_else(|| "it is too large".to_owned())?;
        let mut pixels = vec![0; room];
        let frame = reader.next_frame(&mut pixels).map_err(said)?;
        let samples = frame.color_type.samples();
        // What is transparent says nothing: only the colours count.
        let colours = if samples >= 3 { 3 } else { 1 };
        let grey = |pixel: &[u8]| {
            let sum: u32 = pixel[..colours].iter().map(|one| u32::from(*one)).sum();
            (sum / colours as u32) as u8
        };
        let pixels = &pixels[..frame.buffer_size()];
        Ok(Self::of(
            size,
            &pixels.chunks_exact(samples).map(grey).collect::<Vec<_>>(),
        ))
    }

    /// Parts grey values where the variation between the sorts is greatest (Otsu 1979).
    #[must_use]
    pub fn of(size: (usize, usize), grey: &[u8]) -> Self {
        let mut counts = [0_u64; 256];
        for value in grey {
            counts[usize::from(*value)] += 1;
        }
        let all = grey.len().max(1) as f64;
        let mean = weighted(&counts, |value| value) / all;
        let mut apart = 0.0;
        let variance = weighted(&counts, |value| (value - mean).powi(2)) / all;
        let (mut best, mut limit) = (0.0, 255);
        let (mut below, mut sum) = (0.0, 0.0);
        for value in 0..255 {
            below += counts[value] as f64 / all;
            sum += value as f64 * counts[value] as f64 / all;
            let between = if below > 0.0 && below < 1.0 {
                (mean * below - sum).powi(2) / (below * (1.0 - below))
            } else {
                0.0
            };
            if between > best {
                (best, limit) = (between, value);
                apart = (mean - sum) / (1.0 - below) - sum / below;
            }
        }
        Self {
            size,
            bright: grey
                .iter()
                .map(|value| usize::from(*value) > limit)
                .collect(),
            clear: if variance > 0.0 && apart >= APART {
                (best / variance).min(1.0)
            } else {
                0.0
            },
        }
    }
}

fn weighted(counts: &[u64; 256], weight: impl Fn(f64) -> f64) -> f64 {
    let values = counts.iter().enumerate();
    values
        .map(|(value, count)| *count as f64 * weight(value as f64))
        .sum()
}
