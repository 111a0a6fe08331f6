//! The planner as a whole.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Absence, Shift, Technician, Timestamp, Weekday};

const HOUR: i64 = 3_600_000;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn technician(id: &str, skills: &[&str], from: &str, to: &str) -> Technician {
    Technician {
        id: id.into(),
        name: id.to_uppercase(),
        skills: skills.iter().map(|s| (*s).to_owned()).collect(),
        time_zone: "Europe/Berlin".into(),
        shifts: vec![Shift {
            days: vec![
                Weekday::Mon,
                Weekday::Tue,
                Weekday::Wed,
                Weekday::Thu,
                Weekday::Fri,
            ],
            from: from.into(),
            to: to.into(),
        }],
        away: vec![],
    }
}

fn curve(day: f64, week: f64, month: f64) -> RiskCurve {
    let scores: BTreeMap<_, _> = [("1d", day), ("7d", week), ("30d", month)]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
    RiskCurve::new(&scores, None)
}

/// Busy from 08 to 20 local time, quiet at night, nearly idle from 02 to 04.
fn profile() -> ImpactProfile {
    let by_hour = |h: usize| match h % 24 {
        2 | 3 => 0.05,
        8..20 => 0.8,
        _ => 0.3,
    };
    ImpactProfile {
        time_zone: "Europe/Berlin".into(),
        per_hour: (0..168).map(|h| 400.0 * by_hour(h)).collect(),
        utilisation: (0..168).map(|h| Some(by_hour(h))).collect(),
        dependents: vec!["srv-r01-1".into()],
    }
}

fn request() -> Request {
    Request {
        asset: "fan-r01-01".into(),
        at: at("2026-03-02T09:07:00Z"),
        ready_at: at("2026-03-02T12:31:00Z"),
        latest: None,
        duration_ms: 40 * 60_000,
        risk: curve(0.02, 0.15, 0.5),
        outage_cost_per_hour: 500.0,
        impact: profile(),
        technicians: vec![
            technician("ada", &["fan_tray"], "22:00", "06:00"),
            technician("ben", &["fan_tray"], "08:00", "16:00"),
        ],
        skills: vec!["fan_tray".into()],
        busy: vec![],
        group: None,
        freezes: vec![],
        costs: Costs::default(),
    }
}

#[test]
fn the_quiet_hour_of_the_first_night_wins() {
    let proposal = propose(&request()).unwrap();
    let best = proposal.best.unwrap();
    assert_eq!(best.from, at("2026-03-03T01:00:00Z"));
    assert_eq!(best.to, at("2026-03-03T01:45:00Z"));
    assert_eq!(best.technician.as_deref(), Some("ada"));
    assert_eq!(best.cost.customer_impact, 15.0);
    assert_eq!(proposal.alternatives.len(), 3);
    assert!(
        proposal
            .alternatives
            .iter()
            .all(|a| a.cost.total >= best.cost.total)
    );
}

#[test]
fn a_steep_risk_does_not_wait_for_the_night() {
    let mut steep = request();
    steep.risk = curve(0.9, 0.99, 0.999);
    let best = propose(&steep).unwrap().best.unwrap();
    assert_eq!(best.from, at("2026-03-02T12:45:00Z"));
    assert_eq!(best.technician.as_deref(), Some("ben"));
    assert!(best.failure_before > 0.2);
}

#[test]
fn nothing_starts_before_the_part_is_ready_or_ends_after_the_deadline() {
    let mut tight = request();
    tight.latest = Some(at("2026-03-02T13:44:00Z"));
    let best = propose(&tight).unwrap().best.unwrap();
    assert_eq!(best.from, at("2026-03-02T12:45:00Z"));
    tight.latest = Some(at("2026-03-02T13:29:00Z"));
    let proposal = propose(&tight).unwrap();
    assert!(proposal.best.is_none());
    assert!(proposal.alternatives[0].needs[0].contains("deadline"));
}

#[test]
fn never_two_of_a_group_below_what_is_needed() {
    let mut grouped = request();
    let night = Span {
        from: at("2026-03-03T00:30:00Z"),
        to: at("2026-03-03T03:30:00Z"),
    };
    grouped.group = Some(Group {
        name: "row-a".into(),
        needed: 2,
        serving: vec!["fan-r01-02".into(), "fan-r01-03".into()],
        stood_in: false,
    });
    grouped.busy = vec![Busy {
        asset: "fan-r01-02".into(),
        technician: None,
        span: night,
    }];
    let proposal = propose(&grouped).unwrap();
    let best = proposal.best.unwrap();
    assert!(best.from >= night.to || best.to <= night.from);
    assert!(proposal.rejected.iter().any(|r| r.code == "redundancy"));

    grouped.group.as_mut().unwrap().needed = 3;
    let impossible = propose(&grouped).unwrap();
    assert_eq!((impossible.best, impossible.alternatives), (None, vec![]));
    assert!(impossible.rejected[0].message.contains("needs 3"));
}

#[test]
fn when_nobody_is_free_it_says_what_would_make_it_possible() {
    let mut empty = request();
    let whole = Absence {
        from: at("2026-03-01T00:00:00Z"),
        to: at("2026-04-01T00:00:00Z"),
    };
    for t in &mut empty.technicians {
        t.away = vec![whole.clone()];
    }
    empty
        .technicians
        .push(technician("cleo", &[], "08:00", "16:00"));
    let proposal = propose(&empty).unwrap();
    assert_eq!(proposal.best, None);
    let needs: Vec<_> = proposal
        .alternatives
        .iter()
        .flat_map(|a| &a.needs)
        .collect();
    assert!(
        needs
            .iter()
            .any(|n| n.contains("ADA would have to be back")),
        "{needs:?}"
    );
    assert!(
        needs
            .iter()
            .any(|n| n.contains("CLEO") && n.contains("fan_tray")),
        "{needs:?}"
    );
    assert!(proposal.rejected.iter().any(|r| r.code == "everybody_away"));

    empty.technicians.clear();
    let nobody = propose(&empty).unwrap();
    assert!(nobody.alternatives[0].needs[0].contains("would have to be found"));
}

#[test]
fn a_technician_is_never_in_two_places() {
    let mut busy = request();
    busy.busy = vec![Busy {
        asset: "fan-r07-03".into(),
        technician: Some("ada".into()),
        span: Span {
            from: at("2026-03-03T01:00:00Z"),
            to: at("2026-03-03T02:30:00Z"),
        },
    }];
    let best = propose(&busy).unwrap().best.unwrap();
    assert!(best.from >= busy.busy[0].span.to || best.to <= busy.busy[0].span.from);
}

#[test]
fn overtime_is_priced_and_limited() {
    let mut late = request();
    late.technicians = vec![technician("ben", &["fan_tray"], "08:00", "14:00")];
    late.latest = Some(at("2026-03-02T13:40:00Z"));
    let best = propose(&late).unwrap().best.unwrap();
    // 13:45 to 14:30 local time: half an hour past the shift.
    assert_eq!((best.overtime_minutes, best.cost.overtime), (30, 47.5));
    late.costs.overtime_limit_minutes = 15;
    let proposal = propose(&late).unwrap();
    assert_eq!(proposal.best, None);
    assert!(
        proposal
            .alternatives
            .iter()
            .any(|a| a.needs[0].contains("outside the shift"))
    );
}

#[test]
fn frozen_spans_are_left_alone() {
    let mut frozen = request();
    frozen.freezes = vec![Span {
        from: at("2026-03-02T00:00:00Z"),
        to: at("2026-03-05T00:00:00Z"),
    }];
    let best = propose(&frozen).unwrap().best.unwrap();
    assert!(best.from >= frozen.freezes[0].to);
}

#[test]
fn the_checker_rejects_every_mutated_window() {
    let mut request = request();
    request.freezes = vec![Span {
        from: at("2026-03-04T00:00:00Z"),
        to: at("2026-03-05T00:00:00Z"),
    }];
    request
        .technicians
        .push(technician("cleo", &[], "22:00", "06:00"));
    request.busy = vec![Busy {
        asset: "fan-r02-01".into(),
        technician: Some("ada".into()),
        span: Span {
            from: at("2026-03-06T00:00:00Z"),
            to: at("2026-03-06T02:00:00Z"),
        },
    }];
    let good = propose(&request).unwrap().best.unwrap();
    assert_eq!(check(&request, &good), Ok(()));
    let mutate = |change: &dyn Fn(&mut Candidate)| {
        let mut bad = good.clone();
        change(&mut bad);
        check(&request, &bad).unwrap_err()
    };
    let moved = |bad: &mut Candidate, ms: i64| {
        bad.from = bad.from.plus_ms(ms);
        bad.to = bad.to.plus_ms(ms);
    };
    let cases: [(&str, Vec<Fault>, Fault); 10] = [
        (
            "shift by a minute",
            mutate(&|c| moved(c, 60_000)),
            Fault::OffGrid,
        ),
        (
            "shift out of the shift",
            mutate(&|c| moved(c, 6 * HOUR)),
            Fault::OffShift("ada".into()),
        ),
        (
            "before the part",
            mutate(&|c| moved(c, -24 * HOUR)),
            Fault::TooEarly,
        ),
        (
            "inside a freeze",
            mutate(&|c| moved(c, 24 * HOUR)),
            Fault::Frozen,
        ),
        (
            "double-booked",
            mutate(&|c| moved(c, 72 * HOUR)),
            Fault::DoubleBooked("ada".into()),
        ),
        (
            "swapped technician",
            mutate(&|c| c.technician = Some("ben".into())),
            Fault::OffShift("ben".into()),
        ),
        (
            "wrong skill",
            mutate(&|c| c.technician = Some("cleo".into())),
            Fault::Unskilled("cleo".into()),
        ),
        (
            "dropped technician",
            mutate(&|c| c.technician = None),
            Fault::Nobody,
        ),
        (
            "shortened",
            mutate(&|c| c.to = c.to.plus_ms(-15 * 60_000)),
            Fault::WrongLength,
        ),
        (
            "cheaper than it is",
            mutate(&|c| c.cost.total -= 1.0),
            Fault::Sum,
        ),
    ];
    for (name, faults, expected) in cases {
        assert!(faults.contains(&expected), "{name}: {faults:?}");
    }
    let mut free = good;
    free.overtime_minutes = 30;
    assert_eq!(check(&request, &free), Err(vec![Fault::Overtime]));
}

#[test]
fn the_plain_rule_is_followed_to_the_letter() {
    let request = request();
    // The past week by quarter hour: quiet from 01:00 to 03:00 UTC, busy otherwise.
    let week: Vec<Option<f64>> = (0..672)
        .map(|i| {
            let t = request.at.plus_ms((i - 672) * GRID_MS);
            let hour = t.0.div_euclid(HOUR).rem_euclid(24);
            Some(if (1..3).contains(&hour) { 0.05 } else { 0.7 })
        })
        .collect();
    assert_eq!(
        baseline(0.1, 0.2, &week, &request),
        Ok(Baseline::NoProposal)
    );
    assert_eq!(
        baseline(0.2, 0.2, &week, &request),
        Ok(Baseline::NoProposal)
    );

    let Ok(Baseline::Window(window)) = baseline(0.3, 0.2, &week, &request) else {
        panic!("somebody is free in the quiet hours");
    };
    assert_eq!(window.technician.as_deref(), Some("ada"));
    assert_eq!(window.cost.customer_impact, 15.0);

    let mut by_day = request;
    by_day.technicians.retain(|t| t.id == "ben");
    let Ok(Baseline::Alternatives(all)) = baseline(0.3, 0.2, &week, &by_day) else {
        panic!("nobody is free in the quiet hours");
    };
    assert!(
        all.iter()
            .all(|c| c.technician.as_deref() == Some("ben") && c.needs.is_empty())
    );
}

#[test]
fn the_same_request_gives_the_same_bytes_in_whatever_order_people_come() {
    let one = request();
    let mut other = request();
    other.technicians.reverse();
    let bytes = |r: &Request| serde_json::to_vec(&propose(r).unwrap()).unwrap();
    assert_eq!(bytes(&one), bytes(&other));
}

#[test]
fn windows_stay_on_shift_when_clocks_change() {
    for start in ["2026-03-27T09:00:00Z", "2026-10-23T09:00:00Z"] {
        let mut request = request();
        request.at = at(start);
        request.ready_at = at(start);
        for t in &mut request.technicians {
            t.shifts[0].days = vec![Weekday::Sat, Weekday::Sun];
        }
        let proposal = propose(&request).unwrap();
        let best = proposal.best.unwrap();
        // The checker, which reads the wall clock minute by minute, has agreed; the quiet hours are local.
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        assert!(
            [2, 3].contains(&(hour_of_week(best.from, &zone) % 24)),
            "{best:?}"
        );
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_slot_is_cheaper_than_the_best(
            start in 0_i64..20_000,
            lead in 0_i64..100,
            minutes in 1_i64..600,
            day in 0.0_f64..1.0,
            limit in 0_u32..120,
        ) {
            let mut request = request();
            request.at = Timestamp(1_770_000_000_000 + start * 60_000 * 7);
            request.ready_at = request.at.plus_ms(lead * HOUR);
            request.duration_ms = minutes * 60_000;
            request.risk = curve(day * 0.5, day * 0.8, day);
            request.costs.overtime_limit_minutes = limit;
            // `propose` runs the checker and answers `Unsound` where it disagrees.
            let proposal = propose(&request).unwrap();
            if let Some(best) = &proposal.best {
                prop_assert!(proposal.alternatives.iter().all(|a| a.cost.total >= best.cost.total));
                // The cheapest of all shifted copies the checker accepts is not cheaper.
                for step in 1..200 {
                    let mut other = best.clone();
                    other.from = best.from.plus_ms(step * GRID_MS);
                    other.to = best.to.plus_ms(step * GRID_MS);
                    if check(&request, &other).is_ok() {
                        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
                        let span = Span { from: other.from, to: other.to };
                        let hours = other.from.since(request.at) as f64 / HOUR as f64;
                        let total = request.impact.over(span, &zone)
                            + request.risk.outage_hours(hours, 12.0) * 500.0
                            + best.cost.overtime;
                        prop_assert!(total >= best.cost.total - 0.02);
                    }
                }
            }
        }
    }
}

#[test]
fn who_chooses_elsewhere_sees_what_is_possible_and_pays_the_same() {
    let request = request();
    let own = propose(&request).unwrap().best.unwrap();
    let choice = choice(&request).unwrap();
    assert_eq!(choice.duration_ms, own.to.since(own.from));
    let technician = own.technician.clone().unwrap();
    let calendar = choice.calendars.iter().find(|(id, _)| *id == technician);
    let fits = |span: &Span| span.from <= own.from && own.to <= span.to;
    let (_, spans) = calendar.unwrap();
    if own.overtime_minutes == 0 {
        assert!(spans.iter().any(fits), "{spans:?} {own:?}");
    }
    assert!(spans.windows(2).all(|pair| pair[0].to < pair[1].from));
    assert_eq!(chosen(&request, own.from, &technician).unwrap(), own);
    // Between two quarters it is the later one.
    let between = Timestamp(own.from.0 - 1);
    assert_eq!(chosen(&request, between, &technician).unwrap(), own);
    let nobody = chosen(&request, own.from, "nobody").unwrap_err();
    assert_eq!(
        nobody,
        NoChoice::Faults(vec![Fault::UnknownTechnician("nobody".into())])
    );
    let early = chosen(&request, request.at, &technician).unwrap_err();
    assert!(matches!(early, NoChoice::Faults(faults) if faults.contains(&Fault::TooEarly)));
}
