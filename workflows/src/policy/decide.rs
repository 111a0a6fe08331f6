//! Asks a policy about one asset.

use std::sync::Arc;
use std::time::Duration;

use rhai::{
    Caches, Dynamic, Engine, EvalAltResult, EvalContext, Expr, GlobalRuntimeState, Position, Scope,
    StmtBlock,
};

use super::given::Given;
use super::{Decision, DecisionError, Facts};
use crate::script::{Limits, Meter, Script, ScriptError, metered_engine, on_big_stack, value};

/// How long a decision may take. Operations bound it first, unless each of them copies a lot.
///
/// There is no clock in here: whoever asks raises the flag of the limits.
pub const DECISION_TIME: Duration = Duration::from_secs(1);

/// The code of a decision that was stopped because its time was up.
pub(super) const DEADLINE: &str = "limit.deadline";

/// A decision and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    /// Operations the script used.
    pub operations: u64,
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

    /// Whether it was stopped because its time was up.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        self.code() == DEADLINE
    }
}

/// A policy ready to be asked, any number of times.
///
/// What does not change from one decision to the next is done once: the engine, the constants of the script, the
/// look-up of every function it calls, and which facts it has to be given.
pub struct Decider {
    script: Script,
    given: Given,
    engine: Engine,
    meter: Arc<Meter>,
    /// Why it cannot be asked, if it cannot.
    broken: Option<PolicyError>,
    /// Whether a failure left something behind, which the next decision must not see.
    stained: bool,
    state: State,
}

/// What a script leaves behind for its next call.
struct State {
    global: GlobalRuntimeState,
    caches: Caches,
    scope: Scope<'static>,
}

impl Decider {
    /// A policy under limits that hold for every decision anew.
    #[must_use]
    pub fn new(script: &Script, limits: &Limits) -> Self {
        let (engine, meter) = metered_engine(limits);
        Self::on(engine, meter, script)
    }

    /// The same on an engine at hand.
    pub(super) fn on(engine: Engine, meter: Arc<Meter>, script: &Script) -> Self {
        let state = State {
            global: engine.new_global_runtime_state(),
            caches: Caches::new(),
            scope: Scope::new(),
        };
        let mut decider = Self {
            script: script.clone(),
            given: Given::to(script),
            engine,
            meter,
            broken: None,
            stained: false,
            state,
        };
        decider.begin();
        decider
    }

    /// Runs `fn decide(facts)` and checks what it answers.
    ///
    /// Whoever asks often does so within [`on_big_stack`], which then costs nothing here.
    ///
    /// # Errors
    ///
    /// When the script fails or breaks a limit, and when its answer is no decision.
    pub fn decide(&mut self, facts: &Facts) -> Result<Decided, PolicyError> {
        self.decide_counted(facts).0
    }

    /// The same with the operations it took, also where it failed.
    pub(super) fn decide_counted(&mut self, facts: &Facts) -> (Result<Decided, PolicyError>, u64) {
        // Only now, for the flag that stopped the last decision may still have been up then.
        if self.stained {
            self.begin();
        }
        let decided = on_big_stack(|| self.decide_here(facts)).unwrap_or_else(|panic| {
            Err(ScriptError::internal(self.script.name(), &panic.to_string()).into())
        });
        self.stained = decided.is_err() && self.broken.is_none();
        (decided, self.state.global.num_operations())
    }

    /// Works out the constants, as a call would before every function.
    fn begin(&mut self) {
        self.state = State {
            global: self.engine.new_global_runtime_state(),
            caches: Caches::new(),
            scope: Scope::new(),
        };
        let ast = self.script.ast();
        self.state.global.lib.push(ast.shared_lib().clone());
        self.state.global.source = ast.source().map(Into::into);
        self.broken = match on_big_stack(|| self.run_constants()) {
            Ok(Ok(())) if self.script.defines("decide", 1) => None,
            Ok(Ok(())) => Some(no_decide(&self.script)),
            Ok(Err(error)) => Some(ScriptError::from_eval(&self.script, &error).into()),
            Err(panic) => {
                Some(ScriptError::internal(self.script.name(), &panic.to_string()).into())
            }
        };
    }

    #[expect(
        deprecated,
        reason = "the call is marked volatile, not deprecated; the version is pinned by the lock file"
    )]
    fn run_constants(&mut self) -> Result<(), Box<EvalAltResult>> {
        let statements = self.script.ast().statements().iter().cloned();
        let block = Expr::Stmt(Box::new(StmtBlock::new(
            statements,
            Position::NONE,
            Position::NONE,
        )));
        let mut context = self.state.context(&self.engine);
        context
            .eval_expression_tree_raw(&(&block).into(), false)
            .map(|_| ())
    }

    fn decide_here(&mut self, facts: &Facts) -> Result<Decided, PolicyError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.meter.reset();
        self.state.global.num_operations = Default::default();
        let mut facts = self.given.facts(facts);
        let answer = self
            .state
            .context(&self.engine)
            .call_fn_raw("decide", false, false, &mut [&mut facts])
            .map_err(|e| ScriptError::from_eval(&self.script, &e))?;
        let decision = match Decision::ordinary(&answer) {
            Some(decision) => decision,
            None => self.read(&answer)?,
        };
        Ok(Decided {
            decision,
            operations: self.state.global.num_operations(),
        })
    }

    /// The decision in any answer, or what is wrong with it.
    fn read(&self, answer: &Dynamic) -> Result<Decision, PolicyError> {
        let policy = || self.script.name().to_owned();
        let answer = value::from_dynamic(answer).map_err(|source| PolicyError::Value {
            policy: policy(),
            what: "answer",
            source,
        })?;
        Decision::try_from(&answer).map_err(|source| PolicyError::Decision {
            policy: policy(),
            source,
        })
    }
}

impl State {
    fn context<'a>(&'a mut self, engine: &'a Engine) -> EvalContext<'a, 'a, 'static, 'a, 'a, 'a> {
        EvalContext::new(
            engine,
            &mut self.global,
            &mut self.caches,
            &mut self.scope,
            None,
        )
    }
}

fn no_decide(script: &Script) -> PolicyError {
    let mut error = ScriptError::internal(script.name(), "there is no `fn decide(facts)`");
    error.code = "missing_function".to_owned();
    error.into()
}

/// Runs `fn decide(facts)` of a policy once and checks what it answers.
///
/// # Errors
///
/// When the script fails or breaks a limit, and when its answer is no decision.
pub fn decide(script: &Script, facts: &Facts, limits: &Limits) -> Result<Decided, PolicyError> {
    on_big_stack(|| Decider::new(script, limits).decide(facts)).unwrap_or_else(|panic| {
        Err(ScriptError::internal(script.name(), &panic.to_string()).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::script::{StopFlag, StopReason};

    fn ask(source: &str) -> Result<Decided, PolicyError> {
        let script = Script::compile("p", source).expect("compiles");
        let mut facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        facts.fps.insert("7d".into(), 0.41);
        decide(&script, &facts, &Limits::decision())
    }

    #[test]
    fn a_decision_comes_with_its_cost() {
        let source = r#"fn decide(facts) {
            if facts.anomaly != () { return #{ action: "monitor", reason: "unusual" }; }
            #{ action: "start", workflow: "replace_part", reason: `fps ${facts.fps["7d"]}` }
        }"#;
        let decided = ask(source).expect("decided");
        assert_eq!(decided.decision.reason(), "fps 0.41");
        assert_eq!(decided.decision.action(), "start");
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
            ("fn decide(facts) { decide(facts) }", "limit.depth"),
            ("loop { } fn decide(facts) { }", "limit.operations"),
            ("fn decide(facts) { || 1 }", "type"),
        ] {
            assert_eq!(ask(source).expect_err("refused").code(), code, "{source}");
        }
    }

    #[test]
    fn a_decider_forgets_one_decision_before_the_next() {
        let source = "const N = 1 + 1;
fn decide(facts) {
    if facts.kind == \"loop\" { loop { } }
    if facts.kind == \"deep\" { return decide(facts); }
    if facts.kind == \"throw\" { let x = 1; throw x; }
    let n = facts.dependents + global::N;
    #{ action: \"monitor\", reason: `${n} ${[1, 2].map(|x| x + n)}` }
}";
        let script = Script::compile("p", source).expect("compiles");
        let limits = Limits::decision();
        let mut decider = Decider::new(&script, &limits);
        for kind in ["a", "loop", "b", "deep", "throw", "c", "c"] {
            let facts = Facts::about("fan-1", kind, Timestamp(0));
            assert_eq!(decider.decide(&facts), decide(&script, &facts, &limits));
        }
    }

    #[test]
    fn a_raised_flag_stops_a_decision() {
        let stop = StopFlag::default();
        stop.raise(StopReason::GivenUp);
        let script = Script::compile("p", "fn decide(facts) { loop { } }").expect("compiles");
        let facts = Facts::about("fan-1", "fan_tray", Timestamp(0));
        let stopped = decide(&script, &facts, &Limits::decision().stopped_by(stop));
        assert_eq!(stopped.expect_err("stopped").code(), "limit.deadline");
    }
}
