//! The next best windows, or, where none works, what would make one possible.

use super::calendar::spoken;
use super::crew::{Assignment, Obstacle};
use super::propose::{Candidate, Ground, ScheduleError, by_cost};
use crate::model::Timestamp;

/// How many are offered.
const OFFERED: usize = 3;
/// Windows closer together than this are the same choice to a person.
const APART_MS: i64 = 4 * 3_600_000;

/// The next best of `ranked` (cheapest first), each a real choice: apart in time from the better ones.
pub(super) fn next_best(ranked: &[Candidate]) -> Vec<Candidate> {
    let mut chosen: Vec<&Candidate> = ranked.iter().take(1).collect();
    for candidate in ranked {
        let close = |other: &&Candidate| {
            candidate.from < other.to.plus_ms(APART_MS)
                && other.from < candidate.to.plus_ms(APART_MS)
        };
        if chosen.len() <= OFFERED && !chosen.iter().any(close) {
            chosen.push(candidate);
        }
    }
    chosen.into_iter().skip(1).cloned().collect()
}

/// For each thing that could be changed, the cheapest window that change would open.
///
/// The order of the table is the order of preference among equals: moving a window asks less of people than calling
/// somebody back.
pub(super) fn made_possible(ground: &Ground) -> Result<Vec<Candidate>, ScheduleError> {
    use Obstacle::{Away, Busy, Shift, Skill};
    let mut found = Vec::new();
    if ground.request.latest.is_some() {
        found.extend(past_deadline(ground));
    }
    for waived in [
        &[Busy][..],
        &[Shift],
        &[Away],
        &[Skill],
        &[Shift, Busy],
        &[Shift, Away],
    ] {
        // Two changes are asked for only where one does not do.
        if waived.len() == 1 || found.is_empty() {
            found.extend(cheapest_ignoring(ground, waived));
        }
    }
    if found.is_empty() {
        found.extend(without_anybody(ground));
    }
    found.sort_by(by_cost);
    found.dedup_by(|a, b| a.needs == b.needs);
    found.truncate(OFFERED);
    Ok(found)
}

fn cheapest_ignoring(ground: &Ground, waived: &[Obstacle]) -> Option<Candidate> {
    ground
        .slots()
        .filter(|span| ground.forbidden(*span).is_none())
        .filter_map(|span| {
            let assignment = ground.crew.best(span, waived)?;
            let mut candidate = ground.candidate(span, Some(&assignment));
            candidate.needs = waived
                .iter()
                .flat_map(|w| needs(ground, *w, &assignment, &candidate))
                .collect();
            Some(candidate)
        })
        .min_by(by_cost)
}

fn needs(
    ground: &Ground,
    waived: Obstacle,
    assignment: &Assignment,
    candidate: &Candidate,
) -> Vec<String> {
    let who = assignment.technician;
    let (from, to) = (candidate.from, candidate.to);
    let say = |t: Timestamp| spoken(t, &ground.zone);
    match waived {
        Obstacle::Shift => vec![format!(
            "{} would have to work outside the shift, from {} to {}",
            who.name,
            say(from),
            say(to)
        )],
        Obstacle::Away => who
            .away
            .iter()
            .filter(|a| a.from < to && from < a.to)
            .map(|a| {
                let (from, to) = (say(a.from), say(a.to));
                format!(
                    "{} would have to be back although away from {from} to {to}",
                    who.name
                )
            })
            .collect(),
        Obstacle::Busy => ground
            .request
            .busy
            .iter()
            .filter(|b| b.technician.as_deref() == Some(&who.id))
            .filter(|b| b.span.from < to && from < b.span.to)
            .map(|b| {
                let at = say(b.span.from);
                format!(
                    "the window of `{}` at {at} would have to move: {} works in it",
                    b.asset, who.name
                )
            })
            .collect(),
        Obstacle::Skill => ground
            .crew
            .members
            .iter()
            .find(|m| m.technician.id == who.id)
            .map(|m| {
                let skills = m.missing_skills.join("`, `");
                format!(
                    "{} would have to be accompanied by or trained in `{skills}`",
                    who.name
                )
            })
            .into_iter()
            .collect(),
    }
}

fn past_deadline(ground: &Ground) -> Option<Candidate> {
    let latest = ground.request.latest?;
    ground
        .slots_past_deadline()
        .filter(|span| span.to > latest && ground.forbidden(*span).is_none())
        .filter_map(|span| {
            let assignment = ground.crew.best(span, &[])?;
            let mut candidate = ground.candidate(span, Some(&assignment));
            candidate.needs = vec![format!(
                "the deadline would have to move from {} to {}",
                spoken(latest, &ground.zone),
                spoken(span.to, &ground.zone)
            )];
            Some(candidate)
        })
        .min_by(by_cost)
}

fn without_anybody(ground: &Ground) -> Option<Candidate> {
    let skills = ground.request.skills.join("`, `");
    ground
        .slots()
        .filter(|span| ground.forbidden(*span).is_none())
        .map(|span| {
            let mut candidate = ground.candidate(span, None);
            candidate.needs = vec![format!(
                "somebody who can do `{skills}` would have to be found for {} to {}",
                spoken(span.from, &ground.zone),
                spoken(span.to, &ground.zone)
            )];
            candidate
        })
        .min_by(by_cost)
}
