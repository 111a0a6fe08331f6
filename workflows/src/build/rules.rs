//! When a cell may take a build and when it may start it: quiet hours, maintenance, and groups that heat together.

use jiff::{Span as Calendar, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::model::{Timestamp, Weekday};

/// What an operator has set for one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellRules {
    /// The group of machines that share a circuit with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat_group: Option<String>,
    /// When it begins nothing new.
    #[serde(default)]
    pub quiet: Quiet,
    /// When it is being maintained.
    #[serde(default)]
    pub maintenance: Vec<Closed>,
}

/// Machines on one circuit: heating takes most of the current a printer draws.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeatGroup {
    /// How many may heat at once.
    pub max_heating: u32,
    /// The least time between two starts.
    pub stagger_ms: i64,
    /// How long a machine heats at most, unless its cell says earlier that it is done.
    pub heating_ms: i64,
    /// When none of them begins anything new.
    #[serde(default)]
    pub quiet: Quiet,
}

/// Hours of the week, in the time of the place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// IANA name; empty means UTC.
    #[serde(default)]
    pub time_zone: String,
    /// The hours.
    #[serde(default)]
    pub hours: Vec<QuietHours>,
}

/// Some hours of some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// Days on which they begin; none named means every day.
    #[serde(default)]
    pub days: Vec<Weekday>,
    /// `HH:MM`.
    pub from: String,
    /// `HH:MM`; no later than `from` means of the next day.
    pub to: String,
}

/// A span of time, the end not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub to: Timestamp,
}

/// What the machines of a group are at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupLoad {
    /// When each that may still be heating was started.
    pub heating_since: Vec<i64>,
    /// How many others have a build in hand and are about to start.
    pub about_to_start: u32,
    /// The latest start.
    pub last_start_at: Option<i64>,
}

/// Why a cell may not take or start a build just now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Quiet hours.
    #[error("quiet hours of {whose} until {until}")]
    QuietHours {
        /// The cell or its group.
        whose: String,
        /// When they end.
        until: Timestamp,
    },
    /// Maintenance.
    #[error("the cell is being maintained until {until}")]
    Maintenance {
        /// When it ends.
        until: Timestamp,
    },
    /// As many heat as may.
    #[error("{heating} of at most {max} machines of heat group `{group}` heat or are about to")]
    GroupFull {
        /// The group.
        group: String,
        /// How many do.
        heating: u32,
        /// How many may.
        max: u32,
        /// When one of them has heated at the latest.
        until: Timestamp,
    },
    /// Another of the group has only just started.
    #[error("heat group `{group}` starts its next machine at {until}")]
    Staggered {
        /// The group.
        group: String,
        /// When it may.
        until: Timestamp,
    },
}

impl NotNow {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::QuietHours { .. } => "quiet_hours",
            Self::Maintenance { .. } => "maintenance",
            Self::GroupFull { .. } => "heat_group_full",
            Self::Staggered { .. } => "staggered",
        }
    }

    /// When to ask again at the latest.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        match self {
            Self::QuietHours { until, .. }
            | Self::Maintenance { until }
            | Self::GroupFull { until, .. }
            | Self::Staggered { until, .. } => *until,
        }
    }
}

/// Why rules cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// No such zone.
    #[error("time zone `{0}` is unknown; use an IANA name such as `Europe/Berlin`")]
    UnknownZone(String),
    /// No such time of day.
    #[error("`{0}` is not a time of day; write `HH:MM`")]
    NotATime(String),
    /// An end before its beginning.
    #[error("maintenance ends at {to}, before it begins at {from}")]
    EndsBefore {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
}

/// Whether a cell may take a new build now; what it has in hand goes on in any case.
///
/// # Errors
///
/// The first reason why not: maintenance, quiet hours, then the group, in which those about to start count as heating.
pub fn may_claim(
    now: Timestamp,
    rules: &CellRules,
    group: Option<(&HeatGroup, &GroupLoad)>,
) -> Result<(), NotNow> {
    open(now, rules, group)?;
    match group {
        Some((limits, load)) => room(now, rules, limits, load, load.about_to_start),
        None => Ok(()),
    }
}

/// Whether a cell may begin to move matter now.
///
/// # Errors
///
/// As [`may_claim`]; of the group only those count that heat, and the last start has to be long enough ago.
pub fn may_start(
    now: Timestamp,
    rules: &CellRules,
    group: Option<(&HeatGroup, &GroupLoad)>,
) -> Result<(), NotNow> {
    open(now, rules, group)?;
    let Some((limits, load)) = group else {
        return Ok(());
    };
    room(now, rules, limits, load, 0)?;
    let next = load
        .last_start_at
        .map(|at| Timestamp(at).plus_ms(limits.stagger_ms));
    match next {
        Some(until) if until > now => Err(NotNow::Staggered {
            group: name(rules),
            until,
        }),
        _ => Ok(()),
    }
}

fn open(
    now: Timestamp,
    rules: &CellRules,
    group: Option<(&HeatGroup, &GroupLoad)>,
) -> Result<(), NotNow> {
    let closed = rules
        .maintenance
        .iter()
        .find(|m| m.from <= now && now < m.to);
    if let Some(closed) = closed {
        return Err(NotNow::Maintenance { until: closed.to });
    }
    let quiet = |quiet: &Quiet, whose: String| match quiet_until(quiet, now) {
        Some(until) => Err(NotNow::QuietHours { whose, until }),
        None => Ok(()),
    };
    quiet(&rules.quiet, "the cell".to_owned())?;
    match group {
        Some((limits, _)) => quiet(&limits.quiet, format!("heat group `{}`", name(rules))),
        None => Ok(()),
    }
}

fn room(
    now: Timestamp,
    rules: &CellRules,
    limits: &HeatGroup,
    load: &GroupLoad,
    others: u32,
) -> Result<(), NotNow> {
    let done = load
        .heating_since
        .iter()
        .map(|at| at.saturating_add(limits.heating_ms));
    let heating: Vec<i64> = done.filter(|done| *done > now.0).collect();
    let count = u32::try_from(heating.len())
        .unwrap_or(u32::MAX)
        .saturating_add(others);
    if count < limits.max_heating {
        return Ok(());
    }
    Err(NotNow::GroupFull {
        group: name(rules),
        heating: count,
        max: limits.max_heating,
        until: Timestamp(heating.into_iter().min().unwrap_or(now.0)),
    })
}

fn name(rules: &CellRules) -> String {
    rules.heat_group.clone().unwrap_or_default()
}

/// When the quiet hours end that are now, if some are. A local time that does not exist on the day clocks go forward
/// means the same time after the gap; one that exists twice means the first.
#[must_use]
pub fn quiet_until(quiet: &Quiet, now: Timestamp) -> Option<Timestamp> {
    let zone = zone(&quiet.time_zone).ok()?;
    let today = jiff::Timestamp::from_millisecond(now.0)
        .ok()?
        .to_zoned(zone.clone())
        .date();
    let yesterday = today.checked_sub(Calendar::new().days(1)).ok()?;
    let ends = quiet.hours.iter().flat_map(|hours| {
        let spans = [yesterday, today].map(|day| span(hours, day, &zone));
        spans
            .into_iter()
            .flatten()
            .filter(|s| s.from <= now && now < s.to)
            .map(|s| s.to)
    });
    ends.max()
}

fn span(hours: &QuietHours, day: civil::Date, zone: &TimeZone) -> Option<Closed> {
    let of_day = |d: &Weekday| weekday(*d) == day.weekday();
    if !hours.days.is_empty() && !hours.days.iter().any(of_day) {
        return None;
    }
    let (from, to) = (time_of_day(&hours.from).ok()?, time_of_day(&hours.to).ok()?);
    let last = match to <= from {
        true => day.checked_add(Calendar::new().days(1)).ok()?,
        false => day,
    };
    let moment = |day: civil::Date, time: civil::Time| {
        let zoned = zone
            .to_ambiguous_zoned(day.to_datetime(time))
            .compatible()
            .ok()?;
        Some(Timestamp(zoned.timestamp().as_millisecond()))
    };
    Some(Closed {
        from: moment(day, from)?,
        to: moment(last, to)?,
    })
}

/// Makes sure that quiet hours can be read.
///
/// # Errors
///
/// See [`BadRule`].
pub fn check_quiet(quiet: &Quiet) -> Result<(), BadRule> {
    zone(&quiet.time_zone)?;
    for hours in &quiet.hours {
        time_of_day(&hours.from)?;
        time_of_day(&hours.to)?;
    }
    Ok(())
}

/// Makes sure that the rules of a cell can be read.
///
/// # Errors
///
/// See [`BadRule`].
pub fn check_rules(rules: &CellRules) -> Result<(), BadRule> {
    check_quiet(&rules.quiet)?;
    match rules.maintenance.iter().find(|m| m.to <= m.from) {
        Some(Closed { from, to }) => Err(BadRule::EndsBefore {
            from: *from,
            to: *to,
        }),
        None => Ok(()),
    }
}

fn zone(name: &str) -> Result<TimeZone, BadRule> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| BadRule::UnknownZone(name.to_owned()))
}

fn time_of_day(text: &str) -> Result<civil::Time, BadRule> {
    let bad = || BadRule::NotATime(text.to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let number =
        |digits: &str| match digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<i8>().map_err(|_| bad()),
            false => Err(bad()),
        };
    civil::Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| bad())
}

const fn weekday(day: Weekday) -> civil::Weekday {
    match day {
        Weekday::Mon => civil::Weekday::Monday,
        Weekday::Tue => civil::Weekday::Tuesday,
        Weekday::Wed => civil::Weekday::Wednesday,
        Weekday::Thu => civil::Weekday::Thursday,
        Weekday::Fri => civil::Weekday::Friday,
        Weekday::Sat => civil::Weekday::Saturday,
        Weekday::Sun => civil::Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn nights(time_zone: &str, days: &[Weekday]) -> Quiet {
        Quiet {
            time_zone: time_zone.into(),
            hours: vec![QuietHours {
                days: days.to_vec(),
                from: "22:00".into(),
                to: "06:00".into(),
            }],
        }
    }

    #[test]
    fn nights_are_those_of_the_place() {
        let berlin = nights("Europe/Berlin", &[]);
        for (now, until) in [
            ("2026-01-10T20:59:59Z", None),
            ("2026-01-10T21:00:00Z", Some("2026-01-11T05:00:00Z")),
            ("2026-01-11T04:59:59Z", Some("2026-01-11T05:00:00Z")),
            ("2026-01-11T05:00:00Z", None),
            // The night the clocks go forward is an hour shorter.
            ("2026-03-28T22:00:00Z", Some("2026-03-29T04:00:00Z")),
            ("2026-03-29T04:00:00Z", None),
        ] {
            assert_eq!(quiet_until(&berlin, at(now)), until.map(at), "{now}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let weekend = nights("", &[Weekday::Sat]);
        assert_eq!(
            quiet_until(&weekend, at("2026-01-10T23:00:00Z")),
            Some(at("2026-01-11T06:00:00Z"))
        );
        assert_eq!(
            quiet_until(&weekend, at("2026-01-11T05:00:00Z")),
            Some(at("2026-01-11T06:00:00Z"))
        );
        assert_eq!(quiet_until(&weekend, at("2026-01-11T23:00:00Z")), None);
        let all_day = Quiet {
            hours: vec![QuietHours {
                days: vec![Weekday::Sun],
                from: "00:00".into(),
                to: "00:00".into(),
            }],
            ..Quiet::default()
        };
        assert_eq!(
            quiet_until(&all_day, at("2026-01-11T12:00:00Z")),
            Some(at("2026-01-12T00:00:00Z"))
        );
    }

    fn group() -> (CellRules, HeatGroup) {
        let rules = CellRules {
            heat_group: Some("hall".into()),
            ..CellRules::default()
        };
        let limits = HeatGroup {
            max_heating: 2,
            stagger_ms: 30_000,
            heating_ms: 300_000,
            quiet: Quiet::default(),
        };
        (rules, limits)
    }

    #[test]
    fn a_group_heats_only_so_many_at_once_and_one_after_the_other() {
        let (rules, limits) = group();
        let load = |heating: &[i64], about_to_start| GroupLoad {
            heating_since: heating.to_vec(),
            about_to_start,
            last_start_at: heating.iter().max().copied(),
        };
        let claim =
            |now, load: GroupLoad| may_claim(Timestamp(now), &rules, Some((&limits, &load)));
        let start =
            |now, load: GroupLoad| may_start(Timestamp(now), &rules, Some((&limits, &load)));
        assert_eq!(claim(100_000, load(&[0], 0)), Ok(()));
        assert_eq!(
            claim(100_000, load(&[0], 1)).map_err(|e| e.code()),
            Err("heat_group_full")
        );
        assert_eq!(
            start(100_000, load(&[0], 1)),
            Ok(()),
            "who is about to start does not stand in its own way"
        );
        let full = start(100_000, load(&[0, 50_000], 0)).expect_err("full");
        assert_eq!(
            (full.code(), full.until()),
            ("heat_group_full", Timestamp(300_000))
        );
        assert_eq!(
            start(300_000, load(&[0, 50_000], 0)),
            Ok(()),
            "the first has heated"
        );
        let soon = start(20_000, load(&[0], 0)).expect_err("too soon");
        assert_eq!(
            (soon.code(), soon.until()),
            ("staggered", Timestamp(30_000))
        );
        assert_eq!(start(30_000, load(&[0], 0)), Ok(()));
    }

    #[test]
    fn maintenance_and_quiet_hours_stop_what_is_new() {
        let (mut rules, mut limits) = group();
        let now = at("2026-01-10T23:00:00Z");
        let load = GroupLoad::default();
        limits.quiet = nights("", &[]);
        let quiet = may_claim(now, &rules, Some((&limits, &load))).expect_err("night");
        assert_eq!(
            quiet.to_string(),
            "quiet hours of heat group `hall` until 2026-01-11T06:00:00.000Z"
        );
        rules.maintenance = vec![Closed {
            from: now,
            to: now.plus_ms(1),
        }];
        let refused = may_start(now, &rules, None).expect_err("maintained");
        assert_eq!(
            (refused.code(), refused.until()),
            ("maintenance", now.plus_ms(1))
        );
        assert_eq!(may_start(now.plus_ms(1), &rules, None), Ok(()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let zone = check_quiet(&nights("Europe/Berlni", &[]));
        assert_eq!(zone, Err(BadRule::UnknownZone("Europe/Berlni".into())));
        for bad in ["24:00", "7:00", "0700", "", "07:60", "+7:00"] {
            let mut quiet = nights("", &[]);
            quiet.hours[0].to = bad.into();
            assert_eq!(
                check_quiet(&quiet),
                Err(BadRule::NotATime(bad.into())),
                "{bad}"
            );
        }
        let mut rules = CellRules::default();
        rules.maintenance.push(Closed {
            from: Timestamp(2),
            to: Timestamp(2),
        });
        assert!(matches!(
            check_rules(&rules),
            Err(BadRule::EndsBefore { .. })
        ));
    }
}
