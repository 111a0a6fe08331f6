//! Steps at a steady rate for a long time, and claims of the same queue timed beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::queue::{Floor, Queue, claim_from, release};
use server::store::begin;
use tokio::time::sleep_until;

use super::world::DONE;
use super::{Bench, PER_RUN};

/// Steps are queued this often, so many at once as make the rate.
const BEAT: Duration = Duration::from_millis(100);

/// Claims are timed this often: hundreds a minute, next to thousands that the worker makes.
const LOOK: Duration = Duration::from_millis(50);

/// One claim: seconds since the beginning, and how long it took.
type Timed = (f64, f64);

/// `rate` steps a second for so long, and every claim that was timed: when, in seconds, and how long, in milliseconds.
pub(super) async fn steady(
    url: &str,
    rate: f64,
    seconds: f64,
    hands: usize,
) -> anyhow::Result<Value> {
    let bench = Bench::start(url, &["io"], hands, "fn run(event) { }").await?;
    let steps_each = (rate * BEAT.as_secs_f64()).round() as usize;
    let over = Arc::new(AtomicBool::new(false));
    let timing = tokio::spawn(timed_claims(bench.queue.clone(), over.clone()));
    let began = tokio::time::Instant::now();
    let (mut beats, mut queued, mut most_behind) = (0_u32, 0_usize, 0_usize);
    while began.elapsed().as_secs_f64() < seconds {
        sleep_until(began + BEAT * beats).await;
        queue_anew(&bench, steps_each).await?;
        queued += steps_each;
        most_behind = most_behind.max(queued.saturating_sub(DONE.load(Ordering::Relaxed)));
        beats += 1;
    }
    let took_s = began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let claim_ms = timing.await??;
    while DONE.load(Ordering::Relaxed) < queued {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.stop().await?;
    Ok(json!({
        "jobs": queued,
        "jobs_per_s": queued as f64 / took_s,
        "most_behind": most_behind,
        "claim_ms": claim_ms,
    }))
}

/// Queues so many steps under new runs, and begins again if the database ended the transaction, as a server does.
async fn queue_anew(bench: &Bench, steps: usize) -> anyhow::Result<()> {
    let mut tries_left = 10;
    loop {
        let queued = async {
            let runs = bench.start_runs(steps.div_ceil(PER_RUN)).await?;
            bench.enqueue(&runs, steps).await
        };
        match queued.await {
            Err(error) if tries_left > 0 => {
                eprintln!("steady: queues {steps} steps again: {error:#}");
                tries_left -= 1;
            }
            done => return done,
        }
    }
}

/// Claims up to ten steps now and then, as a worker does, and gives them back.
async fn timed_claims(queue: Queue, over: Arc<AtomicBool>) -> anyhow::Result<Vec<Timed>> {
    let (began, floor, db) = (Instant::now(), Floor::default(), &queue.db().write);
    let mut told = Vec::new();
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
        let (at, now) = (Instant::now(), queue.now());
        let claimed = claim_from(db, &floor, now, "timed", "io", 10_000, 10).await?;
        told.push((
            at.duration_since(began).as_secs_f64(),
            at.elapsed().as_secs_f64() * 1_000.0,
        ));
        // Together: what it costs is no part of what is measured.
        let tx = begin(db).await?;
        release(&tx, &claimed).await?;
        tx.commit().await?;
        for step in &claimed {
            floor.lower(step.0.place());
        }
    }
    Ok(told)
}
