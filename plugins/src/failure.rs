//! What an author is told when a call came to nothing.

use serde::{Deserialize, Serialize};

use crate::lifecycle::Blame;
use crate::log::Line;

/// What went wrong, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// It trapped: a panic, a fault of its memory.
    #[serde(rename = "plugin.trap")]
    Trap,
    /// Its time was up.
    #[serde(rename = "plugin.timeout")]
    Timeout,
    /// Its instructions were.
    #[serde(rename = "plugin.out-of-fuel")]
    OutOfFuel,
    /// It needed more memory than it is granted.
    #[serde(rename = "plugin.memory")]
    Memory,
    /// Or longer tables.
    #[serde(rename = "plugin.tables")]
    Tables,
    /// Or more handles.
    #[serde(rename = "plugin.handles")]
    Handles,
    /// It called something of WASI that plugins do not have.
    #[serde(rename = "plugin.absent")]
    Absent,
    /// It answered, or handed to the host, more than the host takes.
    #[serde(rename = "plugin.answer-too-large")]
    AnswerTooLarge,
    /// It answered what the contract forbids.
    #[serde(rename = "plugin.invalid-output")]
    InvalidOutput,
    /// Somebody stopped it.
    #[serde(rename = "plugin.cancelled")]
    Cancelled,
    /// Run again, it asked for something else than it did.
    #[serde(rename = "plugin.diverged")]
    Diverged,
    /// It was told more than a recording holds.
    #[serde(rename = "plugin.recording-full")]
    RecordingFull,
    /// What it was to be asked breaks the contract.
    #[serde(rename = "plugin.invalid-request")]
    InvalidRequest,
    /// All places are taken.
    #[serde(rename = "plugin.busy")]
    Busy,
    /// It says that what it was given is wrong.
    #[serde(rename = "plugin.declared.invalid-input")]
    InvalidInput,
    /// It says that it cannot now.
    #[serde(rename = "plugin.declared.unavailable")]
    Unavailable,
    /// It says that this is not for it.
    #[serde(rename = "plugin.declared.unsupported")]
    Unsupported,
    /// It says that it is at fault.
    #[serde(rename = "plugin.declared.internal")]
    Internal,
}

impl Code {
    /// As it is written, such as `plugin.trap`.
    ///
    /// # Panics
    ///
    /// Never: every code is written as a text.
    #[must_use]
    pub fn name(self) -> String {
        let written = serde_json::to_value(self).expect("a code is a text");
        written.as_str().expect("a code is a text").to_owned()
    }

    /// Whether the plugin is at fault, which counts towards its quarantine.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::InvalidInput | Self::Unavailable | Self::Unsupported => Blame::None,
            Self::Cancelled
            | Self::Busy
            | Self::Diverged
            | Self::RecordingFull
            | Self::InvalidRequest => Blame::Unknown,
            Self::Trap
            | Self::Timeout
            | Self::OutOfFuel
            | Self::Memory
            | Self::Tables
            | Self::Handles
            | Self::Absent
            | Self::AnswerTooLarge
            | Self::InvalidOutput
            | Self::Internal => Blame::Plugin,
        }
    }

    /// Whether the same call may go well another time. A call is told the same each time, so a plugin's own fault
    /// usually comes again; it is tried once more for those that hang on what is around it.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Busy | Self::Unavailable)
    }
}

/// A limit that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHit {
    /// Its name in the manifest.
    pub name: String,
    /// How much there is, in the unit of its name.
    pub allowed: u64,
    /// How much was asked for, where that is known.
    pub asked: Option<u64>,
}

/// One function of the guest's stack, innermost first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, demangled; `<unknown>` in a module without names.
    pub function: String,
    /// Where in the module, in bytes.
    pub offset: Option<u64>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// In one word.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// The function of the contract that was called.
    pub function: String,
    /// The guest's stack, where it trapped.
    pub frames: Vec<Frame>,
    /// The last lines of its log.
    pub log: Vec<Line>,
    /// The limit it met.
    pub limit: Option<LimitHit>,
    /// What its author may do.
    pub hint: Option<String>,
    /// Not sooner than this another time, where the plugin says so.
    pub after_ms: Option<f64>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.function, self.message)?;
        for frame in &self.frames {
            write!(f, "\n  in {}", frame.function)?;
        }
        for line in &self.log {
            write!(f, "\n  log: {line}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
