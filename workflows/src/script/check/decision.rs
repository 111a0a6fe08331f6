//! The answers of a policy: a map literal with a literal `action` has the fields that action takes.

use rhai::{AST, ASTNode, Expr, Position};

use super::{
    finding::Findings,
    types::{Kinds, Type},
};
use crate::{
    policy::{action_names, fields_of},
    script::nearest,
};

/// A field of a map literal.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) at: Position,
    pub(super) value: &'a Expr,
    pub(super) type_: Type,
}

/// A field that a decision lacks as it is written; it may be added before it is answered.
pub(super) struct Missing {
    field: &'static str,
    action: String,
    at: Position,
}

/// Looks a map literal over, if it is a decision; gives what it lacks.
pub(super) fn check(fields: &[Field], findings: &mut Findings) -> Vec<Missing> {
    let action = fields.iter().find_map(|field| match field.value {
        Expr::StringConstant(text, at) if field.name == "action" => Some((text.as_str(), *at)),
        _ => None,
    });
    let Some((action, at)) = action else {
        return Vec::new();
    };
    let Some(known) = fields_of(action) else {
        let message = format!("`{action}` is not an action");
        let meant = nearest(action, action_names());
        findings.error("unknown_action", message, at).meaning(meant);
        return Vec::new();
    };
    for field in fields {
        look_at(field, action, known, findings);
    }
    let needed = known.iter().filter(|name| **name != "event");
    let missing = needed.filter(|name| !fields.iter().any(|field| field.name == **name));
    let missing = missing.map(|field| Missing {
        field,
        action: action.to_owned(),
        at,
    });
    missing.collect()
}

impl Missing {
    /// Tells of it: for certain where the decision is answered as it is written.
    pub(super) fn tell(self, is_answered: bool, findings: &mut Findings) {
        let Self { field, action, at } = self;
        let code = format!("missing_{field}");
        let message = format!("decision `{action}` lacks `{field}`");
        let finding = match is_answered {
            true => findings.error(&code, message, at),
            false => findings.warning(&code, message, at),
        };
        finding.hint(format!("add `{field}: …`"));
    }
}

fn look_at(field: &Field, action: &str, known: &[&str], findings: &mut Findings) {
    if !known.contains(&field.name) {
        let message = format!("decision `{action}` has no field `{}`", field.name);
        let meant = nearest(field.name, known.iter().copied());
        let hint = format!("it takes {}", known.join(", "));
        let finding = findings.error("unknown_field", message, field.at);
        finding.hint(hint).meaning(meant);
        return;
    }
    let takes = if field.name == "event" {
        Kinds::MAP
    } else {
        Kinds::TEXT
    };
    if field.type_.never(takes) {
        let message = format!(
            "`{}` of a decision is {takes}, not {}",
            field.name, field.type_.kinds
        );
        let hint = if takes == Kinds::TEXT {
            "write it as `${…}` in a text"
        } else {
            "give it a map"
        };
        findings.error("type", message, field.at).hint(hint);
    }
}

/// Tells of decisions that start a workflow which is none of `known`.
pub(super) fn check_workflows(ast: &AST, known: &[&str], findings: &mut Findings) {
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::Map(map, _))) = path.last() {
            let text = |field: &str| {
                map.0.iter().find_map(|(name, value)| match value {
                    Expr::StringConstant(text, at) if name.name == field => Some((text, *at)),
                    _ => None,
                })
            };
            let starts = text("action").is_some_and(|(action, _)| action == "start");
            if let Some((workflow, at)) = text("workflow")
                && starts
                && !known.contains(&workflow.as_str())
            {
                let message = format!("no workflow `{workflow}` serves here, so nothing starts");
                let hint = "store the workflow before the policy decides";
                let finding = findings.warning("unknown_workflow", message, at);
                finding.hint(hint);
                finding.meaning(nearest(workflow, known.iter().copied()));
            }
        }
        true
    });
}

/// Looks over what `decide` answers, path by path.
pub(super) fn check_answers(answers: &[(Type, Position)], findings: &mut Findings) {
    for (answer, at) in answers {
        if answer.kinds == Kinds::UNIT {
            let message = "here `decide` ends without a decision".to_owned();
            let hint = "end every path with `#{ action: …, reason: … }`";
            findings.error("missing_return", message, *at).hint(hint);
        } else if answer.never(Kinds::MAP) {
            let message = format!("a decision is a map, not {}", answer.kinds);
            let hint = "answer with `#{ action: …, reason: … }`";
            findings.error("type", message, *at).hint(hint);
        }
    }
}
