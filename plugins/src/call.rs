//! One call of a plugin: what it is asked, what it answers, and what it used.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::log::Log;
use crate::v1::{design, detect, predict, schedule, verify};
use crate::world::{Capability, World};

/// What a plugin is asked; one for each world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A predictor: how assets will fare.
    Predict(predict::Request),
    /// A detector: what is unusual.
    Detect(detect::Request),
    /// A designer: shapes for a task.
    Design {
        /// The task.
        task: Box<design::Task>,
        /// The most shapes it may answer.
        #[serde(rename = "max_candidates")]
        most: u32,
    },
    /// A verifier: whether a part is what was designed.
    Verify(verify::Request),
    /// A scheduler: who does what when.
    Schedule(schedule::Request),
    /// An action, to be done once for each key.
    Act {
        /// JSON.
        input: String,
        /// Names the action.
        key: String,
    },
}

impl Request {
    /// The world that answers it.
    #[must_use]
    pub fn world(&self) -> World {
        match self {
            Self::Predict(_) => World::Predictor,
            Self::Detect(_) => World::Detector,
            Self::Design { .. } => World::Designer,
            Self::Verify(_) => World::Verifier,
            Self::Schedule(_) => World::Scheduler,
            Self::Act { .. } => World::Action,
        }
    }
}

/// What a plugin answers; one for each world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// One outlook per history.
    Predict(Vec<predict::Outlook>),
    /// Spans in which something is unusual.
    Detect(Vec<detect::Anomaly>),
    /// Shapes, best first.
    Design(Vec<design::Candidate>),
    /// What was found.
    Verify(verify::Report),
    /// Who does what when.
    Schedule(schedule::Plan),
    /// JSON.
    Act(String),
}

/// What a call is about; equal contexts and requests give equal answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The operator's settings for the plugin: a JSON object.
    pub config: String,
    /// The moment the call is about, in milliseconds since 1970.
    pub now_ms: f64,
    /// Where all randomness starts from.
    pub seed: u32,
}

/// A key that a call used. All of a call's writes are kept, or none: only if every key it used is still at the version
/// that it was seen at. Otherwise the call is run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The key.
    pub key: String,
    /// The version it was at before the call; 0 where it was never written.
    pub seen: u32,
    /// What is to be remembered, if the call wrote it.
    pub write: Option<KeyWrite>,
}

/// What a call makes of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWrite {
    /// The version it is at after the call.
    pub version: u32,
    /// What is to be remembered; none where it is to be forgotten.
    pub value: Option<Vec<u8>>,
}

/// What a call used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// From its beginning to its end, in milliseconds.
    pub wall_ms: f64,
    /// The most memory at one time, in bytes.
    pub memory_bytes: u64,
    /// Instructions, where they are counted.
    pub fuel: Option<u64>,
    /// Calls to the host.
    pub host_calls: u64,
    /// Capabilities that were really used.
    pub capabilities: Vec<Capability>,
    /// Media types, metrics and origins that it used, the first 256: what a narrower grant would have to name.
    pub names: Vec<(Capability, String)>,
}

/// How a call went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub result: Result<Answer, Box<Failure>>,
    /// What it wrote.
    pub log: Log,
    /// Keys it used; empty where it failed.
    pub state: Vec<KeyUse>,
    /// What it used.
    pub used: Used,
}

impl Outcome {
    /// Every bit of the answer, or the code of the failure: what two equal calls have in common. `NaN` is no equal of
    /// itself, its bits are.
    ///
    /// # Panics
    ///
    /// Never: answers are plain data.
    #[must_use]
    pub fn answer_bits(&self) -> Vec<u8> {
        let told = self.result.as_ref().map_err(|failure| failure.code);
        postcard::to_stdvec(&told).expect("answers are plain data")
    }
}
