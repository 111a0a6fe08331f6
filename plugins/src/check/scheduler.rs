//! What a scheduler meets; every plan is held against the rules, so one that cannot be carried out fails.

use super::kit::Case;
use super::samples::{NOW_MS, STRANGE};
use crate::call::Request;
use crate::v1::schedule::{self, Slot, Span, Task, Worker};

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: f64 = 24.0 * HOUR_MS;

pub(super) fn cases() -> Vec<Case> {
    let crew = || vec![worker("ann", &["fans"]), worker("bob", &["fans", "disks"])];
    let of = |tasks: Vec<Task>, workers: Vec<Worker>| {
        Request::Schedule(schedule::Request {
            tasks,
            workers,
            agreed: Vec::new(),
        })
    };
    let one = |task: Task| of(vec![task], crew());
    let alone = |worker: Worker| of(tasks(3), vec![worker]);
    let after = |task: Task, before: &[&str]| Task {
        after: owned(before),
        ..task
    };
    let on = |task: Task, assets: &[&str]| Task {
        occupies: owned(assets),
        ..task
    };
    vec![
        Case::new("plain", "ten tasks and two people", of(tasks(10), crew())),
        Case::new("no tasks", "an empty plan", of(Vec::new(), crew())),
        Case::new("nobody", "nothing can be placed", of(tasks(3), Vec::new())),
        Case::new("neither", "an empty plan", of(Vec::new(), Vec::new())),
        Case::new("one task", "the least there is to do", one(task("t"))),
        Case::new(
            "five hundred tasks",
            "more than fit",
            of(tasks(500), crew()),
        ),
        Case::new(
            "a hundred people",
            "more than there is to do",
            of(tasks(10), people(100)),
        ),
        Case::new(
            "nobody can",
            "a skill that nobody has",
            one(Task {
                skills: owned(&["welding"]),
                ..task("t")
            }),
        ),
        Case::new(
            "anybody can",
            "a task without a skill",
            one(Task {
                skills: Vec::new(),
                ..task("t")
            }),
        ),
        Case::new(
            "all skills in one person",
            "skills of two do not add up",
            one(Task {
                skills: owned(&["fans", "disks"]),
                ..task("t")
            }),
        ),
        Case::new(
            "nobody works",
            "calendars may be empty",
            alone(Worker {
                calendar: Vec::new(),
                ..worker("ann", &["fans"])
            }),
        ),
        Case::new(
            "a moment of work",
            "a span without length",
            alone(calendar(&[(0.0, 0.0)])),
        ),
        Case::new(
            "too short a day",
            "a task is done in one go",
            alone(calendar(&[(0.0, 0.5), (1.0, 1.5), (2.0, 2.5)])),
        ),
        Case::new(
            "exactly enough",
            "a task may fill a span",
            alone(calendar(&[(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)])),
        ),
        Case::new(
            "a chain",
            "each after the one before",
            of(chain(10), crew()),
        ),
        Case::new(
            "a circle",
            "none can be first",
            of(
                vec![after(task("a"), &["b"]), after(task("b"), &["a"])],
                crew(),
            ),
        ),
        Case::new(
            "after itself",
            "none can be first",
            one(after(task("t"), &["t"])),
        ),
        Case::new(
            "after what is not there",
            "a mistake upstream",
            one(after(task("t"), &["x"])),
        ),
        Case::new(
            "after what cannot be placed",
            "then it cannot either",
            of(
                vec![
                    Task {
                        skills: owned(&["welding"]),
                        ..task("a")
                    },
                    after(task("b"), &["a"]),
                ],
                crew(),
            ),
        ),
        Case::new(
            "on the same asset",
            "one after the other",
            of(
                vec![on(task("a"), &["rack"]), on(task("b"), &["rack"])],
                crew(),
            ),
        ),
        Case::new(
            "on assets in a ring",
            "each shares one with the next",
            of(
                vec![
                    on(task("a"), &["x", "y"]),
                    on(task("b"), &["y", "z"]),
                    on(task("c"), &["z", "x"]),
                ],
                crew(),
            ),
        ),
        Case::new(
            "no duration",
            "a moment is enough",
            one(Task {
                duration: 0.0,
                ..task("t")
            }),
        ),
        Case::new(
            "longer than any day",
            "no span is long enough",
            one(Task {
                duration: 1e6 * DAY_MS,
                ..task("t")
            }),
        ),
        Case::new(
            "due before it may begin",
            "late whatever is done",
            one(Task {
                due: NOW_MS - DAY_MS,
                ..task("t")
            }),
        ),
        Case::new(
            "not before everybody went",
            "no span is late enough",
            one(Task {
                earliest: NOW_MS + 1e3 * DAY_MS,
                ..task("t")
            }),
        ),
        Case::new(
            "lateness costs nothing",
            "it may be as late as it likes",
            one(Task {
                cost_per_hour_late: 0.0,
                ..task("t")
            }),
        ),
        Case::new(
            "lateness costs everything",
            "numbers have no end",
            one(Task {
                cost_per_hour_late: f64::MAX,
                ..task("t")
            }),
        ),
        Case::new("agreed already", "it stays where it is", agreed(0.0)),
        Case::new(
            "agreed outside the calendar",
            "it stays where it is",
            agreed(100.0),
        ),
        Case::new("agreed in the past", "it stays where it is", agreed(-100.0)),
        Case::new(
            "a strange name",
            "names are any text",
            of(vec![task(STRANGE)], vec![worker(STRANGE, &["fans"])]),
        ),
        Case::new(
            "an empty name",
            "names are any text",
            of(vec![task("")], vec![worker("", &["fans"])]),
        ),
    ]
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// An hour on fans, from now on.
fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        duration: HOUR_MS,
        skills: owned(&["fans"]),
        after: Vec::new(),
        earliest: NOW_MS,
        due: NOW_MS + DAY_MS,
        cost_per_hour_late: 50.0,
        occupies: vec![format!("asset of {id}")],
    }
}

fn tasks(count: usize) -> Vec<Task> {
    (0..count).map(|n| task(&format!("t{n:03}"))).collect()
}

fn chain(count: usize) -> Vec<Task> {
    let mut tasks = tasks(count);
    let ids: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    for (task, before) in tasks.iter_mut().skip(1).zip(ids) {
        task.after = vec![before];
    }
    tasks
}

/// Eight hours a day for a week.
fn worker(id: &str, skills: &[&str]) -> Worker {
    let day = |n: u32| {
        let start = NOW_MS + f64::from(n) * DAY_MS;
        Span {
            start,
            end: start + 8.0 * HOUR_MS,
        }
    };
    Worker {
        id: id.to_owned(),
        skills: owned(skills),
        calendar: (0..7).map(day).collect(),
    }
}

fn people(count: usize) -> Vec<Worker> {
    (0..count)
        .map(|n| worker(&format!("w{n:02}"), &["fans"]))
        .collect()
}

/// Somebody who works from one hour to another.
fn calendar(hours: &[(f64, f64)]) -> Worker {
    let span = |&(from, to): &(f64, f64)| Span {
        start: NOW_MS + from * HOUR_MS,
        end: NOW_MS + to * HOUR_MS,
    };
    Worker {
        calendar: hours.iter().map(span).collect(),
        ..worker("ann", &["fans"])
    }
}

/// One of three tasks is agreed, so many hours from now.
fn agreed(hours: f64) -> Request {
    let slot = Slot {
        task: "t000".to_owned(),
        worker: "ann".to_owned(),
        start: NOW_MS + hours * HOUR_MS,
    };
    Request::Schedule(schedule::Request {
        tasks: tasks(3),
        workers: vec![worker("ann", &["fans"])],
        agreed: vec![slot],
    })
}
