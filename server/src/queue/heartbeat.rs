//! Renewing leases: one statement for all a process holds, on a connection of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::{debug, warn};

use crate::store::database::{all, rows_in, to_json};
use crate::store::steps::of_step;
use crate::store::{Database, StoreError, values};

use super::claim::Claimed;
use super::settings::{Clock, LeaseSettings};

/// The leases of one process, and what renews them.
#[derive(Clone)]
pub struct Heartbeat {
    held: Arc<Mutex<HashMap<String, Arc<Lease>>>>,
    db: Database,
    clock: Clock,
    settings: LeaseSettings,
}

struct Lease {
    fence: i64,
    progress: Mutex<(f64, String)>,
    stop: AtomicBool,
}

/// A lease that is renewed until this is dropped.
pub struct Held {
    id: String,
    lease: Arc<Lease>,
    all: Arc<Mutex<HashMap<String, Arc<Lease>>>>,
}

impl Held {
    /// Notes how far the work is; the next heartbeat tells it.
    pub fn progress(&self, share: f64, phase: &str) {
        *lock(&self.lease.progress) = (share.clamp(0.0, 1.0), phase.to_owned());
    }

    /// Whether to stop: somebody asked for it, or the lease is lost.
    #[must_use]
    pub fn should_stop(&self) -> bool {
        self.lease.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        if all
            .get(&self.id)
            .is_some_and(|l| Arc::ptr_eq(l, &self.lease))
        {
            all.remove(&self.id);
        }
    }
}

impl Heartbeat {
    /// A heartbeat with nothing to renew yet; [`Heartbeat::run`] makes it beat.
    #[must_use]
    pub fn new(db: Database, clock: Clock, settings: LeaseSettings) -> Self {
        Self {
            held: Arc::default(),
            db,
            clock,
            settings,
        }
    }

    /// Renews a claimed step's lease from now on.
    #[must_use]
    pub fn hold(&self, claimed: &Claimed) -> Held {
        let step = &claimed.0;
        let lease = Arc::new(Lease {
            fence: step.fence,
            progress: Mutex::new((step.share_done, step.phase.clone())),
            stop: AtomicBool::new(step.cancel_requested),
        });
        lock(&self.held).insert(step.id.clone(), lease.clone());
        Held {
            id: step.id.clone(),
            lease,
            all: self.held.clone(),
        }
    }

    /// Asks everybody at work to stop, since the process does.
    pub fn stop_all(&self) {
        for lease in lock(&self.held).values() {
            lease.stop.store(true, Ordering::Relaxed);
        }
    }

    /// How many leases are held.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.held).len()
    }

    /// Beats for ever; a beat that fails is made up for by the next.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(
            self.settings.step_heartbeat_ms.max(1),
        ));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.beat().await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to renew leases"
                );
            }
        }
    }

    /// Renews every lease once, tells its progress, and learns which of them are lost or to be stopped.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let held: Vec<(String, Arc<Lease>)> = lock(&self.held)
            .iter()
            .map(|(id, lease)| (id.clone(), lease.clone()))
            .collect();
        for some in held.chunks(1_000) {
            self.renew(some).await?;
        }
        Ok(())
    }

    async fn renew(&self, held: &[(String, Arc<Lease>)]) -> Result<(), StoreError> {
        #[derive(Serialize)]
        struct Beat<'a> {
            id: &'a str,
            fence: i64,
            share: f64,
            phase: String,
        }
        let until = (self.clock)() + self.settings.step_lease_ms;
        let beats: Vec<Beat<'_>> = held
            .iter()
            .map(|(id, lease)| {
                let (share, phase) = lock(&lease.progress).clone();
                let fence = lease.fence;
                Beat {
                    id,
                    fence,
                    share,
                    phase,
                }
            })
            .collect();
        let columns = [
            ("id", "text"),
            ("fence", "bigint"),
            ("share", "double precision"),
            ("phase", "text"),
        ];
        let sql = format!(
            "WITH held AS (SELECT step.id AS id, step.fence AS fence, f.share AS share, f.phase AS phase \
             FROM step JOIN {} ON step.id = f.id AND step.fence = f.fence \
             WHERE step.state = 'leased' ORDER BY step.id {}) \
             UPDATE step SET lease_until = $1, share_done = held.share, phase = held.phase \
             FROM held WHERE step.id = held.id AND step.fence = held.fence AND step.state = 'leased' \
             RETURNING step.id AS id, step.cancel_requested AS stop",
            rows_in(&self.db.heartbeat, 2, &columns),
            of_step(&self.db.heartbeat)
        );
        let values = values![until, to_json("heartbeat", &beats)?];
        let alive: Vec<Alive> = all(&self.db.heartbeat, &sql, values).await?;
        let alive: HashMap<String, bool> = alive.into_iter().map(|a| (a.id, a.stop)).collect();
        for (id, lease) in held {
            match alive.get(id) {
                Some(false) => {}
                Some(true) => lease.stop.store(true, Ordering::Relaxed),
                None => {
                    debug!(step.id = %id, "the lease of step {id} is lost");
                    lease.stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

#[derive(sea_orm::FromQueryResult)]
struct Alive {
    id: String,
    stop: bool,
}

/// Nothing here can be left half-done, so a panic of another holder of the lock does not matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
