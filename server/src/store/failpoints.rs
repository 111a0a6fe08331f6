//! Where a process may die in tests: right before and right after every commit, named by the line that commits.
//!
//! A process is a runtime of its own: its threads know whose they are. One that has died commits nothing more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// A side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    /// Nothing is kept yet.
    Before,
    /// It is kept, and nobody has heard so.
    After,
}

/// A line that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) file: &'static str,
    line: u32,
}

/// A moment in the life of a process: the `nth` time, from 1, that it came to this side of this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Point {
    pub(crate) place: Place,
    pub(crate) side: Side,
    pub(crate) nth: u32,
}

/// What happens to a process at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It dies.
    Dies,
    /// It is stopped for so long, in the middle of a transaction if it is before the commit.
    Stops(Duration),
}

/// A process of a test.
#[derive(Debug)]
pub(crate) struct Mortal {
    fate: Option<(Point, Fate)>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    passed: BTreeMap<(Place, Side), u32>,
    is_dead: bool,
    met_fate: bool,
}

thread_local! {
    static MINE: RefCell<Option<Arc<Mortal>>> = const { RefCell::new(None) };
}

impl Mortal {
    /// A process that meets its fate at a point, or lives for ever.
    pub(crate) fn new(fate: Option<(Point, Fate)>) -> Arc<Self> {
        let seen = Mutex::default();
        Arc::new(Self { fate, seen })
    }

    /// What it runs on.
    pub(crate) fn runtime(self: &Arc<Self>) -> Runtime {
        let mine = self.clone();
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || MINE.set(Some(mine.clone())))
            .build()
            .expect("a runtime")
    }

    /// Whether it has died.
    pub(crate) fn is_dead(&self) -> bool {
        self.seen().is_dead
    }

    /// Whether it came to the point of its fate.
    pub(crate) fn met_fate(&self) -> bool {
        self.seen().met_fate
    }

    /// Every point it has come to.
    pub(crate) fn points(&self) -> Vec<Point> {
        let seen = self.seen();
        let passed = seen.passed.iter();
        passed
            .flat_map(|(&(place, side), &times)| {
                (1..=times).map(move |nth| Point { place, side, nth })
            })
            .collect()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn comes_to(&self, place: Place, side: Side) -> Option<Duration> {
        let mut seen = self.seen();
        if !seen.is_dead {
            let nth = seen.passed.entry((place, side)).or_default();
            *nth += 1;
            let here = Point {
                place,
                side,
                nth: *nth,
            };
            match self.fate {
                Some((point, Fate::Dies)) if point == here => seen.is_dead = true,
                Some((point, Fate::Stops(long))) if point == here => {
                    seen.met_fate = true;
                    return Some(long);
                }
                _ => return None,
            }
            seen.met_fate = true;
        }
        drop(seen);
        // Unwinding drops the transaction, as the end of a real process would; nothing of it is kept.
        panic!(
            "the process died {side:?} the commit of {}:{}",
            place.file, place.line
        );
    }
}

impl Place {
    /// Where this is called from.
    #[track_caller]
    pub(crate) fn here() -> Self {
        let at = Location::caller();
        Self {
            file: at.file(),
            line: at.line(),
        }
    }

    /// A process that has died does no more.
    pub(crate) fn alive(self) {
        if MINE.with_borrow(|mine| mine.as_ref().is_some_and(|mortal| mortal.is_dead())) {
            panic!("the process is dead: {}:{}", self.file, self.line);
        }
    }

    /// Comes to it before the commit.
    pub(crate) async fn before(self) {
        self.come(Side::Before).await;
    }

    /// Comes to it after the commit.
    pub(crate) async fn after(self) {
        self.come(Side::After).await;
    }

    async fn come(self, side: Side) {
        let mine = MINE.with_borrow(Clone::clone);
        if let Some(long) = mine.and_then(|mortal| mortal.comes_to(self, side)) {
            tokio::time::sleep(long).await;
        }
    }
}
