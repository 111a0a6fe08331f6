//! Takes back what vanished holders held: steps of workers, builds of cells.

use std::time::Duration;

use tokio::time::Instant;

use tracing::{info, warn};

use crate::queue::{self, Expired, Queue};
use crate::store::{self, StoreError, leases};

/// How often it looks; a lease is taken back at most this long after it ran out, and after the database ended the
/// transaction of a process that was stopped while it held the step.
const EVERY: Duration = Duration::from_millis(500);

/// How far a look reaches back beyond the one before it: a lease that was locked then, by a process that was stopped, is
/// free by now; and clocks differ.
const SLACK_MS: i64 = 10_000;

/// At least so long from one look at everything to the next, and twenty times as long as one takes.
const WHOLE_EVERY: Duration = Duration::from_secs(10);

/// Looks for ever. Every process may: of two that look at once, each takes what the other has not.
///
/// What records facts may have to wait, for a process that was stopped while it recorded one; what can be tried again is
/// taken back meanwhile.
pub(super) async fn keep_expiring(queue: Queue) {
    tokio::join!(
        keep(&queue, |since| take_back(&queue, since)),
        keep(&queue, |since| settle(&queue, since))
    );
}

async fn keep<T, L>(queue: &Queue, look: impl Fn(i64) -> L)
where
    L: Future<Output = Result<T, StoreError>>,
{
    let mut reach = Reach::default();
    loop {
        let (began, now) = (Instant::now(), queue.now());
        let since = reach.since(began);
        match look(since).await {
            Ok(_) => reach.looked(since, now, began, began.elapsed()),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "failed to take back expired leases"
            ),
        }
        tokio::time::sleep(EVERY.saturating_sub(began.elapsed()).max(EVERY / 4)).await;
    }
}

/// How far back looks reach.
///
/// Beside a transaction that stays open, every lease there ever was since it began stands in the index still, and a look
/// at all of them takes longer and longer. What ran out long ago was taken back long ago: only now and then is it worth
/// to look whether something was overlooked.
#[derive(Default)]
struct Reach {
    last: Option<i64>,
    whole_after: Option<Instant>,
}

impl Reach {
    /// Leases that ran out after this are looked at.
    fn since(&self, now: Instant) -> i64 {
        let whole = self.whole_after.is_none_or(|after| now >= after);
        match self.last {
            Some(last) if !whole => last.saturating_sub(SLACK_MS),
            _ => i64::MIN,
        }
    }

    /// A look that went well, from `since` up to `now`; when it began, and how long it took.
    fn looked(&mut self, since: i64, now: i64, began: Instant, took: Duration) {
        self.last = Some(now);
        if since == i64::MIN {
            self.whole_after = Some(began + WHOLE_EVERY.max(took * 20));
        }
    }
}

/// Takes back the leases that ran out; says what became of the steps, and how many builds were concerned.
///
/// # Errors
///
/// When the database does not answer.
pub async fn expire_leases(queue: &Queue) -> Result<(Expired, usize), StoreError> {
    let again = take_back(queue, i64::MIN).await?;
    let (exhausted, builds) = settle(queue, i64::MIN).await?;
    Ok((Expired { again, exhausted }, builds))
}

/// The steps that may be tried again.
async fn take_back(queue: &Queue, since: i64) -> Result<u64, StoreError> {
    let tx = store::begin(&queue.db().write).await?;
    let again = queue::take_back(&tx, queue.now(), since).await?;
    tx.commit().await?;
    if again > 0 {
        info!(again, "took back {again} steps to try again");
        queue.notify_local();
    }
    Ok(again)
}

/// The steps that may not, and the builds.
async fn settle(queue: &Queue, since: i64) -> Result<(u64, usize), StoreError> {
    let now = queue.now();
    let tx = store::begin(&queue.db().write).await?;
    let exhausted = queue::give_up_exhausted(&tx, now, since).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_reaches_back_beyond_the_last_and_now_and_then_over_everything() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let quick = Duration::from_millis(3);
        let mut reach = Reach::default();
        assert_eq!(reach.since(begun), i64::MIN, "the first sees all");
        reach.looked(i64::MIN, 100_000, begun, quick);
        assert_eq!(reach.since(after(1)), 90_000);
        // One that fails is made up for by the next, which reaches as far.
        assert_eq!(reach.since(after(9)), 90_000);
        reach.looked(90_000, 109_000, after(9), quick);
        assert_eq!(reach.since(after(9)), 99_000);
        assert_eq!(reach.since(after(10)), i64::MIN);
        // A look at everything that takes long comes seldom.
        reach.looked(i64::MIN, 110_000, after(10), Duration::from_secs(3));
        assert_eq!(reach.since(after(69)), 100_000);
        assert_eq!(reach.since(after(70)), i64::MIN);
    }
}
