//! Gives each task a slot. Tasks are placed one after the other, each where it ends first (the serial scheme: Kolisch 1996);
//! which goes first is tried by several rules, and the best order is then improved by exchanging neighbours.

use std::cmp::Ordering;

use plugin_sdk::host;
use plugin_sdk::info;
use plugin_sdk::schedule::{Instant, Plan, PluginError, Request, Slot, Task, Unplaced, Worker};

const HOUR_MS: f64 = 3_600_000.0;
/// What a task costs that nobody does, in hours late: more than any that is done.
const UNDONE_HOURS: f64 = 1e6;
/// Placing all tasks is done about so many task-times over while an order is improved.
const EFFORT: usize = 20_000;

struct Crew;

impl plugin_sdk::Scheduler for Crew {
    fn arrange(request: Request) -> Result<Plan, PluginError> {
        let mut best: Option<(Vec<usize>, Draft)> = None;
        for order in orders(&request.tasks) {
            let draft = Draft::of(&request, &order);
            if best
                .as_ref()
                .is_none_or(|(_, other)| draft.cost < other.cost)
            {
                best = Some((order, draft));
            }
        }
        let Some((order, draft)) = best else {
            return Err(PluginError::Internal("there is no order".to_owned()));
        };
        let draft = improved(&request, order, draft);
        info!(cost = draft.cost; "{} tasks are placed", draft.plan.slots.len());
        Ok(draft.plan)
    }
}

plugin_sdk::scheduler!(Crew);

/// Orders worth trying: by when they are due, by what being late costs, and by that for each hour of work.
fn orders(tasks: &[Task]) -> [Vec<usize>; 3] {
    let by = |key: fn(&Task) -> f64| {
        let mut order: Vec<usize> = (0..tasks.len()).collect();
        order.sort_by(|a, b| key(&tasks[*a]).total_cmp(&key(&tasks[*b])));
        order
    };
    [
        by(|task| task.due),
        by(|task| -task.cost_per_hour_late),
        by(|task| -task.cost_per_hour_late / task.duration.max(1.0)),
    ]
}

/// Exchanges neighbours in an order as long as that makes the plan cheaper.
fn improved(request: &Request, mut order: Vec<usize>, mut draft: Draft) -> Draft {
    let mut effort = EFFORT;
    let mut at = 1;
    let mut idle = 0;
    while idle < order.len() && effort > order.len() && draft.cost > 0.0 {
        if at >= order.len() {
            at = 1;
            if host::progress(1.0 - effort as f64 / EFFORT as f64, "improving") {
                break;
            }
        }
        order.swap(at - 1, at);
        let other = Draft::of(request, &order);
        if other.cost < draft.cost {
            draft = other;
            idle = 0;
        } else {
            order.swap(at - 1, at);
            idle += 1;
        }
        effort -= order.len();
        at += 1;
    }
    draft
}

/// A plan and what it costs.
struct Draft {
    plan: Plan,
    cost: f64,
}

/// Who and what is occupied, and how far each task has come, while a plan is made.
struct Making<'a> {
    request: &'a Request,
    /// Of each worker, by number.
    busy: Vec<Vec<Span>>,
    /// Of each task that is placed: when, and what it occupies.
    placed: Vec<Option<Span>>,
}

#[derive(Clone, Copy)]
struct Span {
    start: Instant,
    end: Instant,
}

impl Draft {
    fn of(request: &Request, order: &[usize]) -> Self {
        let mut making = Making::begin(request);
        let mut plan = Plan {
            slots: Vec::new(),
            unplaced: Vec::new(),
        };
        let open = |task: &&usize| making.placed[**task].is_none();
        let mut waiting: Vec<usize> = order.iter().filter(open).copied().collect();
        let mut cost = 0.0;
        // Whatever comes before is placed first, whichever order is tried.
        while let Some(next) = waiting
            .iter()
            .position(|task| making.is_next(*task, &waiting))
        {
            let number = waiting.remove(next);
            let task = &request.tasks[number];
            match making.place(number) {
                Ok((worker, span)) => {
                    let late = (span.end - task.due).max(0.0) / HOUR_MS;
                    cost += late * task.cost_per_hour_late;
                    plan.slots.push(Slot {
                        task: task.id.clone(),
                        worker: request.workers[worker].id.clone(),
                        start: span.start,
                    });
                }
                Err(reason) => {
                    cost += UNDONE_HOURS * task.cost_per_hour_late.max(1.0);
                    plan.unplaced.push(Unplaced {
                        task: task.id.clone(),
                        reason,
                    });
                }
            }
        }
        for number in waiting {
            plan.unplaced.push(Unplaced {
                task: request.tasks[number].id.clone(),
                reason: "the tasks before it wait for each other".to_owned(),
            });
        }
        Self { plan, cost }
    }
}

impl<'a> Making<'a> {
    /// With what is agreed.
    fn begin(request: &'a Request) -> Self {
        let mut making = Self {
            busy: vec![Vec::new(); request.workers.len()],
            placed: vec![None; request.tasks.len()],
            request,
        };
        for slot in &request.agreed {
            let task = request.tasks.iter().position(|task| task.id == slot.task);
            let worker = request.workers.iter().position(|one| one.id == slot.worker);
            let Some(task) = task else { continue };
            let span = Span {
                start: slot.start,
                end: slot.start + request.tasks[task].duration,
            };
            making.placed[task] = Some(span);
            if let Some(worker) = worker {
                making.busy[worker].push(span);
            }
        }
        making
    }

    /// Whether nothing that comes before a task is still waiting.
    fn is_next(&self, task: usize, waiting: &[usize]) -> bool {
        let tasks = &self.request.tasks;
        let waits = |id: &String| waiting.iter().any(|other| tasks[*other].id == *id);
        !tasks[task].after.iter().any(waits)
    }

    /// Places a task where it ends first, with whoever is good for least else; who and when, or why not.
    fn place(&mut self, number: usize) -> Result<(usize, Span), String> {
        let task = &self.request.tasks[number];
        let mut earliest = task.earliest.max(host::now());
        for before in &task.after {
            let tasks = self.request.tasks.iter();
            let known = tasks.zip(&self.placed).find(|(one, _)| one.id == *before);
            match known {
                Some((_, Some(span))) => earliest = earliest.max(span.end),
                _ => return Err(format!("`{before}` is not done before")),
            }
        }
        let able: Vec<usize> = (0..self.request.workers.len())
            .filter(|worker| is_able(&self.request.workers[*worker], task))
            .collect();
        if able.is_empty() {
            return Err(format!("nobody can do all of: {}", task.skills.join(", ")));
        }
        let found = able.into_iter().filter_map(|worker| {
            let span = self.first_span(worker, task, earliest)?;
            Some((worker, span))
        });
        let sooner = |a: &(usize, Span), b: &(usize, Span)| {
            let skills = |worker: usize| self.request.workers[worker].skills.len();
            match a.1.end.total_cmp(&b.1.end) {
                Ordering::Equal => skills(a.0).cmp(&skills(b.0)),
                other => other,
            }
        };
        let (worker, span) = found
            .min_by(sooner)
            .ok_or_else(|| "nobody who could has the time".to_owned())?;
        self.busy[worker].push(span);
        self.placed[number] = Some(span);
        Ok((worker, span))
    }

    /// The first span of a worker's calendar in which neither they nor what the task occupies is taken.
    fn first_span(&self, worker: usize, task: &Task, earliest: Instant) -> Option<Span> {
        for free in &self.request.workers[worker].calendar {
            let mut start = free.start.max(earliest);
            while start + task.duration <= free.end {
                let span = Span {
                    start,
                    end: start + task.duration,
                };
                match self.in_the_way(worker, task, span) {
                    None => return Some(span),
                    // What takes no time is in nobody's way for long.
                    Some(end) if end > start => start = end,
                    Some(_) => break,
                }
            }
        }
        None
    }

    /// When the first of what is in the way of a span is over.
    fn in_the_way(&self, worker: usize, task: &Task, span: Span) -> Option<Instant> {
        let meets = |other: &&Span| other.start < span.end && span.start < other.end;
        let shares = |other: &Task| {
            task.occupies
                .iter()
                .any(|asset| other.occupies.contains(asset))
        };
        let tasks = self.request.tasks.iter().zip(&self.placed);
        let occupied = tasks.filter(|(other, _)| shares(other));
        let occupied = occupied.filter_map(|(_, placed)| placed.as_ref());
        let all = self.busy[worker].iter().chain(occupied);
        all.filter(meets).map(|other| other.end).reduce(f64::min)
    }
}

fn is_able(worker: &Worker, task: &Task) -> bool {
    task.skills
        .iter()
        .all(|skill| worker.skills.contains(skill))
}
