//! Asks a policy about one asset.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rhai::{Dynamic, Scope};
use serde_json::Value;

use super::{Decision, DecisionError, Facts};
use crate::script::{Limits, Script, ScriptError, limited_engine, on_big_stack, value};

/// A decision and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Operations the script used.
    pub operations: u64,
    /// What the script answered, as it answered it.
    pub raw: Value,
}

/// Why a policy gave no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The script failed.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The facts or the answer cannot cross.
    #[error("policy `{policy}`: {what}: {source}")]
    Value {
        /// The policy.
        policy: String,
        /// Facts or answer.
        what: &'static str,
        /// Why not.
        source: value::ValueError,
    },
    /// The answer is no decision.
    #[error("policy `{policy}`: {source}")]
    Decision {
        /// The policy.
        policy: String,
        /// Why not.
        source: DecisionError,
    },
}

impl PolicyError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Script(error) => &error.code,
            Self::Value { .. } => "type",
            Self::Decision { .. } => "invalid_decision",
        }
    }
}

/// Runs `fn decide(facts)` of a policy and checks what it answers.
///
/// # Errors
///
/// When the script fails or breaks a limit, and when its answer is no decision.
pub fn decide(script: &Script, facts: &Facts, limits: &Limits) -> Result<Decided, PolicyError> {
    on_big_stack(|| decide_here(script, facts, limits)).unwrap_or_else(|panic| {
        Err(ScriptError::internal(script.name(), &panic.to_string()).into())
    })
}

fn decide_here(script: &Script, facts: &Facts, limits: &Limits) -> Result<Decided, PolicyError> {
    let of_value = |what| {
        move |source| PolicyError::Value {
            policy: script.name().to_owned(),
            what,
            source,
        }
    };
    let facts = serde_json::to_value(facts)
        .map_err(|e| ScriptError::internal(script.name(), &format!("facts: {e}")))?;
    let facts = value::to_dynamic(&facts).map_err(of_value("facts"))?;
    let operations = Arc::new(AtomicU64::new(0));
    let mut engine = limited_engine(limits);
    let (count, stop) = (operations.clone(), limits.stop.clone());
    engine.on_progress(move |used| {
        count.store(used, Ordering::Relaxed);
        let stopped = stop
            .as_ref()
            .is_some_and(|stop| stop.load(Ordering::Relaxed));
        stopped.then_some(Dynamic::UNIT)
    });
    if !script.defines("decide", 1) {
        let mut error = ScriptError::internal(script.name(), "there is no `fn decide(facts)`");
        error.code = "missing_function".to_owned();
        return Err(error.into());
    }
    let answer = engine
        .call_fn::<Dynamic>(&mut Scope::new(), script.ast(), "decide", (facts,))
        .map_err(|e| ScriptError::from_eval(script, &e))?;
    let raw = value::from_dynamic(&answer).map_err(of_value("answer"))?;
    let decision = Decision::try_from(&raw).map_err(|source| PolicyError::Decision {
        policy: script.name().to_owned(),
        source,
    })?;
    Ok(Decided {
        decision,
        operations: operations.load(Ordering::Relaxed),
        raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn ask(source: &str) -> Result<Decided, PolicyError> {
        let script = Script::compile("p", source).expect("compiles");
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        facts.fps.insert("7d".into(), 0.41);
        decide(&script, &facts, &Limits::decision())
    }

    #[test]
    fn a_decision_comes_with_its_cost_and_its_raw_answer() {
        let source = r#"fn decide(facts) {
            if facts.anomaly != () { return #{ action: "monitor", reason: "unusual" }; }
            #{ action: "start", workflow: "replace_part", reason: `fps ${facts.fps["7d"]}` }
        }"#;
        let decided = ask(source).expect("decided");
        assert_eq!(decided.decision.reason(), "fps 0.41");
        assert_eq!(decided.raw["action"], "start");
        assert!(decided.operations > 3);
        assert_eq!(ask(source), Ok(decided));
    }

    #[test]
    fn a_bad_policy_is_told_by_its_code() {
        for (source, code) in [
            ("fn decide(facts) { loop { } }", "limit.operations"),
            ("fn decide(facts) { facts.fsp }", "unknown_field"),
            (
                "fn decide(facts) { #{ action: \"monitor\" } }",
                "invalid_decision",
            ),
            (
                "fn decide(facts) { step(\"make\", #{}) }",
                "unknown_function",
            ),
            ("fn decide() { }", "missing_function"),
            ("fn decide(facts) { || 1 }", "type"),
        ] {
            assert_eq!(ask(source).expect_err("refused").code(), code, "{source}");
        }
    }
}
