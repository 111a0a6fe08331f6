//! Our side of the queue's benchmark. It works through the code of the server: `Database`, `Queue`, `run_workers` with
//! its apalis backend, heartbeat and finisher, on a database of its own.
//!
//! usage: bench-queue throughput URL COUNT HANDS | workflow URL RUNS | pickup URL RATE SECONDS HANDS | claims URL COUNT
//!        | steady URL RATE SECONDS HANDS | bombs URL RATE SECONDS [KIND…]
//! Each prints one JSON object; what it holds is told in ../README.md.

mod bombs;
mod steady;
mod world;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use server::jobs::{WorkerContext, run_workers};
use server::queue::{Floor, LeaseSettings, Queue, claim_from, release};
use server::store::events;
use server::store::journal::{self, NewEntry};
use server::store::runs::{self, NewRun};
use server::store::scripts::Scripts;
use server::store::steps::{self, NewStep};
use server::store::{Database, begin};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use workflows::steps::Registry;

use world::{DONE, ENDLESS, Noop, PICKED_UP, now_us, world};

/// Steps of one run where many are queued.
const PER_RUN: usize = 100;
/// Runs queued in one transaction.
const RUNS_TOGETHER: usize = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match words[..] {
        ["throughput", url, count, hands] => {
            throughput(url, count.parse()?, hands.parse()?).await?
        }
        ["workflow", url, runs] => workflow(url, runs.parse()?).await?,
        ["pickup", url, rate, seconds, hands] => {
            pickup(url, rate.parse()?, seconds.parse()?, hands.parse()?).await?
        }
        ["claims", url, count] => claims(url, count.parse()?).await?,
        ["steady", url, rate, seconds, hands] => {
            steady::steady(url, rate.parse()?, seconds.parse()?, hands.parse()?).await?
        }
        ["bombs", url, rate, seconds, ref kinds @ ..] => {
            bombs::bombs_beside(url, rate.parse()?, seconds.parse()?, kinds).await?
        }
        ["recovery", url, count] => recovery(url, count.parse()?).await?,
        ["hold", url, count] => hold(url, count.parse()?).await?,
        _ => bail!(
            "usage: bench-queue throughput|workflow|pickup|claims|steady|recovery|bombs URL …"
        ),
    };
    println!("{told}");
    Ok(())
}

/// A server's queue over a database, with workers that do nothing.
struct Bench {
    queue: Queue,
    revision: String,
    /// The period of the queue's counts it began in; earlier ones are forgotten meanwhile.
    first_tick: i64,
    stop: Option<oneshot::Sender<()>>,
    working: JoinHandle<Result<(), server::jobs::WorkerError>>,
    listening: JoinHandle<()>,
}

impl Bench {
    async fn start(url: &str, queues: &[&str], hands: usize, script: &str) -> anyhow::Result<Self> {
        let db = Database::open(url).await?;
        let clock = Arc::new(|| now_us() / 1_000);
        let queue = Queue::new(db.clone(), clock, LeaseSettings::default());
        let now = queue.now();
        let revision = Scripts::Workflows
            .activate(&db.write, now, "bench", script)
            .await?;
        let registry = Arc::new(Registry::default().register(Noop));
        let mut context = WorkerContext::new(world(queue.clone()), registry);
        let queues: Vec<String> = queues.iter().map(|name| (*name).to_owned()).collect();
        for name in &queues {
            context.hands.insert(name.clone(), hands);
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let working = tokio::spawn(async move {
            let told = async {
                let _ = stopped.await;
            };
            run_workers(context, &queues, told).await
        });
        let listening = tokio::spawn({
            let queue = queue.clone();
            async move { queue.run().await }
        });
        let latest = "SELECT CAST(COALESCE(MAX(tick), 0) AS BIGINT) AS n FROM queue_tick";
        Ok(Self {
            first_tick: number(queue.db(), latest).await?,
            queue,
            revision: revision.digest,
            stop: Some(stop),
            working,
            listening,
        })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        self.working.await??;
        self.listening.abort();
        Ok(())
    }

    /// Starts so many runs.
    async fn start_runs(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let tx = begin(&self.queue.db().write).await?;
        let mut runs = Vec::new();
        for _ in 0..count {
            runs.push(start_run(&tx, &self.queue, &self.revision).await?);
        }
        tx.commit().await?;
        Ok(runs)
    }

    /// Queues steps under runs that were started, some runs in one transaction, as an advance of each would.
    async fn enqueue(&self, runs: &[String], count: usize) -> anyhow::Result<()> {
        let mut left = count;
        for some in runs.chunks(RUNS_TOGETHER) {
            let tx = begin(&self.queue.db().write).await?;
            for run in some {
                let steps = left.min(PER_RUN);
                queue_steps(&tx, &self.queue, run, &vec![Value::Null; steps]).await?;
                left -= steps;
            }
            for run in some {
                let detail = json!({ "steps": PER_RUN });
                events::record(&tx, self.queue.now(), "run.advanced", run, &detail).await?;
            }
            tx.commit().await?;
            self.queue.notify_local();
        }
        Ok(())
    }

    /// How many steps ended well since shortly before the start, as was recorded with each ending.
    async fn recorded(&self) -> anyhow::Result<i64> {
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(done), 0) AS BIGINT) AS n FROM queue_tick \
             WHERE queue = 'io' AND tick >= {}",
            self.first_tick
        );
        number(self.queue.db(), &sql).await
    }

    async fn count(&self, what: &str) -> anyhow::Result<i64> {
        count(self.queue.db(), what).await
    }
}

async fn count(db: &Database, what: &str) -> anyhow::Result<i64> {
    number(db, &format!("SELECT COUNT(*) AS n FROM {what}")).await
}

async fn number(db: &Database, sql: &str) -> anyhow::Result<i64> {
    let statement = Statement::from_string(db.read.get_database_backend(), sql);
    let row = db.read.query_one_raw(statement).await?.context("a count")?;
    Ok(row.try_get("", "n")?)
}

async fn start_run(
    db: &impl ConnectionTrait,
    queue: &Queue,
    revision: &str,
) -> anyhow::Result<String> {
    let event = Value::Null;
    let new = NewRun {
        workflow: "bench",
        revision,
        event: &event,
        seed: None,
        decision: None,
        actor: "bench",
    };
    Ok(runs::create(db, queue.now(), &new).await?.id)
}

async fn queue_steps(
    db: &impl ConnectionTrait,
    queue: &Queue,
    run: &str,
    inputs: &[Value],
) -> anyhow::Result<()> {
    let now = queue.now();
    let positions: Vec<String> = (1..=inputs.len()).map(|n| n.to_string()).collect();
    let texts: Vec<String> = inputs.iter().map(Value::to_string).collect();
    let entries = positions
        .iter()
        .zip(inputs)
        .map(|(position, input)| NewEntry {
            position,
            kind: "noop",
            input,
            input_digest: "",
            line: None,
            due: None,
            outcome: None,
            undo: false,
        });
    journal::append(db, now, run, &entries.collect::<Vec<_>>()).await?;
    let steps = positions
        .iter()
        .zip(&texts)
        .map(|(position, input)| NewStep {
            run,
            position,
            kind: "noop",
            queue: "io",
            priority: 0,
            max_attempts: 8,
            backoff_ms: 1_000,
            deadline: None,
            input,
            concurrency_key: None,
            concurrency_limit: 1,
            idempotency_key: None,
            lease: None,
        });
    steps::insert_all(db, now, &steps.collect::<Vec<_>>()).await?;
    Ok(())
}

/// Steps queued in bulk while the worker is up; the clock stops when the last is recorded.
async fn throughput(url: &str, total: usize, hands: usize) -> anyhow::Result<Value> {
    let bench = Bench::start(url, &["io"], hands, "fn run(event) { }").await?;
    let before = bench.recorded().await?;
    let (warm, runs) = (
        bench.start_runs(1).await?,
        bench.start_runs(total.div_ceil(PER_RUN)).await?,
    );
    bench.enqueue(&warm, PER_RUN).await?;
    finished(&bench, before, PER_RUN).await?;
    let began = Instant::now();
    bench.enqueue(&runs, total).await?;
    let queued_s = began.elapsed().as_secs_f64();
    finished(&bench, before, PER_RUN + total).await?;
    let wall_s = began.elapsed().as_secs_f64();
    let told = bench.count(DONE_STEPS).await?;
    for what in [
        "event WHERE name = 'step.done'",
        "audit WHERE verb = 'step.done'",
        "journal WHERE outcome IS NOT NULL",
    ] {
        let found = bench.count(what).await?;
        if found != told {
            bail!("{told} steps were done and {found} are in {what}");
        }
    }
    bench.stop().await?;
    let jobs_per_s = share(total) / wall_s;
    Ok(json!({ "jobs": total, "wall_s": wall_s, "queued_s": queued_s, "jobs_per_s": jobs_per_s }))
}

const DONE_STEPS: &str = "step WHERE state = 'done' AND position <> '@'";

/// Waits until so many were worked on here, and are recorded beside those that were before.
async fn finished(bench: &Bench, before: i64, total: usize) -> anyhow::Result<()> {
    while DONE.load(Ordering::Relaxed) < total {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let all = before + i64::try_from(total)?;
    while bench.recorded().await? < all {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Runs of five steps, one after the other, from the start to the recorded end.
async fn workflow(url: &str, total: usize) -> anyhow::Result<Value> {
    let script = r#"fn run(event) {
        for n in 0..5 { step("noop", n); }
        "done"
    }"#;
    let bench = Bench::start(url, &["runs", "io"], 4, script).await?;
    let mut per_step_ms = Vec::with_capacity(total);
    for n in 0..total + 3 {
        let began = Instant::now();
        let tx = begin(&bench.queue.db().write).await?;
        let event = json!({ "n": n });
        let new = NewRun {
            workflow: "bench",
            revision: &bench.revision,
            event: &event,
            seed: None,
            decision: None,
            actor: "bench",
        };
        let run = runs::create(&tx, bench.queue.now(), &new).await?;
        tx.commit().await?;
        bench.queue.notify_local();
        let state = ended(&bench, &run.id).await?;
        if state != "succeeded" {
            bail!("a run came to {state}");
        }
        if n >= 3 {
            per_step_ms.push(began.elapsed().as_secs_f64() * 1_000.0 / 5.0);
        }
    }
    bench.stop().await?;
    Ok(json!({ "per_step_ms": per_step_ms }))
}

/// Waits for the recorded end of a run, woken by whatever moves.
async fn ended(bench: &Bench, id: &str) -> anyhow::Result<String> {
    let mut moves = bench.queue.moves();
    loop {
        moves.mark_unchanged();
        let run = runs::get(&bench.queue.db().read, id).await?;
        if run.ended_at.is_some() {
            return Ok(run.state);
        }
        moves.changed().await?;
    }
}

/// Single steps queued at a rate, each by its own run in its own transaction, as an advance does it; from before it to
/// the beginning of the work.
async fn pickup(url: &str, rate: f64, seconds: f64, hands: usize) -> anyhow::Result<Value> {
    let bench = Bench::start(url, &["io"], hands, "fn run(event) { }").await?;
    let warm = bench.start_runs(1).await?;
    bench.enqueue(&warm, 10).await?;
    finished(&bench, 0, 10).await?;
    let runs = bench.start_runs((rate * seconds).ceil() as usize).await?;
    if let Ok(mut picked_up) = PICKED_UP.lock() {
        picked_up.clear();
    }
    let began = tokio::time::Instant::now();
    let (total, mut queueing) = (runs.len(), tokio::task::JoinSet::new());
    for (n, run) in runs.into_iter().enumerate() {
        tokio::time::sleep_until(began + Duration::from_secs_f64(share(n) / rate)).await;
        let queue = bench.queue.clone();
        queueing.spawn(async move {
            let inputs = [json!({ "at": now_us() })];
            let tx = begin(&queue.db().write).await?;
            queue_steps(&tx, &queue, &run, &inputs).await?;
            let detail = json!({ "steps": 1 });
            events::record(&tx, queue.now(), "run.advanced", &run, &detail).await?;
            tx.commit().await?;
            if queue.db().listen.is_none() {
                queue.notify_local();
            }
            anyhow::Ok(())
        });
    }
    while let Some(queued) = queueing.join_next().await {
        queued??;
    }
    finished(&bench, 0, 10 + total).await?;
    bench.stop().await?;
    let picked_up_ms = PICKED_UP.lock().map(|all| all.clone()).unwrap_or_default();
    Ok(json!({ "rate": rate, "picked_up_ms": picked_up_ms }))
}

/// Claims of ten steps, timed one by one; the steps are given back outside the clock.
async fn claims(url: &str, total: usize) -> anyhow::Result<Value> {
    let db = Database::open(url).await?;
    let clock = Arc::new(|| now_us() / 1_000);
    let queue = Queue::new(db.clone(), clock, LeaseSettings::default());
    let script = "fn run(event) { }";
    let revision = Scripts::Workflows
        .activate(&db.write, queue.now(), "bench", script)
        .await?;
    if count(&db, "step WHERE state = 'ready' AND queue = 'io'").await? < 1_000 {
        let tx = begin(&db.write).await?;
        for _ in 0..10 {
            let run = start_run(&tx, &queue, &revision.digest).await?;
            queue_steps(&tx, &queue, &run, &vec![Value::Null; PER_RUN]).await?;
        }
        tx.commit().await?;
    }
    // As a worker does, it looks from where everything has been taken.
    let floor = Floor::default();
    let mut claim_ms = Vec::with_capacity(total);
    for _ in 0..total {
        let began = Instant::now();
        let claimed = claim_from(&db.write, &floor, queue.now(), "bench", "io", 10_000, 10).await?;
        claim_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        let ids: BTreeSet<&str> = claimed.iter().map(|step| step.0.id.as_str()).collect();
        if ids.len() != 10 {
            bail!("{} of 10 steps were claimed", ids.len());
        }
        release(&db.write, &claimed).await?;
        for step in &claimed {
            floor.lower(step.0.place());
        }
    }
    Ok(json!({ "claim_ms": claim_ms }))
}

/// A process that holds so many steps is killed while another stands by; from the kill to the last of them in the other's
/// hands.
async fn recovery(url: &str, count: usize) -> anyhow::Result<Value> {
    let mut holder = Command::new(std::env::current_exe()?)
        .args(["hold", url, &count.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = holder.stdout.take().context("its stdout is a pipe")?;
    let said = BufReader::new(stdout).lines().next_line().await?;
    said.context("the holder ended by itself")?;
    let bench = Bench::start(url, &["io"], count, "fn run(event) { }").await?;
    // It looks around, and the holder renews what it holds.
    tokio::time::sleep(Duration::from_secs(4)).await;
    if DONE.load(Ordering::Relaxed) > 0 {
        bail!("a step was taken from one who lives");
    }
    let began = Instant::now();
    holder.kill().await?;
    while DONE.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let kill_to_begun_s = began.elapsed().as_secs_f64();
    bench.stop().await?;
    let lease_s = LeaseSettings::default().step_lease_ms as f64 / 1_000.0;
    Ok(json!({ "kill_to_begun_s": kill_to_begun_s, "beyond_lease_s": kill_to_begun_s - lease_s }))
}

/// Holds so many steps until it is killed, and says so once it does.
async fn hold(url: &str, count: usize) -> anyhow::Result<Value> {
    ENDLESS.store(true, Ordering::Relaxed);
    let bench = Bench::start(url, &["io"], count, "fn run(event) { }").await?;
    let runs = bench.start_runs(count.div_ceil(PER_RUN)).await?;
    bench.enqueue(&runs, count).await?;
    while DONE.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{count} steps are held");
    std::future::pending().await
}

fn share(count: usize) -> f64 {
    count as f64
}
