//! 3MF: a zip with one XML model; written with fixed times, so equal meshes give equal bytes.

use std::fmt::Write as _;
use std::io::{Cursor, Read, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::mesh::Mesh;

/// The most bytes a model may unpack to.
pub const MAX_UNPACKED: u64 = 1_000_000_000;

/// What the file says about the part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Title of the part.
    pub title: String,
    /// What made it.
    pub application: String,
    /// What it is.
    pub description: String,
}

/// Why bytes are not a 3MF file with a mesh.
#[derive(Debug, thiserror::Error)]
pub enum ThreeMfError {
    /// Not a zip archive, or a damaged one.
    #[error("3mf archive is unreadable: {problem}")]
    Archive {
        /// What the archive says.
        problem: String,
    },
    /// Unpacks to more than the quota.
    #[error("3mf model unpacks to more than {MAX_UNPACKED} bytes")]
    TooLarge,
    /// Not in millimetres.
    #[error("3mf unit is `{unit}`, only millimeter is read; export the part in millimetres")]
    Unit {
        /// What it says.
        unit: String,
    },
    /// An element that cannot be understood.
    #[error("3mf {element} {number}: {problem}")]
    Element {
        /// Vertex or triangle.
        element: &'static str,
        /// Counted from 1.
        number: usize,
        /// What is wrong.
        problem: String,
    },
    /// No mesh inside.
    #[error("3mf has no triangles")]
    Empty,
}

const CONTENT_TYPES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
<Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
<Default Extension=\"model\" ContentType=\"application/vnd.ms-package.3dmanufacturing-3dmodel+xml\"/>\
</Types>\n";
const RELATIONS: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">\
<Relationship Target=\"/3D/3dmodel.model\" Id=\"rel0\" \
Type=\"http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel\"/></Relationships>\n";
const MODEL_PATH: &str = "3D/3dmodel.model";

/// A 3MF file with one object in millimetres.
#[must_use]
pub fn write(mesh: &Mesh, meta: &Meta) -> Vec<u8> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let files = [
        ("[Content_Types].xml", CONTENT_TYPES.to_owned()),
        ("_rels/.rels", RELATIONS.to_owned()),
        (MODEL_PATH, model_xml(mesh, meta)),
    ];
    for (name, text) in files {
        // Writing a fresh name to memory cannot fail.
        let _ = zip.start_file(name, options);
        let _ = zip.write_all(text.as_bytes());
    }
    zip.finish().map(Cursor::into_inner).unwrap_or_default()
}

/// Reads all meshes of a 3MF file's model as one, untransformed.
///
/// # Errors
/// If the archive is damaged or too large, or a vertex or triangle makes no sense.
pub fn read(bytes: &[u8]) -> Result<Mesh, ThreeMfError> {
    let archive = |e: &dyn std::fmt::Display| ThreeMfError::Archive {
        problem: e.to_string(),
    };
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| archive(&e))?;
    let file = zip.by_name(MODEL_PATH).map_err(|e| archive(&e))?;
    let mut text = String::new();
    // The size in the archive's directory may lie; the limit holds for what really comes out.
    file.take(MAX_UNPACKED + 1)
        .read_to_string(&mut text)
        .map_err(|e| archive(&e))?;
    if text.len() as u64 > MAX_UNPACKED {
        return Err(ThreeMfError::TooLarge);
    }
    parse(&text)
}

fn model_xml(mesh: &Mesh, meta: &Meta) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<model unit=\"millimeter\" xml:lang=\"en-US\" \
         xmlns=\"http://schemas.microsoft.com/3dmanufacturing/core/2015/02\">\n",
    );
    for (name, value) in [
        ("Title", &meta.title),
        ("Application", &meta.application),
        ("Description", &meta.description),
    ] {
        if !value.is_empty() {
            let _ = writeln!(
                out,
                "<metadata name=\"{name}\">{}</metadata>",
                escaped(value)
            );
        }
    }
    out.push_str("<resources><object id=\"1\" type=\"model\"><mesh><vertices>\n");
    for [x, y, z] in &mesh.vertices {
        let _ = writeln!(out, "<vertex x=\"{x}\" y=\"{y}\" z=\"{z}\"/>");
    }
    out.push_str("</vertices><triangles>\n");
    for [a, b, c] in &mesh.triangles {
        let _ = writeln!(out, "<triangle v1=\"{a}\" v2=\"{b}\" v3=\"{c}\"/>");
    }
    out.push_str(
        "</triangles></mesh></object></resources><build><item objectid=\"1\"/></build></model>\n",
    );
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn parse(text: &str) -> Result<Mesh, ThreeMfError> {
    let mut mesh = Mesh::default();
    let mut base = 0;
    for tag in text.split('<').skip(1) {
        let body = tag.split('>').next().unwrap_or("");
        let name = body
            .split([' ', '\t', '\r', '\n', '/'])
            .next()
            .unwrap_or("");
        match name {
            "model" => {
                if let Some(unit) = attribute(body, "unit")
                    && unit != "millimeter"
                {
                    return Err(ThreeMfError::Unit { unit: unit.into() });
                }
            }
            "mesh" => base = mesh.vertices.len(),
            "vertex" => {
                let number = mesh.vertices.len() + 1;
                let mut vertex = [0.0f64; 3];
                for (x, key) in vertex.iter_mut().zip(["x", "y", "z"]) {
                    *x = number_of(body, key, "vertex", number)?;
                    if !x.is_finite() {
                        let problem = format!("`{key}` is not finite");
                        return Err(ThreeMfError::Element {
                            element: "vertex",
                            number,
                            problem,
                        });
                    }
                }
                mesh.vertices.push(vertex);
            }
            "triangle" => {
                let number = mesh.triangles.len() + 1;
                let mut triangle = [0u32; 3];
                for (v, key) in triangle.iter_mut().zip(["v1", "v2", "v3"]) {
                    let index: u32 = number_of(body, key, "triangle", number)?;
                    let index = index as usize + base;
                    if index >= mesh.vertices.len() {
                        let problem = format!("`{key}` names a vertex that does not exist");
                        return Err(ThreeMfError::Element {
                            element: "triangle",
                            number,
                            problem,
                        });
                    }
                    *v = index as u32;
                }
                mesh.triangles.push(triangle);
            }
            _ => {}
        }
    }
    if mesh.triangles.is_empty() {
        Err(ThreeMfError::Empty)
    } else {
        Ok(mesh)
    }
}

fn number_of<T: std::str::FromStr>(
    body: &str,
    key: &str,
    element: &'static str,
    number: usize,
) -> Result<T, ThreeMfError> {
    attribute(body, key)
        .and_then(|v| v.trim().parse().ok())
        .ok_or_else(|| {
            let problem = format!("`{key}` is missing or not a number");
            ThreeMfError::Element {
                element,
                number,
                problem,
            }
        })
}

/// The value of an attribute of a tag.
fn attribute<'a>(body: &'a str, key: &str) -> Option<&'a str> {
    let mut rest = body;
    while let Some(at) = rest.find(key) {
        let starts = at > 0 && rest.as_bytes()[at - 1].is_ascii_whitespace();
        let after = rest[at + key.len()..].trim_start();
        if starts && let Some(value) = after.strip_prefix('=') {
            let value = value.trim_start();
            let quote = value.chars().next().filter(|q| matches!(q, '"' | '\''))?;
            return value[1..].split(quote).next();
        }
        rest = &rest[at + key.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::cuboid;

    #[test]
    fn a_mesh_survives_exactly_and_the_bytes_are_reproducible() {
        let mesh = cuboid([0.1, 2.0, 1.0 / 3.0]);
        let meta = Meta {
            title: "a < b & \"c\"".into(),
            ..Meta::default()
        };
        let bytes = write(&mesh, &meta);
        assert_eq!(read(&bytes).unwrap(), mesh);
        assert_eq!(write(&mesh, &meta), bytes);
    }

    #[test]
    fn bad_files_are_refused_by_element() {
        let good = model_xml(&cuboid([1.0; 3]), &Meta::default());
        let cases = [
            (good.replace("millimeter", "inch"), "`inch`"),
            (good.replacen("z=\"1\"", "z=\"NaN\"", 1), "vertex 5"),
            (good.replacen("v3=\"1\"", "v3=\"99\"", 1), "triangle 1"),
            (good.replacen("v3=\"1\"", "", 1), "triangle 1"),
            (String::from("<model></model>"), "no triangles"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(b"no zip").unwrap_err().to_string().contains("archive"));
    }
}
