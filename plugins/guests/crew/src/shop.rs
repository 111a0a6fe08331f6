//! What is known of a request before anything is placed: who can do what, what comes before what, what is occupied.

use std::collections::HashMap;

use plugin_sdk::host;
use plugin_sdk::schedule::{Instant, Request};

/// A request, with numbers in the place of names.
#[derive(Debug)]
pub struct Shop<'a> {
    /// As it was asked.
    pub request: &'a Request,
    /// The moment of the call; nothing begins before it.
    pub now: Instant,
    /// What is known of each task.
    pub tasks: Vec<Known>,
    /// How many assets there are.
    pub assets: usize,
    /// Tasks that are placed already: by whom, if they are somebody we know, and when.
    pub agreed: Vec<(usize, Option<usize>, Instant)>,
}

/// What is known of a task.
#[derive(Debug)]
pub struct Known {
    /// The tasks before it; none for one that is not there.
    pub before: Vec<Option<usize>>,
    /// Those who can do it.
    pub able: Vec<usize>,
    /// What cannot be used meanwhile.
    pub occupies: Vec<usize>,
}

impl<'a> Shop<'a> {
    /// What is known of a request.
    #[must_use]
    pub fn of(request: &'a Request) -> Self {
        let numbers = |ids: Vec<&'a str>| -> HashMap<&'a str, usize> {
            ids.into_iter().enumerate().map(|(n, id)| (id, n)).collect()
        };
        let tasks = numbers(request.tasks.iter().map(|task| task.id.as_str()).collect());
        let workers = numbers(request.workers.iter().map(|one| one.id.as_str()).collect());
        let mut assets: HashMap<&str, usize> = HashMap::new();
        let mut known = Vec::with_capacity(request.tasks.len());
        for task in &request.tasks {
            let can = |worker: &usize| {
                let skills = &request.workers[*worker].skills;
                task.skills.iter().all(|skill| skills.contains(skill))
            };
            let mut occupies = Vec::with_capacity(task.occupies.len());
            for asset in &task.occupies {
                let next = assets.len();
                occupies.push(*assets.entry(asset).or_insert(next));
            }
            known.push(Known {
                before: task
                    .after
                    .iter()
                    .map(|id| tasks.get(id.as_str()).copied())
                    .collect(),
                able: (0..request.workers.len()).filter(can).collect(),
                occupies,
            });
        }
        let agreed = request.agreed.iter().filter_map(|slot| {
            let task = *tasks.get(slot.task.as_str())?;
            Some((task, workers.get(slot.worker.as_str()).copied(), slot.start))
        });
        Self {
            now: host::now(),
            agreed: agreed.collect(),
            assets: assets.len(),
            tasks: known,
            request,
        }
    }
}
