//! Gives each task a slot. Tasks are placed one after the other, each where it ends first (the serial scheme: Kolisch 1996);
//! which goes first is tried by several rules, and the best order is then improved by exchanging neighbours.
//!
//! In reading order: here orders are tried; [`shop`] knows who can do what after what, [`diary`] what is taken.

use std::cmp::Ordering;

use plugin_sdk::host;
use plugin_sdk::info;
use plugin_sdk::schedule::{Instant, Plan, PluginError, Request, Slot, Task, Unplaced};

const HOUR_MS: f64 = 3_600_000.0;
/// What a task costs that nobody does, in hours late: more than any that is done.
const UNDONE_HOURS: f64 = 1e6;
/// Placing all tasks is done about so many task-times over while an order is improved.
const EFFORT: usize = 20_000;

pub mod diary;
pub mod shop;

use diary::{Diary, Span};
use shop::Shop;

struct Crew;

impl plugin_sdk::Scheduler for Crew {
    fn arrange(request: Request) -> Result<Plan, PluginError> {
        let shop = Shop::of(&request);
        let mut best: Option<(Vec<usize>, Draft)> = None;
        for order in orders(&request.tasks) {
            let draft = Draft::of(&shop, &order);
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
        let draft = improved(&shop, order, draft);
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
fn improved(shop: &Shop<'_>, mut order: Vec<usize>, mut draft: Draft) -> Draft {
    let (mut effort, mut at, mut idle) = (EFFORT, 1, 0);
    // Of one there are no neighbours.
    while order.len() > 1 && idle < order.len() && effort > order.len() && draft.cost > 0.0 {
        if at >= order.len() {
            at = 1;
        }
        if host::progress(1.0 - effort as f64 / EFFORT as f64, "improving") {
            break;
        }
        order.swap(at - 1, at);
        let other = Draft::of(shop, &order);
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

impl Draft {
    fn of(shop: &Shop<'_>, order: &[usize]) -> Self {
        let tasks = &shop.request.tasks;
        let mut making = Making::begin(shop);
        let mut plan = Plan {
            slots: Vec::new(),
            unplaced: Vec::new(),
        };
        let open = |task: &&usize| !making.seen[**task];
        let mut waiting: Vec<usize> = order.iter().filter(open).copied().collect();
        let mut cost = 0.0;
        // Whatever comes before is placed first, whichever order is tried.
        while let Some(next) = waiting.iter().position(|task| making.is_next(*task)) {
            let number = waiting.remove(next);
            let task = &tasks[number];
            making.seen[number] = true;
            match making.place(number) {
                Ok((worker, span)) => {
                    let late = (span.end - task.due).max(0.0) / HOUR_MS;
                    cost += late * task.cost_per_hour_late;
                    plan.slots.push(Slot {
                        task: task.id.clone(),
                        worker: shop.request.workers[worker].id.clone(),
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
                task: tasks[number].id.clone(),
                reason: "the tasks before it wait for each other".to_owned(),
            });
        }
        Self { plan, cost }
    }
}

/// A plan in the making.
struct Making<'a> {
    shop: &'a Shop<'a>,
    workers: Vec<Diary>,
    assets: Vec<Diary>,
    /// Of each task, when it is done.
    placed: Vec<Option<Span>>,
    /// Whether it is known of a task what becomes of it.
    seen: Vec<bool>,
}

impl<'a> Making<'a> {
    /// With what is agreed.
    fn begin(shop: &'a Shop<'a>) -> Self {
        let request = shop.request;
        let mut making = Self {
            shop,
            workers: vec![Diary::default(); request.workers.len()],
            assets: vec![Diary::default(); shop.assets],
            placed: vec![None; request.tasks.len()],
            seen: vec![false; request.tasks.len()],
        };
        for (task, worker, start) in &shop.agreed {
            let span = Span {
                start: *start,
                end: start + request.tasks[*task].duration,
            };
            making.seen[*task] = true;
            making.take(*task, *worker, span);
        }
        making
    }

    fn take(&mut self, task: usize, worker: Option<usize>, span: Span) {
        self.placed[task] = Some(span);
        if let Some(worker) = worker {
            self.workers[worker].take(span);
        }
        for asset in &self.shop.tasks[task].occupies {
            self.assets[*asset].take(span);
        }
    }

    /// Whether nothing that comes before a task is still waiting.
    fn is_next(&self, task: usize) -> bool {
        let mut before = self.shop.tasks[task].before.iter().flatten();
        before.all(|before| self.seen[*before])
    }

    /// Places a task where it ends first, with whoever is good for least else; who and when, or why not.
    fn place(&mut self, number: usize) -> Result<(usize, Span), String> {
        let request = self.shop.request;
        let (task, known) = (&request.tasks[number], &self.shop.tasks[number]);
        let mut earliest = task.earliest.max(self.shop.now);
        for (id, before) in task.after.iter().zip(&known.before) {
            match before.and_then(|before| self.placed[before]) {
                Some(span) => earliest = earliest.max(span.end),
                None => return Err(format!("`{id}` is not done before")),
            }
        }
        if known.able.is_empty() {
            return Err(format!("nobody can do all of: {}", task.skills.join(", ")));
        }
        let found = known.able.iter().filter_map(|worker| {
            let span = self.first_span(*worker, number, earliest)?;
            Some((*worker, span))
        });
        let sooner = |a: &(usize, Span), b: &(usize, Span)| {
            let skills = |worker: usize| request.workers[worker].skills.len();
            match a.1.end.total_cmp(&b.1.end) {
                Ordering::Equal => skills(a.0).cmp(&skills(b.0)),
                other => other,
            }
        };
        let (worker, span) = found
            .min_by(sooner)
            .ok_or_else(|| "nobody who could has the time".to_owned())?;
        self.take(number, Some(worker), span);
        Ok((worker, span))
    }

    /// The first span of a worker's calendar in which neither they nor what the task occupies is taken.
    fn first_span(&self, worker: usize, task: usize, earliest: Instant) -> Option<Span> {
        let request = self.shop.request;
        let duration = request.tasks[task].duration;
        for free in &request.workers[worker].calendar {
            let mut start = free.start.max(earliest);
            loop {
                let assets = self.shop.tasks[task].occupies.iter();
                let diaries = assets.map(|asset| &self.assets[*asset]);
                let all = diaries.chain([&self.workers[worker]]);
                let later = all.fold(start, |start, diary| diary.first(start, duration));
                if later == start {
                    break;
                }
                start = later;
            }
            let end = start + duration;
            if end <= free.end {
                return Some(Span { start, end });
            }
        }
        None
    }
}
