//! Immutable bytes named by their digest.

use serde::{Deserialize, Serialize};

/// A stored artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Media type.
    pub media: String,
}

/// Where an input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Read off the world just now.
    Measured,
    /// Read off the world once, and replayed.
    Recorded,
    /// Computed by a model that is documented.
    Modelled,
}
