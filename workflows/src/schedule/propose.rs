//! The window that hurts least: every quarter hour of the horizon is priced, and the cheapest that can be crewed wins.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::alternatives;
use super::calendar::{self, CalendarError, Span, spoken};
use super::check::{Fault, check};
use super::crew::{Assignment, Crew, Obstacle};
use super::request::{GRID_MS, Group, HORIZON_MS, Request};
use crate::model::Timestamp;

/// What was found: the best window if there is one, the next best, and what stood in the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The window that hurts least; `None` where nobody can come or nothing may be touched.
    pub best: Option<Candidate>,
    /// Cheapest first: other windows that work, or, where none does, what would make one possible.
    pub alternatives: Vec<Candidate>,
    /// What ruled other slots out, and how many of them.
    pub rejected: Vec<Rejection>,
}

/// One possible window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// First moment offline.
    pub from: Timestamp,
    /// First moment back.
    pub to: Timestamp,
    /// Who does the work.
    pub technician: Option<String>,
    /// How much of the work is outside their shift, minutes.
    pub overtime_minutes: u32,
    /// P(failed before the window begins), given what is known at the planning moment.
    pub failure_before: f64,
    /// What it costs, term by term.
    pub cost: Cost,
    /// Why it costs that.
    pub reasons: Vec<String>,
    /// What would have to change to make it possible; empty where nothing does.
    pub needs: Vec<String>,
}

/// The terms of a window's price, in the currency of the settings, to the cent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Expected unplanned outage before the window.
    pub failure_risk: f64,
    /// What customers lose while the asset is offline.
    pub customer_impact: f64,
    /// Work outside a shift.
    pub overtime: f64,
    /// The sum.
    pub total: f64,
}

/// Something that rules slots out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Stable code: `frozen`, `redundancy`, `nobody_skilled`, `nobody_on_shift`, `everybody_away`, `everybody_busy`.
    pub code: String,
    /// The same in words.
    pub message: String,
    /// How many slots of the grid it rules out.
    pub slots: usize,
}

/// Why there is no answer at all.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// A calendar cannot be read.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// The work takes no time or longer than the horizon.
    #[error(
        "a window of {minutes} minutes cannot be planned: it must last from 1 minute to 14 days"
    )]
    BadDuration {
        /// What was asked.
        minutes: i64,
    },
    /// The profile is not one value per hour of the week.
    #[error("the impact profile of `{asset}` has {values} values, not one for each of 168 hours")]
    BadProfile {
        /// The asset.
        asset: String,
        /// How many values it has.
        values: usize,
    },
    /// The planner's own answer failed the independent check; it must not be used.
    #[error("the window proposed for `{asset}` breaks a rule: {fault}")]
    Unsound {
        /// The asset.
        asset: String,
        /// The first rule broken.
        fault: Fault,
    },
}

/// Proposes the window that hurts least, with alternatives; every one passed the independent check.
///
/// Durations and ready times are rounded up to the grid, deadlines down.
///
/// # Errors
///
/// See [`ScheduleError`].
pub fn propose(request: &Request) -> Result<Proposal, ScheduleError> {
    let ground = Ground::of(request)?;
    let (feasible, rejected) = ground.feasible();
    let mut ranked = feasible;
    ranked.sort_by(by_cost);
    let proposal = match ranked.first() {
        Some(best) => Proposal {
            best: Some(best.clone()),
            alternatives: alternatives::next_best(&ranked),
            rejected,
        },
        None => Proposal {
            best: None,
            alternatives: alternatives::made_possible(&ground)?,
            rejected,
        },
    };
    for candidate in proposal.best.iter().chain(&proposal.alternatives) {
        check(request, candidate).map_err(|faults| ScheduleError::Unsound {
            asset: request.asset.clone(),
            fault: faults.into_iter().next().unwrap_or(Fault::Unreadable),
        })?;
    }
    Ok(proposal)
}

/// Cheapest first, then earliest.
pub(super) fn by_cost(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    a.cost
        .total
        .total_cmp(&b.cost.total)
        .then(a.from.cmp(&b.from))
}

/// A request with its calendars laid out.
pub(super) struct Ground<'a> {
    pub(super) request: &'a Request,
    pub(super) zone: TimeZone,
    pub(super) crew: Crew<'a>,
    duration_ms: i64,
    first: i64,
    /// End of the horizon, the deadline left aside.
    horizon_end: i64,
}

impl<'a> Ground<'a> {
    pub(super) fn of(request: &'a Request) -> Result<Self, ScheduleError> {
        if request.duration_ms < 60_000 || request.duration_ms > HORIZON_MS {
            return Err(ScheduleError::BadDuration {
                minutes: request.duration_ms / 60_000,
            });
        }
        for values in [
            request.impact.per_hour.len(),
            request.impact.utilisation.len(),
        ] {
            if values != 168 {
                return Err(ScheduleError::BadProfile {
                    asset: request.asset.clone(),
                    values,
                });
            }
        }
        let first = round_up(request.ready_at.max(request.at).0);
        let horizon_end = round_down(first.saturating_add(HORIZON_MS));
        let horizon = Span {
            from: Timestamp(first),
            to: Timestamp(horizon_end),
        };
        Ok(Self {
            request,
            zone: calendar::zone(&request.impact.time_zone, "the site")?,
            crew: Crew::over(request, horizon)?,
            duration_ms: round_up(request.duration_ms),
            first,
            horizon_end,
        })
    }

    /// How long a window is, on the grid.
    pub(super) fn duration_ms(&self) -> i64 {
        self.duration_ms
    }

    /// Between which moments a window lies.
    pub(super) fn bounds(&self) -> (Timestamp, Timestamp) {
        let end = self.request.latest.map_or(i64::MAX, |t| round_down(t.0));
        (
            Timestamp(self.first),
            Timestamp(end.min(self.horizon_end).max(self.first)),
        )
    }

    /// Every slot of the grid up to the deadline.
    pub(super) fn slots(&self) -> impl Iterator<Item = Span> {
        self.slots_until(self.bounds().1.0)
    }

    /// Every slot of the grid, whatever the deadline.
    pub(super) fn slots_past_deadline(&self) -> impl Iterator<Item = Span> {
        self.slots_until(self.horizon_end)
    }

    fn slots_until(&self, end: i64) -> impl Iterator<Item = Span> {
        let duration = self.duration_ms;
        (self.first..)
            .step_by(GRID_MS as usize)
            .take_while(move |from| from.saturating_add(duration) <= end)
            .map(move |from| Span {
                from: Timestamp(from),
                to: Timestamp(from + duration),
            })
    }

    /// What forbids a slot whoever comes: a freeze, or equals that must not be fewer.
    pub(super) fn forbidden(&self, span: Span) -> Option<(&'static str, String)> {
        if let Some(freeze) = self.request.freezes.iter().find(|f| f.overlaps(&span)) {
            let until = spoken(freeze.to, &self.zone);
            return Some(("frozen", format!("changes are frozen until {until}")));
        }
        let group = self.request.group.as_ref()?;
        let left = left_serving(group, &self.request.busy, span);
        (left < group.needed).then(|| {
            (
                "redundancy",
                format!(
                    "group `{}` needs {} serving and would have {left}",
                    group.name, group.needed
                ),
            )
        })
    }

    fn feasible(&self) -> (Vec<Candidate>, Vec<Rejection>) {
        let mut found = Vec::new();
        let mut rejected: BTreeMap<&str, Rejection> = BTreeMap::new();
        for span in self.slots() {
            let refusal = match self.forbidden(span) {
                Some(refusal) => refusal,
                None => match self.crew.best(span, &[]) {
                    Some(assignment) => {
                        found.push(self.candidate(span, Some(&assignment)));
                        continue;
                    }
                    None => self.nobody(span),
                },
            };
            rejected
                .entry(refusal.0)
                .or_insert_with(|| Rejection {
                    code: refusal.0.to_owned(),
                    message: refusal.1,
                    slots: 0,
                })
                .slots += 1;
        }
        let mut rejected: Vec<_> = rejected.into_values().collect();
        rejected.sort_by(|a, b| b.slots.cmp(&a.slots).then(a.code.cmp(&b.code)));
        (found, rejected)
    }

    fn nobody(&self, span: Span) -> (&'static str, String) {
        let skills = self.request.skills.join("`, `");
        match self.crew.nearest_obstacle(span) {
            Obstacle::Skill => ("nobody_skilled", format!("nobody can do `{skills}`")),
            Obstacle::Shift => (
                "nobody_on_shift",
                format!("nobody who can do `{skills}` is on shift"),
            ),
            Obstacle::Away => (
                "everybody_away",
                format!("everybody on shift who can do `{skills}` is away"),
            ),
            Obstacle::Busy => (
                "everybody_busy",
                format!("everybody on shift who can do `{skills}` works in another window"),
            ),
        }
    }

    /// Prices a slot and says why it costs that.
    pub(super) fn candidate(&self, span: Span, assignment: Option<&Assignment>) -> Candidate {
        let request = self.request;
        let hours = span.from.since(request.at) as f64 / 3_600_000.0;
        let outage = request
            .risk
            .outage_hours(hours, request.costs.emergency_hours);
        let overtime_ms = assignment.map_or(0, |a| a.overtime_ms);
        let overtime_hours = overtime_ms as f64 / 3_600_000.0;
        let failure_risk = cents(outage * request.outage_cost_per_hour);
        let customer_impact = cents(request.impact.over(span, &self.zone));
        let overtime = cents(overtime_hours * request.costs.overtime_per_hour);
        let failure_before = round(request.risk.failed_by(hours), 1e6);
        let mut reasons = vec![
            format!(
                "fails before with probability {:.1} %: expected outage {outage:.2} h at {:.2} per hour costs {failure_risk:.2}",
                failure_before * 100.0,
                request.outage_cost_per_hour
            ),
            self.impact_reason(span, customer_impact),
        ];
        if let Some(a) = assignment {
            reasons.push(crew_reason(a, overtime));
        }
        Candidate {
            from: span.from,
            to: span.to,
            technician: assignment.map(|a| a.technician.id.clone()),
            overtime_minutes: u32::try_from(overtime_ms / 60_000).unwrap_or(u32::MAX),
            failure_before,
            cost: Cost {
                failure_risk,
                customer_impact,
                overtime,
                total: cents(failure_risk + customer_impact + overtime),
            },
            reasons,
            needs: Vec::new(),
        }
    }

    fn impact_reason(&self, span: Span, cost: f64) -> String {
        let impact = &self.request.impact;
        let use_then = impact.utilisation_over(span, &self.zone).map_or_else(
            || "how much it is used then was never measured, so full use is assumed".to_owned(),
            |u| format!("{:.0} % used at that time of the week", u * 100.0),
        );
        let who = match impact.dependents.as_slice() {
            [] => "nothing stops with it".to_owned(),
            all => format!("`{}` stop with it", all.join("`, `")),
        };
        format!("{use_then}, {who}: costs {cost:.2}")
    }
}

/// How many equals serve throughout a span while the asset is offline.
fn left_serving(group: &Group, busy: &[super::Busy], span: Span) -> u32 {
    let offline = |member: &String| {
        busy.iter()
            .any(|b| b.asset == *member && b.span.overlaps(&span))
    };
    let others = group.serving.iter().filter(|m| !offline(m)).count();
    u32::try_from(others).unwrap_or(u32::MAX) + u32::from(group.stood_in)
}

fn crew_reason(assignment: &Assignment, cost: f64) -> String {
    let name = &assignment.technician.name;
    match assignment.overtime_ms / 60_000 {
        0 => format!("{name} is on shift and can do it"),
        minutes => format!("{name} stays {minutes} minutes outside the shift: costs {cost:.2}"),
    }
}

pub(super) const fn round_up(ms: i64) -> i64 {
    ms.div_euclid(GRID_MS) * GRID_MS
        + if ms.rem_euclid(GRID_MS) == 0 {
            0
        } else {
            GRID_MS
        }
}

const fn round_down(ms: i64) -> i64 {
    ms.div_euclid(GRID_MS) * GRID_MS
}

/// To the cent, so that the last bit of a sum never changes a digest.
fn cents(amount: f64) -> f64 {
    round(amount, 100.0)
}

fn round(value: f64, per_unit: f64) -> f64 {
    (value * per_unit).round() / per_unit
}
