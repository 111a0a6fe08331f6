//! Operators: what goes with what, and what comes of it.

use rhai::Position;

use super::{
    finding::Findings,
    types::{Kinds, Type},
};

/// An operand: what it is, and how the script writes it where it is a name.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) type_: Type,
    pub(super) path: Option<String>,
}

impl Operand {
    fn shown(&self) -> String {
        match &self.path {
            Some(path) => format!("`{path}`"),
            None => "it".to_owned(),
        }
    }
}

/// An operator between two values.
pub(super) fn binary(
    operator: &str,
    left: &Operand,
    right: &Operand,
    at: Position,
    findings: &mut Findings,
) -> Type {
    match operator {
        "==" | "!=" => equality(operator, left, right, at, findings),
        "<" | "<=" | ">" | ">=" => order(operator, left, right, at, findings),
        "+" | "-" | "*" | "/" | "%" | "**" => arithmetic(operator, left, right, at, findings),
        ".." | "..=" => Type::of(Kinds::RANGE),
        _ => Type::ANY,
    }
}

/// An operator before one value.
pub(super) fn unary(
    operator: &str,
    operand: &Operand,
    at: Position,
    findings: &mut Findings,
) -> Type {
    let (takes, gives) = match operator {
        "!" => (Kinds::BOOL, operand.type_.kinds.and(Kinds::BOOL)),
        "-" | "+" => (Kinds::NUMBER, operand.type_.kinds.and(Kinds::NUMBER)),
        _ => return Type::ANY,
    };
    if operand.type_.never(takes) {
        let message = format!(
            "`{operator}` is for {takes}, not for {}",
            operand.type_.kinds
        );
        findings.error("type", message, at).hint(compare(operand));
    }
    Type::of(if gives.is_none() { takes } else { gives })
}

fn compare(operand: &Operand) -> String {
    if operand.type_.may_be_unit() || operand.type_.kinds == Kinds::UNIT {
        format!("compare {} with `()`", operand.shown())
    } else {
        format!("compare {} with something", operand.shown())
    }
}

fn equality(
    operator: &str,
    left: &Operand,
    right: &Operand,
    at: Position,
    findings: &mut Findings,
) -> Type {
    let (l, r) = (left.type_, right.type_);
    let always = if operator == "==" { "false" } else { "true" };
    if r.kinds == Kinds::UNIT && l.never(Kinds::UNIT) {
        let message = format!("{} is never `()`: this is always {always}", left.shown());
        let hint = "leave the comparison out";
        findings
            .warning("constant_condition", message, at)
            .hint(hint);
    } else if !comparable(l.kinds, r.kinds) {
        let message = format!(
            "{} and {} are never equal: this is always {always}",
            l.kinds, r.kinds
        );
        findings
            .error("type", message, at)
            .hint(same_kind(left, right));
    }
    Type::BOOL
}

fn order(
    operator: &str,
    left: &Operand,
    right: &Operand,
    at: Position,
    findings: &mut Findings,
) -> Type {
    let (l, r) = (left.type_, right.type_);
    let unordered = Kinds::UNIT.or(Kinds::ARRAY).or(Kinds::MAP).or(Kinds::FN);
    let (known_l, known_r) = (l.kinds.without(unordered), r.kinds.without(unordered));
    if l.never(Kinds::ANY.without(unordered)) || r.never(Kinds::ANY.without(unordered)) {
        let message = format!("{} {operator} {} has no meaning", l.kinds, r.kinds);
        findings
            .error("type", message, at)
            .hint(same_kind(left, right));
    } else if !comparable(known_l, known_r) {
        let message = format!("{known_l} and {known_r} do not compare: this is always false");
        findings
            .error("type", message, at)
            .hint(same_kind(left, right));
    } else {
        maybe_unknown(left, "such a comparison is false", at, findings);
        maybe_unknown(right, "such a comparison is false", at, findings);
    }
    Type::BOOL
}

fn arithmetic(
    operator: &str,
    left: &Operand,
    right: &Operand,
    at: Position,
    findings: &mut Findings,
) -> Type {
    let (l, r) = (left.type_, right.type_);
    if l.is_any() || r.is_any() {
        return Type::ANY;
    }
    let mut gives = Kinds::NONE;
    let mut unit_fails = false;
    for a in l.kinds.each() {
        for b in r.kinds.each() {
            let result = result_of(operator, a, b);
            gives = gives.or(result);
            unit_fails |= result.is_none() && (a == Kinds::UNIT || b == Kinds::UNIT);
        }
    }
    if gives.is_none() {
        let message = format!("`{operator}` does not go with {} and {}", l.kinds, r.kinds);
        findings
            .error("type", message, at)
            .hint(same_kind(left, right));
        return Type::ANY;
    }
    if unit_fails {
        for operand in [left, right] {
            maybe_unknown(operand, "then this fails", at, findings);
        }
    }
    Type::of(gives)
}

/// What comes of two kinds; none where the operator is not for them.
fn result_of(operator: &str, a: Kinds, b: Kinds) -> Kinds {
    let text = Kinds::TEXT.or(Kinds::CHAR);
    let of_numbers = match (Kinds::NUMBER.meets(a), Kinds::NUMBER.meets(b)) {
        (true, true) if operator == "**" => Kinds::NUMBER,
        (true, true) if a == Kinds::INT && b == Kinds::INT => Kinds::INT,
        (true, true) => Kinds::FLOAT,
        _ => Kinds::NONE,
    };
    if !of_numbers.is_none() {
        return of_numbers;
    }
    match operator {
        "+" if text.meets(a) || text.meets(b) => Kinds::TEXT,
        "-" if text.meets(a) && text.meets(b) => Kinds::TEXT,
        "+" | "-" if a == b && Kinds::ARRAY.or(Kinds::MAP).meets(a) => a,
        _ if Kinds::OTHER.or(Kinds::RANGE).meets(a.or(b)) => Kinds::ANY,
        _ => Kinds::NONE,
    }
}

/// Whether values of these kinds are ever equal, or one less than the other.
fn comparable(l: Kinds, r: Kinds) -> bool {
    let text = Kinds::TEXT.or(Kinds::CHAR);
    l.is_none()
        || r.is_none()
        || l.meets(r)
        || (l.meets(Kinds::NUMBER) && r.meets(Kinds::NUMBER))
        || (l.meets(text) && r.meets(text))
}

fn same_kind(left: &Operand, right: &Operand) -> String {
    match (&left.path, &right.path) {
        (Some(path), _) => format!("`{path}` is {}", left.type_.kinds),
        (None, Some(path)) => format!("`{path}` is {}", right.type_.kinds),
        (None, None) => format!("put {} on both sides", left.type_.kinds),
    }
}

fn maybe_unknown(operand: &Operand, what: &str, at: Position, findings: &mut Findings) {
    let Some(path) = operand
        .path
        .as_ref()
        .filter(|_| operand.type_.may_be_unit())
    else {
        return;
    };
    if operand.type_.kinds == Kinds::UNIT {
        return;
    }
    let message = format!("`{path}` may be `()`, and {what}");
    let hint = format!("ask `{path} != ()` first, or say `({path} ?? …)`");
    findings.warning("maybe_unknown", message, at).hint(hint);
}
