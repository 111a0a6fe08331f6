//! Pictures of parts for people, drawn without a window: orthographic, shaded, with soft edges.

use rayon::prelude::*;

use crate::inspect::DeviationField;
use crate::inspect::deviation::Grid;
use crate::inspect::pose::{scaled, unit};
use crate::mesh::{Mesh, cross, dot, length, sub};

/// Samples per pixel along each axis.
const SUPER: usize = 3;
const BACKGROUND: [f64; 3] = [0.985, 0.985, 0.99];
const INK: [f64; 3] = [0.16, 0.18, 0.22];
const PART: [f64; 3] = [0.62, 0.68, 0.75];
const UNSEEN: [f64; 3] = [0.55, 0.55, 0.57];
/// Directions to the eye: the front and the back of an isometric view.
const EYES: [[f64; 3]; 2] = [[1.0, -1.1, 0.8], [-1.0, 1.1, -0.8]];

/// A shaded isometric view of a mesh, 960 × 720 pixels.
#[must_use]
pub fn part_png(mesh: &Mesh) -> Vec<u8> {
    let mut canvas = Canvas::new(960, 720);
    canvas.draw(mesh, EYES[0], [30, 30, 900, 660], &|_, _| PART);
    canvas.png()
}

/// Front and back of the part coloured by deviation, blue for missing and orange for excess, with a legend in mm.
#[must_use]
pub fn deviation_png(mesh: &Mesh, field: &DeviationField) -> Vec<u8> {
    let mut canvas = Canvas::new(1400, 720);
    let range = 2.0 * field.tolerance_mm.max(1e-6);
    let reach = 2.2 * field.spacing_mm.max(1e-6);
    let grid = Grid::new(&field.points, reach);
    let paint = |p: [f64; 3], n: [f64; 3]| {
        let (mut sum, mut seen, mut unseen) = (0.0, 0.0, 0.0);
        grid.within(p, reach, |i| {
            if dot(field.normals[i], n) > 0.5 {
                let d = length(sub(field.points[i], p)) / reach;
                let w = (1.0 - d * d).powi(2);
                match field.values[i] {
                    Some(value) => {
                        sum += w * value;
                        seen += w;
                    }
                    None => unseen += w,
                }
            }
        });
        if seen > unseen {
            diverging(sum / seen / range)
        } else {
            UNSEEN
        }
    };
    canvas.draw(mesh, EYES[0], [20, 20, 670, 590], &paint);
    canvas.draw(mesh, EYES[1], [710, 20, 670, 590], &paint);
    canvas.legend(range, field.tolerance_mm);
    canvas.png()
}

/// Blue, white, orange over minus one to one.
fn diverging(x: f64) -> [f64; 3] {
    let stops = if x < 0.0 {
        [[0.97, 0.97, 0.96], [0.42, 0.68, 0.86], [0.05, 0.27, 0.58]]
    } else {
        [[0.97, 0.97, 0.96], [0.99, 0.66, 0.32], [0.75, 0.26, 0.02]]
    };
    let t = 2.0 * x.abs().min(1.0);
    if t < 1.0 {
        mix(stops[0], stops[1], t)
    } else {
        mix(stops[1], stops[2], t - 1.0)
    }
}

fn mix(a: [f64; 3], b: [f64; 3], t: f64) -> [f64; 3] {
    [0, 1, 2].map(|k| a[k] + (b[k] - a[k]) * t)
}

/// What one sample of a view sees.
#[derive(Clone, Copy)]
struct Seen {
    depth: f64,
    triangle: u32,
}

struct Canvas {
    width: usize,
    height: usize,
    /// Linear in what the eye sees: plain sRGB values, row by row.
    pixels: Vec<[f64; 3]>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![BACKGROUND; width * height],
        }
    }

    /// Draws the mesh as large as fits the box `[left, top, width, height]`.
    fn draw(
        &mut self,
        mesh: &Mesh,
        eye: [f64; 3],
        [left, top, width, height]: [usize; 4],
        paint: &(impl Fn([f64; 3], [f64; 3]) -> [f64; 3] + Sync),
    ) {
        let eye = unit(eye);
        let right = unit(cross([0.0, 0.0, 1.0], eye));
        let up = cross(eye, right);
        let seen_from: Vec<[f64; 3]> = mesh
            .vertices
            .iter()
            .map(|v| [dot(*v, right), dot(*v, up), dot(*v, eye)])
            .collect();
        let (low, high) = super::scan::extent(&seen_from);
        let (w, h) = (width * SUPER, height * SUPER);
        let zoom = (w as f64 / (high[0] - low[0]).max(1e-9))
            .min(h as f64 / (high[1] - low[1]).max(1e-9))
            * 0.96;
        let place = |v: [f64; 3]| {
            [
                0.5 * w as f64 + (v[0] - 0.5 * (low[0] + high[0])) * zoom,
                0.5 * h as f64 - (v[1] - 0.5 * (low[1] + high[1])) * zoom,
                v[2],
            ]
        };
        let mut buffer = vec![
            Seen {
                depth: f64::NEG_INFINITY,
                triangle: u32::MAX
            };
            w * h
        ];
        for (t, corners) in mesh.triangles.iter().enumerate() {
            let [a, b, c] = corners.map(|v| place(seen_from[v as usize]));
            let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
            // Rows run downwards, so a triangle that faces the eye has a negative area.
            if area >= 0.0 {
                continue;
            }
            let range = |k: usize, limit: usize| {
                let low = a[k].min(b[k]).min(c[k]).floor().max(0.0) as usize;
                let high = a[k].max(b[k]).max(c[k]).ceil().max(0.0) as usize;
                low..(high + 1).min(limit)
            };
            for y in range(1, h) {
                for x in range(0, w) {
                    let (px, py) = (x as f64 + 0.5, y as f64 + 0.5);
                    let u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area;
                    let v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area;
                    let s = 1.0 - u - v;
                    if u < -1e-9 || v < -1e-9 || s < -1e-9 {
                        continue;
                    }
                    let depth = u * a[2] + v * b[2] + s * c[2];
                    let seen = &mut buffer[y * w + x];
                    if depth > seen.depth {
                        *seen = Seen {
                            depth,
                            triangle: t as u32,
                        };
                    }
                }
            }
        }
        let normals = smooth_normals(mesh);
        let light = unit(crate::inspect::pose::add(
            scaled(eye, 0.9),
            crate::inspect::pose::add(scaled(up, 0.75), scaled(right, -0.55)),
        ));
        let half = unit(crate::inspect::pose::add(light, eye));
        let crease = 0.012 * length(sub(high, low));
        let depth_at = |x: usize, y: usize| buffer[y * w + x].depth;
        let normal_at = |x: usize, y: usize| {
            let t = buffer[y * w + x].triangle;
            if t == u32::MAX {
                [0.0; 3]
            } else {
                normals[t as usize]
            }
        };
        let rows: Vec<Vec<[f64; 3]>> = (0..height)
            .into_par_iter()
            .map(|row| {
                (0..width)
                    .map(|column| {
                        let mut sum = [0.0; 3];
                        // The deviation is smooth, so one look-up colours the samples of a pixel on the same side.
                        let mut last: Option<([f64; 3], [f64; 3])> = None;
                        for sub_y in 0..SUPER {
                            for sub_x in 0..SUPER {
                                let (x, y) = (column * SUPER + sub_x, row * SUPER + sub_y);
                                let seen = buffer[y * w + x];
                                let mut colour =
                                    self.pixels[(top + row) * self.width + left + column];
                                if seen.triangle != u32::MAX {
                                    let n = normals[seen.triangle as usize];
                                    let base = match last {
                                        Some((normal, colour)) if dot(normal, n) > 0.98 => colour,
                                        _ => {
                                            let a = (x as f64 + 0.5 - 0.5 * w as f64) / zoom
                                                + 0.5 * (low[0] + high[0]);
                                            let b = (0.5 * h as f64 - y as f64 - 0.5) / zoom
                                                + 0.5 * (low[1] + high[1]);
                                            let p = [0, 1, 2].map(|k| {
                                                right[k] * a + up[k] * b + eye[k] * seen.depth
                                            });
                                            let face = mesh.normal(seen.triangle as usize);
                                            let colour = paint(p, face);
                                            last = Some((n, colour));
                                            colour
                                        }
                                    };
                                    let diffuse = 0.5 + 0.5 * dot(n, light);
                                    let shine = dot(n, half).max(0.0).powi(40);
                                    colour = base.map(|c| {
                                        (c * (0.5 + 0.5 * diffuse) + 0.06 * shine).min(1.0)
                                    });
                                }
                                // A thin line where the depth jumps or the surface bends.
                                if x > 0 && y > 0 && x + 1 < w && y + 1 < h {
                                    let edge = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
                                        .iter()
                                        .any(|&(i, j)| {
                                            let (d, e) = (depth_at(i, j), seen.depth);
                                            if d == e {
                                                return false;
                                            }
                                            !d.is_finite()
                                                || !e.is_finite()
                                                || (d - e).abs() > crease
                                                || dot(normal_at(i, j), normal_at(x, y)) < 0.75
                                        });
                                    if edge {
                                        colour = mix(colour, INK, 0.55);
                                    }
                                }
                                for k in 0..3 {
                                    sum[k] += colour[k] / (SUPER * SUPER) as f64;
                                }
                            }
                        }
                        sum
                    })
                    .collect()
            })
            .collect();
        for (row, line) in rows.into_iter().enumerate() {
            let at = (top + row) * self.width + left;
            self.pixels[at..at + width].copy_from_slice(&line);
        }
    }

    /// The colour bar with ticks at the ends, at the tolerance and at zero.
    fn legend(&mut self, range: f64, tolerance: f64) {
        let (left, top, width, height) = (350.0, 636.0, 700.0, 20.0);
        for y in top as usize..(top + height) as usize {
            for x in left as usize..(left + width) as usize {
                let t = (x as f64 + 0.5 - left) / width * 2.0 - 1.0;
                self.pixels[y * self.width + x] = diverging(t);
            }
        }
        let frame = [
            [left, top],
            [left + width, top],
            [left + width, top + height],
            [left, top + height],
        ];
        for k in 0..4 {
            self.stroke(frame[k], frame[(k + 1) % 4], 1.0);
        }
        for value in [-range, -tolerance, 0.0, tolerance, range] {
            let x = left + (value / range + 1.0) * 0.5 * width;
            self.stroke([x, top + height], [x, top + height + 7.0], 1.4);
            let text = if value == 0.0 {
                "0".to_owned()
            } else {
                format!("{value:+.2}")
            };
            let text = if value == range {
                format!("{text} mm")
            } else {
                text
            };
            let anchor = if value == range {
                text.trim_end_matches(" mm").len()
            } else {
                text.len()
            };
            self.text(
                &text,
                [x - 0.5 * anchor as f64 * ADVANCE, top + height + 14.0],
            );
        }
    }

    fn text(&mut self, text: &str, [x, y]: [f64; 2]) {
        for (k, character) in text.chars().enumerate() {
            let origin = x + k as f64 * ADVANCE + 2.5;
            for line in glyph(character) {
                let at = |p: &[f64; 2]| [origin + p[0] * 9.0, y + p[1] * 16.0];
                for pair in line.windows(2) {
                    self.stroke(at(&pair[0]), at(&pair[1]), 1.8);
                }
            }
        }
    }

    /// A line with round ends and soft edges.
    fn stroke(&mut self, a: [f64; 2], b: [f64; 2], width: f64) {
        let reach = width + 1.0;
        let range = |k: usize, limit: usize| {
            let low = (a[k].min(b[k]) - reach).max(0.0) as usize;
            low..((a[k].max(b[k]) + reach).max(0.0) as usize + 1).min(limit)
        };
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let squared = (dx * dx + dy * dy).max(1e-12);
        for y in range(1, self.height) {
            for x in range(0, self.width) {
                let (px, py) = (x as f64 + 0.5 - a[0], y as f64 + 0.5 - a[1]);
                let t = ((px * dx + py * dy) / squared).clamp(0.0, 1.0);
                let distance = (px - t * dx).hypot(py - t * dy);
                let cover = (0.5 * width + 0.5 - distance).clamp(0.0, 1.0);
                let pixel = &mut self.pixels[y * self.width + x];
                *pixel = mix(*pixel, INK, cover);
            }
        }
    }

    fn png(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self
            .pixels
            .iter()
            .flatten()
            .map(|c| (c.clamp(0.0, 1.0) * 255.0 + 0.5) as u8)
            .collect();
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // Writing to memory cannot fail, and the buffer has the size the header says.
        if let Ok(mut writer) = encoder.write_header() {
            let _ = writer.write_image_data(&bytes);
        }
        out
    }
}

/// From one character to the next, pixels.
const ADVANCE: f64 = 13.0;

/// The strokes of a character in a unit box, top left to bottom right.
fn glyph(character: char) -> &'static [&'static [[f64; 2]]] {
    match character {
        '0' => &[&[
            [0.5, 0.0],
            [0.15, 0.12],
            [0.0, 0.4],
            [0.0, 0.6],
            [0.15, 0.88],
            [0.5, 1.0],
            [0.85, 0.88],
            [1.0, 0.6],
            [1.0, 0.4],
            [0.85, 0.12],
            [0.5, 0.0],
        ]],
        '1' => &[&[[0.15, 0.2], [0.55, 0.0], [0.55, 1.0]]],
        '2' => &[&[
            [0.0, 0.25],
            [0.15, 0.06],
            [0.5, 0.0],
            [0.85, 0.08],
            [0.97, 0.28],
            [0.8, 0.52],
            [0.0, 1.0],
            [1.0, 1.0],
        ]],
        '3' => &[&[
            [0.05, 0.12],
            [0.45, 0.0],
            [0.85, 0.1],
            [0.92, 0.27],
            [0.75, 0.43],
            [0.4, 0.48],
            [0.8, 0.54],
            [1.0, 0.73],
            [0.85, 0.93],
            [0.45, 1.0],
            [0.0, 0.88],
        ]],
        '4' => &[&[[0.75, 1.0], [0.75, 0.0], [0.0, 0.7], [1.0, 0.7]]],
        '5' => &[&[
            [0.92, 0.0],
            [0.15, 0.0],
            [0.08, 0.45],
            [0.45, 0.36],
            [0.85, 0.44],
            [1.0, 0.67],
            [0.85, 0.91],
            [0.45, 1.0],
            [0.0, 0.9],
        ]],
        '6' => &[&[
            [0.85, 0.04],
            [0.45, 0.06],
            [0.1, 0.33],
            [0.0, 0.66],
            [0.15, 0.92],
            [0.5, 1.0],
            [0.87, 0.91],
            [1.0, 0.68],
            [0.87, 0.46],
            [0.5, 0.39],
            [0.15, 0.47],
            [0.0, 0.66],
        ]],
        '7' => &[&[[0.0, 0.0], [1.0, 0.0], [0.35, 1.0]]],
        '8' => &[&[
            [0.5, 0.46],
            [0.15, 0.37],
            [0.07, 0.2],
            [0.2, 0.05],
            [0.5, 0.0],
            [0.8, 0.05],
            [0.93, 0.2],
            [0.85, 0.37],
            [0.5, 0.46],
            [0.12, 0.56],
            [0.0, 0.75],
            [0.15, 0.94],
            [0.5, 1.0],
            [0.85, 0.94],
            [1.0, 0.75],
            [0.88, 0.56],
            [0.5, 0.46],
        ]],
        '9' => &[&[
            [0.15, 0.96],
            [0.55, 0.94],
            [0.9, 0.67],
            [1.0, 0.34],
            [0.85, 0.08],
            [0.5, 0.0],
            [0.13, 0.09],
            [0.0, 0.32],
            [0.13, 0.54],
            [0.5, 0.61],
            [0.85, 0.53],
            [1.0, 0.34],
        ]],
        '+' => &[&[[0.5, 0.25], [0.5, 0.8]], &[[0.08, 0.525], [0.92, 0.525]]],
        '-' => &[&[[0.08, 0.525], [0.92, 0.525]]],
        '.' => &[&[[0.45, 0.97], [0.5, 0.97]]],
        'm' => &[
            &[[0.0, 0.38], [0.0, 1.0]],
            &[[0.0, 0.55], [0.2, 0.4], [0.4, 0.45], [0.5, 0.6], [0.5, 1.0]],
            &[[0.5, 0.58], [0.7, 0.4], [0.9, 0.45], [1.0, 0.6], [1.0, 1.0]],
        ],
        _ => &[],
    }
}

/// One normal per triangle, averaged with the neighbours that bend by less than thirty degrees.
fn smooth_normals(mesh: &Mesh) -> Vec<[f64; 3]> {
    let faces: Vec<[f64; 3]> = (0..mesh.triangles.len()).map(|t| mesh.normal(t)).collect();
    let mut around: Vec<Vec<u32>> = vec![Vec::new(); mesh.vertices.len()];
    for (t, corners) in mesh.triangles.iter().enumerate() {
        for &v in corners {
            around[v as usize].push(t as u32);
        }
    }
    (0..mesh.triangles.len())
        .map(|t| {
            let mut sum = faces[t];
            for &v in &mesh.triangles[t] {
                for &other in &around[v as usize] {
                    if dot(faces[other as usize], faces[t]) > 0.866 {
                        sum = crate::inspect::pose::add(sum, faces[other as usize]);
                    }
                }
            }
            unit(sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn a_part_is_drawn_in_the_middle_of_its_picture() {
        let (width, height, pixels) = decoded(&part_png(&crate::inspect::tests::bracket()));
        assert_eq!((width, height), (960, 720));
        let background = &pixels[..3];
        let drawn = pixels.chunks(3).filter(|p| *p != background).count();
        assert!(drawn > 150_000, "{drawn}");
        assert_eq!(
            part_png(&Mesh::default()).len(),
            part_png(&Mesh::default()).len()
        );
    }

    #[test]
    fn excess_is_orange_and_missing_is_blue() {
        assert_eq!(diverging(0.0), [0.97, 0.97, 0.96]);
        let (orange, blue) = (diverging(0.6), diverging(-0.6));
        assert!(orange[0] > orange[2] + 0.4 && blue[2] > blue[0] + 0.3);
        assert_eq!(diverging(5.0), diverging(1.0));
    }
}
