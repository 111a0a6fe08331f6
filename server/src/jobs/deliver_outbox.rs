//! Tells the world outside what was put out: to the webhook where one is set, else into the record alone.

use std::time::Duration;

use tracing::warn;

use crate::queue::Queue;
use crate::store::outbox::outbox;
use crate::store::{self, StoreError};

/// Where messages go.
#[derive(Debug, Clone)]
pub enum Webhook {
    /// Into the record of deliveries alone.
    Recorded,
    /// To an address, and into the record.
    Posted {
        /// The address.
        url: String,
        /// What posts them.
        client: reqwest::Client,
    },
}

/// What a message that was only recorded is recorded to have gone to.
const RECORD: &str = "record";
/// How often a message is tried.
const ATTEMPTS: i64 = 8;
/// How long a message may be on its way.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long whoever took a message has to tell it before somebody else does.
const TAKEN_MS: i64 = 60_000;
/// How many messages are taken at a time.
const BATCH: u64 = 16;

/// Tells what is due once; says how many messages were told.
///
/// # Errors
///
/// When the database does not answer.
pub async fn deliver_outbox(queue: &Queue, webhook: &Webhook) -> Result<usize, StoreError> {
    let db = &queue.db().write;
    let now = queue.now();
    let mut told = 0;
    for message in store::outbox::take(db, now, now + TAKEN_MS, BATCH).await? {
        match post(webhook, &message).await {
            Ok((target, status)) => {
                let tx = store::begin(db).await?;
                store::outbox::delivered(&tx, queue.now(), &message, &target, status).await?;
                tx.commit().await?;
                told += 1;
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, message.id = %message.id, message.attempt,
                    "failed to tell the webhook of `{}`", message.subject);
                let again = (message.attempt < ATTEMPTS)
                    .then(|| queue.now() + (1_000 << message.attempt.clamp(0, 12)));
                store::outbox::postpone(db, &message, again).await?;
            }
        }
    }
    Ok(told)
}

async fn post(
    webhook: &Webhook,
    message: &outbox::Model,
) -> Result<(String, Option<i64>), reqwest::Error> {
    let Webhook::Posted { url, client } = webhook else {
        return Ok((RECORD.to_owned(), None));
    };
    let answer = client
        .post(url)
        .timeout(TIMEOUT)
        .header("content-type", "application/json")
        .header("webhook-id", &message.id)
        .body(message.payload.clone())
        .send()
        .await?
        .error_for_status()?;
    Ok((url.clone(), Some(i64::from(answer.status().as_u16()))))
}
