//! Runs the cases of a plugin's world, and those that all worlds have in common.

use std::sync::Arc;

use serde::Serialize;

use super::samples::{self, FAR_MS, NOW_MS};
use super::surroundings::Surroundings;
use super::{action, designer, detector, predictor, scheduler, verifier};
use crate::call::{Context, Outcome, Request};
use crate::engine::Plugin;
use crate::failure::{Code, Failure};
use crate::limits::{GREATEST, Limits};
use crate::manifest::Manifest;
use crate::v1::types::CapabilityError;
use crate::world::World;

/// How long a case with a great many numbers may take.
const PATIENCE_MS: u32 = 60_000;
/// Calls at the same time in the case that looks for what they share, if the plugin may have so many.
const AT_ONCE: usize = 8;

/// One thing that a plugin meets.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) about: &'static str,
    pub(super) request: Request,
    pub(super) context: Context,
    pub(super) surroundings: Surroundings,
    /// Other limits than the plugin's own.
    pub(super) limits: Option<Limits>,
    /// Limits that it may run into here.
    pub(super) may_meet: &'static [Code],
}

impl Case {
    pub(super) fn new(name: impl Into<String>, about: &'static str, request: Request) -> Self {
        Self {
            name: name.into(),
            about,
            request,
            context: samples::context(),
            surroundings: Surroundings::default(),
            limits: None,
            may_meet: &[],
        }
    }
}

/// How a plugin did in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// What it answered, in short, or why it failed.
    pub told: String,
    /// What its author may do about it.
    pub hint: Option<String>,
    /// From the call's beginning to its end, in milliseconds.
    pub wall_ms: f64,
    /// The most memory at one time, in bytes.
    pub memory_bytes: u64,
}

/// How a plugin did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// One for each case.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Cases that it passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.verdicts
            .iter()
            .filter(|verdict| verdict.passed)
            .count()
    }

    /// Whether it passed all.
    #[must_use]
    pub fn all_passed(&self) -> bool {
        self.passed() == self.verdicts.len()
    }
}

/// Runs all cases of a plugin's world. `counted` is the same plugin on an engine that counts.
///
/// `told` hears of each verdict as it falls, with how many there are going to be; if it answers false, the rest is left
/// out.
pub fn run(
    plugin: &Plugin,
    counted: &Plugin,
    manifest: &Manifest,
    told: &mut dyn FnMut(&Verdict, usize) -> bool,
) -> Report {
    let cases = cases(manifest);
    let plain = cases[0].request.clone();
    // And three that compare calls.
    let all = cases.len() + 3;
    let mut verdicts = Vec::new();
    let mut add = |verdict: Verdict| {
        let go_on = told(&verdict, all);
        verdicts.push(verdict);
        go_on
    };
    let whole = cases.iter().all(|case| add(judged(plugin, case)));
    let _ = whole
        && add(the_same_twice(plugin, &plain))
        && add(at_once(plugin, &plain, &manifest.limits))
        && add(by_count(plugin, counted, &plain));
    Report { verdicts }
}

/// The plain case first.
fn cases(manifest: &Manifest) -> Vec<Case> {
    let mut cases = match manifest.world {
        World::Predictor => predictor::cases(manifest),
        World::Detector => detector::cases(&manifest.limits),
        World::Designer => designer::cases(),
        World::Verifier => verifier::cases(),
        World::Scheduler => scheduler::cases(),
        World::Action => action::cases(),
    };
    let plain = cases[0].request.clone();
    cases.extend(around(&plain, &manifest.limits));
    cases
}

/// What lies around a call rather than in it: the same for all worlds.
fn around(plain: &Request, own: &Limits) -> Vec<Case> {
    let case = |name: &str, about| Case::new(name, about, plain.clone());
    let at = |now_ms| Context {
        now_ms,
        ..samples::context()
    };
    let refused = |name: &str, error: CapabilityError| Case {
        surroundings: Surroundings::refusing(error),
        ..case(name, "every capability has the same answer")
    };
    let squeezed = |name: &str, limits: Limits, may_meet| Case {
        limits: Some(limits),
        may_meet,
        ..case(
            name,
            "limits are met, not gone beyond; a plugin may fail with the limit's own code",
        )
    };
    vec![
        Case {
            surroundings: Surroundings::cancelled(),
            ..case(
                "cancelled from the start",
                "a call nobody waits for ends by itself",
            )
        },
        refused("denied", CapabilityError::Denied("not granted".to_owned())),
        refused(
            "no quota left",
            CapabilityError::Quota("used up".to_owned()),
        ),
        refused("not found", CapabilityError::NotFound),
        refused("a conflict", CapabilityError::Conflict),
        refused(
            "out of reach",
            CapabilityError::Unavailable("it did not answer".to_owned()),
        ),
        Case {
            context: at(0.0),
            ..case("in 1970", "the call's moment is whatever it is")
        },
        Case {
            context: at(FAR_MS),
            ..case("in the year 9999", "the call's moment is whatever it is")
        },
        Case {
            context: at(-NOW_MS),
            ..case("before 1970", "the call's moment is whatever it is")
        },
        Case {
            context: Context {
                seed: u32::MAX,
                ..samples::context()
            },
            ..case("another seed", "randomness starts from the seed")
        },
        squeezed(
            "little memory",
            Limits {
                memory_mib: 1,
                ..own.clone()
            },
            &[Code::Memory],
        ),
        squeezed(
            "little time",
            Limits {
                deadline_ms: 1,
                ..own.clone()
            },
            &[Code::Timeout],
        ),
        squeezed(
            "little log",
            Limits {
                log_kib: 1,
                ..own.clone()
            },
            &[],
        ),
        squeezed(
            "small answers",
            Limits {
                answer_mib: 1,
                ..own.clone()
            },
            &[Code::AnswerTooLarge],
        ),
    ]
}

/// Room for a great many numbers: the plugin's own memory, and time for slow languages.
pub(super) fn roomy(manifest_limits: &Limits) -> Limits {
    Limits {
        deadline_ms: PATIENCE_MS,
        answer_mib: GREATEST.answer_mib,
        ..manifest_limits.clone()
    }
}

fn judged(plugin: &Plugin, case: &Case) -> Verdict {
    let doors = Arc::new(case.surroundings.clone());
    let outcome = match &case.limits {
        Some(limits) => plugin
            .within(limits)
            .call(&case.request, &case.context, doors),
        None => plugin.call(&case.request, &case.context, doors),
    };
    let failed = outcome
        .result
        .as_ref()
        .err()
        .filter(|failure| !is_fine(failure.code, case.may_meet));
    verdict(
        &case.name,
        case.about,
        failed.map(|failure| (**failure).clone()),
        &outcome,
    )
}

fn is_fine(code: Code, may_meet: &[Code]) -> bool {
    matches!(
        code,
        Code::InvalidInput | Code::Unsupported | Code::Unavailable
    ) || may_meet.contains(&code)
}

fn verdict(name: &str, about: &'static str, failed: Option<Failure>, outcome: &Outcome) -> Verdict {
    let told = match (&failed, &outcome.result) {
        // The hint is told beside it.
        (Some(failure), _) => Failure {
            hint: None,
            ..failure.clone()
        }
        .to_string(),
        (None, Ok(_)) => "answered".to_owned(),
        (None, Err(failure)) => format!("refused: {}", failure.message),
    };
    Verdict {
        name: name.to_owned(),
        about,
        passed: failed.is_none(),
        told,
        hint: failed.and_then(|failure| failure.hint),
        wall_ms: outcome.used.wall_ms,
        memory_bytes: outcome.used.memory_bytes,
    }
}

fn call(plugin: &Plugin, request: &Request) -> Outcome {
    plugin.call(
        request,
        &samples::context(),
        Arc::new(Surroundings::default()),
    )
}

fn compared(name: &str, about: &'static str, same: bool, hint: &str, outcome: &Outcome) -> Verdict {
    let mut verdict = verdict(name, about, None, outcome);
    if !same {
        verdict.passed = false;
        verdict.told = "the answers differ".to_owned();
        verdict.hint = Some(hint.to_owned());
    }
    verdict
}

fn the_same_twice(plugin: &Plugin, plain: &Request) -> Verdict {
    let (first, second) = (call(plugin, plain), call(plugin, plain));
    let hint = "draw randomness from `seed` and time from `now`, and iterate over nothing that has no order";
    compared(
        "the same twice",
        "equal calls give equal answers",
        first.answer_bits() == second.answer_bits(),
        hint,
        &second,
    )
}

fn at_once(plugin: &Plugin, plain: &Request, limits: &Limits) -> Verdict {
    // As many as it may have, and time for all of them on whatever machine this is.
    let plugin = plugin.within(&roomy(limits));
    let alone = call(&plugin, plain);
    let count = AT_ONCE.min(limits.concurrency as usize);
    let together: Vec<Outcome> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| call(&plugin, plain)))
            .collect();
        calls
            .into_iter()
            .filter_map(|call| call.join().ok())
            .collect()
    });
    let same = |one: &Outcome| one.answer_bits() == alone.answer_bits();
    let same = together.len() == count && together.iter().all(same);
    let hint = "look at what the calls have in common";
    compared(
        "several at once",
        "calls know nothing of each other",
        same,
        hint,
        &alone,
    )
}

fn by_count(plugin: &Plugin, counted: &Plugin, plain: &Request) -> Verdict {
    let (timed, counted) = (call(plugin, plain), call(counted, plain));
    let hint = match &counted.result {
        Err(failure) if failure.code == Code::OutOfFuel => {
            "a replay counts instructions: raise `fuel-millions` in [limits]"
        }
        _ => "the engine that replays calls answers otherwise than the one that serves; tell us",
    };
    let same = timed.answer_bits() == counted.answer_bits();
    compared(
        "counted",
        "a replay answers what the call answered",
        same,
        hint,
        &counted,
    )
}
