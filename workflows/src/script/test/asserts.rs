//! What every test can call: assertions, and facts to begin with.

use rhai::{Dynamic, Engine, EvalAltResult, Map};
use serde_json::Value;

use crate::{
    model::Timestamp,
    policy::{Decision, Facts},
    script::value,
};

/// Gives an engine the functions of tests.
pub(super) fn register_asserts(engine: &mut Engine) {
    engine.register_fn("assert", |holds: bool| {
        check(holds, "the assertion does not hold")
    });
    engine.register_fn("assert", |holds: bool, what: &str| check(holds, what));
    engine.register_fn("assert_eq", |left: Dynamic, right: Dynamic| {
        let text = format!("{left} is not {right}");
        check(same(&left, &right), &text)
    });
    engine.register_fn("assert_ne", |left: Dynamic, right: Dynamic| {
        check(!same(&left, &right), &format!("both are {left}"))
    });
    engine.register_fn("assert_decision", |answer: Dynamic| {
        let answer = value::from_dynamic(&answer).map_err(|e| assertion(&e.to_string()))?;
        let decision = Decision::try_from(&answer).map_err(|e| assertion(&e.to_string()))?;
        Ok::<Dynamic, Box<EvalAltResult>>(decision.action().into())
    });
    engine.register_fn("example_facts", || {
        Facts::about("fan-1", "fan_tray", Timestamp(1_766_368_800_000)).to_dynamic()
    });
}

fn check(holds: bool, what: &str) -> Result<(), Box<EvalAltResult>> {
    if holds { Ok(()) } else { Err(assertion(what)) }
}

fn assertion(what: &str) -> Box<EvalAltResult> {
    let mut map = Map::new();
    map.insert("code".into(), "assertion".into());
    map.insert("message".into(), what.into());
    EvalAltResult::ErrorRuntime(map.into(), rhai::Position::NONE).into()
}

fn same(left: &Dynamic, right: &Dynamic) -> bool {
    match (value::from_dynamic(left), value::from_dynamic(right)) {
        (Ok(left), Ok(right)) => equal(&left, &right),
        _ => left.to_string() == right.to_string(),
    }
}

/// Equality of values in which `1` and `1.0` are the same.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || l.as_f64() == r.as_f64(),
        (Value::Array(l), Value::Array(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| equal(l, r))
        }
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().all(|(k, l)| r.get(k).is_some_and(|r| equal(l, r)))
        }
        _ => left == right,
    }
}
