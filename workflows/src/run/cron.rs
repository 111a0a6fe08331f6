//! Cron expressions: five fields or a name such as `@hourly`, in a time zone, and the next moment they name.
//!
//! What happens when clocks change depends on what the expression says of the hour. One that fires in every hour follows
//! elapsed time: it fires in both passes of a doubled hour and never in a skipped one. One that names hours follows the
//! clock on the wall: a time that is doubled fires at its first pass alone, and a time that is skipped fires at the
//! first moment after the gap, once however many of its times fell into it.
//!
//! ```
//! use workflows::{model::Timestamp, run::{Cron, zone_named}};
//!
//! let cron: Cron = "30 2 * * mon-fri".parse().unwrap();
//! let berlin = zone_named("Europe/Berlin").unwrap();
//! let next = cron.next_after(&berlin, "2026-03-27T12:00:00Z".parse().unwrap());
//! // Friday noon; Monday's 02:30 is already summer time.
//! assert_eq!(next, Some("2026-03-30T00:30:00Z".parse().unwrap()));
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, DateTimeRound, Time, time};
use jiff::tz::{Offset, TimeZone};
use jiff::{RoundMode, SignedDuration, ToSpan, Unit};

use super::cron_field::{CronError, FIELDS, Values};
use crate::model::Timestamp;
use crate::script::nearest;

/// A cron expression.
///
/// As in every cron since Vixie's, where both the day of month and the day of week are named (neither begins with `*`),
/// a day that fits one of them is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: Values,
    hours: Values,
    days: Values,
    months: Values,
    weekdays: Values,
}

/// Names of expressions.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Days of the longest form of each month.
const LONGEST: [i8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A time zone by its IANA name.
///
/// # Errors
///
/// With the nearest name there is.
pub fn zone_named(name: &str) -> Result<TimeZone, CronError> {
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
        let fix = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        let problem = "is no IANA time zone";
        CronError::new(
            Some("time zone"),
            name,
            problem,
            fix.or_else(|| Some("UTC".into())),
        )
    })
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let spelled = if text.starts_with('@') {
            named(text)?
        } else {
            text
        };
        let parts: Vec<&str> = spelled.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = five(text, &parts)?;
        let cron = Self {
            text: text.to_owned(),
            minutes: FIELDS[0].read(minute)?,
            hours: FIELDS[1].read(hour)?,
            days: FIELDS[2].read(day)?,
            months: FIELDS[3].read(month)?,
            weekdays: FIELDS[4].read(weekday)?.with_one_sunday(),
        };
        cron.comes(day)?;
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn named(text: &str) -> Result<&'static str, CronError> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, spelled)) = NAMED.iter().find(|(name, _)| *name == lower) {
        return Ok(spelled);
    }
    if lower == "@reboot" {
        return Err(CronError::new(None, text, "names no time", None));
    }
    let meant = nearest(&lower, NAMED.map(|(name, _)| name)).unwrap_or("@daily");
    let problem = "is no named expression";
    Err(CronError::new(None, text, problem, Some(meant.to_owned())))
}

fn five<'a>(text: &str, parts: &[&'a str]) -> Result<[&'a str; 5], CronError> {
    if let Ok(five) = parts.try_into() {
        return Ok(five);
    }
    let (problem, fix) = match parts.len() {
        0 => ("is empty".to_owned(), Some("0 * * * *".to_owned())),
        n @ 1..=4 => (
            format!("has {n} of the five fields minute, hour, day of month, month, day of week"),
            Some([parts, &["*"; 4][..5 - n]].concat().join(" ")),
        ),
        6 => (
            "has six fields; there is none for seconds".to_owned(),
            Some(parts[1..].join(" ")),
        ),
        n => (format!("has {n} fields, not five"), None),
    };
    Err(CronError::new(None, text, problem, fix))
}

impl Cron {
    /// The next moment after `after` that the expression names in the zone; none when the calendar ends first.
    #[must_use]
    pub fn next_after(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_millisecond(after.0).ok()?;
        let mut stretch = Stretch::around(zone, after)?;
        loop {
            if let Some(at) = self.within(&stretch, after) {
                return Some(Timestamp(at.as_millisecond()));
            }
            stretch = stretch.following(zone)?;
        }
    }

    /// The next `count` moments.
    #[must_use]
    pub fn next_few(&self, zone: &TimeZone, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let next = |at: &Timestamp| self.next_after(zone, *at);
        std::iter::successors(next(&after), next)
            .take(count)
            .collect()
    }

    /// Refuses a date no year has.
    fn comes(&self, day: &str) -> Result<(), CronError> {
        if self.either_day() {
            return Ok(());
        }
        let first = self.days.first(1, 32).unwrap_or(1);
        let longest = (1..13)
            .filter(|&m| self.months.has(m))
            .map(|m| LONGEST[m as usize - 1]);
        let longest = longest.max().unwrap_or(31);
        if first <= longest {
            return Ok(());
        }
        let problem = format!("never comes: the months named have at most {longest} days");
        let fix = Some(longest.to_string());
        Err(CronError::new(Some(FIELDS[2].name), day, problem, fix))
    }

    fn either_day(&self) -> bool {
        !self.days.starred && !self.weekdays.starred
    }

    /// Whether it fires in every hour and so follows elapsed time.
    fn every_hour(&self) -> bool {
        self.hours.count() == 24
    }

    /// The first moment after `after` within a stretch.
    fn within(&self, stretch: &Stretch, after: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let begins_later = stretch.start.filter(|&start| start > after);
        let from = match begins_later {
            Some(start) => start,
            None => after.checked_add(SignedDuration::from_millis(1)).ok()?,
        };
        let mut local = whole_minute(stretch.offset.to_datetime(from))?;
        if let Some(start) = stretch.start.filter(|_| !self.every_hour()) {
            let (shown, shows) = (
                stretch.before.to_datetime(start),
                stretch.offset.to_datetime(start),
            );
            if shown < shows {
                let skipped = self.next_local(whole_minute(shown)?);
                if begins_later.is_some() && skipped.is_some_and(|at| at < shows) {
                    return Some(start);
                }
            } else {
                // The wall showed everything before `shown` already.
                local = local.max(whole_minute(shown)?);
            }
        }
        let found = self.next_local(local)?;
        let at = stretch.offset.to_timestamp(found).ok()?;
        stretch.end.is_none_or(|end| at < end).then_some(at)
    }

    /// The first local time from `from` on, on a wall without changes.
    fn next_local(&self, from: DateTime) -> Option<DateTime> {
        let (mut date, mut since) = (from.date(), from.time());
        loop {
            if !self.months.has(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                since = Time::midnight();
                continue;
            }
            if self.fits(date)
                && let Some(found) = self.time_from(since)
            {
                return Some(date.to_datetime(found));
            }
            date = date.tomorrow().ok()?;
            since = Time::midnight();
        }
    }

    fn fits(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.either_day() {
            day || weekday
        } else {
            day && weekday
        }
    }

    fn time_from(&self, since: Time) -> Option<Time> {
        let in_hour = |hour: i8| {
            let from = if hour == since.hour() {
                since.minute()
            } else {
                0
            };
            let minute = self.minutes.first(from, 60)?;
            Some(time(hour, minute, 0, 0))
        };
        (since.hour()..24)
            .filter(|&hour| self.hours.has(hour))
            .find_map(in_hour)
    }
}

fn whole_minute(local: DateTime) -> Option<DateTime> {
    let up = DateTimeRound::new()
        .smallest(Unit::Minute)
        .mode(RoundMode::Ceil);
    local.round(up).ok()
}

/// A time during which clocks do not change.
struct Stretch {
    /// When it began; absent for the first.
    start: Option<jiff::Timestamp>,
    /// When the next begins; absent for the last.
    end: Option<jiff::Timestamp>,
    /// What clocks followed before it.
    before: Offset,
    /// What they follow in it.
    offset: Offset,
}

impl Stretch {
    fn around(zone: &TimeZone, at: jiff::Timestamp) -> Option<Self> {
        let instant = SignedDuration::from_nanos(1);
        let start = zone.preceding(at.checked_add(instant).ok()?).next();
        let start = start.map(|change| change.timestamp());
        let before = start.and_then(|start| start.checked_sub(instant).ok());
        let offset = zone.to_offset(at);
        Some(Self {
            start,
            end: zone.following(at).next().map(|change| change.timestamp()),
            before: before.map_or(offset, |before| zone.to_offset(before)),
            offset,
        })
    }

    fn following(&self, zone: &TimeZone) -> Option<Self> {
        let start = self.end?;
        Some(Self {
            start: Some(start),
            end: zone
                .following(start)
                .next()
                .map(|change| change.timestamp()),
            before: self.offset,
            offset: zone.to_offset(start),
        })
    }
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
