//! The workers of a process: one per queue, over the queue's own apalis backend.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apalis::prelude::{Monitor, WorkerBuilder, WorkerBuilderExt};
use tracing::{error, info, warn};
use workflows::script::{Script, ScriptError};
use workflows::steps::Registry;

use super::advance_run::advance_run;
use super::compiled::Compiled;
use super::execute_step::{TRIES, execute_step};
use super::expire_leases::keep_expiring;
use super::long_lane::LongLane;
use crate::host::World;
use crate::queue::{Finisher, Heartbeat, StepBackend, Taken};
use crate::store::steps::{ADVANCE, RUNS};
use crate::store::{self, StoreError, new_id};

/// What the jobs of a process share.
#[derive(Clone)]
pub struct WorkerContext {
    /// The world steps see.
    pub world: World,
    /// Every kind of step this process knows.
    pub registry: Arc<Registry>,
    /// How many steps of a queue are worked on at a time; [`WorkerContext::HANDS`] where it is not told.
    pub hands: BTreeMap<String, usize>,
    /// What records the endings of its steps.
    pub finisher: Finisher,
    pub(super) long: LongLane,
    scripts: Compiled,
    stopping: Arc<AtomicBool>,
}

/// Why the workers of a process stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A worker could not go on.
    #[error("a worker stopped")]
    Stopped(#[source] apalis::prelude::MonitorError),
}

impl WorkerContext {
    /// How many steps of a queue are worked on at a time unless told otherwise.
    pub const HANDS: usize = 2;

    /// What the jobs of a process share. To be made on the runtime, as a task records what steps ended with.
    #[must_use]
    pub fn new(world: World, registry: Arc<Registry>) -> Self {
        Self {
            finisher: Finisher::start(&world.queue),
            world,
            registry,
            hands: BTreeMap::new(),
            long: LongLane::default(),
            scripts: Compiled::default(),
            stopping: Arc::default(),
        }
    }

    /// Whether the process is going down.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The script of a revision that was compiled before.
    pub(super) fn compiled(&self, revision: &str) -> Option<Script> {
        self.scripts.get(revision)
    }

    /// A compiled script, from memory if it was compiled before.
    pub(super) fn script(
        &self,
        revision: &str,
        compile: impl FnOnce() -> Result<Script, ScriptError>,
    ) -> Result<Script, ScriptError> {
        if let Some(script) = self.compiled(revision) {
            return Ok(script);
        }
        let script = compile()?;
        self.scripts.put(revision, script.clone());
        Ok(script)
    }
}

/// Every queue the steps of a registry are claimed under, and the one of the runs.
#[must_use]
pub fn all_queues(registry: &Registry) -> Vec<String> {
    let mut queues: Vec<String> = registry.kinds().map(|(_, queue)| queue.into()).collect();
    queues.push(RUNS.to_owned());
    queues.sort();
    queues.dedup();
    queues
}

/// Works on the named queues until `shutdown` is ready, then ends what is at work and gives back what is not.
///
/// # Errors
///
/// When a worker cannot go on.
pub async fn run_workers(
    context: WorkerContext,
    queues: &[String],
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkerError> {
    let queue = context.world.queue.clone();
    // A new name each time: nothing hangs on it, a lease belongs to a fence.
    let owner = format!("worker-{}-{}", std::process::id(), new_id(queue.now()));
    let heartbeat = Heartbeat::new(queue.db().clone(), queue.clock(), queue.settings());
    let mut monitor = Monitor::new().should_restart(|_, _| true);
    for name in queues {
        let hands = context
            .hands
            .get(name)
            .copied()
            .unwrap_or(WorkerContext::HANDS);
        let (name, owner) = (name.clone(), owner.clone());
        let (context, heartbeat) = (context.clone(), heartbeat.clone());
        monitor = monitor.register(move |restarts| {
            let context = context.clone();
            let queue = &context.world.queue;
            let backend = StepBackend::start(queue, &heartbeat, &owner, &name, hands);
            WorkerBuilder::new(format!("{owner}-{name}-{restarts}"))
                .backend(backend)
                .catch_panic()
                .build(move |taken: Taken| work_first(context.clone(), taken))
        });
    }
    let beating = tokio::spawn({
        let heartbeat = heartbeat.clone();
        async move { heartbeat.run().await }
    });
    let expiring = tokio::spawn(keep_expiring(queue.clone()));
    let stopping = context.stopping.clone();
    let signal = async move {
        shutdown.await;
        info!("stopping: ending what is at work, giving back the rest");
        stopping.store(true, Ordering::Relaxed);
        heartbeat.stop_all();
        Ok(())
    };
    let ended = monitor.run_with_signal(signal).await;
    beating.abort();
    expiring.abort();
    ended.map_err(WorkerError::Stopped)
}

async fn work_first(context: WorkerContext, taken: Taken) {
    let short = context.long.short.clone();
    short.first(Box::pin(work(context, taken))).await;
}

/// One claimed step from claim to finish. What goes wrong here is not an error of the worker: the lease runs out and
/// the step is tried again.
async fn work(context: WorkerContext, taken: Taken) {
    let step = &taken.claimed.0;
    let done = if step.position == ADVANCE {
        advance_until_recorded(&context, &taken).await
    } else {
        execute_step(&context, &taken).await
    };
    match done {
        Ok(()) => {}
        Err(StoreError::Stale { .. }) => {
            info!(run.id = %step.run_id, step.position = %step.position, step.kind = %step.kind,
                "step `{}` of run {} has passed to somebody else", step.kind, step.run_id);
        }
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            error!(error = cause, run.id = %step.run_id, step.position = %step.position,
                step.kind = %step.kind, "failed to record step `{}` of run {}; it is tried again when its lease runs out",
                step.kind, step.run_id);
        }
    }
}

/// Advances a run; where the database failed for now, once more, for nothing of it was kept. Had the commit come
/// through after all, the next try is `Stale`.
async fn advance_until_recorded(context: &WorkerContext, taken: &Taken) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        match advance_run(context, taken).await {
            Err(StoreError::Database(error))
                if tries < TRIES && store::database::is_passing(&error) =>
            {
                warn!(error = %error, run.id = %taken.claimed.0.run_id,
                    "failed to record an advance of run {}; trying again", taken.claimed.0.run_id);
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use serde::Deserialize;
    use serde_json::{Value, json};
    use tokio::sync::oneshot;
    use workflows::host::Host;
    use workflows::model::{BuildEnd, NewBuild};
    use workflows::steps::{Outcome, Step, StepError, Wait};

    use super::*;
    use crate::jobs::expire_leases;
    use crate::queue::{self, Advance, Claimed};
    use crate::store::database::number;
    use crate::store::leases::{Ask, Holder};
    use crate::store::runs::run;
    use crate::store::{self, approvals, events, journal, leases, runs, steps, values};
    use crate::testing::{self, Fresh, Kept, Silent, on_both};

    on_both!(
        three_steps_run_to_the_end,
        a_step_whose_worker_died_is_done_by_another_and_recorded_once,
        an_advance_that_died_before_its_commit_left_nothing,
        a_failure_is_thrown_where_it_may_be_caught,
        a_panic_is_one_attempt,
        a_build_parks_its_step_and_its_end_wakes_it,
        time_and_people_and_events_move_a_run,
        what_is_not_answered_in_time_times_out,
        a_run_is_cancelled_with_all_it_started,
        a_large_output_is_kept_by_its_digest,
        what_a_step_writes_is_written_once,
        an_unknown_step_is_told_to_the_script,
        an_unknown_queue_is_told_to_the_script,
        an_idempotency_key_has_one_result,
        two_keys_of_one_step_are_refused,
        many_runs_share_the_hands,
        a_run_that_crashes_its_advance_is_given_up,
        a_run_whose_journal_is_another_script_s_diverges_and_loses_nothing,
        killed_processes_lose_nothing_and_record_nothing_twice,
        a_run_never_waits_for_the_queue_to_look_by_itself,
    );

    pub(in crate::jobs) struct Double;

    #[derive(Deserialize)]
    pub(in crate::jobs) struct Number {
        n: i64,
    }

    impl Step for Double {
        const KIND: &'static str = "double";
        type Input = Number;
        type Output = Value;

        fn run(&self, input: Number, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
            if input.n < 0 {
                return Err(StepError::failed("negative", "only what is positive"));
            }
            let bytes = input.n.to_string();
            let kept = host.put_artifact("number", "text/plain", bytes.as_bytes())?;
            Ok(Outcome::Done(
                json!({ "n": input.n * 2, "digest": kept.digest }),
            ))
        }
    }

    /// Panics the first time.
    struct Shaky(AtomicU32);

    impl Step for Shaky {
        const KIND: &'static str = "shaky";
        type Input = Value;
        type Output = Value;

        fn run(&self, _: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
            let before = self.0.fetch_add(1, Ordering::SeqCst);
            assert!(before > 0, "the first time is the hardest");
            Ok(Outcome::Done(json!(before)))
        }
    }

    pub(in crate::jobs) struct Build;

    impl Step for Build {
        const KIND: &'static str = "build";
        type Input = Value;
        type Output = Value;

        fn run(&self, _: Value, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
            let order = NewBuild {
                gcode: "sha256:00".into(),
                gcode_size_bytes: 1,
                material: "petg".into(),
                printer: "p".into(),
                design: "d".into(),
            };
            let build = host.build_of_this_step(&order)?;
            match build.ended {
                Some(BuildEnd::Completed { scan, .. }) => Ok(Outcome::Done(json!(scan))),
                Some(BuildEnd::Failed { code, message }) => Err(StepError::failed(code, message)),
                None => Ok(Outcome::Waiting(Wait::Build(build.id))),
            }
        }
    }

    struct Large;

    impl Step for Large {
        const KIND: &'static str = "large";
        type Input = Value;
        type Output = Value;

        fn run(&self, input: Value, _: &dyn Host) -> Result<Outcome<Value>, StepError> {
            Ok(Outcome::Done(match input.as_array() {
                Some(numbers) => json!(numbers.len()),
                None => json!(vec![1.0 / 3.0; 9_000]),
            }))
        }
    }

    /// Says the same to the world however often it runs.
    struct Tell;

    impl Step for Tell {
        const KIND: &'static str = "tell";
        type Input = Value;
        type Output = Value;

        fn run(&self, input: Value, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
            for _ in 0..2 {
                host.notify("told", &input)?;
                host.put_artifact("words", "text/plain", b"words")?;
            }
            Ok(Outcome::Done(Value::Null))
        }
    }

    pub(in crate::jobs) fn context(f: &Fresh) -> WorkerContext {
        let registry = Registry::default()
            .register(Double)
            .register(Shaky(AtomicU32::new(0)))
            .register(Build)
            .register(Large)
            .register(Tell);
        let (queue, artifacts) = (f.queue(), Arc::new(Kept::default()));
        let world = World {
            // No test of steps calls one.
            plugins: testing::plugins(&queue, artifacts.clone(), Path::new("nowhere")),
            queue,
            artifacts,
            telemetry: Arc::new(Silent),
        };
        WorkerContext::new(world, Arc::new(registry))
    }

    /// Workers that stop when this is dropped, or in order when told to.
    pub(in crate::jobs) struct Working {
        stop: Option<oneshot::Sender<()>>,
        ended: tokio::task::JoinHandle<Result<(), WorkerError>>,
        pub(in crate::jobs) queue: queue::Queue,
    }

    pub(in crate::jobs) fn work_on(f: &Fresh) -> Working {
        work_with(context(f))
    }

    pub(in crate::jobs) fn work_with(context: WorkerContext) -> Working {
        let queue = context.world.queue.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let queues = all_queues(&context.registry);
        let ended = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            run_workers(context, &queues, shutdown).await
        });
        Working {
            stop: Some(stop),
            ended,
            queue,
        }
    }

    impl Working {
        pub(in crate::jobs) async fn stop(mut self) {
            drop(self.stop.take());
            let ended = tokio::time::timeout(Duration::from_secs(20), self.ended).await;
            ended
                .expect("the workers stop")
                .expect("no panic")
                .expect("no error");
        }
    }

    /// Looks until it finds something.
    pub(in crate::jobs) async fn until<T, F: Future<Output = Option<T>>>(
        mut look: impl FnMut() -> F,
    ) -> T {
        for _ in 0..1_500 {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing came of it in 30 s");
    }

    pub(in crate::jobs) async fn ended(f: &Fresh, id: &str) -> run::Model {
        until(|| async {
            let run = runs::get(&f.db.read, id).await.unwrap();
            run.ended_at.is_some().then_some(run)
        })
        .await
    }

    pub(in crate::jobs) async fn waiting(f: &Fresh, id: &str) -> run::Model {
        until(|| async {
            let run = runs::get(&f.db.read, id).await.unwrap();
            assert_eq!(run.ended_at, None, "{run:?}");
            (run.state == "waiting").then_some(run)
        })
        .await
    }

    pub(in crate::jobs) fn result(run: &run::Model) -> Value {
        assert_eq!(run.state, "succeeded", "{run:?}");
        serde_json::from_str(run.result.as_deref().unwrap()).unwrap()
    }

    pub(in crate::jobs) async fn count(f: &Fresh, what: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) AS n FROM {what}");
        number(&f.db.read, &sql, values![]).await.unwrap().unwrap()
    }

    const THREE: &str = r#"
        fn run(event) {
            let a = step("double", #{ n: event.n });
            let b = step("double", #{ n: a.n });
            let c = step("double", #{ n: b.n });
            c.n
        }"#;

    async fn three_steps_run_to_the_end(f: Fresh) {
        let working = work_on(&f);
        let id = f.start(THREE, json!({ "n": 5 })).await;
        assert_eq!(result(&ended(&f, &id).await), json!(40));
        working.stop().await;
        let steps = steps::of_run(&f.db.read, &id).await.unwrap();
        assert!(steps.iter().all(|s| s.state == "done" && s.attempt == 1));
        assert_eq!(steps.len(), 3);
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 3);
        assert_eq!(count(&f, "provenance").await, 3);
        assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
    }

    pub(in crate::jobs) async fn claim(f: &Fresh, queue: &str) -> Claimed {
        let db = &f.db.write;
        until(|| async {
            let claimed = queue::claim(db, f.now(), "dead", queue, 10_000, 1).await;
            claimed.unwrap().pop()
        })
        .await
    }

    async fn a_step_whose_worker_died_is_done_by_another_and_recorded_once(f: Fresh) {
        let id = f.start(THREE, json!({ "n": 5 })).await;
        let context = context(&f);
        // A worker advances the run, another claims its first step and dies.
        let advancing = work_alone(&context, claim(&f, RUNS).await);
        advance_run(&context, &advancing).await.unwrap();
        drop(advancing);
        let dead = claim(&f, "io").await;
        let working = work_on(&f);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(runs::get(&f.db.read, &id).await.unwrap().state, "waiting");
        f.advance(10_001);
        assert_eq!(result(&ended(&f, &id).await), json!(40));
        working.stop().await;
        let late = store::begin(&f.db.write).await.unwrap();
        let outcome = workflows::run::CallOutcome::Ok(json!(1));
        let late = queue::complete(&late, f.now(), &dead, &outcome).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 3);
        let first = &steps::of_run(&f.db.read, &id).await.unwrap()[0];
        assert_eq!((first.attempt, first.fence), (2, 2));
    }

    pub(in crate::jobs) fn work_alone(context: &WorkerContext, claimed: Claimed) -> Taken {
        let queue = &context.world.queue;
        let heartbeat = Heartbeat::new(queue.db().clone(), queue.clock(), queue.settings());
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        Taken {
            held: Arc::new(heartbeat.hold(&claimed)),
            claimed,
            place: places.try_acquire_owned().unwrap().into(),
            run: None,
        }
    }

    async fn an_advance_that_died_before_its_commit_left_nothing(f: Fresh) {
        let id = f.start(THREE, json!({ "n": 5 })).await;
        let context = context(&f);
        let dead = work_alone(&context, claim(&f, RUNS).await);
        f.advance(10_000);
        expire_leases(&context.world.queue).await.unwrap();
        // It replays and writes, but its lease has run out: everything it wrote is rolled back.
        let late = advance_run(&context, &dead).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
        assert_eq!(journal::of_run(&f.db.read, &id).await.unwrap(), []);
        assert_eq!(steps::of_run(&f.db.read, &id).await.unwrap(), []);
        let working = work_on(&f);
        assert_eq!(result(&ended(&f, &id).await), json!(40));
        working.stop().await;
        assert_eq!(count(&f, "journal").await, 3);
    }

    async fn a_failure_is_thrown_where_it_may_be_caught(f: Fresh) {
        let working = work_on(&f);
        let caught = r#"fn run(event) {
            try { step("double", #{ n: -1 }); } catch (e) { return e.code; }
        }"#;
        let id = f.start(caught, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!("negative"));
        let thrown = r#"fn run(event) { step("double", #{ n: -1 }) }"#;
        let id = f.start(thrown, Value::Null).await;
        let run = ended(&f, &id).await;
        assert_eq!(run.state, "failed");
        assert!(run.failure.unwrap().contains("negative"));
        working.stop().await;
    }

    async fn a_panic_is_one_attempt(f: Fresh) {
        let working = work_on(&f);
        let id = f
            .start(r#"fn run(event) { step("shaky", ()) }"#, Value::Null)
            .await;
        let failed = until(|| async {
            let steps = steps::of_run(&f.db.read, &id).await.unwrap();
            steps.into_iter().find(|s| s.error.is_some())
        })
        .await;
        assert!(
            failed
                .error
                .unwrap()
                .contains("the first time is the hardest")
        );
        f.advance(2_000);
        assert_eq!(result(&ended(&f, &id).await), json!(1));
        working.stop().await;
    }

    async fn a_build_parks_its_step_and_its_end_wakes_it(f: Fresh) {
        let working = work_on(&f);
        let id = f
            .start(r#"fn run(event) { step("build", ()) }"#, Value::Null)
            .await;
        let parked = until(|| async {
            let steps = steps::of_run(&f.db.read, &id).await.unwrap();
            steps.into_iter().find(steps::step::Model::is_parked)
        })
        .await;
        assert!(parked.waiting_for.unwrap().contains("build"));
        complete_build(&f).await;
        working.queue.notify_local();
        assert_eq!(result(&ended(&f, &id).await), json!("sha256:5c"));
        working.stop().await;
    }

    /// A cell takes the one build that waits, starts it and completes it.
    pub(in crate::jobs) async fn complete_build(f: &Fresh) {
        let db = &f.db.write;
        let sql = "INSERT INTO cell (id, name, machine, created_at) VALUES ('c', 'c', '{}', 0) \
                   ON CONFLICT (id) DO NOTHING";
        store::database::execute(db, sql, values![]).await.unwrap();
        let epoch = store::cells::open_epoch(db, f.now(), "c").await.unwrap();
        let ask = Ask {
            cell: "c",
            epoch,
            printers: &[],
            materials: &[],
            key: None,
            ttl_ms: 60_000,
        };
        let tx = store::begin(db).await.unwrap();
        let grant = leases::claim(&tx, f.now(), &ask).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let holder = Holder {
            lease: &grant.lease.id,
            cell: "c",
            fence: grant.lease.fence,
            epoch,
        };
        leases::stage(db, f.now(), holder, "sha256:00")
            .await
            .unwrap();
        leases::start(db, f.now(), holder).await.unwrap();
        let tx = store::begin(db).await.unwrap();
        leases::complete(&tx, f.now(), holder, "sha256:5c", &json!({}))
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn time_and_people_and_events_move_a_run(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            sleep("2h");
            let yes = approval("technician", #{ window: "w" }, "24h");
            let told = wait_event("window.accepted", "w", "24h");
            [yes.answer, yes.by, told.who]
        }"#;
        let id = f.start(source, Value::Null).await;
        waiting(&f, &id).await;
        f.advance(2 * 3_600_000);
        let asked = until(|| async {
            let page = store::Page::ALL;
            approvals::list(&f.db.read, Some("open"), page)
                .await
                .unwrap()
                .pop()
        })
        .await;
        let db = &f.db.write;
        let yes = approvals::Answer {
            by: "ada",
            answer: true,
            comment: None,
        };
        let tx = store::begin(db).await.unwrap();
        approvals::answer(&tx, f.now(), &asked.id, yes)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        until(|| async { (count(&f, "event_wait").await == 1).then_some(()) }).await;
        let tx = store::begin(db).await.unwrap();
        let told = json!({ "who": "bob" });
        let answered = events::emit(&tx, f.now(), "window.accepted", "w", &told).await;
        assert_eq!(answered.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(result(&ended(&f, &id).await), json!([true, "ada", "bob"]));
        working.stop().await;
    }

    async fn what_is_not_answered_in_time_times_out(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            let codes = [];
            try { approval("technician", (), "1h"); } catch (e) { codes.push(e.code); }
            try { wait_event("never", "k", "1h"); } catch (e) { codes.push(e.code); }
            try { step("build", (), #{ timeout: "1h" }); } catch (e) { codes.push(e.code); }
            codes
        }"#;
        let id = f.start(source, Value::Null).await;
        for kind in ["approval", "wait_event", "build"] {
            until(|| async {
                let journal = journal::of_run(&f.db.read, &id).await.unwrap();
                let last = journal.last()?;
                (last.kind == kind).then_some(())
            })
            .await;
            if kind == "build" {
                until(|| async { (count(&f, "build").await == 1).then_some(()) }).await;
            }
            f.advance(3_600_001);
        }
        let codes = json!(["timeout", "timeout", "timeout"]);
        assert_eq!(result(&ended(&f, &id).await), codes);
        assert_eq!(count(&f, "build WHERE state = 'ended'").await, 1);
        working.stop().await;
    }

    async fn a_run_is_cancelled_with_all_it_started(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            let b = start("build", ());
            approval("operator", (), "24h");
            wait(b)
        }"#;
        let id = f.start(source, Value::Null).await;
        until(|| async { (count(&f, "build").await == 1).then_some(()) }).await;
        let tx = store::begin(&f.db.write).await.unwrap();
        runs::request_cancel(&tx, f.now(), "op", &id, false)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(ended(&f, &id).await.state, "cancelled");
        assert_eq!(count(&f, "build WHERE state = 'ended'").await, 1);
        assert_eq!(count(&f, "approval WHERE state = 'withdrawn'").await, 1);
        assert_eq!(
            count(&f, "step WHERE state IN ('ready', 'leased')").await,
            0
        );
        let again = runs::request_cancel(&f.db.write, f.now(), "op", &id, false).await;
        assert!(matches!(
            again,
            Err(StoreError::Refused {
                code: "run_ended",
                ..
            })
        ));
        working.stop().await;
    }

    async fn a_large_output_is_kept_by_its_digest(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            let big = step("large", ());
            step("large", big)
        }"#;
        let id = f.start(source, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!(9_000));
        let journal = journal::of_run(&f.db.read, &id).await.unwrap();
        assert!(journal[0].outcome.as_deref().unwrap().len() < 200);
        assert!(journal[1].input.len() < 200);
        working.stop().await;
    }

    async fn what_a_step_writes_is_written_once(f: Fresh) {
        let working = work_on(&f);
        let id = f
            .start(r#"fn run(event) { step("tell", #{ a: 1 }) }"#, Value::Null)
            .await;
        ended(&f, &id).await;
        assert_eq!(count(&f, "outbox").await, 1);
        assert_eq!(count(&f, "provenance").await, 1);
        let webhook = crate::jobs::Webhook::Recorded;
        let told = crate::jobs::deliver_outbox(&working.queue, &webhook)
            .await
            .unwrap();
        let again = crate::jobs::deliver_outbox(&working.queue, &webhook)
            .await
            .unwrap();
        assert_eq!((told, again), (1, 0));
        assert_eq!(count(&f, "webhook_delivery").await, 1);
        working.stop().await;
    }

    async fn an_unknown_step_is_told_to_the_script(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            try { step("levitate", ()) } catch (e) { return e.code; }
        }"#;
        let id = f.start(source, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!("unknown_step"));
        working.stop().await;
    }

    async fn an_unknown_queue_is_told_to_the_script(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            let served = step("double", #{ n: 4 }, #{ queue: "runs" });
            try { step("double", #{ n: 4 }, #{ queue: "gpu" }) }
            catch (e) { return `${served.n} ${e.code}: ${e.message}`; }
        }"#;
        let id = f.start(source, Value::Null).await;
        let told = result(&ended(&f, &id).await);
        let told = told.as_str().unwrap();
        assert!(told.starts_with("8 unknown_queue: "), "{told}");
        assert!(told.contains("`gpu`") && told.contains("`runs`"), "{told}");
        working.stop().await;
    }

    async fn an_idempotency_key_has_one_result(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            let handles = [];
            for n in 0..4 { handles.push(start("double", #{ n: event.n + n }, #{ idempotency_key: "once" })); }
            let first = wait_all(handles).map(|done| done.n);
            first.dedup();
            [first.len(), step("double", #{ n: event.n }).n]
        }"#;
        let id = f.start(source, json!({ "n": 5 })).await;
        assert_eq!(result(&ended(&f, &id).await), json!([1, 10]));
        // Another run, much later: the result is given again until it is forgotten.
        let source =
            r#"fn run(event) { step("double", #{ n: 100 }, #{ idempotency_key: "once" }).n }"#;
        let id = f.start(source, Value::Null).await;
        let again = result(&ended(&f, &id).await);
        assert!(again.as_i64().unwrap() < 20, "{again}");
        f.advance(steps::IDEMPOTENT_MS + 60_000);
        let id = f.start(source, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!(200));
        working.stop().await;
    }

    async fn two_keys_of_one_step_are_refused(f: Fresh) {
        let working = work_on(&f);
        let source = r#"fn run(event) {
            let one = step("double", #{ n: 1 }, #{ concurrency_key: #{ key: "k", limit: 2 } });
            try { step("double", #{ n: 1 }, #{ concurrency_key: "a", idempotency_key: "b" }) }
            catch (e) { return `${one.n} ${e.code}`; }
        }"#;
        let id = f.start(source, Value::Null).await;
        assert_eq!(result(&ended(&f, &id).await), json!("2 unsupported_option"));
        working.stop().await;
    }

    async fn many_runs_share_the_hands(f: Fresh) {
        let (one, two) = (work_on(&f), work_on(&f));
        let source = r#"fn run(event) {
            let handles = [];
            for n in 0..4 { handles.push(start("double", #{ n: event.n + n })); }
            let sum = 0;
            for done in wait_all(handles) { sum += done.n; }
            sum
        }"#;
        let mut ids = Vec::new();
        for n in 0..10 {
            ids.push(f.start(source, json!({ "n": n })).await);
        }
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(result(&ended(&f, id).await), json!(8 * n + 12));
        }
        one.stop().await;
        two.stop().await;
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 40);
        assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
    }

    async fn a_run_that_crashes_its_advance_is_given_up(f: Fresh) {
        let id = f.start(THREE, json!({ "n": 1 })).await;
        let queue = f.queue();
        for _ in 0..10 {
            claim(&f, RUNS).await;
            f.advance(10_000);
            expire_leases(&queue).await.unwrap();
        }
        let run = runs::get(&f.db.read, &id).await.unwrap();
        assert_eq!(run.state, "failed");
        let failure: Value = serde_json::from_str(&run.failure.unwrap()).unwrap();
        assert_eq!(failure["code"], "attempts_exhausted");
        let late = Claimed(steps::at(&f.db.read, &id, ADVANCE).await.unwrap());
        let late = queue::advance(&f.db.write, f.now(), &late, Advance::Over).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "{late:?}");
    }

    async fn a_run_whose_journal_is_another_script_s_diverges_and_loses_nothing(f: Fresh) {
        let id = f.start(THREE, json!({ "n": 1 })).await;
        let entry = journal::NewEntry {
            position: "1",
            kind: "tell",
            input: &json!({}),
            input_digest: "sha256:0",
            line: None,
            due: None,
            undo: false,
            outcome: None,
        };
        journal::append(&f.db.write, f.now(), &id, &[entry])
            .await
            .unwrap();
        let working = work_on(&f);
        let run = until(|| async {
            let run = runs::get(&f.db.read, &id).await.unwrap();
            (run.state == "diverged").then_some(run)
        })
        .await;
        assert_eq!(run.ended_at, None);
        let sides: Value = serde_json::from_str(run.failure.as_deref().unwrap()).unwrap();
        assert_eq!(sides["recorded"]["kind"], "tell");
        assert_eq!(sides["requested"]["kind"], "double");
        assert_eq!(count(&f, "journal").await, 1);
        working.stop().await;
    }

    const DATABASE: &str = "FOREWRIGHT_TEST_CHILD_DATABASE";

    /// Takes its time, so that it is often killed at work.
    struct Slow;

    impl Step for Slow {
        const KIND: &'static str = "slow";
        type Input = Number;
        type Output = Value;

        fn run(&self, input: Number, host: &dyn Host) -> Result<Outcome<Value>, StepError> {
            let before = host.put_artifact("number", "text/plain", b"before")?;
            std::thread::sleep(Duration::from_millis(30));
            Ok(Outcome::Done(
                json!({ "n": input.n * 2, "digest": before.digest }),
            ))
        }
    }

    /// Not a test of its own: what `killed_processes_…` starts and kills.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "started by another test"]
    async fn child_process() {
        let Ok(url) = std::env::var(DATABASE) else {
            return;
        };
        #[expect(clippy::disallowed_methods, reason = "processes share a real clock")]
        let clock = || jiff::Timestamp::now().as_millisecond();
        let db = store::Database::open(&url).await.unwrap();
        let settings = queue::LeaseSettings {
            step_lease_ms: 600,
            step_heartbeat_ms: 150,
            poll_ms: 20,
            ..queue::LeaseSettings::default()
        };
        let queue = queue::Queue::new(db, Arc::new(clock), settings);
        let artifacts = Arc::new(Kept::default());
        let world = World {
            plugins: testing::plugins(&queue, artifacts.clone(), Path::new("nowhere")),
            queue,
            artifacts,
            telemetry: Arc::new(Silent),
        };
        let registry = Registry::default().register(Slow);
        let context = WorkerContext::new(world, Arc::new(registry));
        let queues = all_queues(&context.registry);
        run_workers(context, &queues, std::future::pending())
            .await
            .unwrap();
    }

    async fn killed_processes_lose_nothing_and_record_nothing_twice(f: Fresh) {
        let source = r#"fn run(event) {
            let handles = [];
            for n in 0..5 { handles.push(start("slow", #{ n: event.n + n })); }
            let sum = 0;
            for done in wait_all(handles) { sum += step("slow", #{ n: done.n }).n; }
            sum
        }"#;
        let mut ids = Vec::new();
        for n in 0..12 {
            ids.push(f.start(source, json!({ "n": n })).await);
        }
        let start = || {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--ignored",
                    "--exact",
                    "jobs::workers::tests::child_process",
                ])
                .env(DATABASE, &f.url)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut seed: u64 = 7;
        for _ in 0..12 {
            let mut child = start();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(100 + (seed >> 33) % 300)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut last = start();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(result(&ended(&f, id).await), json!(4 * (5 * n + 10)));
        }
        last.kill().unwrap();
        last.wait().unwrap();
        assert_eq!(count(&f, "event WHERE name = 'step.done'").await, 120);
        assert_eq!(
            count(&f, "step WHERE state = 'done' AND position <> '@'").await,
            120
        );
        assert_eq!(count(&f, "journal WHERE outcome IS NOT NULL").await, 120);
        assert_eq!(count(&f, "event WHERE name = 'run.ended'").await, 12);
        assert_eq!(store::audit::first_broken(&f.db.read).await.unwrap(), None);
        eprintln!("{} attempts at 120 steps over 13 processes", {
            let sql = "SELECT SUM(attempt) AS n FROM step WHERE position <> '@'";
            let sql = sql.replace("SUM(attempt)", "CAST(SUM(attempt) AS BIGINT)");
            number(&f.db.read, &sql, values![]).await.unwrap().unwrap()
        });
    }

    async fn a_run_never_waits_for_the_queue_to_look_by_itself(f: Fresh) {
        let mut context = context(&f);
        let settings = queue::LeaseSettings {
            poll_ms: 600_000,
            ..queue::LeaseSettings::default()
        };
        context.world.queue = queue::Queue::new(f.db.clone(), f.queue().clock(), settings);
        context.finisher = Finisher::start(&context.world.queue);
        let working = work_with(context);
        let began = std::time::Instant::now();
        for n in 0..20 {
            let id = f.start(THREE, json!({ "n": n })).await;
            working.queue.notify_local();
            assert_eq!(result(&ended(&f, &id).await), json!(8 * n));
        }
        let per_run = began.elapsed() / 20;
        eprintln!("{per_run:?} per run of three steps");
        assert!(per_run < Duration::from_secs(5), "{per_run:?}");
        working.stop().await;
    }
}
