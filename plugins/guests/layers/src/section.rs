//! The section of a mesh in the plane of an image, pixel by pixel.

use plugin_sdk::verify::{Pixels, Vec3};

/// The most triangles of a mesh.
const MOST: usize = 4_000_000;

/// Three corners of each triangle, in millimetres.
pub type Mesh = Vec<[[f64; 3]; 3]>;

/// Reads a binary STL.
///
/// # Errors
///
/// If it is none.
pub fn read_stl(bytes: &[u8]) -> Result<Mesh, String> {
    let count = bytes.get(80..84).and_then(|at| at.try_into().ok());
    let count = count.map_or(0, u32::from_le_bytes) as usize;
    if count == 0 || count > MOST || bytes.len() != 84 + 50 * count {
        return Err("it is no binary STL".to_owned());
    }
    let number = |at: &[u8]| f64::from(f32::from_le_bytes([at[0], at[1], at[2], at[3]]));
    let triangle = |record: &[u8]| {
        [12, 24, 36].map(|corner| [0, 4, 8].map(|axis| number(&record[corner + axis..])))
    };
    let mesh: Mesh = bytes[84..].chunks_exact(50).map(triangle).collect();
    let whole = mesh
        .as_flattened()
        .as_flattened()
        .iter()
        .all(|x| x.is_finite());
    whole
        .then_some(mesh)
        .ok_or_else(|| "it has a corner that is nowhere".to_owned())
}

/// Where pixels lie, and which pixel a point is.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    origin: [f64; 3],
    right: [f64; 3],
    down: [f64; 3],
    /// Takes a point, from the origin, to its column, its row, and its height over the image.
    inverse: [[f64; 3]; 3],
    /// The lengths of a pixel's sides, in millimetres.
    pub pixel_mm: (f64, f64),
}

impl Frame {
    /// That of an image, unless its pixels lie on one line.
    #[must_use]
    pub fn of(pixels: &Pixels) -> Option<Self> {
        let (origin, right, down) = (
            array(pixels.origin),
            array(pixels.right),
            array(pixels.down),
        );
        let normal = cross(right, down);
        let area = length(normal);
        let pixel_mm = (length(right), length(down));
        if !(area.is_finite() && area > 1e-9 * pixel_mm.0 * pixel_mm.1 && area > 0.0) {
            return None;
        }
        let unit = normal.map(|x| x / area);
        // The rows of the inverse of the matrix whose columns are right, down and the unit normal.
        let inverse = [
            cross(down, unit).map(|x| x / area),
            cross(unit, right).map(|x| x / area),
            unit,
        ];
        Some(Self {
            origin,
            right,
            down,
            inverse,
            pixel_mm,
        })
    }

    /// Where a column and a row lie, in millimetres.
    #[must_use]
    pub fn place(&self, column: f64, row: f64) -> Vec3 {
        let [x, y, z] =
            [0, 1, 2].map(|a| self.origin[a] + column * self.right[a] + row * self.down[a]);
        (x, y, z)
    }

    fn seen(&self, point: [f64; 3]) -> [f64; 3] {
        let off = [0, 1, 2].map(|a| point[a] - self.origin[a]);
        self.inverse.map(|row| dot(row, off))
    }
}

/// Where there has to be material.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Row by row.
    pub solid: Vec<bool>,
}

impl Section {
    /// Cuts a mesh in the plane of an image of so many columns and rows.
    #[must_use]
    pub fn of(mesh: &Mesh, frame: &Frame, (columns, rows): (usize, usize)) -> Self {
        // Where the outline crosses the middle of each row.
        let mut crossings: Vec<Vec<f64>> = vec![Vec::new(); rows];
        for triangle in mesh {
            let Some([(u, v), (s, t)]) = cut(triangle.map(|corner| frame.seen(corner))) else {
                continue;
            };
            let ((u, v), (s, t)) = if v <= t {
                ((u, v), (s, t))
            } else {
                ((s, t), (u, v))
            };
            let first = v.ceil().max(0.0) as usize;
            for (row, crossings) in crossings.iter_mut().enumerate().skip(first) {
                let at = row as f64;
                if at >= t {
                    break;
                }
                crossings.push(u + (at - v) / (t - v) * (s - u));
            }
        }
        let mut solid = vec![false; columns * rows];
        for (row, crossings) in crossings.iter_mut().enumerate() {
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let from = pair[0].ceil().max(0.0) as usize;
                let to = (pair[1].ceil().max(0.0) as usize).min(columns);
                if from < to {
                    solid[row * columns + from..row * columns + to].fill(true);
                }
            }
        }
        Self { solid }
    }
}

/// Where a triangle crosses the plane of the image, by column and row. A corner in the plane counts as above it, so that
/// outlines are closed.
fn cut(corners: [[f64; 3]; 3]) -> Option<[(f64, f64); 2]> {
    let mut ends = Vec::with_capacity(2);
    for n in 0..3 {
        let (a, b) = (corners[n], corners[(n + 1) % 3]);
        if (a[2] >= 0.0) != (b[2] >= 0.0) {
            let share = a[2] / (a[2] - b[2]);
            ends.push((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])));
        }
    }
    ends.try_into().ok()
}

fn array((x, y, z): Vec3) -> [f64; 3] {
    [x, y, z]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

fn length(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}
