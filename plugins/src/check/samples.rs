//! What conformance cases are made of.

use crate::bundle::digest;
use crate::call::Context;
use crate::v1::types::{ArtifactRef, Asset, Series};

/// 2026-01-01T00:00:00Z.
pub(super) const NOW_MS: f64 = 1_767_225_600_000.0;
/// 9999-12-31T00:00:00Z.
pub(super) const FAR_MS: f64 = 253_402_214_400_000.0;

/// A name with characters of one to four bytes, and both directions of writing.
pub(super) const STRANGE: &str = "fän-7 \u{202e}風扇🔧\t\u{0}";

pub(super) fn context() -> Context {
    Context {
        config: "{}".to_owned(),
        now_ms: NOW_MS,
        seed: 7,
    }
}

pub(super) fn asset(id: &str) -> Asset {
    Asset {
        id: id.to_owned(),
        kind: "fan_tray".to_owned(),
        labels: vec![("row".to_owned(), "1".to_owned())],
    }
}

/// A smooth value, the same each time.
pub(super) fn wave(n: u32, typical: f64) -> f64 {
    typical * (1.0 + 0.05 * (f64::from(n) * 0.37).sin())
}

pub(super) fn series(metric: &str, values: Vec<f64>) -> Series {
    let count = values.len();
    let first = NOW_MS - count as f64 * 60_000.0;
    let times = (0..count).map(|n| first + n as f64 * 60_000.0).collect();
    Series {
        metric: metric.to_owned(),
        unit: "mm/s".to_owned(),
        times,
        values,
    }
}

pub(super) fn artifact(name: &str, media_type: &str, bytes: &[u8]) -> ArtifactRef {
    ArtifactRef {
        digest: digest(bytes),
        media_type: media_type.to_owned(),
        size: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        name: name.to_owned(),
    }
}

/// A closed tetrahedron with edges along the axes, as binary STL (little-endian: 80 bytes of header, count, facets of a
/// normal, three corners and two bytes of attributes).
pub(super) fn tetrahedron() -> Vec<u8> {
    const CORNERS: [[f32; 3]; 4] = [
        [0.0; 3],
        [10.0, 0.0, 0.0],
        [0.0, 10.0, 0.0],
        [0.0, 0.0, 10.0],
    ];
    const FACETS: [[usize; 3]; 4] = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]];
    stl(&FACETS.map(|facet| facet.map(|corner| CORNERS[corner])))
}

pub(super) fn stl(facets: &[[[f32; 3]; 3]]) -> Vec<u8> {
    let mut bytes = vec![0; 80];
    bytes.extend((facets.len() as u32).to_le_bytes());
    for facet in facets {
        bytes.extend([0; 12]);
        for along in facet.iter().flatten() {
            bytes.extend(along.to_le_bytes());
        }
        bytes.extend([0; 2]);
    }
    bytes
}

/// Three points as ASCII PLY.
pub(super) fn scan() -> Vec<u8> {
    b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n\
      0 0 0\n10 0 0\n0 10 0\n"
        .to_vec()
}

/// A grey pixel as PNG.
pub(super) fn pixel() -> Vec<u8> {
    vec![
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
        0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a,
        0x7e, 0x9b, 0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68,
        0x00, 0x00, 0x00, 0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00, 0x00, 0x00, 0x00, 0x49,
        0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
    ]
}

/// Everything whose bytes a case names.
fn all() -> [Vec<u8>; 7] {
    [
        tetrahedron(),
        stl(&[]),
        open_mesh(),
        scan(),
        pixel(),
        garbage(),
        Vec::new(),
    ]
}

/// One facet, which closes nothing, with a corner that is no number.
pub(super) fn open_mesh() -> Vec<u8> {
    stl(&[[[0.0; 3], [f32::NAN, 0.0, 0.0], [0.0, 10.0, 0.0]]])
}

/// Bytes that are no format.
pub(super) fn garbage() -> Vec<u8> {
    (0..4_096u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

pub(super) fn bytes_of(wanted: &str) -> Option<Vec<u8>> {
    all().into_iter().find(|bytes| digest(bytes) == wanted)
}
