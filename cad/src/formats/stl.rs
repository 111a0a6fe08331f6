//! STL, binary out, binary or ASCII in (the only file that names `stl_io`).

use std::collections::HashMap;
use std::io::Cursor;

use crate::mesh::{Mesh, cross, length, sub};

/// The most triangles accepted: 250 MB of binary STL.
pub const MAX_TRIANGLES: usize = 5_000_000;
/// The most bytes accepted; ASCII needs about five times as many as binary.
pub const MAX_BYTES: usize = 1_250_000_000;

/// Why bytes are not an STL file.
#[derive(Debug, thiserror::Error)]
pub enum StlError {
    /// Larger than the quota.
    #[error("stl has {bytes} bytes, at most {MAX_BYTES} are accepted; simplify the mesh")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// More triangles than the quota.
    #[error(
        "stl has {triangles} triangles, at most {MAX_TRIANGLES} are accepted; simplify the mesh"
    )]
    TooManyTriangles {
        /// How many.
        triangles: usize,
    },
    /// Binary, but of another length than its header says.
    #[error(
        "stl announces {announced} triangles ({expected} bytes) but has {bytes} bytes; it was cut \
         off or is no stl"
    )]
    WrongLength {
        /// Triangles in the header.
        announced: u32,
        /// Bytes they need.
        expected: u64,
        /// Bytes there are.
        bytes: usize,
    },
    /// One triangle is unreadable.
    #[error("stl triangle {triangle}: {problem}")]
    Triangle {
        /// Counted from 1.
        triangle: usize,
        /// What is wrong.
        problem: String,
    },
    /// No triangles.
    #[error("stl has no triangles")]
    Empty,
}

/// Binary STL with the same bytes for the same mesh; coordinates are rounded to 32 bits.
#[must_use]
pub fn write(mesh: &Mesh) -> Vec<u8> {
    let vector = |v: [f64; 3]| stl_io::Vector::new(v.map(|x| x as f32));
    let triangles: Vec<stl_io::Triangle> = (0..mesh.triangles.len())
        .map(|t| stl_io::Triangle {
            normal: vector(mesh.normal(t)),
            vertices: mesh.corners(t).map(vector),
        })
        .collect();
    let mut out = Vec::with_capacity(84 + 50 * triangles.len());
    // Writing to memory cannot fail.
    let _ = stl_io::write_stl(&mut out, triangles.iter());
    out
}

/// Reads STL and joins equal corners, so that a closed file gives a closed mesh.
///
/// # Errors
/// If the bytes are too many, cut off, or hold a triangle that is not finite.
pub fn read(bytes: &[u8]) -> Result<Mesh, StlError> {
    if bytes.len() > MAX_BYTES {
        return Err(StlError::TooLarge { bytes: bytes.len() });
    }
    if !is_ascii(bytes) {
        check_binary_length(bytes)?;
    }
    let unreadable = |triangle: usize, e: std::io::Error| StlError::Triangle {
        triangle,
        problem: e.to_string(),
    };
    let mut cursor = Cursor::new(bytes);
    let reader = stl_io::create_stl_reader(&mut cursor).map_err(|e| unreadable(1, e))?;
    let mut mesh = Mesh::default();
    let mut seen: HashMap<[u32; 3], u32> = HashMap::new();
    for (n, triangle) in reader.enumerate() {
        if n >= MAX_TRIANGLES {
            return Err(StlError::TooManyTriangles { triangles: n + 1 });
        }
        let triangle = triangle.map_err(|e| unreadable(n + 1, e))?;
        let mut corners = [0; 3];
        for (corner, vertex) in corners.iter_mut().zip(&triangle.vertices) {
            // Adding zero turns -0 into 0, which are one point.
            let v = vertex.0.map(|x| x + 0.0);
            if v.iter().any(|x| !x.is_finite()) {
                let problem = "a coordinate is not a finite number".into();
                return Err(StlError::Triangle {
                    triangle: n + 1,
                    problem,
                });
            }
            *corner = *seen.entry(v.map(f32::to_bits)).or_insert_with(|| {
                mesh.vertices.push(v.map(f64::from));
                mesh.vertices.len() as u32 - 1
            });
        }
        mesh.triangles.push(corners);
    }
    if mesh.triangles.is_empty() {
        return Err(StlError::Empty);
    }
    Ok(mesh)
}

/// The first triangle without area, counted from 1, if there is one.
#[must_use]
pub fn first_degenerate(mesh: &Mesh) -> Option<usize> {
    (0..mesh.triangles.len())
        .find(|&t| {
            let [a, b, c] = mesh.corners(t);
            length(cross(sub(b, a), sub(c, a))) == 0.0
        })
        .map(|t| t + 1)
}

/// Binary files may start with `solid` too, so their length decides.
fn is_ascii(bytes: &[u8]) -> bool {
    let fits = bytes.len() >= 84 && 84 + 50 * u64::from(announced(bytes)) == bytes.len() as u64;
    bytes.starts_with(b"solid") && !fits
}

fn announced(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[80], bytes[81], bytes[82], bytes[83]])
}

fn check_binary_length(bytes: &[u8]) -> Result<(), StlError> {
    if bytes.len() < 84 {
        return Err(StlError::WrongLength {
            announced: 0,
            expected: 84,
            bytes: bytes.len(),
        });
    }
    let announced = announced(bytes);
    let expected = 84 + 50 * u64::from(announced);
    if announced as usize > MAX_TRIANGLES {
        return Err(StlError::TooManyTriangles {
            triangles: announced as usize,
        });
    }
    if bytes.len() as u64 != expected {
        return Err(StlError::WrongLength {
            announced,
            expected,
            bytes: bytes.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::cuboid;

    #[test]
    fn a_mesh_survives_and_stays_closed() {
        let mesh = cuboid([1.0, 2.5, 3.0]);
        let read_back = read(&write(&mesh)).unwrap();
        assert!(read_back.check().is_closed());
        assert_eq!(read_back.volume_mm3(), mesh.volume_mm3());
        assert_eq!(write(&read_back), write(&mesh));
    }

    #[test]
    fn ascii_is_read() {
        let text = "solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\n\
                    vertex 0 1 0\nendloop\nendfacet\nendsolid x\n";
        assert_eq!(read(text.as_bytes()).unwrap().vertices.len(), 3);
    }

    #[test]
    fn bad_files_are_refused_by_triangle() {
        let good = write(&cuboid([1.0; 3]));
        let mut nan = good.clone();
        nan[84 + 50 * 4 + 12..84 + 50 * 4 + 16].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut huge = good.clone();
        huge[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
        let cases: [(&[u8], &str); 6] = [
            (&nan, "triangle 5"),
            (&good[..good.len() - 7], "cut off"),
            (&huge, "at most"),
            (b"", "84 bytes"),
            (&[0; 84], "no triangles"),
            (
                b"solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 zero\n",
                "triangle 1",
            ),
        ];
        for (bytes, expected) in cases {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
