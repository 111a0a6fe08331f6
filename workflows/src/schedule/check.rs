//! An independent look at an answer: it shares no code with the planner and asks the calendar minute by minute.

use jiff::{Timestamp as Instant, civil::Weekday as Day, tz::TimeZone};

use super::propose::Candidate;
use super::request::Request;
use crate::model::{Technician, Weekday};

/// A rule a window breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It begins before the part is ready or before now.
    #[error("it begins before the part is ready")]
    TooEarly,
    /// It ends after the deadline.
    #[error("it ends after the deadline")]
    TooLate,
    /// It does not last as long as the work.
    #[error("it is not as long as the work, rounded up to a quarter hour")]
    WrongLength,
    /// It is not on the grid.
    #[error("it does not begin on a quarter hour")]
    OffGrid,
    /// Changes are frozen.
    #[error("changes are frozen then")]
    Frozen,
    /// Too few equals would serve.
    #[error("too few of its group would serve")]
    Redundancy,
    /// Nobody comes, and nothing says so.
    #[error("nobody does the work")]
    Nobody,
    /// No such technician.
    #[error("technician `{0}` is unknown")]
    UnknownTechnician(String),
    /// The technician lacks a skill.
    #[error("technician `{0}` lacks a skill")]
    Unskilled(String),
    /// The technician is away.
    #[error("technician `{0}` is away")]
    Away(String),
    /// The technician works elsewhere.
    #[error("technician `{0}` works in another window")]
    DoubleBooked(String),
    /// The technician is not on shift at the start, or stays too long after.
    #[error("technician `{0}` is not on shift")]
    OffShift(String),
    /// The overtime stated is not the overtime worked.
    #[error("the overtime stated is not the overtime worked")]
    Overtime,
    /// The terms do not add up to the total.
    #[error("the cost terms do not add up")]
    Sum,
    /// A calendar cannot be read.
    #[error("a calendar cannot be read")]
    Unreadable,
}

/// Holds a window against every rule of its request.
///
/// A window that says what it `needs` is a wish: rules about people and the deadline are waived for it, those about
/// the part, freezes and redundancy are not.
///
/// # Errors
///
/// Every rule broken.
pub fn check(request: &Request, window: &Candidate) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    let (from, to) = (window.from.0, window.to.0);
    let mut hold = |holds: bool, fault: Fault| {
        if !holds {
            faults.push(fault);
        }
    };
    hold(
        from >= request.ready_at.0 && from >= request.at.0,
        Fault::TooEarly,
    );
    hold(from % 900_000 == 0, Fault::OffGrid);
    let spare = (to - from) - request.duration_ms;
    hold(
        (0..900_000).contains(&spare) && (to - from) % 900_000 == 0,
        Fault::WrongLength,
    );
    let frozen = |t: i64| request.freezes.iter().any(|f| f.from.0 <= t && t < f.to.0);
    hold(!minutes(from, to).any(frozen), Fault::Frozen);
    hold(
        minutes(from, to).all(|t| enough_serve(request, t)),
        Fault::Redundancy,
    );
    let sum = window.cost.failure_risk + window.cost.customer_impact + window.cost.overtime;
    hold((sum - window.cost.total).abs() < 0.011, Fault::Sum);
    if window.needs.is_empty() {
        hold(
            request.latest.is_none_or(|latest| to <= latest.0),
            Fault::TooLate,
        );
        match crew(request, window) {
            Ok(()) => {}
            Err(mut more) => faults.append(&mut more),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn crew(request: &Request, window: &Candidate) -> Result<(), Vec<Fault>> {
    let id = window
        .technician
        .as_ref()
        .ok_or_else(|| vec![Fault::Nobody])?;
    let Some(who) = request.technicians.iter().find(|t| t.id == *id) else {
        return Err(vec![Fault::UnknownTechnician(id.clone())]);
    };
    let zone = TimeZone::get(&who.time_zone).map_err(|_| vec![Fault::Unreadable])?;
    let (from, to) = (window.from.0, window.to.0);
    let mut faults = Vec::new();
    if request.skills.iter().any(|s| !who.skills.contains(s)) {
        faults.push(Fault::Unskilled(id.clone()));
    }
    let away = |t: i64| who.away.iter().any(|a| a.from.0 <= t && t < a.to.0);
    if minutes(from, to).any(away) {
        faults.push(Fault::Away(id.clone()));
    }
    let booked = |t: i64| {
        request
            .busy
            .iter()
            .any(|b| b.technician.as_ref() == Some(id) && b.span.from.0 <= t && t < b.span.to.0)
    };
    if minutes(from, to).any(booked) {
        faults.push(Fault::DoubleBooked(id.clone()));
    }
    let outside = minutes(from, to)
        .filter(|t| !on_shift(who, *t, &zone))
        .count();
    let limit = request.costs.overtime_limit_minutes as usize;
    if !on_shift(who, from, &zone) || outside > limit {
        faults.push(Fault::OffShift(id.clone()));
    }
    if outside != window.overtime_minutes as usize {
        faults.push(Fault::Overtime);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn minutes(from: i64, to: i64) -> impl Iterator<Item = i64> {
    (from..to).step_by(60_000)
}

fn enough_serve(request: &Request, t: i64) -> bool {
    let Some(group) = &request.group else {
        return true;
    };
    let mut serving = i64::from(group.stood_in);
    for member in &group.serving {
        let offline = request
            .busy
            .iter()
            .any(|b| &b.asset == member && b.span.from.0 <= t && t < b.span.to.0);
        serving += i64::from(!offline);
    }
    serving >= i64::from(group.needed)
}

/// Reads the wall clock of the technician's zone and looks it up in the shift table.
fn on_shift(who: &Technician, t: i64, zone: &TimeZone) -> bool {
    let Ok(instant) = Instant::from_millisecond(t) else {
        return false;
    };
    let local = zone.to_datetime(instant);
    let clock = format!("{:02}:{:02}", local.hour(), local.minute());
    let (today, yesterday) = (local.weekday(), local.weekday().previous());
    who.shifts.iter().any(|shift| {
        let over_night = shift.to <= shift.from;
        let begun = listed(&shift.days, today) && clock >= shift.from;
        if over_night {
            begun || (listed(&shift.days, yesterday) && clock < shift.to)
        } else {
            begun && clock < shift.to
        }
    })
}

fn listed(days: &[Weekday], day: Day) -> bool {
    let names = [
        Weekday::Mon,
        Weekday::Tue,
        Weekday::Wed,
        Weekday::Thu,
        Weekday::Fri,
        Weekday::Sat,
        Weekday::Sun,
    ];
    days.contains(&names[day.to_monday_zero_offset() as usize])
}
