//! What policies and workflows have in common on the wire.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::script::ScriptError;

use crate::error::ApiError;
use crate::store::scripts::Revision;

/// One version of a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptView {
    /// Its name.
    pub name: String,
    /// Digest of its source.
    pub revision: String,
    /// Its source.
    pub source: String,
    /// Whether it is the one that serves.
    pub active: bool,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A script to be stored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewScript {
    /// Its name.
    pub name: String,
    /// Its source, Rhai.
    pub source: String,
}

/// A script to be looked at.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ScriptSource {
    /// Its source, Rhai.
    pub source: String,
}

/// What was found in a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckReport {
    /// In order of line; empty if nothing was found.
    pub problems: Vec<ScriptProblem>,
}

/// One thing found in a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptProblem {
    /// Stable code.
    code: String,
    /// What is wrong.
    message: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    /// The nearest known name, where one was unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<String>,
}

impl From<Revision> for ScriptView {
    fn from(r: Revision) -> Self {
        Self {
            name: r.name,
            revision: r.digest,
            source: r.source,
            active: r.active,
            created_at: Timestamp(r.created_at),
        }
    }
}

impl From<ScriptError> for ScriptProblem {
    fn from(e: ScriptError) -> Self {
        Self {
            code: e.code,
            message: e.message,
            line: e.line,
            column: e.column,
            nearest: e.nearest,
        }
    }
}

/// Refuses a script with what was found in it.
pub fn refusal(problems: &[ScriptError]) -> ApiError {
    let mut error = ApiError::refused("script", problems[0].to_string());
    if let Some(line) = problems[0].line {
        error = error.with("line", line);
    }
    if let Some(column) = problems[0].column {
        error = error.with("column", column);
    }
    error.with("problems", problems.len())
}
