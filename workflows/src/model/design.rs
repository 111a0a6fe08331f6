//! Parts we can make, and the designs of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ArtifactRef, PluginUse, Timestamp};

/// A physical thing we can make, with the brief it is redesigned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Stable name.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The redesign brief, TOML (`cad::brief::Brief`).
    pub brief: String,
    /// How to put it in, one instruction a line.
    #[serde(default)]
    pub procedure: Vec<String>,
    /// How long that takes, minutes.
    #[serde(default)]
    pub swap_minutes: u32,
    /// What a technician must be able to do.
    #[serde(default)]
    pub skills: Vec<String>,
}

/// One version of a part's geometry, with its proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// Stable name.
    pub id: String,
    /// The part it is a version of.
    pub part: String,
    /// The asset it was made for.
    pub asset: String,
    /// The run that ordered it.
    pub run: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Its files by role: `mesh`, `threemf`, `step`, `certificate`, `plan`, `gcode` …
    pub artifacts: BTreeMap<String, ArtifactRef>,
    /// The certificate in short.
    pub certificate: serde_json::Value,
}

/// A design to be stored; it belongs to the step that stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewDesign {
    /// The part it is a version of.
    pub part: String,
    /// The asset it is made for.
    pub asset: String,
    /// Its files by role.
    pub artifacts: BTreeMap<String, ArtifactRef>,
    /// The certificate in short.
    pub certificate: serde_json::Value,
}

/// A part that a plugin proposes, as it says itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Digest of its mesh, STL, in the frame of the brief.
    pub mesh: String,
    /// Grams.
    pub mass_g: f64,
    /// Which way is up while it is built.
    pub build_direction: [f64; 3],
    /// What it was weighed by; greater is better.
    pub scores: BTreeMap<String, f64>,
    /// In words.
    pub notes: String,
    /// Which plugin.
    pub plugin: PluginUse,
}
