//! What a workflow asks of the world: kinds of step and the fields they take, options, durations.

use rhai::{Expr, FnCallExpr, Position};

use super::{
    finding::Findings,
    functions::Signature,
    types::{Kinds, Type},
};
use crate::{
    run::{FUNCTIONS, QUEUES, ROLES, Rate, STEP_OPTIONS},
    script::{duration, nearest},
    steps::{DynStep, Registry},
};

/// A kind of step, and the fields of its input where they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInput {
    /// The kind.
    pub kind: String,
    /// Its fields.
    pub fields: Option<Vec<String>>,
}

impl StepInput {
    /// A kind of which nothing more is known.
    #[must_use]
    pub fn of_kind(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            fields: None,
        }
    }

    /// The kinds of a registry.
    #[must_use]
    pub fn all(registry: &Registry) -> Vec<Self> {
        let kinds = registry.kinds().map(|(kind, _)| kind);
        let fields = |kind| registry.get(kind).and_then(DynStep::fields);
        kinds
            .map(|kind| Self {
                kind: kind.to_owned(),
                fields: fields(kind).map(|f| f.iter().map(|name| (*name).to_owned()).collect()),
            })
            .collect()
    }
}

/// The functions of a workflow.
pub(super) fn functions(workflow: bool) -> Vec<(String, Signature)> {
    let all = FUNCTIONS.iter().filter(|_| workflow);
    all.flat_map(|(name, counts)| {
        counts
            .iter()
            .map(|count| ((*name).to_owned(), signature(name, *count)))
    })
    .collect()
}

fn signature(name: &str, count: usize) -> Signature {
    let (text, map, any) = (Kinds::TEXT, Kinds::MAP, Kinds::ANY);
    let takes: &[Kinds] = match name {
        "step" | "start" => &[text, any, map],
        "wait_all" | "wait_any" => &[Kinds::ARRAY],
        "wait_event" | "start_event" => &[text, text, text],
        "continue_as_new" => &[map],
        "approval" => &[text, any, text],
        "log" => &[any, map],
        "sleep" | "start_sleep" | "fail" | "time_plus" | "seconds_between" => &[text, text],
        "on_failure" => &[Kinds::FN],
        _ => &[],
    };
    let gives = match name {
        "now" | "time_plus" => text,
        "random" | "seconds_between" => Kinds::FLOAT,
        "wait_all" => Kinds::ARRAY,
        "sleep" | "log" | "on_failure" => Kinds::UNIT,
        _ => any,
    };
    let takes = (0..count).map(|at| takes.get(at).copied().unwrap_or(any));
    Signature {
        takes: takes.collect(),
        gives: Type::of(gives),
    }
}

/// Looks a call of a workflow over; `steps` is empty where kinds are not known.
pub(super) fn check(call: &FnCallExpr, steps: &[StepInput], findings: &mut Findings) {
    match (call.name.as_str(), call.args.len()) {
        ("step" | "start", 2 | 3) => check_step(call, steps, findings),
        ("sleep" | "start_sleep", 1) => check_duration(&call.args[0], findings),
        ("time_plus", 2) => check_duration(&call.args[1], findings),
        ("wait_event" | "start_event", 3) => check_duration(&call.args[2], findings),
        ("approval", 3) => {
            check_one_of(&call.args[0], "role", &ROLES, findings);
            check_duration(&call.args[2], findings);
        }
        _ => {}
    }
}

fn check_step(call: &FnCallExpr, steps: &[StepInput], findings: &mut Findings) {
    if let Some(Expr::Map(options, _)) = call.args.get(2) {
        for (name, value) in &options.0 {
            check_option(&name.name, name.pos, value, findings);
        }
        let has = |wanted| options.0.iter().find(|(name, _)| name.name == wanted);
        if let (Some((name, _)), None) = (has("rate_key"), has("rate")) {
            let message = "option `rate_key` says what `rate` counts, and there is none".to_owned();
            let finding = findings.error("lone_option", message, name.pos);
            finding.hint("add a rate, like `rate: \"10/1m\"`");
        }
        if let (Some((name, _)), Some(_)) = (has("idempotency_key"), has("concurrency_key")) {
            let message = "`idempotency_key` and `concurrency_key` exclude each other".to_owned();
            let finding = findings.error("exclusive_options", message, name.pos);
            finding.hint("what happens once over all runs needs no limit; take one of them out");
        }
    }
    let (Expr::StringConstant(kind, at), false) = (&call.args[0], steps.is_empty()) else {
        return;
    };
    let Some(step) = steps.iter().find(|step| step.kind == kind.as_str()) else {
        let message = format!("there is no kind of step `{kind}`");
        let meant = nearest(kind, steps.iter().map(|step| step.kind.as_str()));
        findings.error("unknown_kind", message, *at).meaning(meant);
        return;
    };
    if let (Some(fields), Expr::Map(input, _)) = (&step.fields, &call.args[1]) {
        for (name, _) in &input.0 {
            check_field(&step.kind, fields, &name.name, name.pos, findings);
        }
    }
}

fn check_field(kind: &str, fields: &[String], name: &str, at: Position, findings: &mut Findings) {
    if fields.iter().any(|field| field == name) {
        return;
    }
    // A step passes over what it does not know, which then only stands in the journal; a slip is not meant to.
    let Some(meant) = nearest(name, fields.iter().map(String::as_str)) else {
        return;
    };
    let message = format!("step `{kind}` has no field `{name}` and passes over it");
    let finding = findings.warning("unknown_field", message, at);
    finding.meaning(Some(meant));
}

fn check_option(name: &str, at: Position, value: &Expr, findings: &mut Findings) {
    if !STEP_OPTIONS.contains(&name) {
        let message = format!("`{name}` is not an option of a step");
        let meant = nearest(name, STEP_OPTIONS);
        let hint = format!("there are {}", STEP_OPTIONS.join(", "));
        findings
            .error("unknown_option", message, at)
            .hint(hint)
            .meaning(meant);
    }
    match name {
        "backoff" | "timeout" => check_duration(value, findings),
        "rate" => check_rate(value, findings),
        "queue" => check_one_of(value, "queue", &QUEUES, findings),
        "retry" | "priority" if is_out_of_range(name, value) => {
            let message = format!("option `{name}` is out of range");
            let hint = match name {
                "retry" => "give it the attempts after the first, 0 or more",
                _ => "give it some minutes of waiting, more or fewer than 0",
            };
            let at = value.start_position();
            findings.error("out_of_range", message, at).hint(hint);
        }
        "retry" | "priority" => {
            if let Expr::StringConstant(_, at) | Expr::FloatConstant(_, at) = value {
                let message = format!("option `{name}` is a whole number");
                findings
                    .error("type", message, *at)
                    .hint("write it without quotes, like 3");
            }
        }
        _ => {}
    }
}

fn is_out_of_range(option: &str, value: &Expr) -> bool {
    match value {
        Expr::IntegerConstant(number, _) if option == "retry" => u32::try_from(*number).is_err(),
        Expr::IntegerConstant(number, _) => i32::try_from(*number).is_err(),
        _ => false,
    }
}

/// A name written out has to be one there is.
fn check_one_of(expr: &Expr, what: &str, known: &[&str], findings: &mut Findings) {
    let Expr::StringConstant(name, at) = expr else {
        return;
    };
    if known.contains(&name.as_str()) {
        return;
    }
    let message = format!("there is no {what} `{name}`");
    let hint = format!("there are {}", known.join(", "));
    let finding = findings.error(&format!("unknown_{what}"), message, *at);
    finding.hint(hint);
    finding.meaning(nearest(name, known.iter().copied()));
}

fn check_rate(expr: &Expr, findings: &mut Findings) {
    match expr {
        Expr::StringConstant(text, at) => {
            if let Err(error) = text.parse::<Rate>() {
                let message = format!("`{text}` is not a rate: {}", error.why);
                let hint = "write it like \"10/1m\"";
                findings.error("invalid_rate", message, *at).hint(hint);
            }
        }
        Expr::IntegerConstant(_, at) | Expr::FloatConstant(_, at) => {
            let message = "a rate is a text, not a number".to_owned();
            let hint = "write it like \"10/1m\"";
            findings.error("invalid_rate", message, *at).hint(hint);
        }
        _ => {}
    }
}

fn check_duration(expr: &Expr, findings: &mut Findings) {
    match expr {
        Expr::StringConstant(text, at) => {
            if let Err(error) = duration::parse_ms(text) {
                let message = format!("`{text}` is not a duration: {}", error.why);
                let hint = "write it like \"30s\", \"2h\" or \"7d\"";
                findings.error("invalid_duration", message, *at).hint(hint);
            }
        }
        Expr::IntegerConstant(_, at) | Expr::FloatConstant(_, at) => {
            let message = "a duration is a text, not a number".to_owned();
            let hint = "write it like \"30s\", \"2h\" or \"7d\"";
            findings.error("invalid_duration", message, *at).hint(hint);
        }
        _ => {}
    }
}
