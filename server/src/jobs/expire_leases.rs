//! Takes back what vanished holders held: steps of workers, builds of cells.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::queue::{self, Looks, Queue};
use crate::store::{self, StoreError, leases};

/// How often it looks; a lease is taken back at most this long after it ran out, and after the database ended the
/// transaction of a process that was stopped while it held the step. What [`Looks`] can miss waits for a whole look.
const EVERY: Duration = Duration::from_millis(500);

/// Looks for ever. Every process may: of two that look at once, each takes what the other has not.
///
/// What records facts may have to wait, for a process that was stopped while it recorded one; what can be tried again is
/// taken back meanwhile.
pub async fn keep_expiring(queue: Queue) {
    let again = async {
        let mut looks = Looks::default();
        loop {
            keep(take_back(&queue, &mut looks)).await;
        }
    };
    let for_good = async {
        let mut looks = Looks::default();
        loop {
            keep(settle(&queue, &mut looks)).await;
        }
    };
    tokio::join!(again, for_good);
}

/// One look, and the rest until the next.
async fn keep<T>(look: impl Future<Output = Result<T, StoreError>>) {
    let began = Instant::now();
    if let Err(error) = look.await {
        warn!(
            error = &error as &dyn Error,
            "failed to take back expired leases"
        );
    }
    tokio::time::sleep(EVERY.saturating_sub(began.elapsed()).max(EVERY / 4)).await;
}

/// Takes back every lease that ran out; says of how many steps, tried again or not, and of how many builds.
#[cfg(test)]
pub async fn expire_leases(queue: &Queue) -> Result<(usize, usize), StoreError> {
    let again = take_back(queue, &mut Looks::default()).await?;
    let (exhausted, builds) = settle(queue, &mut Looks::default()).await?;
    Ok((again + exhausted, builds))
}

/// The steps that may be tried again.
async fn take_back(queue: &Queue, looks: &mut Looks) -> Result<usize, StoreError> {
    let (span, began) = (looks.next(queue.now()), Instant::now());
    let seen = queue::ran_out(&queue.db().read, span).await?;
    let took = began.elapsed();
    let mut taken = Vec::new();
    if !seen.is_empty() {
        let tx = store::begin(&queue.db().write).await?;
        taken = queue::take_back(&tx, span).await?;
        tx.commit().await?;
    }
    looks.looked(span, took, queue::first_left(&seen, &taken));
    let again = taken.len();
    if again > 0 {
        info!(again, "took back {again} steps to try again");
        queue.notify_local();
    }
    Ok(again)
}

/// The steps that may not, and the builds.
async fn settle(queue: &Queue, looks: &mut Looks) -> Result<(usize, usize), StoreError> {
    let exhausted = give_up_exhausted(queue, looks).await?;
    let now = queue.now();
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

async fn give_up_exhausted(queue: &Queue, looks: &mut Looks) -> Result<usize, StoreError> {
    let (span, began) = (looks.next(queue.now()), Instant::now());
    let seen = queue::exhausted(&queue.db().read, span).await?;
    let took = began.elapsed();
    let mut taken = Vec::new();
    if !seen.is_empty() {
        let tx = store::begin(&queue.db().write).await?;
        taken = queue::give_up_exhausted(&tx, span).await?;
        tx.commit().await?;
    }
    looks.looked(span, took, queue::first_left(&seen, &taken));
    Ok(taken.len())
}
