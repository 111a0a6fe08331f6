//! Where the steps of a queue go in this process: its hands, and how a claimed step reaches one.
//!
//! A transaction that makes a step ready may claim it in the same breath when a hand here is free: that saves the
//! commit of a claim, and the wake-up before it. Whoever does puts the hands by first, so no more is ever claimed than
//! can be begun at once.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use crate::store::Database;
use crate::store::runs::run;

use super::claim::{Claimed, release};
use super::floor::Floor;
use super::heartbeat::{Heartbeat, Held};

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

/// The hands of one queue in this process.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) db: Database,
    pub(super) heartbeat: Heartbeat,
    pub(super) owner: String,
    pub(super) places: Arc<Semaphore>,
    pub(super) hands: usize,
    pub(super) give: mpsc::Sender<Taken>,
    /// From where on its claims look.
    pub(super) floor: Arc<Floor>,
}

impl Desk {
    /// Waits for a free hand, and puts by all there are; `None` when the desk is closed.
    pub(super) async fn wait(&self) -> Option<PutBy> {
        let first = self.wait_for_one().await?;
        Some(self.with_more(first.places, self.hands))
    }

    /// Waits for a free hand, and puts it by; `None` when the desk is closed.
    pub(super) async fn wait_for_one(&self) -> Option<PutBy> {
        let first = tokio::select! {
            place = self.places.clone().acquire_owned() => place.ok()?,
            () = self.give.closed() => return None,
        };
        Some(self.with_more(first, 1))
    }

    /// Puts by as many hands as are free now, at most `wanted`. Whoever waits for a hand has it before.
    pub(super) fn put_by(&self, wanted: usize) -> Option<PutBy> {
        if wanted == 0 || self.give.is_closed() {
            return None;
        }
        let first = self.places.clone().try_acquire_owned().ok()?;
        Some(self.with_more(first, wanted))
    }

    fn with_more(&self, mut places: OwnedSemaphorePermit, wanted: usize) -> PutBy {
        while places.num_permits() < wanted {
            match self.places.clone().try_acquire_owned() {
                Ok(more) => places.merge(more),
                Err(_) => break,
            }
        }
        let desk = self.clone();
        PutBy { desk, places }
    }
}

/// Hands that are free and kept for steps which a transaction is about to claim. Those left over are free again when
/// this is dropped.
pub struct PutBy {
    desk: Desk,
    places: OwnedSemaphorePermit,
}

impl PutBy {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.places.num_permits()
    }

    /// The name to claim under.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.desk.owner
    }

    /// Gives each claimed step to a hand, after the commit of the claim. What cannot be begun any more, as the process
    /// goes down, is given back.
    pub async fn hand_out(
        mut self,
        claimed: Vec<Claimed>,
        run_of: impl Fn(&Claimed) -> Option<Arc<run::Model>>,
    ) {
        // All leases are renewed from now on, not each from its turn.
        let held: Vec<Held> = claimed
            .iter()
            .map(|claimed| self.desk.heartbeat.hold(claimed))
            .collect();
        for (claimed, held) in claimed.into_iter().zip(held) {
            let Some(place) = self.places.split(1) else {
                return self.give_back(claimed).await;
            };
            let taken = Taken {
                run: run_of(&claimed),
                claimed,
                held: Arc::new(held),
                place: place.into(),
            };
            // The channel has room for every place, so only a closed one refuses.
            if let Err(refused) = self.desk.give.send(taken).await {
                self.give_back(refused.0.claimed).await;
            }
        }
    }

    async fn give_back(&self, claimed: Claimed) {
        if let Err(error) = release(&self.desk.db.write, &[claimed]).await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "failed to give a step back");
        }
    }
}
