//! Takes back what vanished holders held: steps of workers, builds of cells.

use std::time::Duration;

use tokio::time::Instant;

use tracing::{info, warn};

use crate::queue::{self, Expired, Queue};
use crate::store::{self, StoreError, leases};

/// How often it looks; a lease is taken back at most this long after it ran out, and after the database ended the
/// transaction of a process that was stopped while it held the step.
const EVERY: Duration = Duration::from_millis(500);

/// Looks for ever. Every process may: of two that look at once, each takes what the other has not.
///
/// What records facts may have to wait, for a process that was stopped while it recorded one; what can be tried again is
/// taken back meanwhile.
pub(super) async fn keep_expiring(queue: Queue) {
    tokio::join!(keep(|| take_back(&queue)), keep(|| settle(&queue)));
}

async fn keep<T, L: Future<Output = Result<T, StoreError>>>(look: impl Fn() -> L) {
    loop {
        let began = Instant::now();
        if let Err(error) = look().await {
            warn!(
                error = &error as &dyn std::error::Error,
                "failed to take back expired leases"
            );
        }
        tokio::time::sleep(EVERY.saturating_sub(began.elapsed()).max(EVERY / 4)).await;
    }
}

/// Takes back the leases that ran out; says what became of the steps, and how many builds were concerned.
///
/// # Errors
///
/// When the database does not answer.
pub async fn expire_leases(queue: &Queue) -> Result<(Expired, usize), StoreError> {
    let again = take_back(queue).await?;
    let (exhausted, builds) = settle(queue).await?;
    Ok((Expired { again, exhausted }, builds))
}

/// The steps that may be tried again.
async fn take_back(queue: &Queue) -> Result<u64, StoreError> {
    let tx = store::begin(&queue.db().write).await?;
    let again = queue::take_back(&tx, queue.now()).await?;
    tx.commit().await?;
    if again > 0 {
        info!(again, "took back {again} steps to try again");
        queue.notify_local();
    }
    Ok(again)
}

/// The steps that may not, and the builds.
async fn settle(queue: &Queue) -> Result<(u64, usize), StoreError> {
    let now = queue.now();
    let tx = store::begin(&queue.db().write).await?;
    let exhausted = queue::give_up_exhausted(&tx, now).await?;
    tx.commit().await?;
    let tx = store::begin(&queue.db().write).await?;
    let builds = leases::expire(&tx, now).await?;
    tx.commit().await?;
    store::queues::prune(&queue.db().write, now).await?;
    if exhausted > 0 || builds > 0 {
        info!(
            exhausted,
            builds, "took back {exhausted} steps for good, and {builds} builds"
        );
        queue.notify_local();
    }
    Ok((exhausted, builds))
}
