//! Where long replays go on, so that they hold up no short ones.
//!
//! A process has few hands for runs, and most replays are over in milliseconds. One that is not leaves its hand to
//! the next run and goes on here. There are few places here too; who finds none comes back later. The next run of its
//! workflow begins here, until one is over quickly. So does the next of a workflow that came to a limit, however
//! quickly: that it does so again costs as much as a run that comes to something.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::host::short_work::ShortWork;
use crate::store::runs::run;

/// How long a replay may keep a hand: several times what most take, and little to those who wait.
pub(super) const QUICK: Duration = Duration::from_millis(20);

/// Runs and workflows remembered at most; who is forgotten is found out again.
const REMEMBERED: usize = 10_000;

/// The places of long replays, and the runs and workflows whose last replay was one or came to a limit.
#[derive(Clone)]
pub(super) struct LongLane {
    /// What those in it let pass.
    pub(super) short: ShortWork,
    places: Arc<Semaphore>,
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl Default for LongLane {
    /// Half of the cores, at least one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            short: ShortWork::default(),
            places: Arc::new(Semaphore::new((cores / 2).max(1))),
            known: Arc::default(),
        }
    }
}

impl LongLane {
    /// A place until it is dropped, if there is one.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Whether the last replay of a run, or of its workflow, took long or came to a limit.
    pub(super) fn knows(&self, run: &run::Model) -> bool {
        let known = self.known();
        known.contains(&run.id) || known.contains(&run.workflow)
    }

    pub(super) fn remember(&self, run: &run::Model) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(run.id.clone());
        known.insert(run.workflow.clone());
    }

    /// It came to a limit and is over; the next run of its workflow may do the same.
    pub(super) fn beware(&self, run: &run::Model) {
        self.remember(run);
        self.leave(run);
    }

    /// Its last replay was quick.
    pub(super) fn forget(&self, run: &run::Model) {
        let mut known = self.known();
        known.remove(&run.id);
        known.remove(&run.workflow);
    }

    /// It is not replayed again.
    pub(super) fn leave(&self, run: &run::Model) {
        self.known().remove(&run.id);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jobs::workers::tests::{context, ended, result, work_with};
    use crate::store::runs;
    use crate::testing::{Fresh, on_both};

    on_both!(
        a_long_replay_leaves_its_hand_to_the_next_run,
        a_workflow_that_came_to_a_limit_gives_way_next_time
    );

    async fn a_long_replay_leaves_its_hand_to_the_next_run(f: Fresh) {
        let mut context = context(&f);
        context.hands.insert("runs".to_owned(), 1);
        let lane = context.long.clone();
        let working = work_with(context);
        let mut long = Vec::new();
        let endless = "fn run(event) { let a = [1, 2, 3]; while a == a { } }";
        for _ in 0..2 {
            long.push(f.start(endless, Value::Null).await);
        }
        let short = r#"fn run(event) { step("double", #{ n: 4 }).n }"#;
        let id = f.start_of("other", short, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!(8));
        let mut at_work = 0;
        for id in &long {
            let run = runs::get(&f.db.read, id).await.unwrap();
            at_work += u32::from(run.ended_at.is_none());
        }
        assert!(at_work > 0, "what is long did not hold up what is short");
        // The one that found no place comes back when it is time.
        at_last(&f, &long, 1).await;
        f.advance(1_001);
        at_last(&f, &long, 2).await;
        for id in &long {
            let run = runs::get(&f.db.read, id).await.unwrap();
            let failure: Value = serde_json::from_str(&run.failure.unwrap()).unwrap();
            let stopped_by = failure["code"].as_str().unwrap();
            assert!(
                ["limit.operations", "limit.deadline"].contains(&stopped_by),
                "{failure}"
            );
        }
        // Of the workflow that was long the next run begins here, and shows that it is long no more.
        let id = f.start(short, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!(8));
        let run = runs::get(&f.db.read, &id).await.unwrap();
        assert!(!lane.knows(&run));
        working.stop().await;
    }

    async fn a_workflow_that_came_to_a_limit_gives_way_next_time(f: Fresh) {
        let context = context(&f);
        let lane = context.long.clone();
        let working = work_with(context);
        let deep = "fn deep(n) { deep(n + 1) } fn run(event) { deep(0) }";
        let run = ended(&f, &f.start(deep, Value::Null).await).await;
        let failure: Value = serde_json::from_str(&run.failure.clone().unwrap()).unwrap();
        assert_eq!(failure["code"], "limit.depth");
        assert!(lane.knows(&run), "the next of its workflow begins here");
        assert!(!lane.known().contains(&run.id), "it is not replayed again");
        let place = lane.enter().expect("a place");
        let places: Vec<_> = std::iter::from_fn(|| lane.enter()).collect();
        let short = f.start("fn run(event) { 1 }", Value::Null).await;
        let other = f
            .start_of("other", "fn run(event) { 1 }", Value::Null)
            .await;
        ended(&f, &other).await;
        let waiting = runs::get(&f.db.read, &short).await.unwrap();
        assert!(waiting.ended_at.is_none(), "there is no place for it");
        drop((place, places));
        let over = loop {
            f.advance(1_001);
            let run = runs::get(&f.db.read, &short).await.unwrap();
            if run.ended_at.is_some() {
                break run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(result(&over), json!(1));
        assert!(!lane.knows(&over), "it was over quickly, with a result");
        working.stop().await;
    }

    /// Waits until so many are over, as long as it takes: at their priority it may, where other tests are at work.
    async fn at_last(f: &Fresh, ids: &[String], wanted: usize) {
        loop {
            let mut over = 0;
            for id in ids {
                let run = runs::get(&f.db.read, id).await.unwrap();
                over += usize::from(run.ended_at.is_some());
            }
            if over >= wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
