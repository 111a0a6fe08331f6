//! Holds answers against the rules of the contract; what breaks one is never used.

use super::guest::Guest;
use super::{action, designer, detector, predictor, scheduler, verifier};
use crate::call::{Answer, Request};

/// Fine, or which rule is broken.
pub(crate) type Judgement = Result<(), String>;

/// Holds an answer against its request, and against the artifacts that the call knows.
pub(crate) fn judge(request: &Request, answer: &Answer, guest: &Guest) -> Judgement {
    match (request, answer) {
        (Request::Predict(request), Answer::Predict(answer)) => predictor::judge(request, answer),
        (Request::Detect(request), Answer::Detect(answer)) => detector::judge(request, answer),
        (Request::Design { most, .. }, Answer::Design(answer)) => {
            designer::judge(*most, answer, &guest.artifacts)
        }
        (Request::Verify(request), Answer::Verify(answer)) => verifier::judge(request, answer),
        (Request::Schedule(request), Answer::Schedule(answer)) => {
            scheduler::judge(request, answer, guest.context.now_ms)
        }
        (Request::Act { .. }, Answer::Act(answer)) => action::judge(answer, &guest.schemas),
        _ => Err("the answer belongs to another world".to_owned()),
    }
}

/// A number within 0 and 1.
pub(crate) fn share(what: &str, value: f64) -> Judgement {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("{what} is {value}, which is not within 0 and 1"))
    }
}

/// A number that is one.
pub(crate) fn finite(what: &str, value: f64) -> Judgement {
    if value.is_finite() {
        Ok(())
    } else {
        Err(format!("{what} is {value}"))
    }
}

/// Finite numbers, each greater than the one before, or at least not less where `equal` may follow equal.
pub(crate) fn rising(what: &str, values: impl Iterator<Item = f64>, equal: bool) -> Judgement {
    let mut before = f64::NEG_INFINITY;
    for value in values {
        finite(what, value)?;
        if value < before || (value == before && !equal) {
            return Err(format!("{what} do not rise: {value} after {before}"));
        }
        before = value;
    }
    Ok(())
}
