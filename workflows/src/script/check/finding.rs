//! What a check found: where, how bad, and what was probably meant.

use rhai::Position;
use serde::{Deserialize, Serialize};

use crate::script::{Panicked, Script, ScriptError};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It fails, or cannot do what it says, whenever it is come by.
    Error,
    /// It works, and is probably not what was meant.
    Warning,
}

/// Something a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, where, and the nearest known name.
    #[serde(flatten)]
    pub error: ScriptError,
    /// Line of the first character behind what it is about, from 1.
    pub end_line: Option<u32>,
    /// Column of that, from 1.
    pub end_column: Option<u32>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ScriptError {
            message,
            script,
            line,
            column,
            ..
        } = &self.error;
        f.write_str(script)?;
        if let (Some(line), Some(column)) = (line, column) {
            write!(f, ":{line}:{column}")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        write!(f, ": {message}")?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// More findings than anybody reads: a check ends there.
const MOST: usize = 200;

/// The list a check adds to.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
}

impl Findings {
    pub(super) fn error(
        &mut self,
        code: &str,
        message: String,
        position: Position,
    ) -> &mut Finding {
        self.add(Severity::Error, code, message, position)
    }

    pub(super) fn warning(
        &mut self,
        code: &str,
        message: String,
        position: Position,
    ) -> &mut Finding {
        self.add(Severity::Warning, code, message, position)
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &str,
        message: String,
        position: Position,
    ) -> &mut Finding {
        // What is one too many says so, and takes whatever comes after it.
        let (mut severity, mut code, mut message) = (severity, code, message);
        if self.found.len() >= MOST {
            code = "too_many";
            message = format!("and more: these are the first {MOST}");
            // An error among what is left out is one.
            let worst = self.found.drain(MOST..).map(|more| more.severity).min();
            severity = worst.map_or(severity, |worst| worst.min(severity));
        }
        self.found.push(Finding {
            severity,
            error: ScriptError::at("", code, message, position),
            end_line: None,
            end_column: None,
            hint: None,
        });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// Whether nothing more is told.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() > MOST
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// All of them in order of place, each once, with their ends.
    pub(super) fn finish(mut self, script: &Script) -> Vec<Finding> {
        let lines: Vec<&str> = script.source().split('\n').collect();
        if let Some(more) = self.found.get_mut(MOST) {
            (more.hint, more.error.nearest) = (None, None);
        }
        for finding in &mut self.found {
            finding.error.script = script.name().to_owned();
            finding.find_end(&lines);
        }
        let place = |f: &Finding| {
            (
                f.error.line,
                f.error.column,
                f.severity,
                f.error.code.clone(),
            )
        };
        self.found.sort_by_key(place);
        self.found.dedup();
        self.found
    }
}

impl Finding {
    /// Says what to do about it.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names what was probably meant.
    pub(super) fn meaning(&mut self, nearest: Option<&str>) -> &mut Self {
        if let Some(name) = nearest {
            self.error.nearest = Some(name.to_owned());
            self.hint = Some(format!("did you mean `{name}`?"));
        }
        self
    }

    fn find_end(&mut self, lines: &[&str]) {
        let (Some(line), Some(column)) = (self.error.line, self.error.column) else {
            return;
        };
        let text = lines.get((line as usize).saturating_sub(1));
        let text = text.copied().unwrap_or_default();
        let rest = text.chars().skip((column as usize).saturating_sub(1));
        let length = u32::try_from(token_length(rest)).unwrap_or(u32::MAX);
        self.end_line = Some(line);
        self.end_column = Some(column.saturating_add(length));
    }
}

/// Characters of the word, number or text a line begins with; at least one where there is any.
fn token_length(mut text: impl Iterator<Item = char>) -> usize {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    match text.next() {
        None => 0,
        Some(first @ ('"' | '`')) => {
            let (mut length, mut escaped) = (1, false);
            for c in text {
                length += 1;
                if c == first && !escaped {
                    break;
                }
                escaped = c == '\\' && !escaped;
            }
            length
        }
        Some(first) if is_word(&first) => 1 + text.take_while(is_word).count(),
        Some(_) => 1,
    }
}

/// The errors of a list, as who compiles a script knows them.
pub(super) fn errors(findings: Vec<Finding>) -> Vec<ScriptError> {
    let errors = findings
        .into_iter()
        .filter(|f| f.severity == Severity::Error);
    errors.map(|finding| finding.error).collect()
}

/// What is told when the check itself fails.
pub(super) fn broken(script: &Script, panic: &Panicked) -> Vec<Finding> {
    vec![ScriptError::internal(script.name(), &panic.to_string()).into()]
}

impl From<ScriptError> for Finding {
    fn from(error: ScriptError) -> Self {
        Self {
            severity: Severity::Error,
            end_line: error.line,
            end_column: error.column.map(|column| column.saturating_add(1)),
            hint: error
                .nearest
                .as_ref()
                .map(|name| format!("did you mean `{name}`?")),
            error,
        }
    }
}
