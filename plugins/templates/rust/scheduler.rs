//! Says who does what when, greedily: each task as early as can be, by the first worker who can begin it then.
//!
//! Begin with `earliest`, which finds one task its place; `arrange` decides which task is next. The contract's types and
//! their units are in `wit/deps/forewright-plugin/scheduler.wit`.

use std::collections::HashMap;

use plugin_sdk::schedule::{Instant, Plan, PluginError, Request, Slot, Task, Unplaced, Worker};
use plugin_sdk::{info, now};

struct Greedy;

impl plugin_sdk::Scheduler for Greedy {
    fn arrange(request: Request) -> Result<Plan, PluginError> {
        info!(
            "arranges {} tasks for {} workers",
            request.tasks.len(),
            request.workers.len()
        );
        let mut taken = Taken::new(&request);
        let mut slots = Vec::new();
        let mut open: Vec<&Task> = request
            .tasks
            .iter()
            .filter(|task| !taken.ends.contains_key(task.id.as_str()))
            .collect();
        loop {
            let before = open.len();
            // Placing a task may open the way for one that comes earlier in the list: hence the passes.
            open.retain(|task| {
                let Some((worker, start)) = taken.earliest(task, &request.workers) else {
                    return true;
                };
                taken.take(task, &worker.id, start);
                slots.push(Slot {
                    task: task.id.clone(),
                    worker: worker.id.clone(),
                    start,
                });
                false
            });
            if open.len() == before {
                break;
            }
        }
        let why = |task: &&Task| Unplaced {
            task: task.id.clone(),
            reason: taken.why_not(task, &request.workers),
        };
        let unplaced = open.iter().map(why).collect();
        Ok(Plan { slots, unplaced })
    }
}

plugin_sdk::scheduler!(Greedy);

/// A stretch of time that a task takes, from its start to its end.
type Stretch = (Instant, Instant);

/// What is placed or agreed.
#[derive(Default)]
struct Taken<'a> {
    /// When each task ends.
    ends: HashMap<&'a str, Instant>,
    workers: HashMap<&'a str, Vec<Stretch>>,
    /// Assets that are out of use.
    assets: HashMap<&'a str, Vec<Stretch>>,
}

impl<'a> Taken<'a> {
    fn new(request: &'a Request) -> Self {
        let tasks: HashMap<&str, &Task> = request
            .tasks
            .iter()
            .map(|task| (task.id.as_str(), task))
            .collect();
        let mut taken = Self::default();
        for slot in &request.agreed {
            if let Some(task) = tasks.get(slot.task.as_str()) {
                taken.take(task, &slot.worker, slot.start);
            }
        }
        taken
    }

    fn take(&mut self, task: &'a Task, worker: &'a str, start: Instant) {
        let stretch = (start, start + task.duration);
        self.ends.insert(&task.id, stretch.1);
        self.workers.entry(worker).or_default().push(stretch);
        for asset in &task.occupies {
            self.assets.entry(asset).or_default().push(stretch);
        }
    }

    /// Who can begin a task first, and when.
    fn earliest<'w>(&self, task: &Task, workers: &'w [Worker]) -> Option<(&'w Worker, Instant)> {
        if task.duration.is_nan() || task.duration < 0.0 {
            return None;
        }
        let mut ready = now().max(task.earliest);
        for before in &task.after {
            ready = ready.max(*self.ends.get(before.as_str())?);
        }
        let mut best: Option<(&Worker, Instant)> = None;
        for worker in workers.iter().filter(|worker| has_skills(worker, task)) {
            let Some(start) = self.first_fit(task, worker, ready) else {
                continue;
            };
            if best.is_none_or(|(_, earliest)| start < earliest) {
                best = Some((worker, start));
            }
        }
        best
    }

    /// When a worker can begin a task, not before `ready`: at once, or when something ends that is in the way.
    fn first_fit(&self, task: &Task, worker: &Worker, ready: Instant) -> Option<Instant> {
        let own = self.workers.get(worker.id.as_str()).into_iter();
        let shared = task
            .occupies
            .iter()
            .filter_map(|asset| self.assets.get(asset.as_str()));
        let mut busy: Vec<Stretch> = own.chain(shared).flatten().copied().collect();
        busy.sort_by(|a, b| a.0.total_cmp(&b.0));
        worker.calendar.iter().find_map(|span| {
            let mut start = ready.max(span.start);
            for &(from, to) in &busy {
                if from < start + task.duration && start < to {
                    start = to;
                }
            }
            (start + task.duration <= span.end).then_some(start)
        })
    }

    fn why_not(&self, task: &Task, workers: &[Worker]) -> String {
        if !workers.iter().any(|worker| has_skills(worker, task)) {
            "nobody has the skills"
        } else if task
            .after
            .iter()
            .any(|before| !self.ends.contains_key(before.as_str()))
        {
            "what comes before it is not placed"
        } else {
            "no time is left in any calendar"
        }
        .to_owned()
    }
}

fn has_skills(worker: &Worker, task: &Task) -> bool {
    task.skills
        .iter()
        .all(|skill| worker.skills.contains(skill))
}
