//! Queues: what waits, what is at work, and how fast it goes.

use serde::Serialize;
use utoipa::ToSchema;
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::Json;
use crate::process::ALL_QUEUES;
use crate::store::queues::{self, Standing};

/// How one queue stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueView {
    /// The name steps are claimed under.
    name: String,
    /// Steps that may be claimed now.
    ready: i64,
    /// Steps whose time has not come: retries and delays.
    delayed: i64,
    /// Steps that wait for somebody to wake them.
    parked: i64,
    /// Steps at work.
    leased: i64,
    /// When the step that has been ready longest became so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_ready_at: Option<Timestamp>,
    /// How long it has been ready, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ready_age_s: Option<f64>,
    /// Steps that ended with an output in the last full minute, counted in ticks of ten seconds.
    done_last_minute: i64,
    /// Steps that ended with a failure in that minute.
    failed_last_minute: i64,
    /// The workers that hold a step of it at this moment.
    workers: Vec<String>,
}

/// Every queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueList {
    /// By name.
    queues: Vec<QueueView>,
    /// Where the list goes on; there are few queues, so it never does.
    next: Option<String>,
}

/// Every queue, also those that are empty; what has ended costs nothing here.
#[utoipa::path(get, path = "/api/v1/queues", tag = "runs",
    responses((status = 200, body = QueueList)))]
pub async fn list_queues(app: App, _: auth::Reader) -> ApiResult<Json<QueueList>> {
    let now = app.now_ms();
    let mut standings = queues::standings(&app.db.read, now).await?;
    for name in ALL_QUEUES {
        standings.entry(name.to_owned()).or_default();
    }
    let queues = standings.into_iter();
    Ok(Json(QueueList {
        queues: queues
            .map(|(name, standing)| view(name, standing, now))
            .collect(),
        next: None,
    }))
}

fn view(name: String, standing: Standing, now: i64) -> QueueView {
    let age = |since: i64| (now - since).max(0) as f64 / 1_000.0;
    QueueView {
        name,
        ready: standing.ready,
        delayed: standing.delayed,
        parked: standing.parked,
        leased: standing.leased,
        oldest_ready_at: standing.oldest_ready.map(Timestamp),
        oldest_ready_age_s: standing.oldest_ready.map(age),
        done_last_minute: standing.last_minute.done,
        failed_last_minute: standing.last_minute.failed,
        workers: standing.workers,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use workflows::run::CallOutcome;

    use crate::auth::Role;
    use crate::queue;
    use crate::store::database::FAR;
    use crate::store::journal::{self, NewEntry};
    use crate::store::steps::{self, NewStep};
    use crate::store::{begin, queues};
    use crate::testing::{Fresh, TestServer, on_both};

    on_both!(what_waits_and_what_is_at_work_is_counted);

    async fn step(f: &Fresh, run: &str, position: &str, key: Option<&str>) {
        let entry = NewEntry {
            position,
            kind: "echo",
            input: &Value::Null,
            input_digest: "",
            line: None,
            due: None,
            outcome: None,
            undo: false,
        };
        let new = NewStep {
            run,
            position,
            kind: "echo",
            queue: "io",
            priority: 0,
            max_attempts: 3,
            backoff_ms: 1_000,
            deadline: None,
            input: "null",
            concurrency_key: key,
            concurrency_limit: 1,
            idempotency_key: None,
            lease: None,
        };
        let db = &f.db.write;
        journal::append(db, f.now(), run, &[entry]).await.unwrap();
        steps::insert(db, f.now(), &new).await.unwrap();
    }

    async fn what_waits_and_what_is_at_work_is_counted(f: Fresh) {
        let run = f.start("fn run(event) { }", Value::Null).await;
        let (db, began) = (&f.db.write, f.now());
        for (position, key) in [("1", None), ("2", None), ("3", Some("k")), ("4", None)] {
            step(&f, &run, position, key).await;
        }
        f.advance(10_000);
        let claimed = queue::claim(db, f.now(), "w", "io", 10_000, 3)
            .await
            .unwrap();
        let [ends, parks, works] = &claimed[..] else {
            panic!("{claimed:?}");
        };
        let tx = begin(db).await.unwrap();
        let outcome = CallOutcome::Ok(json!(1));
        queue::complete(&tx, f.now(), ends, &outcome).await.unwrap();
        queue::park(&tx, f.now(), parks, "{}").await.unwrap();
        tx.commit().await.unwrap();
        f.advance(10_000);
        let all = queues::standings(&f.db.read, f.now()).await.unwrap();
        let io = &all["io"];
        assert_eq!((io.ready, io.delayed, io.parked, io.leased), (1, 0, 1, 1));
        assert_eq!(io.oldest_ready, Some(began));
        assert_eq!((io.last_minute.done, io.last_minute.failed), (1, 0));
        assert_eq!(io.workers, ["w"]);
        assert_eq!(works.0.run_at, began);
        assert!(began < FAR);
        f.advance(3_600_000);
        queues::prune(db, f.now()).await.unwrap();
        let all = queues::standings(&f.db.read, f.now()).await.unwrap();
        assert_eq!(all["io"].last_minute.done, 0);
    }

    #[tokio::test]
    async fn every_queue_is_listed_to_who_may_read() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Technician, "t").await;
        let told = server.ask("GET", "/api/v1/queues", &token, "").await.json();
        let names: Vec<&str> = told["queues"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|queue| queue["name"].as_str())
            .collect();
        assert_eq!(names, ["cad", "io", "runs", "vision"]);
        assert_eq!(told["queues"][0]["ready"], 0);
    }
}
