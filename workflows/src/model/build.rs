//! One making of a design in a cell.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A build and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Stable name.
    pub id: String,
    /// The run and the position of the step that ordered it.
    pub run: String,
    /// Position of that step.
    pub position: String,
    /// What to make, and of what.
    pub order: NewBuild,
    /// Where it stands.
    pub state: BuildState,
    /// Raised by every lease.
    pub fence: i64,
    /// The cell that holds or held it.
    pub cell: Option<String>,
    /// When matter first moved.
    pub started_at: Option<Timestamp>,
    /// How it ended, once it has.
    pub ended: Option<BuildEnd>,
    /// How far along, 0–1.
    pub share_done: f64,
}

/// A build to be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewBuild {
    /// Digest of the G-code.
    pub gcode: String,
    /// Size of the G-code, bytes.
    pub gcode_size_bytes: u64,
    /// Material it needs.
    pub material: String,
    /// Printer profile it is sliced for.
    pub printer: String,
    /// The design it makes.
    pub design: String,
}

/// Where a build stands. Before the start it may be offered again; after it only someone who looks can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildState {
    /// No cell has it.
    Waiting,
    /// A cell has it.
    Leased,
    /// G-code verified at the machine.
    Staged,
    /// Matter has moved.
    Started,
    /// The lease was lost after the start.
    Uncertain,
    /// It is over.
    Ended,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum BuildEnd {
    /// The part lies on the plate and was scanned.
    Completed {
        /// Digest of the scan.
        scan: String,
        /// What the cell says of it.
        report: serde_json::Value,
    },
    /// No usable part came of it.
    Failed {
        /// Stable code.
        code: String,
        /// What happened.
        message: String,
    },
}
