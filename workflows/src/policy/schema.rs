//! What a policy may answer.

use rhai::Dynamic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::script::nearest;

/// A checked decision; every one has a reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Decision {
    /// Watch it.
    Monitor {
        /// Why.
        reason: String,
    },
    /// Start a run.
    Start {
        /// The workflow.
        workflow: String,
        /// Why.
        reason: String,
        /// Fields added to the run's event.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        event: Map<String, Value>,
    },
    /// Take load off it and watch it: short for starting `relieve_asset`.
    ShiftBandwidth {
        /// Why.
        reason: String,
    },
}

impl Decision {
    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Monitor { reason }
            | Self::Start { reason, .. }
            | Self::ShiftBandwidth { reason } => reason,
        }
    }

    /// The action's name.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Monitor { .. } => "monitor",
            Self::Start { .. } => "start",
            Self::ShiftBandwidth { .. } => "shift_bandwidth",
        }
    }

    /// The decision in what a script answered, if it is an ordinary one; `None` does not say that it is none.
    ///
    /// The way through JSON accepts all that this accepts, with the same result, takes longer, and tells what is wrong.
    pub(super) fn ordinary(answer: &Dynamic) -> Option<Self> {
        let fields = answer.read_lock::<rhai::Map>()?;
        let text = |field: &str| {
            let text = fields.get(field)?.read_lock::<rhai::ImmutableString>()?;
            (!text.trim().is_empty()).then(|| text.to_string())
        };
        let action = fields.get("action")?.read_lock::<rhai::ImmutableString>()?;
        match (action.as_str(), fields.len()) {
            ("monitor", 2) => Some(Self::Monitor {
                reason: text("reason")?,
            }),
            ("shift_bandwidth", 2) => Some(Self::ShiftBandwidth {
                reason: text("reason")?,
            }),
            ("start", 3) => Some(Self::Start {
                workflow: text("workflow")?,
                reason: text("reason")?,
                event: Map::new(),
            }),
            _ => None,
        }
    }

    /// The workflow to start, if any.
    #[must_use]
    pub fn workflow(&self) -> Option<&str> {
        match self {
            Self::Monitor { .. } => None,
            Self::Start { workflow, .. } => Some(workflow),
            Self::ShiftBandwidth { .. } => Some("relieve_asset"),
        }
    }
}

/// An answer that is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// It is no map.
    #[error("a decision is a map like #{{ action: \"monitor\", reason: \"…\" }}, not {0}")]
    NotAMap(String),
    /// A field is missing.
    #[error("decision `{action}` lacks `{field}`")]
    Missing {
        /// The action, or `?`.
        action: String,
        /// The field.
        field: &'static str,
    },
    /// A field has the wrong type or is empty.
    #[error("field `{field}` of the decision has to be {expected}, not {found}")]
    Mistyped {
        /// The field.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A field nobody knows.
    #[error("decision `{action}` has no field `{field}`{}", meant(nearest))]
    UnknownField {
        /// The action.
        action: String,
        /// The field.
        field: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// An action nobody knows.
    #[error("`{action}` is not an action{}", meant(nearest))]
    UnknownAction {
        /// The action.
        action: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
}

const ACTIONS: [(&str, &[&str]); 3] = [
    ("monitor", &["action", "reason"]),
    ("start", &["action", "reason", "workflow", "event"]),
    ("shift_bandwidth", &["action", "reason"]),
];

/// The fields an action takes; `None` where there is no such action.
pub(crate) fn fields_of(action: &str) -> Option<&'static [&'static str]> {
    let found = ACTIONS.iter().find(|(name, _)| *name == action);
    found.map(|(_, fields)| *fields)
}

/// The names of all actions.
pub(crate) fn action_names() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, _)| *name)
}

impl TryFrom<&Value> for Decision {
    type Error = DecisionError;

    fn try_from(answer: &Value) -> Result<Self, DecisionError> {
        let fields = answer
            .as_object()
            .ok_or_else(|| DecisionError::NotAMap(shown(answer)))?;
        let action = text(fields, "?", "action")?;
        let Some(known) = fields_of(&action) else {
            return Err(DecisionError::UnknownAction {
                nearest: nearest(&action, action_names()).map(ToOwned::to_owned),
                action,
            });
        };
        if let Some(field) = fields.keys().find(|f| !known.contains(&f.as_str())) {
            return Err(DecisionError::UnknownField {
                nearest: nearest(field, known.iter().copied()).map(ToOwned::to_owned),
                field: field.clone(),
                action,
            });
        }
        let reason = text(fields, &action, "reason")?;
        Ok(match action.as_str() {
            "start" => Self::Start {
                workflow: text(fields, &action, "workflow")?,
                reason,
                event: match fields.get("event") {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(event)) => event.clone(),
                    Some(other) => return Err(mistyped("event", "a map", other)),
                },
            },
            "shift_bandwidth" => Self::ShiftBandwidth { reason },
            _ => Self::Monitor { reason },
        })
    }
}

fn text(
    fields: &Map<String, Value>,
    action: &str,
    field: &'static str,
) -> Result<String, DecisionError> {
    match fields.get(field) {
        None => Err(DecisionError::Missing {
            action: action.to_owned(),
            field,
        }),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        Some(other) => Err(mistyped(field, "a text", other)),
    }
}

fn mistyped(field: &'static str, expected: &'static str, found: &Value) -> DecisionError {
    DecisionError::Mistyped {
        field,
        expected,
        found: shown(found),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) if text.trim().is_empty() => "an empty text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        plain => format!("`{plain}`"),
    }
}

fn meant(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::script::value;

    #[test]
    fn every_action_is_read() {
        let decision = |value| Decision::try_from(&value);
        let monitor = decision(json!({"action": "monitor", "reason": "healthy"})).expect("valid");
        assert_eq!((monitor.action(), monitor.workflow()), ("monitor", None));
        let start = json!({"action": "start", "workflow": "replace_part", "reason": "fps", "event": {"x": 1}});
        let start = decision(start).expect("valid");
        assert_eq!(
            (start.workflow(), start.reason()),
            (Some("replace_part"), "fps")
        );
        let shift = decision(json!({"action": "shift_bandwidth", "reason": "hot"})).expect("valid");
        assert_eq!(shift.workflow(), Some("relieve_asset"));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (answer, message) in [
            (json!("monitor"), "not `\"monitor\"`"),
            (json!({"reason": "x"}), "lacks `action`"),
            (
                json!({"action": "monitor"}),
                "decision `monitor` lacks `reason`",
            ),
            (
                json!({"action": "monitor", "reason": " "}),
                "a text, not an empty text",
            ),
            (
                json!({"action": "monitr", "reason": "x"}),
                "did you mean `monitor`?",
            ),
            (
                json!({"action": "start", "reason": "x"}),
                "lacks `workflow`",
            ),
            (
                json!({"action": "start", "reason": "x", "workflw": "y"}),
                "did you mean `workflow`?",
            ),
            (
                json!({"action": "monitor", "reason": "x", "workflow": "y"}),
                "no field `workflow`",
            ),
            (
                json!({"action": "start", "workflow": "y", "reason": "x", "event": 3}),
                "a map, not `3`",
            ),
        ] {
            let error = Decision::try_from(&answer)
                .expect_err("refused")
                .to_string();
            assert!(error.contains(message), "{answer}: {error}");
        }
    }

    #[test]
    fn the_short_way_takes_nothing_the_long_way_would_not() {
        let mut short = 0;
        for action in ["monitor", "start", "shift_bandwidth", "monitr", "", " "] {
            for reason in [json!("x"), json!(" "), json!(3), Value::Null] {
                for workflow in [json!("w"), json!(""), json!({})] {
                    for fields in [
                        json!({ "action": action, "reason": reason }),
                        json!({ "action": action, "reason": reason, "workflow": workflow }),
                        json!({ "action": action, "reason": reason, "workflw": workflow }),
                        json!({ "action": action, "reason": reason, "workflow": workflow, "event": {} }),
                    ] {
                        let answer = value::to_dynamic(&fields).expect("it crosses");
                        if let Some(decision) = Decision::ordinary(&answer) {
                            assert_eq!(Decision::try_from(&fields), Ok(decision), "{fields}");
                            short += 1;
                        }
                    }
                }
            }
        }
        // Two actions without a workflow, of which each of three is looked at, and one with.
        assert_eq!(short, 2 * 3 + 1);
        assert_eq!(Decision::ordinary(&Dynamic::from(3_i64)), None);
    }
}
