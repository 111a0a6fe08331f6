//! What a cron trigger does about its ticks at a moment: which it fires, which it passes over, and when it looks again.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::cron::Cron;
use crate::model::Timestamp;

/// What becomes of ticks that nobody was there to fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are passed over.
    Skip,
    /// All that came due together become one: the last of them fires.
    Once,
    /// Each fires, oldest first, up to a limit counted from the latest.
    All,
}

/// What becomes of a tick while a run of an earlier one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is passed over.
    Skip,
    /// It fires all the same.
    Allow,
    /// It waits until that run is over.
    Queue,
}

/// When a trigger fires.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The moments.
    pub cron: Cron,
    /// The zone they are told in.
    pub zone: TimeZone,
    /// How much later than the moment it fires, ms; see [`late_by_ms`].
    pub late_by_ms: i64,
    /// What becomes of missed ticks.
    pub missed: Missed,
}

/// How far a trigger looks back.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A tick this much overdue was missed, ms.
    pub missed_after_ms: i64,
    /// How many missed ticks are made up for at most.
    pub catch_up: usize,
}

/// Ticks that are not fired, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOver {
    /// The last of them.
    pub last: Timestamp,
    /// How many, counted up to [`MOST_COUNTED`].
    pub count: u64,
}

/// What to do now. Fires one tick at most: ask again from `next` until nothing is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// First note that these were missed.
    pub passed_over: Option<PassedOver>,
    /// Then fire this one.
    pub fire: Option<Timestamp>,
    /// The tick to look at next; none when the calendar ends.
    pub next: Option<Timestamp>,
}

/// How many overdue ticks are counted.
///
/// Of a trigger that was away for longer, only this many of the latest are looked at, so that looking takes
/// milliseconds whatever the expression and however long it was.
pub const MOST_COUNTED: u64 = 20_000;

const MINUTE_MS: i64 = 60_000;

/// How late a trigger fires: 0 to `jitter_s` seconds, drawn from its name alone.
///
/// Many triggers of one expression do not fire together, and each keeps its distance from tick to tick.
#[must_use]
pub fn late_by_ms(name: &str, jitter_s: u32) -> i64 {
    // FNV-1a.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let seconds = hash % (u64::from(jitter_s) + 1);
    i64::try_from(seconds).unwrap_or(0) * 1_000
}

/// Decides what a trigger whose next tick is `tick` does at `now`.
#[must_use]
pub fn plan(schedule: &Schedule, patience: &Patience, tick: Timestamp, now: Timestamp) -> Plan {
    let now = now.plus_ms(-schedule.late_by_ms);
    let (due, counted) = overdue(schedule, patience, tick, now);
    let missed = |tick: &Timestamp| now.since(*tick) > patience.missed_after_ms;
    let late = due.iter().filter(|tick| missed(tick)).count();
    let skipped = match schedule.missed {
        Missed::Skip => late,
        Missed::Once if late > 0 => due.len() - 1,
        Missed::Once => 0,
        Missed::All => late.saturating_sub(patience.catch_up),
    };
    let fire = due.get(skipped).copied();
    let last = due.get(skipped.wrapping_sub(1)).or(due.front());
    // What was counted but is not in `due` any more is older than all of it.
    let before = counted - due.len() as u64 + skipped as u64;
    let passed_over = last.filter(|_| before > 0).map(|&last| PassedOver {
        last,
        count: before,
    });
    let done = fire.or(passed_over.map(|over| over.last));
    let next = match done {
        Some(done) => schedule.cron.next_after(&schedule.zone, done),
        None => Some(tick),
    };
    Plan {
        passed_over,
        fire,
        next,
    }
}

/// The latest of the ticks from `tick` on that are due, as many as matter and one more, and how many there are.
fn overdue(
    schedule: &Schedule,
    patience: &Patience,
    tick: Timestamp,
    now: Timestamp,
) -> (VecDeque<Timestamp>, u64) {
    let matter = on_time_ticks(patience) + patience.catch_up + 1;
    let (mut due, mut counted, mut jumped) = (VecDeque::new(), 0, false);
    let mut cursor = Some(tick);
    while let Some(tick) = cursor.filter(|tick| *tick <= now) {
        due.push_back(tick);
        counted += 1;
        if due.len() > matter {
            due.pop_front();
        }
        let from = if counted == MOST_COUNTED && !jumped {
            // No expression has more ticks than minutes.
            jumped = true;
            tick.max(now.plus_ms(-(MOST_COUNTED.cast_signed() * MINUTE_MS)))
        } else {
            tick
        };
        cursor = schedule.cron.next_after(&schedule.zone, from);
    }
    (due, counted)
}

/// More ticks than can be on time at once.
fn on_time_ticks(patience: &Patience) -> usize {
    usize::try_from(patience.missed_after_ms / MINUTE_MS).unwrap_or(0) + 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::zone_named;
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const PATIENCE: Patience = Patience {
        missed_after_ms: 60_000,
        catch_up: 3,
    };

    fn schedule(cron: &str, missed: Missed) -> Schedule {
        Schedule {
            cron: cron.parse().expect("an expression"),
            zone: zone_named("UTC").expect("a zone"),
            late_by_ms: 0,
            missed,
        }
    }

    /// Everything a trigger does at `now`: what it fires, and how many it passes over.
    fn all_of(schedule: &Schedule, tick: Timestamp, now: Timestamp) -> (Vec<i64>, u64, Timestamp) {
        let (mut tick, mut fired, mut over) = (tick, Vec::new(), 0);
        loop {
            let plan = plan(schedule, &PATIENCE, tick, now);
            over += plan.passed_over.map_or(0, |over| over.count);
            fired.extend(plan.fire.map(|at| at.0 / HOUR_MS));
            let next = plan.next.expect("the calendar goes on");
            if next == tick {
                return (fired, over, next);
            }
            tick = next;
        }
    }

    #[test]
    fn each_policy_does_what_it_says_after_three_missed_ticks() {
        let hourly = |missed| schedule("@hourly", missed);
        // Ticks 1, 2 and 3 came while nobody was there; at half past three somebody is.
        let at = |missed| {
            all_of(
                &hourly(missed),
                Timestamp(HOUR_MS),
                Timestamp(HOUR_MS * 7 / 2),
            )
        };
        let next = Timestamp(4 * HOUR_MS);
        assert_eq!(at(Missed::Skip), (vec![], 3, next));
        assert_eq!(at(Missed::Once), (vec![3], 2, next));
        assert_eq!(at(Missed::All), (vec![1, 2, 3], 0, next));
    }

    #[test]
    fn a_tick_that_is_on_time_fires_whatever_was_missed_before_it() {
        let at = |missed| {
            let schedule = schedule("@hourly", missed);
            all_of(
                &schedule,
                Timestamp(HOUR_MS),
                Timestamp(6 * HOUR_MS + 1_000),
            )
        };
        let next = Timestamp(7 * HOUR_MS);
        assert_eq!(at(Missed::Skip), (vec![6], 5, next));
        assert_eq!(at(Missed::Once), (vec![6], 5, next));
        assert_eq!(
            at(Missed::All),
            (vec![3, 4, 5, 6], 2, next),
            "at most three are made up for"
        );
    }

    #[test]
    fn before_its_time_a_trigger_does_nothing() {
        let schedule = schedule("@hourly", Missed::All);
        let plan = plan(
            &schedule,
            &PATIENCE,
            Timestamp(HOUR_MS),
            Timestamp(HOUR_MS - 1),
        );
        let waits = Plan {
            passed_over: None,
            fire: None,
            next: Some(Timestamp(HOUR_MS)),
        };
        assert_eq!(plan, waits);
    }

    #[test]
    fn years_of_missed_minutes_are_looked_at_in_bounded_time() {
        let schedule = schedule("* * * * *", Missed::Once);
        let now = Timestamp(10 * 365 * 24 * HOUR_MS);
        let plan = plan(&schedule, &PATIENCE, Timestamp(0), now);
        assert_eq!(plan.fire, Some(now), "the last one");
        let count = plan.passed_over.expect("the rest").count;
        assert!(
            (MOST_COUNTED..=2 * MOST_COUNTED).contains(&count),
            "{count}"
        );
    }

    #[test]
    fn jitter_depends_on_the_name_alone() {
        let late: Vec<i64> = ["a", "b", "c", "d"]
            .map(|name| late_by_ms(name, 600))
            .into();
        assert_eq!(late, ["a", "b", "c", "d"].map(|name| late_by_ms(name, 600)));
        assert!(late.iter().all(|late| (0..=600_000).contains(late)));
        assert!(late.iter().any(|one| *one != late[0]), "they are spread");
        assert_eq!(late_by_ms("a", 0), 0);
        let schedule = Schedule {
            late_by_ms: 600_000,
            ..schedule("@hourly", Missed::Skip)
        };
        let at = |ms| plan(&schedule, &PATIENCE, Timestamp(HOUR_MS), Timestamp(ms)).fire;
        assert_eq!(at(HOUR_MS + 599_999), None);
        assert_eq!(at(HOUR_MS + 600_000), Some(Timestamp(HOUR_MS)));
    }

    proptest! {
        /// However often and whenever it is asked, no tick fires twice or out of order, and none is forgotten.
        #[test]
        fn every_tick_fires_or_is_passed_over_once(
            missed in prop::sample::select(vec![Missed::Skip, Missed::Once, Missed::All]),
            pauses in prop::collection::vec(0i64..400, 1..40),
        ) {
            let schedule = schedule("*/7 * * * *", missed);
            let (mut tick, mut now) = (Timestamp(0), Timestamp(0));
            let (mut fired, mut over) = (Vec::new(), 0);
            for pause in pauses {
                now = now.plus_ms(pause * 10_000);
                let plan = plan(&schedule, &PATIENCE, tick, now);
                over += plan.passed_over.map_or(0, |over| over.count);
                fired.extend(plan.fire);
                tick = plan.next.expect("the calendar goes on");
            }
            prop_assert!(fired.is_sorted_by(|a, b| a < b));
            prop_assert!(fired.iter().all(|at| *at <= now));
            let mut ticks = vec![Timestamp(0)];
            ticks.extend(schedule.cron.next_few(&schedule.zone, Timestamp(0), 3_000));
            let gone = ticks.iter().filter(|at| **at < tick).count() as u64;
            prop_assert_eq!(fired.len() as u64 + over, gone);
        }
    }
}
