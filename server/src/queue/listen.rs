//! Waking up: what moved in this process, what other processes say, and always a look by itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::store::{Database, StoreError, events};

use super::settings::{Clock, LeaseSettings};

/// The queue as the rest of the process sees it.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    settings: LeaseSettings,
    moved: watch::Sender<u64>,
    events: broadcast::Sender<i64>,
}

/// How often a long poll looks by itself; it is woken by whatever moves, so this only covers a lost wake-up.
const LONG_POLL: Duration = Duration::from_millis(1_000);

impl Queue {
    /// A queue over a database; [`Queue::run`] makes it listen.
    #[must_use]
    pub fn new(db: Database, clock: Clock, settings: LeaseSettings) -> Self {
        Self(Arc::new(Inner {
            db,
            clock,
            settings,
            moved: watch::channel(0).0,
            events: broadcast::channel(1_024).0,
        }))
    }

    /// The database it is over.
    #[must_use]
    pub fn db(&self) -> &Database {
        &self.0.db
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> i64 {
        (self.0.clock)()
    }

    /// The clock it lives by.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    /// How long leases last.
    #[must_use]
    pub fn settings(&self) -> LeaseSettings {
        self.0.settings
    }

    /// Tells everybody in this process who waits that something moved. Call it after the commit.
    pub fn notify_local(&self) {
        self.0.moved.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Becomes ready whenever something moved since it last did; nothing that moved is missed.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.0.moved.subscribe()
    }

    /// The number of the latest recorded fact, each time there is a later one.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<i64> {
        self.0.events.subscribe()
    }

    /// Tries until it gives something or the wait is over: now, whenever something moves, and once a second.
    ///
    /// # Errors
    ///
    /// Whatever the attempt's own are.
    pub async fn retry_until<T, E, F>(
        &self,
        wait: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Option<T>, E>
    where
        F: Future<Output = Result<Option<T>, E>>,
    {
        let deadline = Instant::now() + wait;
        let mut moves = self.moves();
        loop {
            moves.mark_unchanged();
            if let Some(found) = attempt().await? {
                return Ok(Some(found));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::select! {
                _ = moves.changed() => {}
                () = sleep(left.min(LONG_POLL)) => {}
            }
        }
    }

    /// Listens for ever: hears other processes where the database can tell, and passes on the numbers of new facts.
    pub async fn run(&self) {
        tokio::join!(self.pass_on_events(), self.hear_others());
    }

    async fn pass_on_events(&self) {
        let mut moves = self.moves();
        let mut last = None;
        loop {
            moves.mark_unchanged();
            match events::latest(&self.0.db.read).await {
                Ok(seq) => {
                    if last.is_some_and(|last| seq > last) {
                        // Without listeners there is nobody to tell.
                        let _ = self.0.events.send(seq);
                    }
                    last = Some(seq);
                }
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to look for new events"
                ),
            }
            tokio::select! {
                _ = moves.changed() => {}
                () = sleep(LONG_POLL) => {}
            }
        }
    }

    async fn hear_others(&self) {
        if self.0.db.listen.is_none() {
            return;
        }
        let mut delay = Duration::from_millis(100);
        loop {
            let heard = self.hear().await;
            if let Err(error) = heard {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "lost the connection that hears other processes; looking by myself meanwhile"
                );
            }
            sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(5));
        }
    }

    async fn hear(&self) -> Result<(), StoreError> {
        let Some(pool) = &self.0.db.listen else {
            return Ok(());
        };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen("forewright").await?;
        info!("hearing other processes");
        loop {
            // `None` says the connection was lost and made again: something may have been said meanwhile.
            listener.try_recv().await?;
            while let Some(Some(_)) =
                futures::FutureExt::now_or_never(listener.recv()).map(Result::ok)
            {}
            self.notify_local();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Fresh, on_both};

    on_both!(
        a_long_poll_ends_when_something_moves,
        a_long_poll_ends_with_its_time,
        the_numbers_of_new_facts_are_passed_on,
    );

    async fn a_long_poll_ends_when_something_moves(f: Fresh) {
        let queue = f.queue();
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move {
                let look = || async {
                    let seq = events::latest(&queue.db().read).await?;
                    Ok::<_, StoreError>((seq > 0).then_some(seq))
                };
                queue.retry_until(Duration::from_secs(30), look).await
            })
        };
        events::record(&f.db.write, f.now(), "a", "b", &json!({}))
            .await
            .unwrap();
        queue.notify_local();
        assert_eq!(waiting.await.unwrap().unwrap(), Some(1));
    }

    async fn a_long_poll_ends_with_its_time(f: Fresh) {
        let queue = f.queue();
        let never = || async { Ok::<Option<()>, StoreError>(None) };
        let got = queue.retry_until(Duration::from_millis(30), never).await;
        assert_eq!(got.unwrap(), None);
    }

    async fn the_numbers_of_new_facts_are_passed_on(f: Fresh) {
        let (queue, other) = (f.queue(), f.queue());
        let mut heard = queue.events();
        let mut moves = queue.moves();
        let listening = tokio::spawn(async move { queue.run().await });
        // The first look sets where it begins from, and on Postgres the connection has to be made.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let seq = events::record(&other.db().write, f.now(), "a", "b", &json!({})).await;
        let heard = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await;
        assert_eq!(heard.unwrap().unwrap(), seq.unwrap());
        if other.db().listen.is_some() {
            assert!(moves.has_changed().unwrap(), "Postgres told of it");
            moves.mark_unchanged();
        }
        listening.abort();
    }
}
