//! What an answer of a scheduler has to hold to: a plan that can be carried out.

use std::collections::BTreeMap;

use super::bindings::schedule::{Plan, Request, Slot, Task, Worker};
use super::judge::{Judgement, finite};

pub(crate) fn judge(request: &Request, plan: &Plan, now: f64) -> Judgement {
    let tasks: BTreeMap<&str, &Task> = request
        .tasks
        .iter()
        .map(|task| (task.id.as_str(), task))
        .collect();
    let workers: BTreeMap<&str, &Worker> = request
        .workers
        .iter()
        .map(|worker| (worker.id.as_str(), worker))
        .collect();
    every_task_once(request, plan, &tasks)?;
    let mut placed: Vec<Placed> = Vec::new();
    for slot in &plan.slots {
        placed.push(place(slot, &tasks, &workers, now)?);
    }
    // What was agreed is taken as it is, and in the way of what is planned.
    let own = placed.len();
    for slot in &request.agreed {
        if let Some(task) = tasks.get(slot.task.as_str()) {
            placed.push(Placed {
                slot,
                task,
                end: slot.start + task.duration,
            });
        }
    }
    let ends: BTreeMap<&str, f64> = placed
        .iter()
        .map(|one| (one.task.id.as_str(), one.end))
        .collect();
    for one in &placed[..own] {
        follows(one, &ends)?;
    }
    no_overlaps(&placed, own)
}

struct Placed<'a> {
    slot: &'a Slot,
    task: &'a Task,
    end: f64,
}

fn every_task_once(request: &Request, plan: &Plan, tasks: &BTreeMap<&str, &Task>) -> Judgement {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let told = plan.slots.iter().map(|slot| &slot.task);
    let told = told.chain(plan.unplaced.iter().map(|one| &one.task));
    for task in told.chain(request.agreed.iter().map(|slot| &slot.task)) {
        *seen.entry(task).or_default() += 1;
    }
    if let Some(unknown) = seen.keys().find(|task| !tasks.contains_key(**task)) {
        return Err(format!("there is no task `{unknown}`"));
    }
    match tasks.keys().find(|task| seen.get(**task) != Some(&1)) {
        Some(task) => {
            let times = seen.get(task).copied().unwrap_or(0);
            Err(format!(
                "task `{task}` is told {times} times, agreed slots included; once is right"
            ))
        }
        None => Ok(()),
    }
}

fn place<'a>(
    slot: &'a Slot,
    tasks: &BTreeMap<&str, &'a Task>,
    workers: &BTreeMap<&str, &Worker>,
    now: f64,
) -> Result<Placed<'a>, String> {
    let task = tasks
        .get(slot.task.as_str())
        .copied()
        .ok_or("there is no such task")?;
    let name = &task.id;
    finite(&format!("the start of `{name}`"), slot.start)?;
    let worker = workers.get(slot.worker.as_str());
    let worker = worker
        .ok_or_else(|| format!("`{name}` is given to `{}`, who does not exist", slot.worker))?;
    if let Some(skill) = task
        .skills
        .iter()
        .find(|skill| !worker.skills.contains(skill))
    {
        return Err(format!(
            "`{name}` needs `{skill}`, which `{}` cannot",
            worker.id
        ));
    }
    if slot.start < task.earliest || slot.start < now {
        return Err(format!(
            "`{name}` starts before its earliest moment, or in the past"
        ));
    }
    let end = slot.start + task.duration;
    let works = worker
        .calendar
        .iter()
        .any(|span| span.start <= slot.start && end <= span.end);
    if !works {
        return Err(format!(
            "`{name}` is not within one span of the calendar of `{}`",
            worker.id
        ));
    }
    Ok(Placed { slot, task, end })
}

fn follows(one: &Placed, ends: &BTreeMap<&str, f64>) -> Judgement {
    for before in &one.task.after {
        match ends.get(before.as_str()) {
            Some(end) if *end <= one.slot.start => {}
            Some(_) => {
                return Err(format!(
                    "`{}` starts before `{before}` is done",
                    one.task.id
                ));
            }
            None => {
                return Err(format!(
                    "`{}` is placed, and `{before}`, which comes before, is not",
                    one.task.id
                ));
            }
        }
    }
    Ok(())
}

/// No two tasks of one worker, or on one asset, at the same time; those agreed may overlap among themselves.
fn no_overlaps(placed: &[Placed], own: usize) -> Judgement {
    let mut taken: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (at, one) in placed.iter().enumerate() {
        taken
            .entry(("worker", &one.slot.worker))
            .or_default()
            .push(at);
        for asset in &one.task.occupies {
            taken.entry(("asset", asset)).or_default().push(at);
        }
    }
    for ((what, name), mut held) in taken {
        // At the same moment the one that is over first comes first: one of no length is in nobody's way.
        held.sort_by(|&a, &b| {
            let (a, b) = (&placed[a], &placed[b]);
            a.slot
                .start
                .total_cmp(&b.slot.start)
                .then(a.end.total_cmp(&b.end))
        });
        // The one that ends last so far is the one a later start would run into.
        let mut last: Option<usize> = None;
        for at in held {
            let one = &placed[at];
            if let Some(before) = last {
                let both_agreed = at >= own && before >= own;
                if !both_agreed && one.slot.start < placed[before].end {
                    let (first, second) = (&placed[before].task.id, &one.task.id);
                    return Err(format!(
                        "`{first}` and `{second}` overlap on {what} `{name}`"
                    ));
                }
            }
            if last.is_none_or(|before| placed[before].end < one.end) {
                last = Some(at);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::schedule::{Span, Unplaced};

    fn task(id: &str, after: &[&str], occupies: &[&str]) -> Task {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Task {
            id: id.to_owned(),
            duration: 10.0,
            skills: vec!["fans".to_owned()],
            after: owned(after),
            earliest: 5.0,
            due: 100.0,
            cost_per_hour_late: 1.0,
            occupies: owned(occupies),
        }
    }

    fn worker(id: &str, skills: &[&str]) -> Worker {
        let calendar = vec![
            Span {
                start: 0.0,
                end: 50.0,
            },
            Span {
                start: 60.0,
                end: 100.0,
            },
        ];
        Worker {
            id: id.to_owned(),
            skills: skills.iter().map(|&skill| skill.to_owned()).collect(),
            calendar,
        }
    }

    fn slot(task: &str, worker: &str, start: f64) -> Slot {
        Slot {
            task: task.to_owned(),
            worker: worker.to_owned(),
            start,
        }
    }

    fn request() -> Request {
        Request {
            tasks: vec![
                task("a", &[], &["rack"]),
                task("b", &["a"], &[]),
                task("c", &[], &["rack"]),
            ],
            workers: vec![
                worker("ann", &["fans"]),
                worker("bob", &["fans"]),
                worker("cid", &["disks"]),
            ],
            agreed: vec![],
        }
    }

    fn told(slots: &[Slot], unplaced: &[&str]) -> Judgement {
        let unplaced = unplaced
            .iter()
            .map(|&task| Unplaced {
                task: task.to_owned(),
                reason: "full".to_owned(),
            })
            .collect();
        judge(
            &request(),
            &Plan {
                slots: slots.to_vec(),
                unplaced,
            },
            0.0,
        )
    }

    #[test]
    fn a_plan_that_can_be_carried_out_is_taken() {
        let slots = [
            slot("a", "ann", 5.0),
            slot("b", "bob", 15.0),
            slot("c", "ann", 20.0),
        ];
        assert_eq!(told(&slots, &[]), Ok(()));
        assert_eq!(told(&slots[..2], &["c"]), Ok(()));
        assert_eq!(told(&[], &["a", "b", "c"]), Ok(()));
    }

    #[test]
    fn a_plan_that_cannot_is_refused_with_its_reason() {
        let a = || slot("a", "ann", 5.0);
        let cases: [(&[Slot], &[&str], &str); 11] = [
            (&[a()], &["c"], "`b` is told 0 times"),
            (&[a()], &["a", "b", "c"], "`a` is told 2 times"),
            (&[slot("x", "ann", 5.0)], &["a", "b", "c"], "no task `x`"),
            (&[slot("a", "dan", 5.0)], &["b", "c"], "who does not exist"),
            (&[slot("a", "cid", 5.0)], &["b", "c"], "which `cid` cannot"),
            (&[slot("a", "ann", 4.0)], &["b", "c"], "earliest"),
            (&[slot("a", "ann", 45.0)], &["b", "c"], "calendar"),
            (&[slot("a", "ann", f64::NAN)], &["b", "c"], "NaN"),
            (&[a(), slot("b", "bob", 14.0)], &["c"], "before `a` is done"),
            (
                &[slot("b", "bob", 14.0)],
                &["a", "c"],
                "which comes before, is not",
            ),
            (
                &[a(), slot("c", "bob", 14.0)],
                &["b"],
                "overlap on asset `rack`",
            ),
        ];
        for (slots, unplaced, said) in cases {
            let why = told(slots, unplaced).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
        let why = told(&[a(), slot("c", "ann", 6.0)], &["b"]).unwrap_err();
        assert!(why.contains("overlap"), "{why}");
    }

    #[test]
    fn what_is_agreed_stands_in_the_way_and_counts_as_done() {
        let agreed = Request {
            agreed: vec![slot("a", "ann", 5.0)],
            ..request()
        };
        let plan = |slots: &[Slot]| {
            let unplaced = vec![Unplaced {
                task: "c".to_owned(),
                reason: "full".to_owned(),
            }];
            judge(
                &agreed,
                &Plan {
                    slots: slots.to_vec(),
                    unplaced,
                },
                0.0,
            )
        };
        assert_eq!(plan(&[slot("b", "bob", 15.0)]), Ok(()));
        assert!(plan(&[slot("b", "ann", 10.0)]).is_err());
        assert!(
            plan(&[slot("a", "ann", 5.0), slot("b", "bob", 15.0)]).is_err(),
            "told again"
        );
    }
}
