//! Takes back what vanished holders held: steps of workers, builds of cells.

use std::time::Duration;

use tokio::time::Instant;

use tracing::{info, warn};

use crate::queue::{self, Expired, Queue};
use crate::store::{self, StoreError, leases};

/// How often it looks; a lease is taken back at most this long after it ran out.
const EVERY: Duration = Duration::from_millis(1_000);

/// Looks for ever. Every process may: of two that look at once, each takes what the other has not.
pub(super) async fn keep_expiring(queue: Queue) {
    loop {
        let began = Instant::now();
        if let Err(error) = expire_leases(&queue).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "failed to take back expired leases"
            );
        }
        // Where it takes long, it takes a small share of the time.
        tokio::time::sleep(EVERY.max(began.elapsed() * 10)).await;
    }
}

/// Takes back the leases that ran out; says what became of the steps, and how many builds were concerned.
///
/// # Errors
///
/// When the database does not answer.
pub async fn expire_leases(queue: &Queue) -> Result<(Expired, usize), StoreError> {
    let now = queue.now();
    let tx = store::begin(&queue.db().write).await?;
    let steps = queue::expire(&tx, now).await?;
    tx.commit().await?;
    let tx = store::begin(&queue.db().write).await?;
    let builds = leases::expire(&tx, now).await?;
    tx.commit().await?;
    store::queues::prune(&queue.db().write, now).await?;
    if steps != Expired::default() || builds > 0 {
        let Expired { again, exhausted } = steps;
        info!(
            again,
            exhausted,
            builds,
            "took back {again} steps to try again, {exhausted} for good, and {builds} builds"
        );
        queue.notify_local();
    }
    Ok((steps, builds))
}
