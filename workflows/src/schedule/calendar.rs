//! Shifts in their own time zone become spans of absolute time; no hour is lost or doubled when clocks change.

use jiff::{Span as Calendar, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::model::{Technician, Timestamp, Weekday};

/// A half-open span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub to: Timestamp,
}

impl Span {
    /// Whether the two share a moment.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// Length in milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> i64 {
        self.to.since(self.from)
    }
}

/// Why a calendar cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// No such zone.
    #[error("time zone `{zone}` of {owner} is unknown; use an IANA name such as `Europe/Berlin`")]
    UnknownZone {
        /// Whose it is.
        owner: String,
        /// What was given.
        zone: String,
    },
    /// No such time of day.
    #[error("shift time `{time}` of technician `{technician}` is not `HH:MM`")]
    BadTime {
        /// Whose it is.
        technician: String,
        /// What was given.
        time: String,
    },
    /// Outside what a calendar can hold.
    #[error("the time {0} ms is outside the calendar")]
    OutOfRange(i64),
}

/// Finds a time zone; `owner` is who the error names.
///
/// # Errors
///
/// [`CalendarError::UnknownZone`].
pub(super) fn zone(name: &str, owner: &str) -> Result<TimeZone, CalendarError> {
    TimeZone::get(name).map_err(|_| CalendarError::UnknownZone {
        owner: owner.to_owned(),
        zone: name.to_owned(),
    })
}

/// The shifts of a technician that touch `span`, in order, touching ones joined.
///
/// A local time that does not exist on the day clocks go forward means the same time after the gap; one that exists
/// twice means the first.
///
/// # Errors
///
/// See [`CalendarError`].
pub fn shifts_between(technician: &Technician, span: Span) -> Result<Vec<Span>, CalendarError> {
    let zone = zone(
        &technician.time_zone,
        &format!("technician `{}`", technician.id),
    )?;
    let mut spans = Vec::new();
    // A shift that began the evening before may reach into the span.
    let mut day = local_date(span.from, &zone)?.saturating_sub(Calendar::new().days(1));
    let last = local_date(span.to, &zone)?;
    while day <= last {
        for shift in &technician.shifts {
            if !shift.days.iter().any(|d| same_day(*d, day.weekday())) {
                continue;
            }
            let (from, to) = (
                time_of_day(&shift.from, technician)?,
                time_of_day(&shift.to, technician)?,
            );
            let end = if to <= from {
                day.saturating_add(Calendar::new().days(1))
            } else {
                day
            };
            let found = Span {
                from: instant(day, from, &zone)?,
                to: instant(end, to, &zone)?,
            };
            if found.overlaps(&span) {
                spans.push(found);
            }
        }
        day = day.saturating_add(Calendar::new().days(1));
    }
    spans.sort();
    Ok(join(spans))
}

/// The hour of the week, 0–167, Monday 00:00 local time first.
#[must_use]
pub fn hour_of_week(at: Timestamp, zone: &TimeZone) -> usize {
    let Ok(at) = jiff::Timestamp::from_millisecond(at.0) else {
        return 0;
    };
    let local = zone.to_datetime(at);
    local.weekday().to_monday_zero_offset() as usize * 24 + local.hour() as usize
}

/// A moment as people at the site say it: `Tue 2026-03-03 02:15`.
#[must_use]
pub fn spoken(at: Timestamp, zone: &TimeZone) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| at.to_string(),
        |t| {
            t.to_zoned(zone.clone())
                .strftime("%a %Y-%m-%d %H:%M")
                .to_string()
        },
    )
}

fn join(spans: Vec<Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

fn local_date(at: Timestamp, zone: &TimeZone) -> Result<civil::Date, CalendarError> {
    let at =
        jiff::Timestamp::from_millisecond(at.0).map_err(|_| CalendarError::OutOfRange(at.0))?;
    Ok(zone.to_datetime(at).date())
}

fn instant(
    day: civil::Date,
    time: civil::Time,
    zone: &TimeZone,
) -> Result<Timestamp, CalendarError> {
    zone.to_timestamp(day.to_datetime(time))
        .map(|t| Timestamp(t.as_millisecond()))
        .map_err(|_| CalendarError::OutOfRange(i64::MAX))
}

fn time_of_day(text: &str, technician: &Technician) -> Result<civil::Time, CalendarError> {
    let bad = || CalendarError::BadTime {
        technician: technician.id.clone(),
        time: text.to_owned(),
    };
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    if hour.len() != 2 || minute.len() != 2 {
        return Err(bad());
    }
    let (hour, minute) = (
        hour.parse().map_err(|_| bad())?,
        minute.parse().map_err(|_| bad())?,
    );
    civil::Time::new(hour, minute, 0, 0).map_err(|_| bad())
}

fn same_day(ours: Weekday, theirs: civil::Weekday) -> bool {
    let ours = match ours {
        Weekday::Mon => civil::Weekday::Monday,
        Weekday::Tue => civil::Weekday::Tuesday,
        Weekday::Wed => civil::Weekday::Wednesday,
        Weekday::Thu => civil::Weekday::Thursday,
        Weekday::Fri => civil::Weekday::Friday,
        Weekday::Sat => civil::Weekday::Saturday,
        Weekday::Sun => civil::Weekday::Sunday,
    };
    ours == theirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shift;

    fn night_worker(zone: &str) -> Technician {
        Technician {
            id: "t".into(),
            name: "T".into(),
            skills: vec![],
            time_zone: zone.into(),
            shifts: vec![Shift {
                days: vec![Weekday::Sat],
                from: "22:00".into(),
                to: "06:00".into(),
            }],
            away: vec![],
        }
    }

    fn hours_on(zone: &str, day: &str) -> Vec<i64> {
        let from: Timestamp = format!("{day}T12:00:00Z").parse().unwrap();
        let span = Span {
            from,
            to: from.plus_ms(24 * 3_600_000),
        };
        let shifts = shifts_between(&night_worker(zone), span).unwrap();
        shifts.iter().map(|s| s.length_ms() / 3_600_000).collect()
    }

    #[test]
    fn no_hour_is_lost_or_doubled_on_the_weekends_clocks_change() {
        for (zone, day, hours) in [
            ("Europe/Berlin", "2026-03-21", 8),
            ("Europe/Berlin", "2026-03-28", 7),
            ("Europe/Berlin", "2026-10-24", 9),
            ("America/New_York", "2026-03-07", 7),
            ("America/New_York", "2026-10-31", 9),
            ("Asia/Kolkata", "2026-03-28", 8),
        ] {
            assert_eq!(hours_on(zone, day), [hours], "{zone} {day}");
        }
    }

    #[test]
    fn hours_of_the_week_are_local() {
        let berlin = zone("Europe/Berlin", "site").unwrap();
        // Sunday 23:30 UTC is Monday in Berlin.
        let at = "2026-01-04T23:30:00Z".parse().unwrap();
        assert_eq!(hour_of_week(at, &berlin), 0);
        let at = "2026-07-05T21:59:59Z".parse().unwrap();
        assert_eq!(hour_of_week(at, &berlin), 167);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let span = Span {
            from: Timestamp(0),
            to: Timestamp(14 * 24 * 3_600_000),
        };
        let lost = shifts_between(&night_worker("Europe/Atlantis"), span);
        assert!(lost.unwrap_err().to_string().contains("Europe/Atlantis"));
        let mut late = night_worker("UTC");
        for text in ["25:00", "8:00", "noon", "08:60"] {
            late.shifts[0].from = text.into();
            assert!(matches!(
                shifts_between(&late, span),
                Err(CalendarError::BadTime { .. })
            ));
        }
    }
}
