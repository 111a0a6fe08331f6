//! Waking up: what moved in this process, what other processes say, and always a look by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use workflows::build::fit::Capabilities;

use crate::store::database::{BUILDS, Moved};
use crate::store::{Database, StoreError, builds, events, rules};

use super::desk::{Desk, PutBy};
use super::line::{Line, Seen};
use super::settings::{Clock, LeaseSettings};

/// The queue as the rest of the process sees it.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    settings: LeaseSettings,
    moved: watch::Sender<u64>,
    queues: Mutex<BTreeMap<String, watch::Sender<u64>>>,
    events: broadcast::Sender<i64>,
    line: Line,
    claims: Semaphore,
    desks: Mutex<BTreeMap<String, Desk>>,
}

/// How many cells try for a build at once. When a whole hall comes back at once its cells queue up here, and leave
/// connections to the database for everybody else.
const CLAIMS_AT_ONCE: usize = 4;

/// How long a hand is waited for that may be free in a moment.
const SOON: Duration = Duration::from_millis(20);

/// How often it looks for new facts by itself; it is woken by whatever moves, so this only covers a lost wake-up.
const LOOK: Duration = Duration::from_millis(1_000);

impl Queue {
    /// A queue over a database; [`Queue::run`] makes it listen.
    #[must_use]
    pub fn new(db: Database, clock: Clock, settings: LeaseSettings) -> Self {
        Self(Arc::new(Inner {
            db,
            clock,
            settings,
            moved: watch::channel(0).0,
            queues: Mutex::default(),
            events: broadcast::channel(1_024).0,
            line: Line::new(),
            claims: Semaphore::new(CLAIMS_AT_ONCE),
            desks: Mutex::default(),
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
        self.notify_local_of(Moved::Anything);
    }

    /// Tells those in this process who wait for what moved. Call it after the commit.
    pub(crate) fn notify_local_of(&self, moved: Moved<'_>) {
        let tell = |sender: &watch::Sender<u64>| sender.send_modify(|n| *n = n.wrapping_add(1));
        if let Moved::Place(name, place) = moved
            && let Some(desk) = lock(&self.0.desks).get(name)
        {
            desk.floor.lower(place);
        }
        if !matches!(moved, Moved::Queue(_) | Moved::Place(..)) {
            tell(&self.0.moved);
        }
        let queues = lock(&self.0.queues);
        match moved {
            Moved::Fact => {}
            Moved::Anything => queues.values().for_each(tell),
            Moved::Queue(name) | Moved::Place(name, _) => {
                queues.get(name).into_iter().for_each(tell);
            }
        }
    }

    /// Becomes ready whenever something moved since it last did, other than steps that became ready; nothing that
    /// moved is missed.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.0.moved.subscribe()
    }

    /// Becomes ready whenever a step of a queue may have become ready since it last did.
    #[must_use]
    pub fn moves_of(&self, name: &str) -> watch::Receiver<u64> {
        let mut queues = lock(&self.0.queues);
        let sender = queues
            .entry(name.to_owned())
            .or_insert_with(|| watch::channel(0).0);
        sender.subscribe()
    }

    /// Says where the steps of a queue go in this process from now on.
    pub(super) fn open_desk(&self, name: &str, desk: Desk) {
        lock(&self.0.desks).insert(name.to_owned(), desk);
    }

    /// Puts by hands of this process for steps of a queue which a transaction is about to claim, at most `wanted`;
    /// `None` when no hand is free or none here works on that queue.
    #[must_use]
    pub fn put_by(&self, name: &str, wanted: usize) -> Option<PutBy> {
        let desk = lock(&self.0.desks).get(name).cloned();
        desk?.put_by(wanted)
    }

    /// Puts by one hand as [`Queue::put_by`] does, and waits a moment for it: the workers of a queue hold all free hands
    /// while they look for steps.
    pub async fn put_by_soon(&self, name: &str) -> Option<PutBy> {
        let desk = lock(&self.0.desks).get(name).cloned()?;
        timeout(SOON, desk.wait_for_one()).await.ok()?
    }

    /// The number of the latest recorded fact, each time there is a later one.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<i64> {
        self.0.events.subscribe()
    }

    /// Tries to take a build until it gets one or the wait is over: now, and whenever a build may wait for this cell.
    ///
    /// However many wait, the process looks for all of them at once, and wakes as many as there are builds.
    ///
    /// # Errors
    ///
    /// Whatever the attempt's own are.
    pub async fn take_in_turn<T, E, F>(
        &self,
        wait: Duration,
        (cell, offer): (&str, Capabilities),
        mut attempt: impl FnMut() -> F,
    ) -> Result<Option<T>, E>
    where
        F: Future<Output = Result<Option<T>, E>>,
    {
        let mut attempt = async || {
            // It is never closed.
            let _turn = self.0.claims.acquire().await;
            attempt().await
        };
        if wait.is_zero() {
            return attempt().await;
        }
        let deadline = Instant::now() + wait;
        let mut place = self.0.line.join(cell, offer);
        let first = attempt().await?;
        if first.is_some() {
            return Ok(first);
        }
        while place.woken(deadline).await {
            if let Some(found) = attempt().await? {
                return Ok(Some(found));
            }
            place.settle();
        }
        Ok(None)
    }

    /// Listens for ever: hears other processes where the database can tell, and passes on the numbers of new facts.
    pub async fn run(&self) {
        let look = || self.look();
        tokio::join!(
            self.pass_on_events(),
            self.hear_others(),
            self.0.line.run(look),
            self.nudge_by_moves()
        );
    }

    /// What waits for a cell, and who may not take it now.
    async fn look(&self) -> Result<Seen, StoreError> {
        let db = &self.0.db.read;
        let demands = builds::demands(db).await?;
        if demands.is_empty() {
            return Ok(Seen::default());
        }
        let mut barred: BTreeSet<_> = rules::barred(db, self.now()).await?.into_keys().collect();
        barred.extend(builds::unknown_plates(db).await?.into_keys());
        Ok(Seen { demands, barred })
    }

    /// Without a database that tells of builds, every move of the process may have been one.
    async fn nudge_by_moves(&self) {
        if self.0.db.listen.is_some() {
            return;
        }
        let mut moves = self.moves();
        while moves.changed().await.is_ok() {
            self.0.line.nudge();
        }
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
                () = sleep(LOOK) => {}
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
        listener.listen_all(["forewright", BUILDS]).await?;
        info!("hearing other processes");
        loop {
            // `None` says the connection was lost and made again: something may have been said meanwhile.
            let mut said: BTreeSet<String> = BTreeSet::new();
            let mut builds = false;
            let mut note = |told: Option<PgNotification>| match told {
                Some(told) if told.channel() == BUILDS => builds = true,
                Some(told) => drop(said.insert(told.payload().to_owned())),
                None => {
                    builds = true;
                    said.insert(String::new());
                }
            };
            note(listener.try_recv().await?);
            while let Some(Ok(more)) = futures::FutureExt::now_or_never(listener.recv()) {
                note(Some(more));
            }
            if builds {
                self.0.line.nudge();
            }
            for payload in &said {
                self.notify_local_of(Moved::of(payload));
            }
        }
    }
}

/// Nothing here can be left half-done, so a panic of another holder of the lock does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Fresh, on_both};
    use workflows::model::NewBuild;

    on_both!(
        a_long_poll_ends_when_a_build_waits_for_it,
        a_long_poll_ends_with_its_time,
        the_numbers_of_new_facts_are_passed_on,
        only_those_who_wait_for_what_moved_are_woken,
    );

    async fn only_those_who_wait_for_what_moved_are_woken(f: Fresh) {
        let queue = f.queue();
        let (mut facts, mut io, mut cad) =
            (queue.moves(), queue.moves_of("io"), queue.moves_of("cad"));
        let mut woken = |moved: Moved<'_>| {
            // What other processes are told says the same.
            let payload = match moved {
                Moved::Anything => "",
                Moved::Fact => "fact",
                Moved::Queue(name) => &format!("queue:{name}"),
                Moved::Place(name, place) => &format!("place:{place}:{name}"),
            };
            assert_eq!(Moved::of(payload), moved);
            queue.notify_local_of(moved);
            [&mut facts, &mut io, &mut cad].map(|heard| {
                let moved = heard.has_changed().unwrap();
                heard.mark_unchanged();
                moved
            })
        };
        assert_eq!(woken(Moved::Queue("io")), [false, true, false]);
        assert_eq!(woken(Moved::Place("io", -5)), [false, true, false]);
        assert_eq!(woken(Moved::Fact), [true, false, false]);
        assert_eq!(woken(Moved::Anything), [true, true, true]);
        assert_eq!(woken(Moved::Queue("nobody's")), [false, false, false]);
    }

    async fn a_long_poll_ends_when_a_build_waits_for_it(f: Fresh) {
        let (queue, other) = (f.queue(), f.queue());
        let listening = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.run().await })
        };
        // On Postgres the connection that hears has to be made.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let run = f.start("fn run(event) { 1 }", json!(null)).await;
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move {
                let look = || async {
                    let demands = builds::demands(&queue.db().read).await?;
                    Ok::<_, StoreError>((!demands.is_empty()).then_some(Instant::now()))
                };
                let offer = Capabilities::default();
                let wait = Duration::from_secs(30);
                queue.take_in_turn(wait, ("c1", offer), look).await
            })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let order = NewBuild {
            gcode: "sha256:00".into(),
            gcode_size_bytes: 1,
            material: "petg".into(),
            printer: "prusa_mk4".into(),
            design: "d".into(),
        };
        builds::of_step(&other.db().write, f.now(), (&run, "1"), &order)
            .await
            .unwrap();
        let ordered = Instant::now();
        if queue.db().listen.is_none() {
            queue.notify_local();
        }
        let woken = waiting.await.unwrap().unwrap().expect("a build");
        let late = woken.saturating_duration_since(ordered);
        assert!(
            late < Duration::from_millis(500),
            "woken, not found by the look of each second: {late:?}"
        );
        listening.abort();
    }

    async fn a_long_poll_ends_with_its_time(f: Fresh) {
        let queue = f.queue();
        let never = || async { Ok::<Option<()>, StoreError>(None) };
        let wait = Duration::from_millis(30);
        let got = queue
            .take_in_turn(wait, ("c1", Capabilities::default()), never)
            .await;
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
