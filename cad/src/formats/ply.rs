//! PLY point clouds: ASCII and binary of either byte order in, binary little endian out.
//!
//! The declared standard deviation travels as `comment sigma_mm 0.05`.

use std::fmt::Write as _;

use thiserror::Error;

use crate::inspect::scan::Scan;

/// More points than any scanner of one part delivers.
const MAX_POINTS: u64 = 50_000_000;
/// A header longer than this is not a header.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Largest coordinate, mm: beyond it a distance squared loses its digits.
const MAX_COORDINATE: f64 = 1e9;

/// Why a PLY file was refused; says where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlyError {
    /// The file does not begin like a PLY file.
    #[error("line 1: not a PLY file, the first line is not `ply`")]
    NotPly,
    /// The header has no end within its limit.
    #[error("line {line}: header does not end with `end_header` within {MAX_HEADER_BYTES} bytes")]
    UnendedHeader {
        /// Last line read.
        line: usize,
    },
    /// A header line makes no sense.
    #[error("line {line}: {problem}")]
    Header {
        /// Line of the header, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no `vertex` element with `x`, `y` and `z`.
    #[error("element `vertex` lacks property `{property}`")]
    MissingProperty {
        /// The property that is missing.
        property: &'static str,
    },
    /// More points than the limit.
    #[error("element `vertex` declares {count} points, the limit is {MAX_POINTS}")]
    TooMany {
        /// How many the header declares.
        count: u64,
    },
    /// The data end before the header says so.
    #[error("element `{element}` {index} of {count}: the file ends early")]
    Truncated {
        /// Name of the element.
        element: String,
        /// First record that is not whole.
        index: u64,
        /// How many the header declares.
        count: u64,
    },
    /// A field is not a number.
    #[error("line {line}: element `{element}` {index} has a value that is not a number: `{text}`")]
    NotANumber {
        /// Line of the file, from 1.
        line: usize,
        /// Name of the element.
        element: String,
        /// Which record.
        index: u64,
        /// What stands there, shortened.
        text: String,
    },
    /// A coordinate is NaN, infinite or absurdly large.
    #[error("element `vertex` {index}: property `{property}` is {value}, not a usable length")]
    NotFinite {
        /// Which record.
        index: u64,
        /// Which property.
        property: &'static str,
        /// What stands there.
        value: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Ascii,
    Little,
    Big,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

#[derive(Debug, Clone)]
struct Property {
    name: String,
    number: Number,
    /// Type of the count if the property is a list.
    list: Option<Number>,
}

#[derive(Debug, Clone)]
struct Element {
    name: String,
    count: u64,
    properties: Vec<Property>,
}

#[derive(Debug)]
struct Header {
    encoding: Encoding,
    elements: Vec<Element>,
    sigma_mm: f64,
    /// Bytes and lines of the header.
    bytes: usize,
    lines: usize,
}

const AXES: [&str; 3] = ["x", "y", "z"];
const NORMAL_AXES: [&str; 3] = ["nx", "ny", "nz"];

/// Reads the points, and the normals if there are any.
///
/// Memory stays proportional to the bytes given, whatever the header promises.
///
/// # Errors
/// Names the line or the record that is malformed, missing or not finite.
pub fn read(bytes: &[u8]) -> Result<Scan, PlyError> {
    let header = read_header(bytes)?;
    let vertex = header.elements.iter().position(|e| e.name == "vertex");
    let Some(vertex) = vertex else {
        return Err(PlyError::MissingProperty { property: "x" });
    };
    let element = &header.elements[vertex];
    if element.count > MAX_POINTS {
        return Err(PlyError::TooMany {
            count: element.count,
        });
    }
    let column = |name: &str| {
        element
            .properties
            .iter()
            .position(|p| p.name == name && p.list.is_none())
    };
    let mut columns = [0; 3];
    for (k, &name) in AXES.iter().enumerate() {
        columns[k] = column(name).ok_or(PlyError::MissingProperty { property: name })?;
    }
    let normal_columns = match (column("nx"), column("ny"), column("nz")) {
        (Some(x), Some(y), Some(z)) => Some([x, y, z]),
        _ => None,
    };

    let mut body = Body {
        bytes: &bytes[header.bytes..],
        encoding: header.encoding,
        line: header.lines,
    };
    for before in &header.elements[..vertex] {
        let mut row = Vec::new();
        for index in 0..before.count {
            body.record(before, index, &mut row)?;
        }
    }
    let room = (body.bytes.len() / 2 + 1).min(element.count as usize);
    let mut points = Vec::with_capacity(room.min(1 << 20));
    let mut normals = Vec::new();
    let mut row = Vec::with_capacity(element.properties.len());
    for index in 0..element.count {
        body.record(element, index, &mut row)?;
        let mut point = [0.0; 3];
        for k in 0..3 {
            point[k] = row[columns[k]];
            if !point[k].is_finite() || point[k].abs() > MAX_COORDINATE {
                return Err(PlyError::NotFinite {
                    index,
                    property: AXES[k],
                    value: point[k].to_string(),
                });
            }
        }
        points.push(point);
        if let Some(columns) = normal_columns {
            let mut normal = [0.0; 3];
            for k in 0..3 {
                normal[k] = row[columns[k]];
                if !normal[k].is_finite() || normal[k].abs() > MAX_COORDINATE {
                    return Err(PlyError::NotFinite {
                        index,
                        property: NORMAL_AXES[k],
                        value: normal[k].to_string(),
                    });
                }
            }
            let length = crate::mesh::length(normal);
            normals.push(if length > 0.0 {
                normal.map(|x| x / length)
            } else {
                normal
            });
        }
    }
    Ok(Scan {
        points,
        normals: normal_columns.map(|_| normals),
        sigma_mm: header.sigma_mm,
    })
}

/// Writes a scan as binary little endian PLY with double coordinates and float normals.
#[must_use]
pub fn write(scan: &Scan) -> Vec<u8> {
    let normals = scan
        .normals
        .as_ref()
        .filter(|n| n.len() == scan.points.len());
    let mut header = String::from("ply\nformat binary_little_endian 1.0\n");
    let _ = writeln!(header, "comment sigma_mm {}", scan.sigma_mm);
    let _ = writeln!(header, "element vertex {}", scan.points.len());
    for name in AXES {
        let _ = writeln!(header, "property double {name}");
    }
    if normals.is_some() {
        for name in NORMAL_AXES {
            let _ = writeln!(header, "property float {name}");
        }
    }
    header.push_str("end_header\n");
    let mut bytes = header.into_bytes();
    bytes.reserve(scan.points.len() * 36);
    for (i, point) in scan.points.iter().enumerate() {
        for x in point {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
        for x in normals.iter().flat_map(|n| n[i]) {
            bytes.extend_from_slice(&(x as f32).to_le_bytes());
        }
    }
    bytes
}

fn read_header(bytes: &[u8]) -> Result<Header, PlyError> {
    let limit = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let mut encoding = None;
    let mut elements: Vec<Element> = Vec::new();
    let mut sigma_mm = 0.0;
    let (mut at, mut line) = (0, 0);
    loop {
        let Some(end) = limit[at..].iter().position(|&b| b == b'\n') else {
            return Err(if line == 0 {
                PlyError::NotPly
            } else {
                PlyError::UnendedHeader { line }
            });
        };
        let text = String::from_utf8_lossy(&limit[at..at + end]).into_owned();
        at += end + 1;
        line += 1;
        let words: Vec<&str> = text.split_whitespace().collect();
        let fault = |problem: String| PlyError::Header { line, problem };
        match words.as_slice() {
            ["ply"] if line == 1 => {}
            _ if line == 1 => return Err(PlyError::NotPly),
            ["end_header"] => break,
            ["format", name, _] => {
                encoding = Some(match *name {
                    "ascii" => Encoding::Ascii,
                    "binary_little_endian" => Encoding::Little,
                    "binary_big_endian" => Encoding::Big,
                    other => return Err(fault(format!("unknown format `{}`", short(other)))),
                });
            }
            ["comment", "sigma_mm", value] => {
                sigma_mm = value
                    .parse()
                    .ok()
                    .filter(|v: &f64| v.is_finite() && *v >= 0.0)
                    .ok_or_else(|| {
                        fault(format!("`sigma_mm` is not a length: `{}`", short(value)))
                    })?;
            }
            ["comment" | "obj_info", ..] | [] => {}
            ["element", name, count] => {
                let count = count.parse().map_err(|_| {
                    fault(format!(
                        "element `{}` has no count: `{}`",
                        short(name),
                        short(count)
                    ))
                })?;
                if elements.len() == 64 {
                    return Err(fault("more than 64 elements".to_owned()));
                }
                elements.push(Element {
                    name: (*name).to_owned(),
                    count,
                    properties: Vec::new(),
                });
            }
            ["property", rest @ ..] => {
                let property = match rest {
                    ["list", count, number, name] => number_type(count)
                        .zip(number_type(number))
                        .map(|(count, number)| Property {
                            name: (*name).to_owned(),
                            number,
                            list: Some(count),
                        }),
                    [number, name] => number_type(number).map(|number| Property {
                        name: (*name).to_owned(),
                        number,
                        list: None,
                    }),
                    _ => None,
                };
                let property = property
                    .ok_or_else(|| fault(format!("malformed property `{}`", short(&text))))?;
                let element = elements
                    .last_mut()
                    .ok_or_else(|| fault("property before any element".to_owned()))?;
                if element.properties.len() == 256 {
                    return Err(fault(format!(
                        "element `{}` has more than 256 properties",
                        short(&element.name)
                    )));
                }
                element.properties.push(property);
            }
            _ => return Err(fault(format!("unknown header line `{}`", short(&text)))),
        }
    }
    for element in &elements {
        if element.properties.is_empty() && element.count > 0 {
            let problem = format!("element `{}` has no properties", short(&element.name));
            return Err(PlyError::Header { line, problem });
        }
    }
    let encoding = encoding.ok_or_else(|| PlyError::Header {
        line,
        problem: "header names no format".to_owned(),
    })?;
    Ok(Header {
        encoding,
        elements,
        sigma_mm,
        bytes: at,
        lines: line,
    })
}

/// What is left of the file after the header.
struct Body<'a> {
    bytes: &'a [u8],
    encoding: Encoding,
    line: usize,
}

impl Body<'_> {
    /// Reads one record; the place of a list in `row` holds its length.
    fn record(
        &mut self,
        element: &Element,
        index: u64,
        row: &mut Vec<f64>,
    ) -> Result<(), PlyError> {
        row.clear();
        if self.encoding == Encoding::Ascii {
            self.ascii(element, index, row)
        } else {
            self.binary(element, index, row)
        }
    }

    fn ascii(&mut self, element: &Element, index: u64, row: &mut Vec<f64>) -> Result<(), PlyError> {
        let truncated = || PlyError::Truncated {
            element: element.name.clone(),
            index,
            count: element.count,
        };
        let text = loop {
            if self.bytes.is_empty() {
                return Err(truncated());
            }
            let end = self
                .bytes
                .iter()
                .position(|&b| b == b'\n')
                .unwrap_or(self.bytes.len());
            let (line, rest) = self.bytes.split_at(end);
            self.bytes = rest.get(1..).unwrap_or(&[]);
            self.line += 1;
            if !line.trim_ascii().is_empty() {
                break String::from_utf8_lossy(line);
            }
        };
        let mut words = text.split_ascii_whitespace();
        let mut next = || -> Result<f64, PlyError> {
            let word = words.next().ok_or_else(truncated)?;
            word.parse().map_err(|_| PlyError::NotANumber {
                line: self.line,
                element: element.name.clone(),
                index,
                text: short(word),
            })
        };
        for property in &element.properties {
            let value = next()?;
            row.push(value);
            if property.list.is_some() {
                // A line is finite, so a hostile length ends with it.
                let mut left = value;
                while left >= 1.0 {
                    next()?;
                    left -= 1.0;
                }
            }
        }
        Ok(())
    }

    fn binary(
        &mut self,
        element: &Element,
        index: u64,
        row: &mut Vec<f64>,
    ) -> Result<(), PlyError> {
        let truncated = || PlyError::Truncated {
            element: element.name.clone(),
            index,
            count: element.count,
        };
        let little = self.encoding == Encoding::Little;
        for property in &element.properties {
            let first = property.list.unwrap_or(property.number);
            let (value, rest) = take(self.bytes, first, little).ok_or_else(truncated)?;
            self.bytes = rest;
            row.push(value);
            if property.list.is_some() {
                let skip = (value.max(0.0) as usize).saturating_mul(size(property.number));
                self.bytes = self.bytes.get(skip..).ok_or_else(truncated)?;
            }
        }
        Ok(())
    }
}

fn take(bytes: &[u8], number: Number, little: bool) -> Option<(f64, &[u8])> {
    let (raw, rest) = bytes.split_at_checked(size(number))?;
    let mut b = [0; 8];
    b[..raw.len()].copy_from_slice(raw);
    if !little {
        b[..raw.len()].reverse();
    }
    let value = match number {
        Number::I8 => f64::from(b[0].cast_signed()),
        Number::U8 => f64::from(b[0]),
        Number::I16 => f64::from(i16::from_le_bytes([b[0], b[1]])),
        Number::U16 => f64::from(u16::from_le_bytes([b[0], b[1]])),
        Number::I32 => f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Number::U32 => f64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Number::F32 => f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Number::F64 => f64::from_le_bytes(b),
    };
    Some((value, rest))
}

const fn size(number: Number) -> usize {
    match number {
        Number::I8 | Number::U8 => 1,
        Number::I16 | Number::U16 => 2,
        Number::I32 | Number::U32 | Number::F32 => 4,
        Number::F64 => 8,
    }
}

fn number_type(name: &str) -> Option<Number> {
    Some(match name {
        "char" | "int8" => Number::I8,
        "uchar" | "uint8" => Number::U8,
        "short" | "int16" => Number::I16,
        "ushort" | "uint16" => Number::U16,
        "int" | "int32" => Number::I32,
        "uint" | "uint32" => Number::U32,
        "float" | "float32" => Number::F32,
        "double" | "float64" => Number::F64,
        _ => return None,
    })
}

/// At most forty characters of something the file said.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Scan {
        Scan {
            points: vec![[1.0, 2.5, -3.0], [0.0, 1e-9, 7.0]],
            normals: Some(vec![[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
            sigma_mm: 0.05,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(read(&write(&sample())).unwrap(), sample());
        let bare = Scan {
            normals: None,
            ..sample()
        };
        assert_eq!(read(&write(&bare)).unwrap(), bare);
    }

    #[test]
    fn ascii_and_big_endian_say_the_same() {
        let ascii = b"ply\r\nformat ascii 1.0\r\nelement vertex 2\r\nproperty float x\r\nproperty uchar red\r\nproperty float y\r\nproperty float z\r\nend_header\r\n1 255 2 3\r\n\r\n4 0 5 6e0\r\n";
        let expected = vec![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        assert_eq!(read(ascii).unwrap().points, expected);
        let mut big = b"ply\nformat binary_big_endian 1.0\nelement face 1\nproperty list uchar int vertex_indices\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n".to_vec();
        big.push(3);
        big.extend([0; 12]);
        for x in expected.iter().flatten() {
            big.extend((*x as f32).to_be_bytes());
        }
        assert_eq!(read(&big).unwrap().points, expected);
    }

    #[test]
    fn refusals_name_the_place() {
        let header = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n";
        let cases = [
            (
                format!("{header}1 2 3\n1 nan 3\n"),
                "element `vertex` 1: property `y` is NaN, not a usable length",
            ),
            (
                format!("{header}1 2 3\n1 b 3\n"),
                "line 9: element `vertex` 1 has a value that is not a number: `b`",
            ),
            (
                format!("{header}1 2 3\n"),
                "element `vertex` 1 of 2: the file ends early",
            ),
            (
                header.replace("vertex 2", "vertex many"),
                "line 3: element `vertex` has no count: `many`",
            ),
            (
                header.replace("float z", "float w"),
                "element `vertex` lacks property `z`",
            ),
            (
                "solid\n".to_owned(),
                "line 1: not a PLY file, the first line is not `ply`",
            ),
            (
                header.replace("vertex 2", "vertex 99999999999"),
                "element `vertex` declares 99999999999 points, the limit is 50000000",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), message);
        }
        let hostile = write(&sample());
        let text = String::from_utf8_lossy(&hostile).replace("vertex 2", "vertex 49999999");
        assert!(read(text.as_bytes()).is_err());
    }

    #[test]
    fn every_truncation_and_many_mutations_end_in_an_answer() {
        let whole = write(&sample());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end} bytes");
        }
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            if let Ok(scan) = read(&bytes) {
                assert!(scan.points.iter().flatten().all(|x| x.is_finite()));
            }
        }
    }
}
