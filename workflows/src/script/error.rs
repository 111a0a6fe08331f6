//! What is wrong with a script, where, and what was probably meant.

use rhai::{EvalAltResult, ParseError, ParseErrorType, Position};
use serde::{Deserialize, Serialize};

use super::{Limits, Script, innermost, limited_engine, nearest};
use crate::run;

/// An error of a script, at compiling, checking or running it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}: {message}{}", place(self), hint(self))]
pub struct ScriptError {
    /// Stable code: `parse`, `unknown_function`, `unknown_variable`, `unknown_field`, `missing_function`,
    /// `top_level`, `type`, `arithmetic`, `thrown`, `limit.operations`, `limit.depth`, `limit.size`,
    /// `limit.functions`, `limit.variables`, `limit.source`, `limit.deadline`, `internal`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// Name of the script.
    pub script: String,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// The nearest known name, where one was unknown.
    pub nearest: Option<String>,
}

impl ScriptError {
    /// An error at a place in a script.
    pub(crate) fn at(script: &str, code: &str, message: String, position: Position) -> Self {
        Self {
            code: code.to_owned(),
            message,
            script: script.to_owned(),
            line: position.line().and_then(|l| u32::try_from(l).ok()),
            column: position.position().and_then(|c| u32::try_from(c).ok()),
            nearest: None,
        }
    }

    /// The same, naming what was probably meant.
    #[must_use]
    pub(crate) fn meaning(mut self, nearest: Option<&str>) -> Self {
        self.nearest = nearest.map(ToOwned::to_owned);
        self
    }

    /// A fault of the engine, never of the script.
    pub(crate) fn internal(script: &str, message: &str) -> Self {
        Self::at(script, "internal", message.to_owned(), Position::NONE)
    }

    pub(crate) fn from_parse(script: &str, source: &str, error: &ParseError) -> Self {
        let code = match error.err_type() {
            ParseErrorType::ExprTooDeep => "limit.depth",
            ParseErrorType::TooManyFunctions => "limit.functions",
            ParseErrorType::VariableUndefined(_) => "unknown_variable",
            ParseErrorType::LiteralTooLarge(..) => "limit.size",
            _ => "parse",
        };
        let found = Self::at(script, code, error.err_type().to_string(), error.position());
        match error.err_type() {
            ParseErrorType::VariableUndefined(name) if is_constant(source, name) => {
                found.meaning(Some(&format!("global::{name}")))
            }
            ParseErrorType::VariableUndefined(name) => {
                found.meaning(nearest(name, words(source, name)))
            }
            _ => found,
        }
    }

    pub(crate) fn from_eval(script: &Script, error: &EvalAltResult) -> Self {
        let inner = innermost(error);
        let position = match inner.position() {
            Position::NONE => error.position(),
            position => position,
        };
        let code = match inner {
            EvalAltResult::ErrorTooManyOperations(_) => "limit.operations",
            EvalAltResult::ErrorStackOverflow(_) => "limit.depth",
            EvalAltResult::ErrorDataTooLarge(..) => "limit.size",
            EvalAltResult::ErrorTooManyVariables(_) => "limit.variables",
            EvalAltResult::ErrorTerminated(..) => "limit.deadline",
            EvalAltResult::ErrorFunctionNotFound(..) => "unknown_function",
            EvalAltResult::ErrorVariableNotFound(..) => "unknown_variable",
            EvalAltResult::ErrorPropertyNotFound(..)
            | EvalAltResult::ErrorIndexNotFound(..)
            | EvalAltResult::ErrorDotExpr(..) => "unknown_field",
            EvalAltResult::ErrorArithmetic(..) => "arithmetic",
            EvalAltResult::ErrorRuntime(..) => "thrown",
            EvalAltResult::ErrorSystem(..) => "internal",
            _ => "type",
        };
        let found = Self::at(script.name(), code, bare_message(inner), position);
        match inner {
            EvalAltResult::ErrorFunctionNotFound(signature, _) => {
                let name = signature.split([' ', '(']).next().unwrap_or(signature);
                found.meaning(nearest(
                    name,
                    known_functions(script).iter().map(String::as_str),
                ))
            }
            EvalAltResult::ErrorPropertyNotFound(name, _) => {
                found.meaning(nearest(name, words(script.source(), name)))
            }
            _ => found,
        }
    }
}

/// Names a script can call without arguments from us: its own functions and those of the packages.
fn known_functions(script: &Script) -> Vec<String> {
    let own = script.ast().iter_functions().map(|f| f.name.to_owned());
    let engine = limited_engine(&Limits::batch());
    let mut names = engine.collect_fn_metadata(None, |f| Some(f.metadata.name.to_string()), true);
    names.extend(own);
    if script.defines("run", 1) {
        names.extend(run::FUNCTIONS.iter().map(|(name, _)| (*name).to_owned()));
    }
    names
}

/// The words of a text, but for one: candidates for what a name was meant to be.
fn words<'a>(source: &'a str, except: &'a str) -> impl Iterator<Item = &'a str> {
    source
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(move |word| !word.is_empty() && *word != except)
}

/// Whether a text has a constant of this name, which its functions see as `global::…` alone.
fn is_constant(source: &str, name: &str) -> bool {
    let mut constants = source
        .lines()
        .filter_map(|line| line.strip_prefix("const "));
    constants.any(|rest| rest.split([' ', '=']).find(|word| !word.is_empty()) == Some(name))
}

/// The message of an error without its position, which travels beside it.
fn bare_message(error: &EvalAltResult) -> String {
    if let EvalAltResult::ErrorRuntime(thrown, _) = error {
        if let Some(map) = thrown.read_lock::<rhai::Map>()
            && let Some(message) = map.get("message")
        {
            return message.to_string();
        }
        return thrown.to_string();
    }
    let text = error.to_string();
    match (error.position(), text.rfind(" (line ")) {
        (position, Some(end)) if !position.is_none() => text[..end].to_owned(),
        _ => text,
    }
}

fn place(error: &ScriptError) -> String {
    match (error.line, error.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", error.script),
        (Some(line), None) => format!("{}:{line}", error.script),
        _ => error.script.clone(),
    }
}

fn hint(error: &ScriptError) -> String {
    match &error.nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    }
}
