//! One guest: what the host knows of it while it runs, and what it has used of its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;

use crate::call::{Context, KeyUse, KeyWrite};
use crate::doors::Doors;
use crate::failure::LimitHit;
use crate::grants::Grants;
use crate::limits::{ALL_MEMORY, Limits, PARTS};
use crate::log::{Level, Line, Log};
use crate::schema::Schemas;
use crate::v1::types::ArtifactRef;
use crate::world::Capability;

/// How long a cancelled guest may go on before it is stopped.
const GRACE: Duration = Duration::from_secs(1);
/// A line of standard output or error that is not ended by then is ended here, in bytes.
const LONGEST_LINE: usize = 4_096;
/// Names of metrics, origins and media types that a call's use is told with.
const MOST_NAMES: usize = 256;

/// Why the host stopped a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("its time was up")]
    Deadline,
    #[error("it was cancelled, and did not stop by itself")]
    Cancelled,
    #[error("it has too many readers and writers open")]
    Handles,
    #[error("it called `{0}`, which plugins do not have")]
    Absent(String),
    #[error("it called `{0}` with more than it may")]
    Misused(String),
    #[error("it exited")]
    Exited,
}

/// Counts memory and tables against their limits, and memory against what all guests have together.
///
/// What was allowed counts until the call ends, whether it then grew or not: a guest cannot make it count less.
pub(crate) struct Meter {
    memory: usize,
    most_memory: usize,
    table_elements: usize,
    most_table_elements: usize,
    shared: Arc<Budget>,
    /// The most memory at one time.
    pub(crate) peak: usize,
    /// What was refused last.
    pub(crate) refused: Option<LimitHit>,
}

/// Memory of all guests of a runtime.
pub(crate) struct Budget {
    most: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|&all| all <= self.most);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Meter {
    fn new(limits: &Limits, shared: Arc<Budget>) -> Self {
        Self {
            memory: 0,
            most_memory: limits.memory_bytes(),
            table_elements: 0,
            most_table_elements: limits.table_elements as usize,
            shared,
            peak: 0,
            refused: None,
        }
    }

    fn refuse(&mut self, name: &str, allowed: usize, asked: usize) -> wasmtime::Result<bool> {
        let (allowed, asked) = (allowed as u64, Some(asked as u64));
        self.refused = Some(LimitHit {
            name: name.to_owned(),
            allowed,
            asked,
        });
        Ok(false)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.give_back(self.memory);
    }
}

impl ResourceLimiter for Meter {
    /// Refuses with an answer the guest can see (`memory.grow` gives -1); what it makes of that is its own affair.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the maximum that the memory itself names: refused whatever is said here, and no limit of ours.
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let all = self.memory.saturating_add(more);
        if all > self.most_memory {
            return self.refuse("memory-mib", self.most_memory >> 20, all.div_ceil(1 << 20));
        }
        if !self.shared.take(more) {
            return self.refuse(ALL_MEMORY, self.shared.most >> 20, all.div_ceil(1 << 20));
        }
        self.memory = all;
        self.peak = self.peak.max(all);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        let all = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if all > self.most_table_elements {
            return self.refuse("table-elements", self.most_table_elements, all);
        }
        self.table_elements = all;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS.instances as usize
    }

    fn tables(&self) -> usize {
        PARTS.tables as usize
    }

    fn memories(&self) -> usize {
        PARTS.memories as usize
    }
}

/// A key as the call sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// None where it is not there.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) version: u32,
    /// The version it had before the call.
    pub(crate) seen: u32,
}

impl Held {
    /// Bytes that it takes of what may be remembered.
    pub(crate) fn bytes(&self, key: &str) -> u64 {
        self.value
            .as_ref()
            .map_or(0, |value| key.len() + value.len()) as u64
    }
}

/// What a store holds.
pub(crate) struct Guest {
    pub(crate) doors: Arc<dyn Doors>,
    pub(crate) grants: Arc<Grants>,
    /// What it is given and answers is held to these.
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) context: Context,
    pub(crate) limits: Limits,
    pub(crate) deadline: Instant,
    pub(crate) table: ResourceTable,
    pub(crate) meter: Meter,
    pub(crate) log: Log,
    /// Artifacts the call was given or has made, by digest.
    pub(crate) artifacts: BTreeMap<String, ArtifactRef>,
    /// Artifacts that it began to make.
    pub(crate) made: usize,
    /// Bytes that it wrote into artifacts.
    pub(crate) written: u64,
    pub(crate) state: BTreeMap<String, Held>,
    /// Bytes of all that it remembers; asked for once.
    pub(crate) state_bytes: Option<u64>,
    pub(crate) host_calls: u64,
    names: BTreeSet<(Capability, String)>,
    pub(crate) used: BTreeSet<Capability>,
    cancelled_at: Option<Instant>,
    /// Where the next random number comes from.
    random: u64,
    /// Lines that it has begun to write to standard output and error.
    begun: [Vec<u8>; 2],
}

impl Guest {
    pub(crate) fn new(
        doors: Arc<dyn Doors>,
        (grants, schemas): (Arc<Grants>, Arc<Schemas>),
        context: Context,
        limits: &Limits,
        given: Vec<ArtifactRef>,
        memory: Arc<Budget>,
    ) -> Self {
        let deadline = Instant::now() + limits.deadline();
        doors.begin(deadline);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        Self {
            doors,
            grants,
            schemas,
            deadline,
            table,
            meter: Meter::new(limits, memory),
            limits: limits.clone(),
            log: Log::default(),
            artifacts: given
                .into_iter()
                .map(|one| (one.digest.clone(), one))
                .collect(),
            made: 0,
            written: 0,
            state: BTreeMap::new(),
            state_bytes: None,
            host_calls: 0,
            names: BTreeSet::new(),
            used: BTreeSet::new(),
            cancelled_at: None,
            random: u64::from(context.seed),
            begun: Default::default(),
            context,
        }
    }

    /// Whether it may go on; asked at every tick, and before and after everything the host does for it.
    pub(crate) fn may_go_on(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Stop::Deadline);
        }
        if self.cancelled_at.is_none() && self.doors.cancelled() {
            self.cancelled_at = Some(now);
        }
        match self.cancelled_at {
            Some(since) if now >= since + GRACE => Err(Stop::Cancelled),
            _ => Ok(()),
        }
    }

    /// Begins something that the host does for it.
    pub(crate) fn enter(&mut self, capability: Option<Capability>) -> Result<(), Stop> {
        self.host_calls += 1;
        self.used.extend(capability);
        self.may_go_on()
    }

    /// Ends it.
    pub(crate) fn leave(&mut self) -> wasmtime::Result<()> {
        match self.doors.halted() {
            Some(halt) => Err(halt.into()),
            None => Ok(self.may_go_on()?),
        }
    }

    /// Notes what a capability was used for.
    pub(crate) fn note(&mut self, capability: Capability, name: &str) {
        if self.names.len() < MOST_NAMES {
            self.names.insert((capability, name.to_owned()));
        }
    }

    /// What capabilities were used for.
    pub(crate) fn names(&self) -> Vec<(Capability, String)> {
        self.names.iter().cloned().collect()
    }

    /// What is left of its time, in milliseconds.
    pub(crate) fn left_ms(&self) -> f64 {
        self.deadline
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
            * 1_000.0
    }

    /// The next number of a sequence that starts from the seed: `SplitMix64` (Steele, Lea and Flood, 2014).
    pub(crate) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Takes what it writes to standard output or error; whole lines go to its log.
    pub(crate) fn print(&mut self, error: bool, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let begun = &mut self.begun[usize::from(error)];
            begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || begun.len() >= LONGEST_LINE {
                self.end_line(error);
            }
        }
    }

    /// Logs the lines that were begun and never ended.
    pub(crate) fn end_lines(&mut self) {
        self.end_line(false);
        self.end_line(true);
    }

    fn end_line(&mut self, error: bool) {
        let begun = std::mem::take(&mut self.begun[usize::from(error)]);
        let text = String::from_utf8_lossy(&begun);
        if !text.trim_end().is_empty() {
            let level = if error { Level::Error } else { Level::Info };
            let message = text.trim_end().to_owned();
            self.log.add(
                Line {
                    level,
                    message,
                    fields: Vec::new(),
                },
                self.limits.log_bytes(),
            );
        }
    }

    /// The keys that it used, and what it wants to be remembered under them.
    pub(crate) fn keys(&self) -> Vec<KeyUse> {
        let used = |(key, held): (&String, &Held)| KeyUse {
            key: key.clone(),
            seen: held.seen,
            write: (held.version != held.seen).then(|| KeyWrite {
                version: held.version,
                value: held.value.clone(),
            }),
        };
        self.state.iter().map(used).collect()
    }
}
