//! awa with the storage it ships with and batches copied in, its fastest way to queue.

use std::time::Duration;

use awa::model::insert::params_with;
use awa::model::migrations;
use awa::{Client, InsertOpts, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx8::PgPool;
use sqlx8::postgres::PgPoolOptions;

use super::{DONE, Ordering, Peer};

const QUEUE: &str = "bench";

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct Noop {
    n: usize,
}

struct Awa {
    pool: PgPool,
    store: QueueStorage,
}

pub(super) async fn throughput(url: &str, total: usize, hands: usize) -> anyhow::Result<Value> {
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect(url)
        .await?;
    migrations::run(&pool).await?;
    let settings = QueueConfig {
        max_workers: u32::try_from(hands)?,
        poll_interval: Duration::from_millis(50),
        ..QueueConfig::default()
    };
    let client = Client::builder(pool.clone())
        .queue(QUEUE, settings)
        .register::<Noop, _, _>(|_, _| async {
            DONE.fetch_add(1, Ordering::Relaxed);
            Ok(JobResult::Completed)
        })
        .build()?;
    client.start().await?;
    let store = QueueStorage::new(QueueStorageConfig::default())?;
    let told = Awa { pool, store }.timed(total).await?;
    client.shutdown(Duration::from_secs(5)).await;
    Ok(told)
}

impl Peer for Awa {
    async fn enqueue(&self, count: usize) -> anyhow::Result<()> {
        let options = || InsertOpts {
            queue: QUEUE.into(),
            ..InsertOpts::default()
        };
        let jobs = (0..count).map(|n| params_with(&Noop { n }, options()));
        let jobs: Vec<_> = jobs.collect::<Result<_, _>>()?;
        self.store.enqueue_params_copy(&self.pool, &jobs).await?;
        Ok(())
    }

    async fn recorded(&self) -> anyhow::Result<usize> {
        let counts = self.store.queue_counts(&self.pool, QUEUE).await?;
        Ok(usize::try_from(counts.terminal)?)
    }
}
