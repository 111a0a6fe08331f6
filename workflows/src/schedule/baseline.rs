//! The plain rule people know, kept as the simplest mode and the measuring rod of the planner.
//!
//! Risk above the threshold → low-use times of the past week → customer impact of each → best window → technician
//! free? return it, else alternatives built on technician availability. Below the threshold → no proposal.

use super::alternatives;
use super::calendar::Span;
use super::propose::{Candidate, Ground, ScheduleError, by_cost};
use super::request::{GRID_MS, Request};

/// Quarter hours in a week.
const WEEK: usize = 7 * 24 * 4;

/// What the plain rule answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Baseline {
    /// The risk does not call for it.
    NoProposal,
    /// The best low-use window, and someone is free.
    Window(Box<Candidate>),
    /// Nobody is free in the best low-use window; these are built on who is available when.
    Alternatives(Vec<Candidate>),
}

/// Applies the plain rule. `past_week` is the asset's utilisation by quarter hour up to the planning moment.
///
/// # Errors
///
/// As [`super::propose()`].
pub fn baseline(
    risk: f64,
    threshold: f64,
    past_week: &[Option<f64>],
    request: &Request,
) -> Result<Baseline, ScheduleError> {
    if risk <= threshold {
        return Ok(Baseline::NoProposal);
    }
    let ground = Ground::of(request)?;
    let low = low_use(past_week);
    let best = ground
        .slots()
        .filter(|span| ground.forbidden(*span).is_none())
        .filter(|span| is_low(&low, request, *span))
        .map(|span| ground.candidate(span, ground.crew.best(span, &[]).as_ref()))
        .min_by(|a, b| {
            let impact = |c: &Candidate| c.cost.customer_impact;
            impact(a).total_cmp(&impact(b)).then(a.from.cmp(&b.from))
        });
    match best {
        Some(window) if window.technician.is_some() => Ok(Baseline::Window(Box::new(window))),
        _ => available(&ground).map(Baseline::Alternatives),
    }
}

/// When somebody is free at all, cheapest first; else what would have to change.
fn available(ground: &Ground) -> Result<Vec<Candidate>, ScheduleError> {
    let mut crewed: Vec<_> = ground
        .slots()
        .filter(|span| ground.forbidden(*span).is_none())
        .filter_map(|span| Some(ground.candidate(span, Some(&ground.crew.best(span, &[])?))))
        .collect();
    crewed.sort_by(by_cost);
    let Some(best) = crewed.first() else {
        return alternatives::made_possible(ground);
    };
    let mut all = vec![best.clone()];
    all.extend(alternatives::next_best(&crewed));
    Ok(all)
}

/// Marks the quarter hours of the past week whose utilisation is in its lowest quarter.
fn low_use(past_week: &[Option<f64>]) -> Vec<bool> {
    let mut known: Vec<f64> = past_week
        .iter()
        .rev()
        .take(WEEK)
        .flatten()
        .copied()
        .collect();
    known.sort_by(f64::total_cmp);
    let limit = known.get(known.len().saturating_sub(1) / 4).copied();
    past_week
        .iter()
        .map(|u| matches!((u, limit), (Some(u), Some(limit)) if *u <= limit))
        .collect()
}

/// Whether each quarter hour of a span was low one or more whole weeks before.
fn is_low(low: &[bool], request: &Request, span: Span) -> bool {
    (span.from.0..span.to.0).step_by(GRID_MS as usize).all(|t| {
        let ahead = (t - request.at.0).div_euclid(GRID_MS);
        // Quarter hour `ahead` from now looked like the same one of the past week.
        let back = WEEK - usize::try_from(ahead.rem_euclid(WEEK as i64)).unwrap_or(0);
        low.len()
            .checked_sub(back)
            .and_then(|i| low.get(i))
            .is_some_and(|l| *l)
    })
}
