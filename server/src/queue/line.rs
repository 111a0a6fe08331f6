//! The line in which the cells of a process wait for builds: one look for all of them, and one woken per build.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;
use workflows::build::dispatch::{Demand, Waiter, whom_to_wake};
use workflows::build::fit::Capabilities;

use crate::store::StoreError;

/// How often it looks by itself while somebody waits; this covers a lost wake-up.
const SAFETY: Duration = Duration::from_millis(1_000);

/// The pause after each look: what moves within it is looked at together.
const PAUSE: Duration = Duration::from_millis(3);

/// Everybody who waits.
#[derive(Clone)]
pub(super) struct Line(Arc<Inner>);

struct Inner {
    places: Mutex<Places>,
    nudged: watch::Sender<u64>,
}

#[derive(Default)]
struct Places {
    next: u64,
    /// By turn: who waits longest is first.
    by_turn: BTreeMap<u64, Seated>,
}

struct Seated {
    cell: String,
    offer: Arc<Capabilities>,
    on_its_way: bool,
    wake: Arc<Notify>,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Builds that wait.
    pub(super) demands: Vec<Demand>,
    /// Cells that may not take one now: by their rules, or for what lies on their plate.
    pub(super) barred: BTreeSet<String>,
}

/// A cell's place in the line; it leaves with the value.
pub(super) struct Place {
    line: Line,
    turn: u64,
    wake: Arc<Notify>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            places: Mutex::default(),
            nudged: watch::channel(0).0,
        }))
    }

    /// Has it look: a build may wait that did not.
    pub(super) fn nudge(&self) {
        self.0.nudged.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Joins the end. To be called before the first try, so that no build is missed between it and the wait.
    pub(super) fn join(&self, cell: &str, offer: Capabilities) -> Place {
        let wake = Arc::new(Notify::new());
        let seated = Seated {
            cell: cell.to_owned(),
            offer: Arc::new(offer),
            on_its_way: false,
            wake: wake.clone(),
        };
        Place {
            line: self.clone(),
            turn: self.seat(seated),
            wake,
        }
    }

    fn seat(&self, seated: Seated) -> u64 {
        self.with(|places| {
            places.next += 1;
            places.by_turn.insert(places.next, seated);
            places.next
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        change(&mut self.0.places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for ever: whenever it is nudged, and once a second while somebody waits.
    pub(super) async fn run<F>(&self, look: impl Fn() -> F)
    where
        F: Future<Output = Result<Seen, StoreError>>,
    {
        let mut nudged = self.0.nudged.subscribe();
        loop {
            nudged.mark_unchanged();
            if self.with(|places| !places.by_turn.is_empty()) {
                match look().await {
                    Ok(seen) => self.wake(&seen),
                    Err(error) => warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to look for builds that wait"
                    ),
                }
                sleep(PAUSE).await;
            }
            tokio::select! {
                _ = nudged.changed() => {}
                () = sleep(SAFETY) => {}
            }
        }
    }

    fn wake(&self, seen: &Seen) {
        if seen.demands.is_empty() {
            return;
        }
        self.with(|places| {
            let free = |seated: &Seated| !seen.barred.contains(&seated.cell);
            let (turns, waiters): (Vec<u64>, Vec<Waiter<'_>>) = places
                .by_turn
                .iter()
                .filter(|(_, seated)| free(seated))
                .map(|(turn, seated)| {
                    let waiter = Waiter {
                        offer: &seated.offer,
                        on_its_way: seated.on_its_way,
                    };
                    (*turn, waiter)
                })
                .unzip();
            let chosen = whom_to_wake(&seen.demands, &waiters);
            for turn in chosen.into_iter().map(|i| turns[i]) {
                if let Some(seated) = places.by_turn.get_mut(&turn) {
                    seated.on_its_way = true;
                    seated.wake.notify_one();
                }
            }
        });
    }
}

impl Place {
    /// Waits until there may be a build for this cell; `false` once the time is over.
    pub(super) async fn woken(&mut self, deadline: Instant) -> bool {
        timeout_at(deadline, self.wake.notified()).await.is_ok()
    }

    /// Notes that there was no build after all: the cell goes to the end, so that the next look wakes another.
    pub(super) fn settle(&mut self) {
        let seated = self.line.with(|places| {
            let woken = places.by_turn.get(&self.turn).is_some_and(|s| s.on_its_way);
            woken.then(|| places.by_turn.remove(&self.turn)).flatten()
        });
        if let Some(seated) = seated {
            self.turn = self.line.seat(Seated {
                on_its_way: false,
                ..seated
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.line.with(|places| places.by_turn.remove(&self.turn));
        // Whoever hung up on the way to a build must not keep the others from it.
        if left.is_some_and(|seated| seated.on_its_way) {
            self.line.nudge();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Builds that wait, as the database would tell.
    #[derive(Clone, Default)]
    struct Hall(Arc<AtomicUsize>);

    impl Hall {
        fn order(&self, builds: usize) {
            self.0.fetch_add(builds, Ordering::SeqCst);
        }

        fn take(&self) -> bool {
            let less = |n: usize| n.checked_sub(1);
            self.0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                .is_ok()
        }

        fn seen(&self, barred: &[&str]) -> Seen {
            let demand = Demand {
                printer: "prusa_mk4".into(),
                material: "petg".into(),
                builds: self.0.load(Ordering::SeqCst),
            };
            Seen {
                demands: vec![demand],
                barred: barred.iter().map(|cell| (*cell).to_owned()).collect(),
            }
        }
    }

    fn running(line: &Line, hall: &Hall) -> tokio::task::JoinHandle<()> {
        let (line, hall) = (line.clone(), hall.clone());
        tokio::spawn(async move { line.run(|| async { Ok(hall.seen(&["barred"])) }).await })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn one_build_wakes_one_cell_of_many() {
        let (line, hall) = (Line::new(), Hall::default());
        let looking = running(&line, &hall);
        let tried = Arc::new(AtomicUsize::new(0));
        let mut cells = Vec::new();
        for _ in 0..50 {
            let mut place = line.join("c", Capabilities::default());
            let (hall, tried) = (hall.clone(), tried.clone());
            cells.push(tokio::spawn(async move {
                while place.woken(soon()).await {
                    tried.fetch_add(1, Ordering::SeqCst);
                    if hall.take() {
                        return;
                    }
                    place.settle();
                }
                panic!("nothing was left for it");
            }));
        }
        for served in 1..=cells.len() {
            hall.order(1);
            line.nudge();
            while hall.0.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(tried.load(Ordering::SeqCst), served, "one try per build");
        }
        for cell in cells {
            cell.await.expect("served");
        }
        looking.abort();
    }

    #[tokio::test]
    async fn a_cell_that_hangs_up_on_its_way_leaves_the_build_to_the_next() {
        let (line, hall) = (Line::new(), Hall::default());
        let looking = running(&line, &hall);
        let mut first = line.join("c", Capabilities::default());
        let mut second = line.join("c", Capabilities::default());
        hall.order(1);
        line.nudge();
        assert!(first.woken(soon()).await);
        let begun = Instant::now();
        drop(first);
        assert!(second.woken(soon()).await);
        assert!(
            begun.elapsed() < SAFETY,
            "it did not have to wait for the next look"
        );
        looking.abort();
    }

    #[tokio::test]
    async fn a_cell_whose_rules_have_it_wait_is_passed_over() {
        let (line, hall) = (Line::new(), Hall::default());
        let looking = running(&line, &hall);
        let mut barred = line.join("barred", Capabilities::default());
        let mut free = line.join("c", Capabilities::default());
        hall.order(2);
        line.nudge();
        assert!(free.woken(soon()).await);
        assert!(!barred.woken(Instant::now()).await);
        looking.abort();
    }

    #[tokio::test]
    async fn a_cell_that_got_nothing_goes_to_the_end() {
        let (line, hall) = (Line::new(), Hall::default());
        let looking = running(&line, &hall);
        let mut first = line.join("c", Capabilities::default());
        let mut second = line.join("c", Capabilities::default());
        hall.order(1);
        line.nudge();
        assert!(first.woken(soon()).await);
        first.settle();
        line.nudge();
        assert!(second.woken(soon()).await);
        looking.abort();
    }
}
