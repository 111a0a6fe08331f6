//! Our own apalis backend: a task of its own claims steps, and the worker only ever polls a bounded channel.
//!
//! Heartbeats and finishing do not pass through here, so a busy worker cannot hold them up; and a claim never takes
//! more steps than there are free hands, so nothing waits in memory while another process is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tower::layer::util::Identity;
use tracing::warn;

use crate::store::StoreError;
use crate::store::database::Moved;
use crate::store::runs::{self, run};
use crate::store::steps::{self, RUNS};

use super::claim::{Claimed, claim_from, claim_keyed, release};
use super::desk::{Desk, Taken};
use super::floor::Floor;
use super::heartbeat::Heartbeat;
use super::listen::Queue;

/// How often a queue looks for ready steps ahead of where it claims.
const LOOK_AHEAD: Duration = Duration::from_secs(3);

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
        let hands = hands.max(1);
        let (give, taken) = mpsc::channel(hands);
        let desk = Desk {
            db: queue.db().clone(),
            heartbeat: heartbeat.clone(),
            owner: owner.to_owned(),
            places: Arc::new(Semaphore::new(hands)),
            hands,
            give,
            floor: Arc::default(),
        };
        queue.open_desk(name, desk.clone());
        let claiming = Claiming {
            queue: queue.clone(),
            desk,
            name: name.to_owned(),
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
    desk: Desk,
    name: String,
}

impl Claiming {
    async fn run(self) {
        tokio::join!(self.keep_claiming(), self.keep_looking_ahead());
    }

    /// Lowers the floor to what is ready further ahead and was not told. It takes a small share of the time, however
    /// long it takes.
    async fn keep_looking_ahead(&self) {
        let db = &self.queue.db().read;
        if self.queue.db().listen.is_none() {
            return;
        }
        let mut pause = LOOK_AHEAD;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.desk.give.closed() => return,
            }
            let began = Instant::now();
            match steps::first_ahead(db, self.queue.now(), &self.name, self.desk.floor.place())
                .await
            {
                Ok(None) => {}
                Ok(Some(place)) => self.queue.notify_local_of(Moved::Place(&self.name, place)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, queue = %self.name, "failed to look ahead in `{}`", self.name);
                }
            }
            pause = LOOK_AHEAD.max(began.elapsed() * 20);
        }
    }

    async fn keep_claiming(&self) {
        let queue = &self.queue;
        let mut moves = queue.moves_of(&self.name);
        let mut keyed_first = false;
        while !self.desk.give.is_closed() {
            moves.mark_unchanged();
            let Some(places) = self.desk.wait().await else {
                return;
            };
            let wanted = places.count();
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
            let runs = self.runs_of(&claimed).await;
            let run_of = |claimed: &Claimed| runs.get(&claimed.0.run_id).cloned();
            places.hand_out(claimed, run_of).await;
            if !full {
                tokio::select! {
                    _ = moves.changed() => {}
                    () = sleep(queue.settings().poll()) => {}
                    () = self.desk.give.closed() => {}
                }
            }
        }
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
        let queue = &self.queue;
        let db = &queue.db().write;
        let (now, lease_ms) = (queue.now(), queue.settings().step_lease_ms);
        let (owner, name) = (&self.desk.owner, &self.name);
        let mut claimed = Vec::new();
        if keyed_first {
            claimed = claim_keyed(db, now, owner, name, lease_ms, limit).await?;
        }
        let left = limit - claimed.len();
        if left > 0 {
            // SQLite leaves no dead entries behind, and tells nobody of places.
            let floor = match queue.db().listen {
                Some(_) => &*self.desk.floor,
                None => &Floor::default(),
            };
            let more = claim_from(db, floor, now, owner, name, lease_ms, left).await;
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
