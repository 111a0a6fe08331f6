//! The roles a plugin can play, and the powers it can ask for, by their names in the contract.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The package that every name of the contract belongs to, without its version.
pub const PACKAGE: &str = "forewright:plugin";

/// What a plugin is for: the WIT world it implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Reads an asset's past and speaks about its future.
    Predictor,
    /// Says what is unusual in what was measured.
    Detector,
    /// Makes shapes that hold.
    Designer,
    /// Says whether a part is what was designed.
    Verifier,
    /// Says who does what when.
    Scheduler,
    /// Does something in the world.
    Action,
}

impl World {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Predictor,
        Self::Detector,
        Self::Designer,
        Self::Verifier,
        Self::Scheduler,
        Self::Action,
    ];

    /// Its name in the contract and in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Predictor => "predictor",
            Self::Detector => "detector",
            Self::Designer => "designer",
            Self::Verifier => "verifier",
            Self::Scheduler => "scheduler",
            Self::Action => "action",
        }
    }

    /// The interface that its components export.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::Predictor => "predict",
            Self::Detector => "detect",
            Self::Designer => "design",
            Self::Verifier => "verify",
            Self::Scheduler => "schedule",
            Self::Action => "act",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such world.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no world `{0}`; there is: predictor, detector, designer, verifier, scheduler, action"
)]
pub struct UnknownWorld(String);

impl FromStr for World {
    type Err = UnknownWorld;

    fn from_str(name: &str) -> Result<Self, UnknownWorld> {
        let found = Self::ALL.into_iter().find(|world| world.name() == name);
        found.ok_or_else(|| UnknownWorld(name.to_owned()))
    }
}

/// A power that a plugin has only if it asks for it and is granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Bytes by digest.
    Artifacts,
    /// What was measured.
    Telemetry,
    /// What the plugin remembers from call to call.
    State,
    /// Requests to other systems.
    Http,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Artifacts, Self::Telemetry, Self::State, Self::Http];

    /// Its name: that of its interface in the contract, and of its line in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Artifacts => "artifacts",
            Self::Telemetry => "telemetry",
            Self::State => "state",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
