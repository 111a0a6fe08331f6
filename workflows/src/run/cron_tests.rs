//! Cron expressions held against a scan of every minute, published cases, and the ways people get them wrong.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

const MINUTE_MS: i64 = 60_000;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron: Cron = cron.parse().expect("an expression");
    let zone = zone_named(zone).expect("a zone");
    let few = cron.next_few(&zone, at(after), count);
    few.iter()
        .map(|t| t.to_string().replace(":00.000Z", "Z"))
        .collect()
}

#[test]
fn expressions_name_the_moments_cron_says_they_do() {
    for (cron, after, expected) in [
        (
            "*/15 * * * *",
            "2026-01-01T00:07:30Z",
            &["2026-01-01T00:15Z", "2026-01-01T00:30Z"][..],
        ),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", &["2104-02-29T00:00Z"]),
        // The 13th, and every Friday: both are named, so either is enough.
        (
            "0 12 13 * fri",
            "2026-02-06T12:00:00Z",
            &["2026-02-13T12:00Z", "2026-02-20T12:00Z"],
        ),
        (
            "0 12 10 * fri",
            "2026-02-06T12:00:00Z",
            &["2026-02-10T12:00Z", "2026-02-13T12:00Z"],
        ),
        // Of days written with a star in front both must fit.
        (
            "0 12 */2 * fri",
            "2026-02-06T12:00:00Z",
            &["2026-02-13T12:00Z", "2026-02-27T12:00Z"],
        ),
        (
            "5 4 * * 7",
            "2026-01-01T00:00:00Z",
            &["2026-01-04T04:05Z", "2026-01-11T04:05Z"],
        ),
        (
            "0 22-23,0-2 * * *",
            "2026-01-01T22:00:00Z",
            &["2026-01-01T23:00Z", "2026-01-02T00:00Z"],
        ),
        (
            "50/5 6 * * *",
            "2026-01-01T00:00:00Z",
            &["2026-01-01T06:50Z", "2026-01-01T06:55Z"],
        ),
        (
            "0 0 1 JAN,jul *",
            "2026-01-01T00:00:00Z",
            &["2026-07-01T00:00Z", "2027-01-01T00:00Z"],
        ),
        (
            "@weekly",
            "2026-01-01T00:00:00Z",
            &["2026-01-04T00:00Z", "2026-01-11T00:00Z"],
        ),
        (
            "@Hourly",
            "2025-12-31T23:59:59Z",
            &["2026-01-01T00:00Z", "2026-01-01T01:00Z"],
        ),
    ] {
        assert_eq!(next(cron, "UTC", after, expected.len()), expected, "{cron}");
    }
}

#[test]
fn a_skipped_time_fires_once_right_after_the_gap() {
    // Berlin, 29 March 2026: after 01:59 comes 03:00, which is 01:00 UTC.
    let before = "2026-03-28T12:00:00Z";
    let berlin = |cron, count| next(cron, "Europe/Berlin", before, count);
    assert_eq!(
        berlin("30 2 * * *", 2),
        ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]
    );
    assert_eq!(
        berlin("*/20 2 * * *", 2),
        ["2026-03-29T01:00Z", "2026-03-30T00:00Z"]
    );
    assert_eq!(
        berlin("0 2,3 * * *", 2),
        ["2026-03-29T01:00Z", "2026-03-30T00:00Z"]
    );
    // What fires in every hour follows elapsed time and misses nothing.
    assert_eq!(
        next("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
        [
            "2026-03-29T00:30Z",
            "2026-03-29T01:30Z",
            "2026-03-29T02:30Z"
        ]
    );
    // Samoa went without 30 December 2011; its midnight is made up for at the next, which fires anyway.
    assert_eq!(
        next("0 0 * * *", "Pacific/Apia", "2011-12-28T12:00:00Z", 3),
        [
            "2011-12-29T10:00Z",
            "2011-12-30T10:00Z",
            "2011-12-31T10:00Z"
        ]
    );
}

#[test]
fn a_doubled_time_fires_at_its_first_pass() {
    // Berlin, 25 October 2026: 02:00 to 02:59 comes twice, from 00:00 and from 01:00 UTC.
    let berlin = |cron, count| next(cron, "Europe/Berlin", "2026-10-24T12:00:00Z", count);
    assert_eq!(
        berlin("30 2 * * *", 2),
        ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]
    );
    assert_eq!(
        berlin("0 2,3 * * *", 2),
        ["2026-10-25T00:00Z", "2026-10-25T02:00Z"]
    );
    // Asked within the second pass, it does not come back either.
    assert_eq!(
        next("45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
        ["2026-10-26T01:45Z"]
    );
    // What fires in every hour fires in both.
    assert_eq!(
        next("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
        [
            "2026-10-25T00:30Z",
            "2026-10-25T01:30Z",
            "2026-10-25T02:30Z"
        ]
    );
    // Lord Howe Island puts its clocks back by half an hour.
    assert_eq!(
        next(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            2
        ),
        ["2026-04-04T14:45Z", "2026-04-05T15:15Z"]
    );
}

#[test]
fn what_is_wrong_is_said_with_field_and_nearest_fix() {
    for (cron, said) in [
        (
            "60 * * * *",
            "field `minute`: `60` is not between 0 and 59; did you mean `0`?",
        ),
        (
            "99 * * * *",
            "field `minute`: `99` is not between 0 and 59; did you mean `59`?",
        ),
        (
            "0 24 * * *",
            "field `hour`: `24` is not between 0 and 23; did you mean `0`?",
        ),
        (
            "0 0 0 * *",
            "field `day of month`: `0` is not between 1 and 31; did you mean `1`?",
        ),
        (
            "0 0 * 13 *",
            "field `month`: `13` is not between 1 and 12; did you mean `12`?",
        ),
        (
            "0 0 * * 8",
            "field `day of week`: `8` is not between 0 and 7; did you mean `0`?",
        ),
        (
            "0 0 * * monday",
            "field `day of week`: `monday` is neither a number nor a name; did you mean `mon`?",
        ),
        (
            "0 0 * jna *",
            "field `month`: `jna` is neither a number nor a name; did you mean `jan`?",
        ),
        (
            "0 0 ? * 1",
            "field `day of month`: `?` is not known here; did you mean `*`?",
        ),
        (
            "0 0 L * *",
            "field `day of month`: `L` is neither a number nor a name",
        ),
        (
            "0 22-2 * * *",
            "field `hour`: `22-2` ends before it begins; did you mean `22-23,0-2`?",
        ),
        (
            "0 0 * * fri-mon",
            "field `day of week`: `fri-mon` ends before it begins; did you mean `5-6,0-1`?",
        ),
        (
            "*/0 * * * *",
            "field `minute`: `*/0` has a step of 0; did you mean `*`?",
        ),
        (
            "*/x * * * *",
            "field `minute`: `*/x` has a step that is no whole number; did you mean `*`?",
        ),
        (
            "*/90 * * * *",
            "field `minute`: `*/90` steps by 90, further than the field reaches (0 to 59); did you mean `0`?",
        ),
        (
            "1,,2 * * * *",
            "field `minute`: `` holds no value; did you mean `*`?",
        ),
        (
            "-5 * * * *",
            "field `minute`: `` holds no value; did you mean `*`?",
        ),
        (
            "0 0 30 2 *",
            "field `day of month`: `30` never comes: the months named have at most 29 days; did you mean `29`?",
        ),
        (
            "0 0 31 4,6 *",
            "field `day of month`: `31` never comes: the months named have at most 30 days; did you mean `30`?",
        ),
        (
            "0 0 * *",
            "`0 0 * *` has 4 of the five fields minute, hour, day of month, month, day of week; did you mean `0 0 * * *`?",
        ),
        (
            "0 30 2 * * *",
            "`0 30 2 * * *` has six fields; there is none for seconds; did you mean `30 2 * * *`?",
        ),
        ("1 2 3 4 5 6 7", "`1 2 3 4 5 6 7` has 7 fields, not five"),
        (" ", "`` is empty; did you mean `0 * * * *`?"),
        (
            "@hourli",
            "`@hourli` is no named expression; did you mean `@hourly`?",
        ),
        ("@reboot", "`@reboot` names no time"),
    ] {
        let error = cron.parse::<Cron>().expect_err(cron);
        assert_eq!(error.to_string(), said, "{cron}");
        if let Some(fix) = error.fix.filter(|_| error.field.is_none()) {
            fix.parse::<Cron>().expect("a fix of the whole can be used");
        }
    }
    let error = zone_named("Europe/Berln").expect_err("misspelt");
    assert_eq!(
        error.to_string(),
        "field `time zone`: `Europe/Berln` is no IANA time zone; did you mean `Europe/Berlin`?"
    );
}

#[test]
fn a_name_is_as_long_as_the_expression_it_stands_for() {
    for (name, spelled) in NAMED {
        let (name, spelled): (Cron, Cron) = (name.parse().unwrap(), spelled.parse().unwrap());
        let text = spelled.text.clone();
        assert_eq!(Cron { text, ..name }, spelled);
    }
}

/// What each minute does, told by looking at it and the minute before alone.
fn fires(cron: &Cron, zone: &TimeZone, minute_ms: i64) -> bool {
    let local = |ms: i64| {
        let at = jiff::Timestamp::from_millisecond(ms).expect("within the calendar");
        zone.to_datetime(at)
    };
    let matches = |local: DateTime| {
        cron.fits(local.date())
            && cron.months.has(local.month())
            && cron.hours.has(local.hour())
            && cron.minutes.has(local.minute())
    };
    let (now, before) = (local(minute_ms), local(minute_ms - MINUTE_MS));
    if cron.hours.count() == 24 {
        return matches(now);
    }
    // Any minute the wall jumped over counts for the one it jumped to.
    let mut skipped = before.checked_add(1.minute()).expect("within the calendar");
    while skipped < now {
        if matches(skipped) {
            return true;
        }
        skipped = skipped
            .checked_add(1.minute())
            .expect("within the calendar");
    }
    let shown_before = || (1..=180).any(|back| local(minute_ms - back * MINUTE_MS) == now);
    matches(now) && !shown_before()
}

fn list(low: u8, high: u8) -> impl Strategy<Value = String> {
    let item = (low..=high, low..=high, 1u8..10).prop_map(move |(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        match step {
            1..=4 => a.to_string(),
            5..=7 => format!("{a}-{b}"),
            _ if b - a >= step => format!("{a}-{b}/{step}"),
            _ => "*".to_owned(),
        }
    });
    prop::collection::vec(item, 1..4).prop_map(|items| items.join(","))
}

fn some_or_any(low: u8, high: u8) -> impl Strategy<Value = String> {
    prop_oneof![1 => Just("*".to_owned()), 1 => list(low, high)]
}

fn expression() -> impl Strategy<Value = String> {
    (
        list(0, 59),
        some_or_any(0, 23),
        some_or_any(1, 28),
        some_or_any(0, 7),
    )
        .prop_map(|(minute, hour, day, weekday)| format!("{minute} {hour} {day} * {weekday}"))
}

/// Days on which clocks change, and one on which they do not.
const DAYS: [(&str, &str); 9] = [
    ("Europe/Berlin", "2026-03-29T00:00:00Z"),
    ("Europe/Berlin", "2026-10-25T00:00:00Z"),
    ("America/New_York", "2027-03-14T05:00:00Z"),
    ("America/New_York", "2027-11-07T05:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T12:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T12:00:00Z"),
    ("Asia/Kathmandu", "2026-05-01T00:00:00Z"),
    ("Africa/Casablanca", "2026-02-15T01:00:00Z"),
    ("Pacific/Apia", "2011-12-30T08:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn next_after_agrees_with_a_scan_of_every_minute(
        text in expression(),
        day in prop::sample::select(&DAYS[..]),
        offset_min in -600i64..600,
        past_ms in 0i64..MINUTE_MS,
    ) {
        let cron: Cron = text.parse().expect("made to be valid");
        let zone = zone_named(day.0).expect("a zone");
        let from = at(day.1).0 + offset_min * MINUTE_MS;
        let upto = from + 36 * 60 * MINUTE_MS;
        let scanned: Vec<i64> = (from + MINUTE_MS..=upto)
            .step_by(MINUTE_MS as usize)
            .filter(|&minute| fires(&cron, &zone, minute))
            .collect();
        let mut found = Vec::new();
        let mut cursor = Timestamp(from + past_ms);
        while let Some(next) = cron.next_after(&zone, cursor).filter(|next| next.0 <= upto) {
            found.push(next.0);
            cursor = next;
        }
        prop_assert_eq!(found, scanned, "{} in {}", text, day.0);
    }

    #[test]
    fn reading_never_panics_and_what_is_read_comes(text in "[-0-9a-zA-Z*/,?@# ]{0,24}") {
        if let Ok(cron) = text.parse::<Cron>() {
            let next = cron.next_after(&TimeZone::UTC, Timestamp(1_767_225_600_000));
            prop_assert!(next.is_some(), "{}", text);
        }
    }
}
