//! The workers of a process: one per queue, over the queue's own apalis backend.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt};
use tracing::{error, info};
use workflows::script::Script;
use workflows::steps::Registry;

use super::advance_run::advance_run;
use super::execute_step::execute_step;
use super::expire_leases::keep_expiring;
use crate::host::World;
use crate::queue::{Heartbeat, StepBackend, Taken};
use crate::store::steps::{ADVANCE, RUNS};
use crate::store::{StoreError, new_id};

/// What the jobs of a process share.
#[derive(Clone)]
pub struct WorkerContext {
    /// The world steps see.
    pub world: World,
    /// Every kind of step this process knows.
    pub registry: Arc<Registry>,
    /// How many steps of a queue are worked on at a time; [`WorkerContext::HANDS`] where it is not told.
    pub hands: BTreeMap<String, usize>,
    scripts: Arc<Mutex<BTreeMap<String, Script>>>,
    stopping: Arc<AtomicBool>,
}

/// Why the workers of a process stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A worker could not go on.
    #[error("a worker stopped")]
    Stopped(#[source] apalis::prelude::MonitorError),
}

impl WorkerContext {
    /// How many steps of a queue are worked on at a time unless told otherwise.
    pub const HANDS: usize = 2;

    /// What the jobs of a process share.
    #[must_use]
    pub fn new(world: World, registry: Arc<Registry>) -> Self {
        Self {
            world,
            registry,
            hands: BTreeMap::new(),
            scripts: Arc::default(),
            stopping: Arc::default(),
        }
    }

    /// Whether the process is going down.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A compiled script, from memory if it was compiled before.
    pub(super) fn script(
        &self,
        revision: &str,
        compile: impl FnOnce() -> Result<Script, workflows::script::ScriptError>,
    ) -> Result<Script, workflows::script::ScriptError> {
        let known = |scripts: &Mutex<BTreeMap<String, Script>>| {
            let scripts = scripts.lock().unwrap_or_else(PoisonError::into_inner);
            scripts.get(revision).cloned()
        };
        if let Some(script) = known(&self.scripts) {
            return Ok(script);
        }
        let script = compile()?;
        self.scripts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(revision.to_owned(), script.clone());
        Ok(script)
    }
}

/// Every queue the steps of a registry are claimed under, and the one of the runs.
#[must_use]
pub fn all_queues(registry: &Registry) -> Vec<String> {
    let mut queues: Vec<String> = registry.kinds().map(|(_, queue)| queue.into()).collect();
    queues.push(RUNS.to_owned());
    queues.sort();
    queues.dedup();
    queues
}

/// Works on the named queues until `shutdown` is ready, then ends what is at work and gives back what is not.
///
/// # Errors
///
/// When a worker cannot go on.
pub async fn run_workers(
    context: WorkerContext,
    queues: &[String],
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkerError> {
    let queue = context.world.queue.clone();
    // A new name each time: nothing hangs on it, a lease belongs to a fence.
    let owner = format!("worker-{}-{}", std::process::id(), new_id(queue.now()));
    let heartbeat = Heartbeat::new(queue.db().clone(), queue.clock(), queue.settings());
    let mut monitor = Monitor::new().should_restart(|_, _| true);
    for name in queues {
        let hands = context
            .hands
            .get(name)
            .copied()
            .unwrap_or(WorkerContext::HANDS);
        let (name, owner) = (name.clone(), owner.clone());
        let (context, heartbeat) = (context.clone(), heartbeat.clone());
        monitor = monitor.register(move |restarts| {
            let context = context.clone();
            let queue = &context.world.queue;
            let backend = StepBackend::start(queue, &heartbeat, &owner, &name, hands);
            WorkerBuilder::new(format!("{owner}-{name}-{restarts}"))
                .backend(backend)
                .catch_panic()
                .build(move |taken: Taken| work(context.clone(), taken))
        });
    }
    let beating = tokio::spawn({
        let heartbeat = heartbeat.clone();
        async move { heartbeat.run().await }
    });
    let expiring = tokio::spawn(keep_expiring(queue.clone()));
    let stopping = context.stopping.clone();
    let signal = async move {
        shutdown.await;
        info!("stopping: ending what is at work, giving back the rest");
        stopping.store(true, Ordering::Relaxed);
        heartbeat.stop_all();
        Ok(())
    };
    let ended = monitor.run_with_signal(signal).await;
    beating.abort();
    expiring.abort();
    ended.map_err(WorkerError::Stopped)
}

/// One claimed step from claim to finish. What goes wrong here is not an error of the worker: the lease runs out and
/// the step is tried again.
async fn work(context: WorkerContext, taken: Taken) {
    let step = &taken.claimed.0;
    let done = if step.position == ADVANCE {
        advance_run(&context, &taken).await
    } else {
        execute_step(&context, &taken).await
    };
    match done {
        Ok(()) => {}
        Err(StoreError::Stale { .. }) => {
            info!(run.id = %step.run_id, step.position = %step.position, step.kind = %step.kind,
                "step `{}` of run {} has passed to somebody else", step.kind, step.run_id);
        }
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            error!(error = cause, run.id = %step.run_id, step.position = %step.position,
                step.kind = %step.kind, "failed to record step `{}` of run {}; it is tried again when its lease runs out",
                step.kind, step.run_id);
        }
    }
    context.world.queue.notify_local();
}
