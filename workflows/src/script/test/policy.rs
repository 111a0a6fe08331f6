//! Asks a policy for a test as a server does: every decision on an engine of its own, with the limits of one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Dynamic, Engine, EvalAltResult, Position, Scope};

use super::{Suite, coverage::Cover};
use crate::script::{Limits, Script, ScriptError, limited_engine};

/// What the decisions of one test came to.
#[derive(Default)]
struct Tally {
    longest: u64,
    stopped: Option<ScriptError>,
}

/// That, shared with the engine that runs the test.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations of the longest decision, if there was one.
    pub(super) fn longest(&self) -> u64 {
        self.lock().longest
    }

    /// The limit a decision broke, and where in the policy.
    ///
    /// Such an error passes through every function without a word about them, so it is kept where it is known.
    pub(super) fn stopped(&self) -> Option<ScriptError> {
        self.lock().stopped.clone()
    }
}

/// Gives an engine `decide(facts)`, where the script that is tested has one.
pub(super) fn register(engine: &mut Engine, suite: &Suite) -> Shared {
    let shared = Shared::default();
    if !suite.subject.defines("decide", 1) {
        return shared;
    }
    let (script, cover, tally) = (suite.subject.clone(), suite.cover.clone(), shared.clone());
    let limits = suite.within(Limits::decision());
    engine.register_fn("decide", move |facts: Dynamic| {
        decide(&script, &cover, &limits, &tally, facts)
    });
    shared
}

fn decide(
    script: &Script,
    cover: &Arc<Cover>,
    limits: &Limits,
    tally: &Shared,
    facts: Dynamic,
) -> Result<Dynamic, Box<EvalAltResult>> {
    let mut engine = limited_engine(limits);
    let watching = cover.watching();
    watching.watch(&mut engine);
    let given = engine.call_fn::<Dynamic>(&mut Scope::new(), script.ast(), "decide", (facts,));
    let operations = watching.end(given.is_err());
    let mut tally = tally.lock();
    tally.longest = tally.longest.max(operations);
    given.map_err(|error| {
        if error.is_system_exception() {
            tally.stopped = Some(stopped(script, limits, &error));
            return error;
        }
        // Whatever else went wrong is told by its place in the policy, which takes the name of a function of it.
        let (function, source) = ("decide".to_owned(), script.name().to_owned());
        EvalAltResult::ErrorInFunctionCall(function, source, error, Position::NONE).into()
    })
}

fn stopped(script: &Script, limits: &Limits, error: &EvalAltResult) -> ScriptError {
    let mut stopped = ScriptError::from_eval(script, error);
    if matches!(error, EvalAltResult::ErrorTooManyOperations(_)) {
        let most = limits.operations;
        stopped.message = format!("a decision may take {most} operations, and this takes more");
    }
    stopped
}
