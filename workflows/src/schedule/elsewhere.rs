//! A window that somebody else chooses: what they have to know for it, and what their choice costs.

use super::calendar::Span;
use super::check::{Fault, check};
use super::crew::Assignment;
use super::propose::{Candidate, Ground, ScheduleError, round_up};
use super::request::{GRID_MS, Request};
use crate::model::Timestamp;

/// What there is to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The work does not begin before.
    pub earliest: Timestamp,
    /// It has to be done by then.
    pub due: Timestamp,
    /// How long it takes.
    pub duration_ms: i64,
    /// Everybody by id, with the spans in which they are on shift, not away and in no other window, and the asset may be
    /// touched.
    pub calendars: Vec<(String, Vec<Span>)>,
}

/// Lays out what there is to choose from.
///
/// # Errors
///
/// As [`propose`](super::propose()).
pub fn choice(request: &Request) -> Result<Choice, ScheduleError> {
    let ground = Ground::of(request)?;
    let (earliest, due) = ground.bounds();
    let quarters: Vec<Span> = (earliest.0..due.0)
        .step_by(GRID_MS as usize)
        .map(|from| Span {
            from: Timestamp(from),
            to: Timestamp(from + GRID_MS),
        })
        .filter(|quarter| ground.forbidden(*quarter).is_none())
        .collect();
    let calendar = |member: &super::crew::Member<'_>| {
        let mut free: Vec<Span> = Vec::new();
        for quarter in quarters.iter().filter(|quarter| member.is_free(**quarter)) {
            match free.last_mut() {
                Some(last) if last.to == quarter.from => last.to = quarter.to,
                _ => free.push(*quarter),
            }
        }
        (member.technician.id.clone(), free)
    };
    Ok(Choice {
        earliest,
        due,
        duration_ms: ground.duration_ms(),
        calendars: ground.crew.members.iter().map(calendar).collect(),
    })
}

/// Why a choice is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoChoice {
    /// What was asked cannot be planned at all.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// It breaks rules.
    #[error("the window chosen breaks a rule: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Faults(Vec<Fault>),
}

/// Prices the window that begins at the first quarter hour from `from` on, and holds it against every rule.
///
/// # Errors
///
/// [`NoChoice`].
pub fn chosen(request: &Request, from: Timestamp, technician: &str) -> Result<Candidate, NoChoice> {
    let ground = Ground::of(request)?;
    let from = round_up(from.0);
    let span = Span {
        from: Timestamp(from),
        to: Timestamp(from.saturating_add(ground.duration_ms())),
    };
    let mut members = ground.crew.members.iter();
    let Some(member) = members.find(|member| member.technician.id == technician) else {
        let unknown = Fault::UnknownTechnician(technician.to_owned());
        return Err(NoChoice::Faults(vec![unknown]));
    };
    let assignment = Assignment {
        technician: member.technician,
        overtime_ms: member.outside_shift(span),
    };
    let candidate = ground.candidate(span, Some(&assignment));
    check(request, &candidate).map_err(NoChoice::Faults)?;
    Ok(candidate)
}
