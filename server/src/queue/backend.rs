//! Our own apalis backend: a task of its own claims steps, and the worker only ever polls a bounded channel.
//!
//! Heartbeats and finishing do not pass through here, so a busy worker cannot hold them up; and a claim never takes
//! more steps than there are free hands, so nothing waits in memory while another process is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tower::layer::util::Identity;
use tracing::warn;

use crate::store::StoreError;
use crate::store::runs::{self, run};
use crate::store::steps::RUNS;

use super::claim::{Claimed, claim, claim_keyed, release};
use super::heartbeat::{Heartbeat, Held};
use super::listen::Queue;

/// A claimed step on its way to a hand: its lease is renewed and its place is taken until it is dropped.
pub struct Taken {
    /// The step.
    pub claimed: Claimed,
    /// Its lease.
    pub held: Arc<Held>,
    /// The hand that is busy with it.
    pub place: Place,
    /// The run it belongs to, as it was at the claim; not told to who advances runs.
    pub run: Option<Arc<run::Model>>,
}

/// The hand that is busy with a step, until its work is over or this is dropped.
pub struct Place(Mutex<Option<OwnedSemaphorePermit>>);

impl Place {
    /// Frees the hand: the work is over and only its record is waited for.
    pub fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl From<OwnedSemaphorePermit> for Place {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self(Mutex::new(Some(permit)))
    }
}

/// The steps of one queue, as apalis sees them.
pub struct StepBackend {
    queue: Queue,
    taken: mpsc::Receiver<Taken>,
    claiming: Option<JoinHandle<()>>,
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl StepBackend {
    /// Begins to claim the steps of a queue, at most `hands` at a time.
    #[must_use]
    pub fn start(
        queue: &Queue,
        heartbeat: &Heartbeat,
        owner: &str,
        name: &str,
        hands: usize,
    ) -> Self {
        let (give, taken) = mpsc::channel(hands.max(1));
        let claiming = Claiming {
            queue: queue.clone(),
            heartbeat: heartbeat.clone(),
            owner: owner.to_owned(),
            name: name.to_owned(),
            places: Arc::new(Semaphore::new(hands.max(1))),
            hands: hands.max(1),
            give,
        };
        Self {
            queue: queue.clone(),
            taken,
            claiming: Some(tokio::spawn(claiming.run())),
            closing: None,
        }
    }
}

struct Claiming {
    queue: Queue,
    heartbeat: Heartbeat,
    owner: String,
    name: String,
    places: Arc<Semaphore>,
    hands: usize,
    give: mpsc::Sender<Taken>,
}

impl Claiming {
    async fn run(self) {
        let mut moves = self.queue.moves_of(&self.name);
        let mut keyed_first = false;
        while !self.give.is_closed() {
            moves.mark_unchanged();
            let Some(mut places) = self.free_places().await else {
                return;
            };
            let wanted = places.num_permits();
            keyed_first = !keyed_first;
            let claimed = match self.claim(wanted, keyed_first).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, queue = %self.name, "failed to claim steps of `{}`", self.name);
                    Vec::new()
                }
            };
            let full = claimed.len() == wanted;
            let held: Vec<_> = claimed.iter().map(|c| self.heartbeat.hold(c)).collect();
            let runs = self.runs_of(&claimed).await;
            for (claimed, held) in claimed.into_iter().zip(held) {
                let Some(place) = places.split(1) else { break };
                let taken = Taken {
                    run: runs.get(&claimed.0.run_id).cloned(),
                    claimed,
                    held: Arc::new(held),
                    place: place.into(),
                };
                // The channel has room for every place, so only a closed one refuses.
                if let Err(refused) = self.give.send(taken).await {
                    let back = [refused.0.claimed];
                    if let Err(error) = release(&self.queue.db().write, &back).await {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "failed to give a step back"
                        );
                    }
                }
            }
            drop(places);
            if !full {
                tokio::select! {
                    _ = moves.changed() => {}
                    () = sleep(self.queue.settings().poll()) => {}
                    () = self.give.closed() => {}
                }
            }
        }
    }

    /// Waits for a free place, and takes all there are.
    async fn free_places(&self) -> Option<OwnedSemaphorePermit> {
        let mut places = tokio::select! {
            place = self.places.clone().acquire_owned() => place.ok()?,
            () = self.give.closed() => return None,
        };
        while places.num_permits() < self.hands {
            match self.places.clone().try_acquire_owned() {
                Ok(more) => places.merge(more),
                Err(_) => break,
            }
        }
        Some(places)
    }

    /// The runs of claimed steps, asked for together; what is not found here is asked for by the step.
    async fn runs_of(&self, claimed: &[Claimed]) -> BTreeMap<String, Arc<run::Model>> {
        if self.name == RUNS || claimed.is_empty() {
            return BTreeMap::new();
        }
        let ids: BTreeSet<&str> = claimed.iter().map(|c| c.0.run_id.as_str()).collect();
        let found = runs::of_ids(&self.queue.db().read, &ids).await;
        let found = found.unwrap_or_default().into_iter();
        found.map(|run| (run.id.clone(), Arc::new(run))).collect()
    }

    /// Claims with and without a concurrency key take turns at being first, so that neither starves the other.
    async fn claim(&self, limit: usize, keyed_first: bool) -> Result<Vec<Claimed>, StoreError> {
        let db = &self.queue.db().write;
        let (now, lease_ms) = (self.queue.now(), self.queue.settings().step_lease_ms);
        let (owner, name) = (&self.owner, &self.name);
        let mut claimed = Vec::new();
        if keyed_first {
            claimed = claim_keyed(db, now, owner, name, lease_ms, limit).await?;
        }
        let left = limit - claimed.len();
        if left > 0 {
            let more = claim(db, now, owner, name, lease_ms, left).await;
            claimed.extend(or_what_is_taken(more, &claimed)?);
        }
        let left = limit - claimed.len();
        if left > 0 && !keyed_first {
            let more = claim_keyed(db, now, owner, name, lease_ms, left).await;
            claimed.extend(or_what_is_taken(more, &claimed)?);
        }
        Ok(claimed)
    }
}

/// An error of a later claim is none while something is in hand already; the next turn meets it again.
fn or_what_is_taken(
    more: Result<Vec<Claimed>, StoreError>,
    taken: &[Claimed],
) -> Result<Vec<Claimed>, StoreError> {
    match more {
        Err(error) if taken.is_empty() => Err(error),
        more => Ok(more.unwrap_or_default()),
    }
}

impl Backend for StepBackend {
    type Task = Task<Taken>;
    type Error = StoreError;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), StoreError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, StoreError>>> {
        let taken = ready!(self.taken.poll_recv(cx));
        Poll::Ready(taken.map(|taken| {
            let id = TaskId::from_string(taken.claimed.0.id.clone());
            Ok(TaskBuilder::new(taken).task_id(id).build())
        }))
    }

    /// Stops claiming and gives back what was claimed and never begun.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), StoreError>> {
        if self.closing.is_none() {
            self.taken.close();
            let claiming = self.claiming.take();
            let queue = self.queue.clone();
            let mut waiting = Vec::new();
            while let Ok(taken) = self.taken.try_recv() {
                waiting.push(taken.claimed);
            }
            self.closing = Some(Box::pin(async move {
                if let Some(claiming) = claiming {
                    let _ = claiming.await;
                }
                if let Err(error) = release(&queue.db().write, &waiting).await {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to give steps back"
                    );
                }
                queue.notify_local();
            }));
        }
        match &mut self.closing {
            Some(closing) => closing.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl BackendConfig for StepBackend {
    type Args = Taken;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
