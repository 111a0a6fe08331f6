//! Which statements of a script its tests ran, and which ways they took where it branches.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rhai::{ASTNode, Engine, EvalContext};
use serde::{Deserialize, Serialize};

use crate::script::{Branches, Script, Seen, Sites, StopFlag, is_stopped, watch};

/// How much of a script its tests ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Lines with statements.
    pub lines: usize,
    /// Those of them that ran.
    pub lines_run: usize,
    /// Ways on from statements that branch, a missing `else` among them.
    pub branches: usize,
    /// Those of them that were taken.
    pub branches_taken: usize,
    /// Lines no test ran.
    pub uncovered_lines: Vec<u32>,
    /// Ways no test took.
    pub uncovered_branches: Vec<UncoveredBranch>,
}

/// A way that no test took.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UncoveredBranch {
    /// Line of the statement that branches.
    pub line: u32,
    /// Column of it.
    pub column: u32,
    /// `then`, `else`, `case`, `default`, `body` or `skipped`.
    pub way: String,
    /// Line the way begins at, where it has one of its own.
    pub to_line: Option<u32>,
}

impl Coverage {
    /// Share of the lines that ran, per cent; all where there are none.
    #[must_use]
    pub fn lines_percent(&self) -> f64 {
        percent(self.lines_run, self.lines)
    }

    /// Share of the ways that were taken, per cent; all where nothing branches.
    #[must_use]
    pub fn branches_percent(&self) -> f64 {
        percent(self.branches_taken, self.branches)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a script has far fewer than 2^53 lines"
)]
fn percent(of: usize, all: usize) -> f64 {
    if all == 0 {
        return 100.0;
    }
    of as f64 * 100.0 / all as f64
}

/// What the runs of a script have come by so far.
pub(crate) struct Cover {
    sites: Sites,
    hits: Mutex<Hits>,
    stop: Option<StopFlag>,
}

#[derive(Default)]
struct Hits {
    statements: BTreeSet<usize>,
    arms: BTreeSet<(usize, usize)>,
}

impl Cover {
    /// That of a script whose runs end when `stop` is raised.
    pub(super) fn of(script: &Script, stop: Option<StopFlag>) -> Arc<Self> {
        Arc::new(Self {
            sites: Sites::of(script),
            hits: Mutex::default(),
            stop,
        })
    }

    /// The cover is told of one run on an engine.
    pub(super) fn watching(self: &Arc<Self>) -> Watching {
        Watching {
            cover: self.clone(),
            branches: Arc::default(),
            operations: Arc::default(),
        }
    }

    pub(super) fn coverage(&self) -> Coverage {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = BTreeSet::new();
        let mut run = BTreeSet::new();
        let mut uncovered_branches = Vec::new();
        let mut branches = 0;
        for (index, site) in self.sites.all().iter().enumerate() {
            let line = site.line();
            lines.insert(line);
            if hits.statements.contains(&index) {
                run.insert(line);
            }
            for (arm, way) in site.arms.iter().enumerate() {
                branches += 1;
                // What a case gives may be no statement, and is written on a line of its own all the same.
                let own = way.line.filter(|_| matches!(way.name, "case" | "default"));
                lines.extend(own);
                if hits.arms.contains(&(index, arm)) {
                    run.extend(own);
                    continue;
                }
                uncovered_branches.push(UncoveredBranch {
                    line,
                    column: site.column(),
                    way: way.name.to_owned(),
                    to_line: way.line,
                });
            }
        }
        uncovered_branches.sort();
        Coverage {
            lines: lines.len(),
            lines_run: run.len(),
            branches,
            branches_taken: branches - uncovered_branches.len(),
            uncovered_lines: lines.difference(&run).copied().collect(),
            uncovered_branches,
        }
    }

    fn note(&self, seen: Seen) {
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Seen::Statement { site } => hits.statements.insert(site),
            Seen::Arm { site, arm, .. } => hits.arms.insert((site, arm)),
        };
    }
}

/// One run that is watched, from its beginning to its end.
#[derive(Clone)]
pub(crate) struct Watching {
    cover: Arc<Cover>,
    branches: Arc<Mutex<Branches>>,
    operations: Arc<AtomicU64>,
}

impl Watching {
    /// Has an engine tell what it comes by, and how many operations it takes.
    ///
    /// An engine tells its progress to one listener, so this one stops it too.
    pub(crate) fn watch(&self, engine: &mut Engine) {
        let this = self.clone();
        watch(engine, move |context, node| this.see(context, node));
        let (operations, stop) = (self.operations.clone(), self.cover.stop.clone());
        engine.on_progress(move |used| {
            operations.store(used, Ordering::Relaxed);
            is_stopped(stop.as_ref()?, used)
        });
    }

    fn see(&self, context: &EvalContext, node: ASTNode) {
        let mut branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        let cover = &self.cover;
        branches.pass(&cover.sites, node, context.call_level(), |seen| {
            cover.note(seen)
        });
    }

    /// The run is over; gives the operations it took.
    pub(super) fn end(&self, failed: bool) -> u64 {
        let mut branches = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        branches.end(&self.cover.sites, failed, |seen| self.cover.note(seen));
        self.operations.load(Ordering::Relaxed)
    }
}
