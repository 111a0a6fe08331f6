//! apalis-postgres with its default settings (batches of ten), its listener, and a poll beside it, without which it
//! stalls for up to a heartbeat.

use std::time::Duration;

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use serde_json::Value;
use sqlx9::postgres::PgPoolOptions;

use super::{DONE, Ordering, Peer};

const QUEUE: &str = "bench";

struct Stock(PgPool);

async fn noop(_: usize) -> Result<(), BoxDynError> {
    DONE.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

pub(super) async fn throughput(url: &str, total: usize, hands: usize) -> anyhow::Result<Value> {
    let pool = PgPoolOptions::new()
        .max_connections(10)
        .connect(url)
        .await?;
    PostgresStorage::setup(&pool).await?;
    let backend = PostgresStorage::new(&pool)
        .with_config(Config::default().queue(QUEUE))
        .with_pubsub()
        .poll_with_interval(Duration::from_millis(100));
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(hands)
        .parallelize(tokio::spawn)
        .build(noop);
    let working = tokio::spawn(worker.run());
    let told = Stock(pool).timed(total).await?;
    working.abort();
    Ok(told)
}

/// Queues jobs for [`work`].
pub(super) async fn enqueue(url: &str, count: usize) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().connect(url).await?;
    PostgresStorage::setup(&pool).await?;
    Stock(pool).enqueue(count).await
}

/// Works until it is killed, each job for a fifth of a second.
pub(super) async fn work(url: &str, name: &str) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(10)
        .connect(url)
        .await?;
    let backend = PostgresStorage::new(&pool)
        .with_config(Config::default().queue(QUEUE))
        .with_pubsub()
        .poll_with_interval(Duration::from_millis(100));
    WorkerBuilder::new(name)
        .backend(backend)
        .concurrency(4)
        .parallelize(tokio::spawn)
        .build(slow)
        .run()
        .await?;
    Ok(())
}

async fn slow(_: usize) -> Result<(), BoxDynError> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}

impl Peer for Stock {
    async fn enqueue(&self, count: usize) -> anyhow::Result<()> {
        let task = |n: usize| Ok(TaskBuilder::new(serde_json::to_vec(&n)?).build());
        let tasks: Vec<_> = (0..count).map(task).collect::<anyhow::Result<_>>()?;
        let mut tx = self.0.begin().await?;
        apalis_postgres::queries::push_tasks(&mut *tx, QUEUE, tasks).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn recorded(&self) -> anyhow::Result<usize> {
        let sql = "SELECT count(*) FROM apalis.jobs WHERE status = 'Done'";
        let count: i64 = sqlx9::query_scalar(sql).fetch_one(&self.0).await?;
        Ok(usize::try_from(count)?)
    }
}
