//! Events: recorded facts, numbered; told again from any number, or live.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Query};
use crate::store::{self, events::EventFilter, events::event};

/// A recorded fact.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// Its number.
    seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What sort of fact, e.g. `run.ended`.
    name: String,
    /// What it is about.
    subject: String,
    /// More about it.
    payload: Value,
}

/// Facts in the order of their numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList {
    /// Names the history the numbers belong to.
    instance: String,
    /// This page.
    events: Vec<EventView>,
    /// `after` of the next page; ask again later if it is the one you sent.
    next: i64,
}

/// Which facts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only those with a greater number.
    pub after: Option<u64>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
    /// The history the number comes from; another one answers 410.
    pub instance: Option<String>,
    /// Only those of this sort. Of a rare one a page may be empty and the list go on all the same.
    pub name: Option<String>,
    /// Only those about this.
    pub subject: Option<String>,
}

/// A fact from outside, for runs that wait for it.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewEvent {
    /// What sort of fact.
    pub name: String,
    /// What it is about; runs wait for a name and a key.
    pub key: String,
    /// What they are told.
    #[serde(default)]
    pub payload: Value,
}

/// How many calls a fact answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventAnswered {
    /// Calls of runs that waited for it.
    answered: u64,
}

/// Facts after a number.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = EventList),
        (status = 410, body = crate::error::Problem, content_type = "application/problem+json",
            description = "The number belongs to another history (`other_instance`): begin at 0; or what came next is \
                kept no longer (`events_removed`): go on after `kept_after`")))]
pub async fn list_events(
    app: App,
    _: auth::Anybody,
    Query(query): Query<EventQuery>,
) -> ApiResult<Json<EventList>> {
    check_instance(&app, query.instance.as_deref())?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) {
        return Err(ApiError::malformed(
            "malformed_query",
            "`limit` must be 1 to 500",
        ));
    }
    let after = still_told(&app, number(query.after.unwrap_or(0))?).await?;
    let only = EventFilter {
        name: query.name.as_deref(),
        subject: query.subject.as_deref(),
    };
    let (rows, next) = store::events::matching(&app.db.read, only, after, limit).await?;
    let events = rows.iter().map(EventView::read).collect::<ApiResult<_>>()?;
    Ok(Json(EventList {
        instance: app.instance.clone(),
        events,
        next,
    }))
}

/// Where a stream begins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only facts with a greater number; `Last-Event-ID` goes before. Without either the stream begins now.
    pub after: Option<u64>,
    /// The history the number comes from; another one answers 410.
    pub instance: Option<String>,
}

/// Facts as they happen (server-sent events); `Last-Event-ID` goes on where a connection broke.
///
/// The first event, `instance`, is no fact: it names the history the numbers belong to, and the number after which the
/// stream begins.
#[utoipa::path(get, path = "/api/v1/events/stream", tag = "events",
    params(StreamQuery, ("last-event-id" = Option<i64>, Header, description = "Number of the last fact seen")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 410, body = crate::error::Problem, content_type = "application/problem+json",
            description = "The number belongs to another history, or what came next is kept no longer: connect \
                without a number")))]
pub async fn stream_events(
    app: App,
    _: auth::Anybody,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    check_instance(&app, query.instance.as_deref())?;
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let asked = query.after.map(number).transpose()?;
    let after = match last.map(str::parse).or(asked.map(Ok)) {
        Some(Ok(seq)) => still_told(&app, seq).await?,
        Some(Err(_)) => {
            let detail = "`Last-Event-ID` must be the number of an event";
            return Err(ApiError::malformed("malformed_header", detail));
        }
        None => store::events::latest(&app.db.read).await?,
    };
    Ok(Sse::new(follow(app, after)).keep_alive(KeepAlive::default()))
}

/// Record a fact from outside; runs that wait for it go on.
#[utoipa::path(post, path = "/api/v1/events", tag = "events", request_body = NewEvent,
    responses((status = 202, body = EventAnswered)))]
pub async fn create_event(
    app: App,
    who: auth::Teller,
    Json(body): Json<NewEvent>,
) -> ApiResult<(StatusCode, Json<EventAnswered>)> {
    if who.0.role == auth::Role::Agent && !body.name.starts_with("host_") {
        let detail = "an agent tells of its host: its events are named `host_…`";
        return Err(ApiError::forbidden(detail));
    }
    let tx = store::begin(&app.db.write).await?;
    let now = app.now_ms();
    let answered = store::events::emit(&tx, now, &body.name, &body.key, &body.payload).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok((StatusCode::ACCEPTED, Json(EventAnswered { answered })))
}

fn follow(app: App, mut after: i64) -> impl Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        // A browser sees no headers. Without an `id` its `Last-Event-ID` stays that of the last fact.
        let begin = json!({ "instance": app.instance, "after": after });
        yield Ok(Event::default().event("instance").data(begin.to_string()));
        let mut moves = app.queue.moves();
        loop {
            moves.mark_unchanged();
            let rows = match store::events::after(&app.db.read, after, 500).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::error!(error = ?error, "failed to read events for a stream");
                    return;
                }
            };
            for row in rows {
                after = row.seq;
                let payload: Value = serde_json::from_str(&row.payload).unwrap_or_default();
                let data = json!({
                    "seq": row.seq, "at": Timestamp(row.at), "name": row.name,
                    "subject": row.subject, "payload": payload,
                });
                yield Ok(Event::default().id(row.seq.to_string()).event(&row.name).data(data.to_string()));
            }
            // Another process may have recorded a fact, so it also looks by itself.
            let _ = tokio::time::timeout(LOOK_ANYWAY, moves.changed()).await;
        }
    }
}

/// How long a stream waits for a wake-up before it looks for facts by itself.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

fn check_instance(app: &App, instance: Option<&str>) -> ApiResult<()> {
    match instance {
        Some(other) if other != app.instance => {
            let detail =
                format!("the events of `{other}` are not here; begin again with `after=0`");
            Err(other_instance(app, detail))
        }
        _ => Ok(()),
    }
}

fn number(after: u64) -> ApiResult<i64> {
    i64::try_from(after).map_err(|_| {
        let detail = "`after` must be the number of an event";
        ApiError::malformed("malformed_query", detail)
    })
}

fn other_instance(app: &App, detail: String) -> ApiError {
    ApiError::gone("other_instance", detail).with("instance", app.instance.clone())
}

/// Where to go on after a number: who has seen none begins with the first that is kept. A number that was never given
/// comes from another database, whose reader would wait here for events that have long been told.
async fn still_told(app: &App, after: i64) -> ApiResult<i64> {
    let kept_after = store::retention::events_kept_after(&app.db.read).await?;
    if after <= 0 || after == kept_after {
        return Ok(after.max(kept_after));
    }
    if after > kept_after {
        let latest = store::events::latest(&app.db.read).await?.max(kept_after);
        if after <= latest {
            return Ok(after);
        }
        let detail = format!(
            "the latest event here is {latest}, so {after} comes from another database; begin again with `after=0`"
        );
        return Err(other_instance(app, detail).with("latest", latest));
    }
    let detail = format!(
        "events up to {kept_after} are kept no longer, so some after {after} are missing; look at what \
         they were about anew and go on with `after={kept_after}`"
    );
    Err(ApiError::gone("events_removed", detail).with("kept_after", kept_after))
}

impl EventView {
    fn read(row: &event::Model) -> ApiResult<Self> {
        Ok(Self {
            seq: row.seq,
            at: Timestamp(row.at),
            name: row.name.clone(),
            subject: row.subject.clone(),
            payload: serde_json::from_str(&row.payload).map_err(ApiError::internal)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use crate::testing::TestServer;

    #[tokio::test]
    async fn facts_are_found_by_sort_and_subject() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "ada").await;
        let tx = store::begin(&server.app.db.write)
            .await
            .expect("a transaction");
        for n in 0..6 {
            let (name, subject) = (["odd", "even"][n % 2], ["a", "b", "c"][n % 3]);
            let told = store::events::record(&tx, 0, name, subject, &json!(n)).await;
            told.expect("recorded");
        }
        tx.commit().await.expect("a commit");
        // A sort of which there was one long before the next.
        let db = &server.app.db.write;
        let sql =
            "INSERT INTO event (seq, at, name, subject, payload) VALUES ($1, 0, 'odd', 'z', '9')";
        store::database::execute(db, sql, vec![30_000_i64.into()])
            .await
            .expect("inserted");
        let ask = async |query: &str| {
            let path = format!("/api/v1/events?{query}");
            let page = server.ask("GET", &path, &token, "").await.json();
            let events = page["events"].as_array().expect("events").iter();
            let told: Vec<i64> = events
                .map(|e| e["payload"].as_i64().expect("a number"))
                .collect();
            (told, page["next"].as_i64().expect("a number"))
        };
        assert_eq!(ask("name=even").await.0, [1, 3, 5]);
        assert_eq!(ask("subject=a").await.0, [0, 3]);
        assert_eq!(ask("subject=a&name=even").await.0, [3]);
        assert_eq!(ask("subject=nobody").await, (vec![], 0));
        let (first, next) = ask("name=odd&limit=2").await;
        assert_eq!(first, [0, 2]);
        let (second, next) = ask(&format!("name=odd&limit=2&after={next}")).await;
        assert_eq!(second, [4], "only so many numbers are looked at");
        let (third, next) = ask(&format!("name=odd&limit=2&after={next}")).await;
        assert_eq!((third, next), (vec![9], 30_000), "and the list goes on");
        assert_eq!(ask(&format!("name=odd&after={next}")).await, (vec![], next));
        for path in ["/api/v1/events", "/api/v1/events/stream"] {
            let path = format!("{path}?after=30001");
            let beyond = server.ask("GET", &path, &token, "").await;
            assert_eq!(beyond.problem(410), "other_instance", "{path}");
        }
    }
}
