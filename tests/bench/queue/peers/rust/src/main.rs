//! apalis-postgres and awa, each as its own documentation shows it, with jobs that do nothing.
//!
//! usage: bench-queue-peers apalis_postgres|awa throughput URL COUNT HANDS
//!        bench-queue-peers apalis_postgres enqueue URL COUNT | work URL NAME
//! The second form is for the checker of histories: jobs that take a fifth of a second, and workers that may be killed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

mod apalis_postgres;
mod awa_queue;

/// How many jobs were worked on.
static DONE: AtomicUsize = AtomicUsize::new(0);
/// Jobs queued in one transaction.
const TOGETHER: usize = 1_000;
/// Jobs before the clock starts.
const WARM: usize = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = match words[..] {
        ["apalis_postgres", "throughput", url, count, hands] => {
            apalis_postgres::throughput(url, count.parse()?, hands.parse()?).await?
        }
        ["apalis_postgres", "enqueue", url, count] => {
            return apalis_postgres::enqueue(url, count.parse()?).await;
        }
        ["apalis_postgres", "work", url, name] => {
            return apalis_postgres::work(url, name).await;
        }
        ["awa", "throughput", url, count, hands] => {
            awa_queue::throughput(url, count.parse()?, hands.parse()?).await?
        }
        _ => bail!("usage: bench-queue-peers apalis_postgres|awa throughput URL COUNT HANDS"),
    };
    println!("{told}");
    Ok(())
}

/// A queue with a worker at work.
trait Peer {
    /// Queues jobs in one transaction.
    async fn enqueue(&self, count: usize) -> anyhow::Result<()>;

    /// How many jobs are recorded as done.
    async fn recorded(&self) -> anyhow::Result<usize>;

    async fn enqueue_all(&self, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            let some = left.min(TOGETHER);
            self.enqueue(some).await?;
            left -= some;
        }
        Ok(())
    }

    async fn finished(&self, all: usize) -> anyhow::Result<()> {
        let waiting = async {
            while DONE.load(Ordering::Relaxed) < all || self.recorded().await? < all {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(600), waiting)
            .await
            .context("the jobs do not end")?
    }

    /// From the first job queued to the last end recorded.
    async fn timed(&self, total: usize) -> anyhow::Result<Value> {
        self.enqueue_all(WARM).await?;
        self.finished(WARM).await?;
        let began = Instant::now();
        self.enqueue_all(total).await?;
        let queued_s = began.elapsed().as_secs_f64();
        self.finished(WARM + total).await?;
        let wall_s = began.elapsed().as_secs_f64();
        let jobs_per_s = total as f64 / wall_s;
        Ok(
            json!({ "jobs": total, "wall_s": wall_s, "queued_s": queued_s, "jobs_per_s": jobs_per_s }),
        )
    }
}
