//! Short work goes before long: a replay that takes long stops in its middle until what is short has passed.
//!
//! A low priority alone does not do that. A thread that is at work keeps its core until the system looks again, which
//! is longer than a step takes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// Work that is not over by then goes before nobody.
const SHORT: Duration = Duration::from_millis(50);
/// What is long goes on for so long at least before it lets others pass again.
const TURN: Duration = Duration::from_millis(1);
/// How many times its turn it waits at most: it has a tenth of the time.
const MOST_TURNS: u32 = 9;
/// And how long at most.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The short work of a process that is under way.
#[derive(Debug, Clone, Default)]
pub struct ShortWork(Arc<AtomicUsize>);

struct UnderWay<'a>(&'a ShortWork);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ShortWork {
    /// Does work, which goes before what is long unless it turns out to be long itself.
    pub async fn first<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(self);
        let mut work = pin!(work);
        if let Ok(done) = timeout(SHORT, &mut work).await {
            return done;
        }
        drop(under_way);
        work.await
    }

    /// Lets short work pass, on a thread that may wait: to be called now and then by what is long. `since` is when it went
    /// on last.
    pub fn let_pass(&self, since: &mut Instant) {
        let ran = since.elapsed();
        if ran < TURN || !self.is_under_way() {
            return;
        }
        let began = Instant::now();
        let most = (ran * MOST_TURNS).min(PATIENCE);
        while self.is_under_way() && began.elapsed() < most {
            std::thread::sleep(LOOK_EVERY);
        }
        *since = Instant::now();
    }

    fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_goes_first_until_it_is_over_or_long() {
        let short = ShortWork::default();
        short.first(async { assert!(short.is_under_way()) }).await;
        assert!(!short.is_under_way());
        let long = async {
            while short.is_under_way() {
                tokio::time::sleep(SHORT).await;
            }
        };
        short.first(long).await;
        let mut dropped = Box::pin(short.first(std::future::pending::<()>()));
        assert!(futures::poll!(&mut dropped).is_pending());
        assert!(short.is_under_way());
        drop(dropped);
        assert!(!short.is_under_way());
    }

    #[test]
    fn what_is_long_goes_on_all_the_same_beside_endless_short_work() {
        let short = ShortWork::default();
        short.0.fetch_add(1, Ordering::Relaxed);
        let (began, mut since, mut turns) = (Instant::now(), Instant::now(), 0);
        while turns < 3 {
            let before = since;
            short.let_pass(&mut since);
            turns += u32::from(since != before);
        }
        assert!(began.elapsed() >= TURN * 3 * MOST_TURNS, "and lets it pass");
    }
}
