//! What a step is, how it may leave off, and the registry that finds it by the name journals store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::fields::fields_of;
use crate::host::Host;

/// One kind of step. It may run more than once with the same input, so it must be idempotent.
pub trait Step: Send + Sync + 'static {
    /// The name every journal stores; never change it once released.
    const KIND: &'static str;
    /// The queue it is claimed under.
    const QUEUE: &'static str = "io";
    /// What scripts hand in.
    type Input: DeserializeOwned;
    /// What scripts get back.
    type Output: Serialize;

    /// Does the work, or says what it waits for.
    ///
    /// # Errors
    ///
    /// See [`StepError`]: the variant decides whether the step is tried again.
    fn run(&self, input: Self::Input, host: &dyn Host) -> Result<Outcome<Self::Output>, StepError>;
}

/// How a step left off: finished, or waiting for the world to move.
/// After the wait `run` is called again with the same input and finds in `host` what it waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T> {
    /// Finished, with its output.
    Done(T),
    /// Waiting.
    Waiting(Wait),
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for", content = "id")]
pub enum Wait {
    /// The end of a build.
    Build(String),
    /// The end of a run.
    Run(String),
    /// The kill switch to be turned off: what waits would begin a run.
    KillSwitch,
}

/// Why a step did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StepError {
    /// The world was not ready; trying again later may help.
    #[error("{message}")]
    Unavailable {
        /// Stable code.
        code: String,
        /// What was not ready.
        message: String,
    },
    /// This cannot work, however often it is tried.
    #[error("{message}")]
    Failed {
        /// Stable code.
        code: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The attempt was asked to stop.
    #[error("the step was cancelled")]
    Cancelled,
}

impl StepError {
    /// A failure that repeating cannot cure.
    pub fn failed(code: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Failed {
            code: code.into(),
            message: message.to_string(),
        }
    }

    /// A failure that repeating may cure.
    pub fn unavailable(code: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Unavailable {
            code: code.into(),
            message: message.to_string(),
        }
    }

    /// The stable code scripts see.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Unavailable { code, .. } | Self::Failed { code, .. } => code,
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether trying again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// A step whose input and output are plain JSON.
pub trait DynStep: Send + Sync {
    /// See [`Step::KIND`].
    fn kind(&self) -> &'static str;
    /// See [`Step::QUEUE`].
    fn queue(&self) -> &'static str;
    /// The fields of its input, where that is a plain structure.
    fn fields(&self) -> Option<&'static [&'static str]>;
    /// See [`Step::run`].
    ///
    /// # Errors
    ///
    /// As [`Step::run`]; input that does not fit fails with the code `invalid_input`.
    fn run(&self, input: Value, host: &dyn Host) -> Result<Outcome<Value>, StepError>;
}

impl<S: Step> DynStep for S {
    fn kind(&self) -> &'static str {
        S::KIND
    }

    fn queue(&self) -> &'static str {
        S::QUEUE
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        fields_of::<S::Input>()
    }

    fn run(&self, input: Value, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
        let input = serde_json::from_value(input).map_err(|e| {
            StepError::failed(
                "invalid_input",
                format_args!("input of step `{}`: {e}", S::KIND),
            )
        })?;
        Ok(match Step::run(self, input, host)? {
            Outcome::Done(output) => Outcome::Done(
                serde_json::to_value(output).map_err(|e| StepError::failed("invalid_output", e))?,
            ),
            Outcome::Waiting(wait) => Outcome::Waiting(wait),
        })
    }
}

/// Every kind of step this process knows.
#[derive(Default)]
pub struct Registry(BTreeMap<&'static str, Box<dyn DynStep>>);

impl Registry {
    /// Adds one kind.
    #[must_use]
    pub fn register(mut self, step: impl DynStep + 'static) -> Self {
        self.0.insert(step.kind(), Box::new(step));
        self
    }

    /// Finds a kind by its name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&dyn DynStep> {
        self.0.get(kind).map(AsRef::as_ref)
    }

    /// All kinds with their queues, in order of name.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.values().map(|s| (s.kind(), s.queue()))
    }
}
