//! What a cell remembers across a crash: who it is, and what its machine is doing.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The state file of a cell.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CellState {
    /// Who the server says we are.
    pub cell: Option<String>,
    /// The token that proves it.
    pub token: Option<String>,
    /// The enrolment that has not been approved yet.
    pub enrolment: Option<Enrolment>,
    /// The build in hand.
    pub job: Option<Job>,
    /// Builds whose matter has moved, ever: the ordinal of the next one.
    pub builds_started: u64,
}

/// An enrolment waiting for an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolment {
    /// The code an operator approves.
    pub code: String,
    /// The secret the token is given for.
    pub claim_secret: String,
}

/// A leased build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The lease.
    pub lease: String,
    /// The build.
    pub build: String,
    /// The fence every write repeats.
    pub fence: i64,
    /// Digest of the G-code.
    pub gcode: String,
    /// How often the lease is renewed.
    pub heartbeat_after_ms: u64,
    /// Set before the machine moves: the ordinal of this build at this machine.
    pub started: Option<u64>,
}

/// Whether the cell that remembers in this folder has its token.
pub fn is_enrolled(folder: &Path) -> anyhow::Result<bool> {
    Ok(CellState::load(folder)?.token.is_some())
}

impl CellState {
    /// Reads the state of a folder; a new one if there is none.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = file(folder);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("failed to read cell state `{}`", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => {
                Err(e).with_context(|| format!("failed to read cell state `{}`", path.display()))
            }
        }
    }

    /// Writes the state so that a power cut leaves the old or the new one, never half of it.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            new.write_all(&serde_json::to_vec_pretty(self)?)?;
            new.as_file().sync_all()?;
            new.persist(file(folder))?;
            std::fs::File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("failed to write cell state in `{}`", folder.display()))
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("cell.json")
}
