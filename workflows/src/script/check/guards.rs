//! What a condition says of values that may be `()`: after `facts.anomaly != ()` it is known.

use rhai::Expr;

use crate::script::sites::path_of;

/// The paths that are certainly not `()` if a condition holds, and if it does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Guards {
    pub(super) if_true: Vec<String>,
    pub(super) if_false: Vec<String>,
}

impl Guards {
    /// What a condition guards.
    pub(super) fn of(condition: &Expr) -> Self {
        match condition {
            Expr::And(parts, _) => {
                let all = parts.iter().flat_map(|part| Self::of(part).if_true);
                Self {
                    if_true: all.collect(),
                    if_false: Vec::new(),
                }
            }
            Expr::Or(parts, _) => {
                let none = parts.iter().flat_map(|part| Self::of(part).if_false);
                Self {
                    if_true: Vec::new(),
                    if_false: none.collect(),
                }
            }
            Expr::FnCall(call, _) if call.name == "!" && call.args.len() == 1 => {
                let inner = Self::of(&call.args[0]);
                Self {
                    if_true: inner.if_false,
                    if_false: inner.if_true,
                }
            }
            Expr::FnCall(call, _) if call.op_token.is_some() && call.args.len() == 2 => {
                Self::of_comparison(&call.name, &call.args[0], &call.args[1])
            }
            _ => Self::default(),
        }
    }

    fn of_comparison(operator: &str, left: &Expr, right: &Expr) -> Self {
        let (path, other) = match (guarded(left), guarded(right)) {
            (Some(path), None) => (path, right),
            (None, Some(path)) => (path, left),
            _ => return Self::default(),
        };
        let unit = match other {
            Expr::Unit(_) => true,
            Expr::StringConstant(text, _) => text == "()" && (asks_type(left) || asks_type(right)),
            _ => false,
        };
        let known = with_what_it_is_in(path);
        match operator {
            "!=" if unit => Self {
                if_true: known,
                if_false: Vec::new(),
            },
            "==" if unit => Self {
                if_true: Vec::new(),
                if_false: known,
            },
            // `()` is neither equal to, nor less or more than, anything else.
            "==" | "<" | "<=" | ">" | ">=" => Self {
                if_true: known,
                if_false: Vec::new(),
            },
            _ => Self::default(),
        }
    }
}

/// A path, and the paths of what it is in: that is no `()` either, as `()` has nothing in it.
fn with_what_it_is_in(path: String) -> Vec<String> {
    let outer = path.match_indices(['.', '[']);
    let mut all: Vec<String> = outer.map(|(end, _)| path[..end].to_owned()).collect();
    all.push(path);
    all
}

/// The path a comparison is about: itself, or what it asks the type of.
fn guarded(expr: &Expr) -> Option<String> {
    match expr {
        Expr::FnCall(call, _) if asks_type(expr) => path_of(&call.args[0]),
        expr => path_of(expr),
    }
}

fn asks_type(expr: &Expr) -> bool {
    matches!(expr, Expr::FnCall(call, _) if call.name == "type_of" && call.args.len() == 1)
}
