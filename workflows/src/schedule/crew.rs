//! Who could come, and why the others cannot.

use super::calendar::{CalendarError, Span, shifts_between};
use super::request::Request;
use crate::model::Technician;

/// What keeps a technician from a span; each is also something that could be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    /// Lacks a skill.
    Skill,
    /// Not on shift.
    Shift,
    /// Away.
    Away,
    /// Working in another window.
    Busy,
}

/// A technician's calendar over the planning horizon.
pub(super) struct Member<'a> {
    pub(super) technician: &'a Technician,
    pub(super) missing_skills: Vec<&'a str>,
    shifts: Vec<Span>,
    busy: Vec<Span>,
}

/// Someone who can come, and how long past the shift's end that would be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment<'a> {
    pub(super) technician: &'a Technician,
    pub(super) overtime_ms: i64,
}

/// Everybody with their calendars, in order of id.
pub(super) struct Crew<'a> {
    pub(super) members: Vec<Member<'a>>,
    overtime_limit_ms: i64,
}

impl<'a> Crew<'a> {
    /// Lays out everybody's calendar over `horizon`.
    pub(super) fn over(request: &'a Request, horizon: Span) -> Result<Self, CalendarError> {
        let mut technicians: Vec<_> = request.technicians.iter().collect();
        technicians.sort_by(|a, b| a.id.cmp(&b.id));
        let members = technicians
            .into_iter()
            .map(|technician| Member::over(technician, request, horizon))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            members,
            overtime_limit_ms: i64::from(request.costs.overtime_limit_minutes) * 60_000,
        })
    }

    /// Who costs least overtime for a span when everything in `ignoring` is set aside; the first by id among equals.
    pub(super) fn best(&self, span: Span, ignoring: &[Obstacle]) -> Option<Assignment<'a>> {
        self.members
            .iter()
            .filter_map(|m| {
                let waived = |o: &Obstacle| ignoring.contains(o);
                if !m.obstacles(span, self.overtime_limit_ms).iter().all(waived) {
                    return None;
                }
                Some(Assignment {
                    technician: m.technician,
                    overtime_ms: m.outside_shift(span),
                })
            })
            .min_by_key(|a| a.overtime_ms)
    }

    /// The obstacle that is left for whoever comes nearest to being able to come.
    pub(super) fn nearest_obstacle(&self, span: Span) -> Obstacle {
        self.members
            .iter()
            .filter_map(|m| {
                let all = m.obstacles(span, self.overtime_limit_ms);
                Some((all.len(), *all.first()?))
            })
            .min()
            .map_or(Obstacle::Skill, |(_, first)| first)
    }
}

impl<'a> Member<'a> {
    fn over(
        technician: &'a Technician,
        request: &'a Request,
        horizon: Span,
    ) -> Result<Self, CalendarError> {
        let missing_skills = request
            .skills
            .iter()
            .filter(|s| !technician.skills.contains(s))
            .map(String::as_str)
            .collect();
        let busy = request
            .busy
            .iter()
            .filter(|b| b.technician.as_deref() == Some(&technician.id))
            .map(|b| b.span)
            .collect();
        Ok(Self {
            technician,
            missing_skills,
            shifts: shifts_between(technician, horizon)?,
            busy,
        })
    }

    fn obstacles(&self, span: Span, overtime_limit_ms: i64) -> Vec<Obstacle> {
        let away = |a: &crate::model::Absence| {
            Span {
                from: a.from,
                to: a.to,
            }
            .overlaps(&span)
        };
        let begins_on_shift = self
            .shifts
            .iter()
            .any(|s| s.from <= span.from && span.from < s.to);
        [
            (Obstacle::Skill, !self.missing_skills.is_empty()),
            (
                Obstacle::Shift,
                !begins_on_shift || self.outside_shift(span) > overtime_limit_ms,
            ),
            (Obstacle::Away, self.technician.away.iter().any(away)),
            (Obstacle::Busy, self.busy.iter().any(|b| b.overlaps(&span))),
        ]
        .into_iter()
        .filter_map(|(obstacle, there)| there.then_some(obstacle))
        .collect()
    }

    /// Whether they could work in a span without staying longer.
    pub(super) fn is_free(&self, span: Span) -> bool {
        let others = self.obstacles(span, 0);
        others.iter().all(|obstacle| *obstacle == Obstacle::Skill)
    }

    /// How much of a span no shift covers.
    pub(super) fn outside_shift(&self, span: Span) -> i64 {
        let covered: i64 = self
            .shifts
            .iter()
            .filter(|s| s.overlaps(&span))
            .map(|s| s.to.min(span.to).since(s.from.max(span.from)))
            .sum();
        span.length_ms() - covered
    }
}
