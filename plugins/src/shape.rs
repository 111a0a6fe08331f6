//! What a component imports and exports, and whether that is what its manifest and its grants allow.

use semver::Version;
use wasmparser::{Encoding, Parser, Payload};

use crate::contract;
use crate::grants::{Grants, Missing};
use crate::manifest::Manifest;
use crate::world::{Capability, PACKAGE};

/// How each language leaves WASI out; what is stubbed of it is version 0.2 without HTTP.
const WITHOUT_WASI: &str = "build Rust for `wasm32-unknown-unknown`, C and Zig freestanding, JavaScript and Python with `--stub-wasi`";

/// The most names that a component may import or export, and the longest of them, in bytes.
const MOST_NAMES: usize = 1_000;
const LONGEST_NAME: usize = 256;
/// Names that a message lists.
const LISTED: usize = 10;

/// Imports and exports of a component, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Names such as `forewright:plugin/host@1.0.0`.
    pub imports: Vec<String>,
    /// The same.
    pub exports: Vec<String>,
}

/// Why a component does not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Not what WebAssembly looks like.
    #[error("the component is broken: {0}")]
    Broken(String),
    /// A module, not a component.
    #[error("the file is a core module; `forewright plugin build` makes a component of it")]
    CoreModule,
    /// It does not play the role its manifest says.
    #[error("the manifest says `{world}`, which exports `{wanted}`; the component exports {}", listed(.found))]
    World {
        /// The manifest's world.
        world: &'static str,
        /// What that exports.
        wanted: String,
        /// What the component exports.
        found: Vec<String>,
    },
    /// Another version of the contract.
    #[error(
        "the component uses `{asked}`; this host speaks {PACKAGE}@{}",
        contract::VERSION
    )]
    Version {
        /// The name it uses.
        asked: String,
    },
    /// An import from WASI that is not stubbed.
    #[error("the component imports `{name}`, which plugins do not have; {hint}")]
    Wasi {
        /// The import.
        name: String,
        /// How to build without it.
        hint: &'static str,
    },
    /// An import that nobody here has.
    #[error("the component imports `{name}`, which this host does not have")]
    Unknown {
        /// The import.
        name: String,
    },
    /// A capability that its manifest does not ask for.
    #[error(
        "the component imports `{capability}`, which its manifest does not ask for; add `{line}` under `[capabilities]`, with a reach of your own"
    )]
    NotAsked {
        /// Which.
        capability: Capability,
        /// A line that asks for it.
        line: &'static str,
    },
    /// Capabilities that are asked for and not granted.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    NotGranted(Vec<Missing>),
}

impl ShapeError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Broken(_) => "plugin.broken",
            Self::CoreModule => "plugin.core-module",
            Self::World { .. } => "plugin.world",
            Self::Version { .. } => "plugin.interface-version",
            Self::Wasi { .. } => "plugin.wasi-import",
            Self::Unknown { .. } => "plugin.unknown-import",
            Self::NotAsked { .. } => "plugin.capability-not-asked",
            Self::NotGranted(_) => "plugin.capability-not-granted",
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let listed: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if names.len() > LISTED { ", …" } else { "" };
    listed.join(", ") + more
}

/// What a component imports and exports; what is nested in it is its own matter.
///
/// # Errors
///
/// [`ShapeError::Broken`] and [`ShapeError::CoreModule`].
pub fn read(component: &[u8]) -> Result<Shape, ShapeError> {
    let broken = |e: wasmparser::BinaryReaderError| ShapeError::Broken(e.to_string());
    let mut shape = Shape::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(broken)? {
            Payload::Version {
                encoding: Encoding::Module,
                ..
            } if depth == 0 => {
                return Err(ShapeError::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    add(&mut shape.imports, import.map_err(broken)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    add(&mut shape.exports, export.map_err(broken)?.name.name)?;
                }
            }
            _ => {}
        }
    }
    Ok(shape)
}

fn add(names: &mut Vec<String>, name: &str) -> Result<(), ShapeError> {
    if names.len() == MOST_NAMES || name.len() > LONGEST_NAME {
        let why = format!(
            "more than {MOST_NAMES} imports or exports, or a name of more than {LONGEST_NAME} bytes"
        );
        return Err(ShapeError::Broken(why));
    }
    names.push(name.to_owned());
    Ok(())
}

/// Holds a component against its manifest and what is granted, and answers what it may do.
///
/// A component may export more than its world asks for: toolchains add exports of their own.
///
/// # Errors
///
/// [`ShapeError`] for the first thing that does not fit.
pub fn admit(
    shape: &Shape,
    manifest: &Manifest,
    granted: &crate::grants::Capabilities,
) -> Result<Grants, ShapeError> {
    let mut exports = Vec::new();
    for name in &shape.exports {
        exports.extend(own(name)?);
    }
    let wanted = manifest.world.interface();
    if !exports.contains(&wanted) {
        return Err(ShapeError::World {
            world: manifest.world.name(),
            wanted: contract::interface(wanted),
            found: shape.exports.clone(),
        });
    }
    for name in &shape.imports {
        check_import(name, manifest)?;
    }
    Grants::new(&manifest.capabilities, granted).map_err(ShapeError::NotGranted)
}

/// The interface of the contract that a name means, if it means one.
///
/// Older versions of the same major are part of ours; newer ones, and other majors, are not.
fn own(name: &str) -> Result<Option<&str>, ShapeError> {
    let Some(rest) = name
        .strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return Ok(None);
    };
    let unknown = || ShapeError::Version {
        asked: name.to_owned(),
    };
    let (interface, version) = rest.split_once('@').ok_or_else(unknown)?;
    let version: Version = version.parse().map_err(|_| unknown())?;
    let ours: Version = contract::VERSION.parse().map_err(|_| unknown())?;
    if version.major == ours.major && version <= ours {
        Ok(Some(interface))
    } else {
        Err(unknown())
    }
}

fn check_import(name: &str, manifest: &Manifest) -> Result<(), ShapeError> {
    if crate::v1::has_wasi(name) {
        return Ok(());
    }
    if name.starts_with("wasi:") {
        return Err(ShapeError::Wasi {
            name: name.to_owned(),
            hint: WITHOUT_WASI,
        });
    }
    let interface = own(name)?;
    if matches!(interface, Some("host" | "types")) {
        return Ok(());
    }
    let capability = Capability::ALL
        .into_iter()
        .find(|one| Some(one.name()) == interface);
    let capability = capability.ok_or_else(|| ShapeError::Unknown {
        name: name.to_owned(),
    })?;
    if manifest.capabilities.has(capability) {
        return Ok(());
    }
    Err(ShapeError::NotAsked {
        capability,
        line: example(capability),
    })
}

fn example(capability: Capability) -> &'static str {
    match capability {
        Capability::Artifacts => "artifacts = { media = [\"model/stl\"] }",
        Capability::Telemetry => "telemetry = { metrics = [\"*\"] }",
        Capability::State => "state = { kib = 64 }",
        Capability::Http => "http = { origins = [\"https://example.com\"] }",
    }
}
