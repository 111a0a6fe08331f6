//! `plugin.toml`: what a plugin says about itself, and asks for.

use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::grants::{Capabilities, ReachError};
use crate::hex;
use crate::limits::{Limits, OutOfBounds};
use crate::schema::Schema;
use crate::world::{UnknownWorld, World};

/// The longest text of a manifest, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// The majors of the contract that this host speaks.
pub const MAJORS: [u64; 1] = [1];
/// The finest and the coarsest grid that a predictor's histories are told on.
const STEP_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// Rows of the longest history.
const MOST_ROWS: u32 = 20_000;

/// A manifest that holds together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// Lower-case letters, digits and `-`; begins with a letter.
    pub name: String,
    /// Its own version.
    pub version: Version,
    /// What it is for.
    pub world: World,
    /// The major of the contract it is written against.
    pub major: u64,
    /// One sentence.
    pub description: String,
    /// SPDX, where it is told.
    pub license: Option<String>,
    /// The sha256 of the component without its manifest, where it is told: `sha256:…`.
    pub digest: Option<String>,
    /// How much a call may use.
    pub limits: Limits,
    /// Powers it asks for.
    pub capabilities: Capabilities,
    /// JSON schema of its settings.
    pub config_schema: Option<serde_json::Value>,
    /// How a predictor's histories are told.
    pub predictor: Option<Predictor>,
    /// JSON schemas of an action's input and output.
    pub action: Option<Action>,
    /// Its own tests.
    pub tests: Option<Tests>,
    /// How its author makes it.
    pub build: Option<Build>,
}

/// The `[predictor]` of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Predictor {
    /// From one row of a history to the next, in milliseconds.
    pub step_ms: u64,
    /// The most rows it wants; the newest are kept.
    #[serde(default = "most_rows")]
    pub rows: u32,
}

fn most_rows() -> u32 {
    MOST_ROWS
}

/// The `[action]` of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// JSON schema of what it is given.
    pub input: serde_json::Value,
    /// JSON schema of what it answers.
    pub output: serde_json::Value,
}

/// The `[tests]` of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// Files of cases beside the manifest, as a glob.
    pub cases: String,
}

/// The `[build]` of a manifest: for `forewright plugin build` on its author's machine; a server runs nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// A command of the shell, run in the manifest's folder.
    pub command: Option<String>,
    /// The core module or component that it leaves, from that folder.
    pub module: String,
    /// What is written into that folder before, anew for the capabilities that are asked for.
    pub bindings: Option<Bindings>,
}

/// How a guest's compiler is told the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bindings {
    /// As WIT, in `wit/`.
    Wit,
    /// As C, in `bindings/`.
    C,
}

/// Why a text is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`LONGEST`].
    #[error("the manifest has {0} bytes; {LONGEST} are the most")]
    TooLong(usize),
    /// No TOML, an unknown key, a missing key or a value of another type; the text shows the line.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A value that does not fit.
    #[error("`{key}` of the manifest: {why}")]
    Value {
        /// Its key.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Written against a contract that this host does not speak.
    #[error(
        "the plugin is written against `{asked}`; this host speaks {}",
        spoken()
    )]
    Interface {
        /// What the manifest says.
        asked: String,
    },
    /// A limit out of bounds.
    #[error(transparent)]
    Limit(#[from] OutOfBounds),
    /// A capability without a reach.
    #[error(transparent)]
    Reach(#[from] ReachError),
}

impl ManifestError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Interface { .. } => "plugin.interface-version",
            Self::TooLong(_)
            | Self::Toml(_)
            | Self::Value { .. }
            | Self::Limit(_)
            | Self::Reach(_) => "plugin.manifest",
        }
    }
}

fn spoken() -> String {
    MAJORS
        .map(|major| format!("`{}@{major}`", crate::world::PACKAGE))
        .join(", ")
}

/// The text as TOML says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    world: String,
    interface: String,
    #[serde(default)]
    description: String,
    license: Option<String>,
    digest: Option<String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    capabilities: Capabilities,
    config: Option<WrittenConfig>,
    predictor: Option<Predictor>,
    action: Option<Action>,
    tests: Option<Tests>,
    build: Option<Build>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenConfig {
    schema: serde_json::Value,
}

impl FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        if text.len() > LONGEST {
            return Err(ManifestError::TooLong(text.len()));
        }
        let written: Written = toml::from_str(text)?;
        let world = written
            .world
            .parse()
            .map_err(|e: UnknownWorld| value("world", e.to_string()))?;
        let version =
            Version::parse(&written.version).map_err(|e| value("version", e.to_string()))?;
        let manifest = Self {
            name: name(written.name)?,
            version,
            world,
            major: major(&written.interface)?,
            description: written.description,
            license: written.license,
            digest: written.digest.map(digest).transpose()?,
            limits: written.limits,
            capabilities: written.capabilities,
            config_schema: written.config.map(|config| config.schema),
            predictor: written.predictor,
            action: written.action,
            tests: written.tests,
            build: written.build,
        };
        manifest.limits.check()?;
        manifest.check_world()?;
        manifest.check_schemas()?;
        manifest.capabilities.check()?;
        Ok(manifest)
    }
}

impl Manifest {
    /// What only one world has, must be there for it and nowhere else.
    fn check_world(&self) -> Result<(), ManifestError> {
        let has = |key, world, there: bool| match (self.world == world, there) {
            (true, false) => Err(value(key, format!("is missing; a {world} has it"))),
            (false, true) => Err(value(key, format!("is there, and only a {world} has it"))),
            _ => Ok(()),
        };
        has("predictor", World::Predictor, self.predictor.is_some())?;
        has("action", World::Action, self.action.is_some())?;
        if let Some(predictor) = &self.predictor {
            if !STEP_MS.contains(&predictor.step_ms) {
                let why = format!(
                    "is {}; it has to be within a second and a day",
                    predictor.step_ms
                );
                return Err(value("predictor.step-ms", why));
            }
            if predictor.rows == 0 || predictor.rows > MOST_ROWS {
                let why = format!(
                    "is {}; it has to be within 1 and {MOST_ROWS}",
                    predictor.rows
                );
                return Err(value("predictor.rows", why));
            }
        }
        Ok(())
    }

    fn check_schemas(&self) -> Result<(), ManifestError> {
        let action = self.action.as_ref();
        for (key, schema) in [
            ("config.schema", self.config_schema.as_ref()),
            ("action.input", action.map(|action| &action.input)),
            ("action.output", action.map(|action| &action.output)),
        ] {
            let read = schema.map_or(Ok(()), |schema| Schema::of(schema).map(drop));
            read.map_err(|why| value(key, why))?;
        }
        Ok(())
    }
}

fn value(key: &'static str, why: impl Into<String>) -> ManifestError {
    ManifestError::Value {
        key,
        why: why.into(),
    }
}

fn name(name: String) -> Result<String, ManifestError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    if begins && name.len() <= 64 && name.chars().all(plain) {
        return Ok(name);
    }
    let why = format!("{name:?} is not 1 to 64 of `a-z`, `0-9` and `-` that begin with a letter");
    Err(value("name", why))
}

fn digest(digest: String) -> Result<String, ManifestError> {
    match hex::of_digest(&digest) {
        Some(_) => Ok(digest),
        None => Err(value(
            "digest",
            "is not `sha256:` and 64 hexadecimal digits",
        )),
    }
}

/// The major of `forewright:plugin@MAJOR`; a minor may be named, and says nothing: one major is one contract.
fn major(interface: &str) -> Result<u64, ManifestError> {
    let asked = || ManifestError::Interface {
        asked: interface.to_owned(),
    };
    let (package, version) = interface.split_once('@').ok_or_else(asked)?;
    let major = version.split('.').next().unwrap_or_default();
    let major: u64 = major.parse().map_err(|_| asked())?;
    if package == crate::world::PACKAGE && MAJORS.contains(&major) {
        Ok(major)
    } else {
        Err(asked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"
name = "fan-wear"
version = "1.2.0"
world = "detector"
interface = "forewright:plugin@1"
"#;

    fn parsed(text: &str) -> Result<Manifest, ManifestError> {
        text.parse()
    }

    #[test]
    fn what_is_not_told_has_a_default() {
        let manifest = parsed(PLAIN).unwrap();
        assert_eq!(manifest.limits, Limits::default());
        assert_eq!(manifest.capabilities, Capabilities::default());
        assert_eq!(manifest.major, 1);
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = parsed(
            r#"
name = "fan-wear"
version = "1.2.0"
world = "predictor"
interface = "forewright:plugin@1.0"
description = "wear of fans from their vibration"
license = "Apache-2.0"
digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
[limits]
memory-mib = 128
deadline-ms = 5000
[capabilities]
artifacts = { media = ["application/octet-stream"] }
telemetry = { metrics = ["vib*"] }
[config]
schema = { type = "object" }
[predictor]
step-ms = 3_600_000
[tests]
cases = "tests/*.toml"
[build]
command = "make"
module = "fan.wasm"
"#,
        )
        .unwrap();
        assert_eq!(manifest.limits.memory_mib, 128);
        assert_eq!(manifest.limits.log_kib, Limits::default().log_kib);
        assert_eq!(manifest.predictor.unwrap().rows, MOST_ROWS);
        assert_eq!(manifest.config_schema.unwrap()["type"], "object");
        assert_eq!(manifest.capabilities.artifacts.unwrap().write_mib, 64);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (
                "name = \"Fan\"",
                "name = \"fan-wear\"",
                "`name` of the manifest",
            ),
            (
                "version = \"1\"",
                "version = \"1.2.0\"",
                "`version` of the manifest",
            ),
            (
                "world = \"detective\"",
                "world = \"detector\"",
                "there is no world `detective`",
            ),
            (
                "interface = \"forewright:plugin@2\"",
                "interface = \"forewright:plugin@1\"",
                "this host speaks `forewright:plugin@1`",
            ),
            (
                "interface = \"other:plugin@1\"",
                "interface = \"forewright:plugin@1\"",
                "written against `other:plugin@1`",
            ),
            (
                "interface = \"\"",
                "interface = \"forewright:plugin@1\"",
                "written against ``",
            ),
        ];
        for (wrong, right, said) in cases {
            let error = parsed(&PLAIN.replace(right, wrong))
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
        let added = [
            ("colour = 1", "unknown field `colour`"),
            ("digest = \"sha256:12\"", "64 hexadecimal digits"),
            ("[limits]\nmemory-mib = 9999", "limit `memory-mib` is 9999"),
            ("[limits]\nmemory-mb = 1", "unknown field `memory-mb`"),
            ("[predictor]\nstep-ms = 1000", "only a predictor has it"),
            (
                "[capabilities]\nhttp = { origins = [\"https://a/b\"] }",
                "is not an origin",
            ),
            (
                "[capabilities]\nhttp = { origins = [] }",
                "the capability `http` names nothing",
            ),
            (
                "[capabilities]\ntelemetry = { metrics = [] }",
                "the capability `telemetry` names nothing",
            ),
            ("[capabilities]\nfiles = {}", "unknown field `files`"),
        ];
        for (line, said) in added {
            let error = parsed(&format!("{PLAIN}{line}\n")).unwrap_err().to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
        let predictor = PLAIN.replace("detector", "predictor");
        let error = parsed(&predictor).unwrap_err().to_string();
        assert!(error.contains("a predictor has it"), "{error}");
        let often = format!("{predictor}[predictor]\nstep-ms = 1\n");
        let error = parsed(&often).unwrap_err().to_string();
        assert!(error.contains("within a second and a day"), "{error}");
    }

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        let error = parsed(&format!("{PLAIN}license = 7\n"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 6"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,200}") {
            let _ = parsed(&text);
            let _ = parsed(&format!("{PLAIN}{text}"));
        }
    }
}
