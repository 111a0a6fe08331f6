//! The replay of a run on a thread of its own, watched from outside.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use workflows::model::Timestamp;
use workflows::run::{Ending, Progress, ReplayContext, replay};
use workflows::script::{
    Limits, Panicked, Script, ScriptError, StopFlag, StopReason, on_big_stack,
};

use super::World;
use super::past::{Stop, read_back};
use super::script_thread::ScriptThread;
use super::short_work::ShortWork;
use crate::store::database::from_json;
use crate::store::journal;
use crate::store::runs::run;

/// What one replay may take.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// Processor time; whoever uses more than this is stopped for good.
    cpu: Duration,
    /// By the clock; where so much else goes on that a replay gets little of the processor, it is tried again.
    wall: Duration,
}

/// A journal of 10,000 entries is replayed in a second, and so are about all operations a script may use, unless each
/// of them copies a lot.
const ALLOWED: Allowed = Allowed {
    cpu: Duration::from_secs(5),
    wall: Duration::from_secs(300),
};

/// How many times the processor time that a quick replay may use it may take by the clock.
const PATIENCE: u32 = 50;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A replay that goes on until it is over or nobody waits for it any more.
pub struct Replaying {
    replaying: JoinHandle<Result<Result<Progress, ScriptError>, Panicked>>,
    stop: StopFlag,
    thread: Arc<OnceLock<ScriptThread>>,
    /// What goes first, if anything does; it may be said before the thread has begun.
    goes_first: Arc<OnceLock<ShortWork>>,
    /// How many times the time of one replay it may take.
    shares: u32,
}

/// Replays a run, with a deadline.
///
/// # Errors
///
/// [`Stop`], when its journal cannot be read.
pub async fn replay_run(
    world: &World,
    run: &run::Model,
    script: Script,
    now: i64,
) -> Result<Progress, Stop> {
    let journal = journal::of_run(&world.queue.db().read, &run.id).await?;
    Replaying::begin(world, run, journal, now, || Ok(script))
        .await?
        .ended(|| false)
        .await
}

impl Replaying {
    /// Reads the journal back and begins, with the compiling of the script if that has to be done.
    ///
    /// # Errors
    ///
    /// [`Stop`], when the journal cannot be read.
    pub async fn begin(
        world: &World,
        run: &run::Model,
        journal: Vec<journal::journal::Model>,
        now: i64,
        script: impl FnOnce() -> Result<Script, ScriptError> + Send + 'static,
    ) -> Result<Self, Stop> {
        let journal = read_back(world, journal).await?;
        let event: Value = from_json("event", &run.event)?;
        let (id, seed) = (run.id.clone(), run.seed.cast_unsigned());
        let cancelled = run.cancel_requested;
        let shares = journal.shares();
        Ok(Self::of(shares, move |limits| {
            let context = ReplayContext {
                run: &id,
                now: Timestamp(now),
                seed,
                cancelled,
                limits,
            };
            Ok(replay(&script()?, &event, &journal, &context))
        }))
    }

    fn of(
        shares: u32,
        replay: impl FnOnce(&Limits) -> Result<Progress, ScriptError> + Send + 'static,
    ) -> Self {
        let stop = StopFlag::default();
        let thread = Arc::new(OnceLock::new());
        let goes_first = Arc::new(OnceLock::<ShortWork>::new());
        let (here, first) = (thread.clone(), goes_first.clone());
        let limits = Limits::workflow()
            .stopped_by(stop.clone())
            .pausing(pause_for(goes_first.clone()));
        let replaying = tokio::task::spawn_blocking(move || {
            on_big_stack(|| {
                let _ = here.set(ScriptThread::here());
                if first.get().is_some() {
                    ScriptThread::here().step_back();
                }
                replay(&limits)
            })
        });
        Self {
            replaying,
            stop,
            thread,
            goes_first,
            shares,
        }
    }

    /// Its progress, if it comes to it with so much processor time. On a machine with other work that takes longer by the
    /// clock, so it is given a multiple of that.
    pub async fn quickly(&mut self, time: Duration) -> Option<Result<Progress, Stop>> {
        let began = Instant::now();
        loop {
            if let Some(progress) = self.within(time).await {
                return Some(progress);
            }
            let used = self.thread.get().and_then(|thread| thread.used());
            if used.is_some_and(|used| used >= time) || began.elapsed() > time * PATIENCE {
                return None;
            }
        }
    }

    /// Its progress, if it is over in this time.
    async fn within(&mut self, time: Duration) -> Option<Result<Progress, Stop>> {
        let over = timeout(time, &mut self.replaying).await.ok()?;
        let given_up = self.stop.raised() == Some(StopReason::GivenUp);
        Some(match over {
            Ok(Ok(Err(error))) => Err(Stop::Never {
                code: "invalid_workflow",
                message: error.to_string(),
            }),
            Ok(Ok(Ok(progress))) if given_up => Ok(progress),
            // A script that says its time was up when nobody stopped it would be tried again for ever.
            Ok(Ok(Ok(progress))) => Ok(for_good(progress)),
            Ok(Err(panic)) => Err(Stop::Again(panic.into())),
            Err(error) => Err(Stop::Again(error.into())),
        })
    }

    /// Its progress; it is stopped when it has had its time, or when it is `given_up`, to be replayed later.
    ///
    /// # Errors
    ///
    /// [`Stop::Again`], when there is no thread for it.
    pub async fn ended(self, given_up: impl Fn() -> bool) -> Result<Progress, Stop> {
        self.ended_within(ALLOWED, given_up).await
    }

    async fn ended_within(
        mut self,
        allowed: Allowed,
        given_up: impl Fn() -> bool,
    ) -> Result<Progress, Stop> {
        let began = Instant::now();
        let (cpu, wall) = (allowed.cpu * self.shares, allowed.wall * self.shares);
        loop {
            if let Some(progress) = self.within(LOOK_EVERY).await {
                return progress;
            }
            let used = self.thread.get().and_then(|thread| thread.used());
            if used.is_some_and(|used| used > cpu) {
                self.stop.raise(StopReason::UsedUp);
            } else if began.elapsed() > wall || given_up() {
                self.stop.raise(StopReason::GivenUp);
            }
        }
    }

    /// Lets everybody else go first from now on, and what is short before it goes on.
    pub fn step_back(&self, short: &ShortWork) {
        let _ = self.goes_first.set(short.clone());
        if let Some(thread) = self.thread.get() {
            thread.step_back();
        }
    }

    /// Drops it, whatever it would come to; its thread ends a little later, behind everybody else.
    pub fn give_up(self) {
        self.step_back(&ShortWork::default());
    }
}

impl Drop for Replaying {
    /// Without this a thread whose watcher is gone would go on to the end of its operations, however dear they are.
    fn drop(&mut self) {
        self.stop.raise(StopReason::GivenUp);
    }
}

/// What a script calls now and then, where it lets pass what goes first.
fn pause_for(goes_first: Arc<OnceLock<ShortWork>>) -> impl Fn() + Send + Sync {
    let since = Mutex::new(Instant::now());
    move || {
        if let Some(short) = goes_first.get() {
            short.let_pass(&mut since.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// What a replay comes to that would only come to the same again.
fn for_good(progress: Progress) -> Progress {
    let Progress::Ended {
        new,
        ending: Ending::Failed(mut failure),
    } = progress
    else {
        return progress;
    };
    if failure.failure.code == "limit.deadline" {
        failure.failure.retryable = false;
    }
    Progress::Ended {
        new,
        ending: Ending::Failed(failure),
    }
}

#[cfg(test)]
mod tests {
    use workflows::run::{Journal, StepFailure};

    use super::*;

    fn replaying(source: &str) -> Replaying {
        let script = Script::compile("w", source).expect("compiles");
        Replaying::of(1, move |limits| {
            let context = ReplayContext {
                run: "r",
                now: Timestamp(0),
                seed: 1,
                cancelled: false,
                limits,
            };
            Ok(replay(&script, &Value::Null, &Journal::default(), &context))
        })
    }

    /// Few operations, each of which compares thousands of items.
    const SLOW: &str = "fn run(event) { let a = []; a.pad(9_000, 1); while a == a { } }";

    #[tokio::test]
    async fn a_script_that_uses_up_its_processor_time_fails_for_good_and_one_that_waited_for_it_does_not()
     {
        let (little, long) = (Duration::from_millis(200), Duration::from_secs(600));
        for (cpu, wall, given_up, retryable) in [
            (little, long, false, false),
            (long, little, false, true),
            (long, long, true, true),
        ] {
            let failure = within(replaying(SLOW), cpu, wall, given_up).await;
            let Ok(failure) = failure else {
                panic!("{failure:?}");
            };
            assert_eq!(failure.code, "limit.deadline");
            assert_eq!(failure.retryable, retryable, "{failure:?}");
        }
    }

    #[tokio::test]
    async fn what_is_to_be_undone_has_as_much_time_again() {
        let long = Duration::from_secs(600);
        let undoing = SLOW.replace("let a", "on_failure(|| 1); let a");
        let mut first = replaying(&undoing);
        first.shares = 2;
        let began = Instant::now();
        let stopped = within(first, Duration::from_millis(200), long, false).await;
        assert!(began.elapsed() >= Duration::from_millis(400));
        let Err(Progress::UsedUp { new, .. }) = stopped else {
            panic!("{stopped:?}");
        };
        assert_eq!(new.len(), 1, "where it was stopped");
        assert_eq!(Journal::from_iter(new).shares(), 3);
    }

    /// What a replay fails with, or its progress.
    async fn within(
        replaying: Replaying,
        cpu: Duration,
        wall: Duration,
        given_up: bool,
    ) -> Result<StepFailure, Progress> {
        replaying.step_back(&ShortWork::default());
        let progress = replaying.ended_within(Allowed { cpu, wall }, || given_up);
        match progress.await.expect("an end") {
            Progress::Ended {
                ending: Ending::Failed(failure),
                new,
            } if new.is_empty() => Ok(failure.failure),
            progress => Err(progress),
        }
    }

    #[tokio::test]
    async fn a_script_that_nobody_watches_any_more_ends() {
        let replaying = replaying(SLOW);
        let stop = replaying.stop.clone();
        while replaying.thread.get().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ended = replaying.ended(|| false);
        timeout(Duration::from_millis(50), ended)
            .await
            .expect_err("it goes on");
        assert_eq!(stop.raised(), Some(StopReason::GivenUp));
    }

    #[tokio::test]
    async fn a_short_script_is_over_in_time() {
        let mut replaying = replaying("fn run(event) { 1 }");
        let progress = replaying.within(Duration::from_secs(600)).await;
        assert!(matches!(progress, Some(Ok(Progress::Ended { .. }))));
    }

    #[tokio::test]
    async fn a_script_that_only_says_its_time_was_up_is_not_tried_again() {
        let source = r#"fn run(event) { throw #{ code: "limit.deadline", retryable: true }; }"#;
        let progress = replaying(source).ended(|| false).await.expect("an end");
        let Progress::Ended {
            ending: Ending::Failed(failure),
            ..
        } = progress
        else {
            panic!("{progress:?}")
        };
        assert!(!failure.failure.retryable, "{failure:?}");
    }
}
