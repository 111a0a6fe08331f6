//! Runs: executions of workflows, their steps and their journals.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;
use workflows::run::{CallOutcome, inline_stored};

use super::name::PageQuery;
use super::start::{Start, start_once};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::{self, journal, runs::RunFilter, runs::run, steps::step};

/// A run to be started.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct NewRunBody {
    /// The workflow; its serving revision is pinned.
    pub workflow: String,
    /// What the script's `run(event)` is given.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub event: serde_json::Map<String, Value>,
    /// What names the cause: as long as a run of the workflow stands for it, no other is started, and that one is the
    /// answer (200).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256)]
    pub dedup_key: Option<String>,
    /// How long the run stands for its cause, seconds, 1 to 604,800; the setting `policy.dedup_window_s` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub dedup_window_s: Option<i64>,
}

/// A run in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunSummary {
    /// Stable name.
    id: String,
    /// The workflow.
    workflow: String,
    /// Digest of the revision it started with.
    revision: String,
    /// Where it stands.
    state: RunStateView,
    /// Whether somebody wants it stopped: what it did is being undone.
    cancelling: bool,
    /// What it was given.
    event: Value,
    /// The decision that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// The run it was begun again from.
    #[serde(skip_serializing_if = "Option::is_none")]
    restarted_from: Option<String>,
    /// The run whose step had it done.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Position of that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_position: Option<String>,
    /// The run it goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<String>,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStateView {
    /// Its script is being replayed, or about to be.
    Running,
    /// It waits for steps, time, events or people.
    Waiting,
    /// It ended with a result.
    Succeeded,
    /// It ended with a failure.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Its script asked for something else than its journal holds.
    Diverged,
    /// It ended so that a new run goes on.
    Continued,
}

/// A run with its steps.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// The run in short.
    #[serde(flatten)]
    summary: RunSummary,
    /// What the script returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// Why it failed or was cancelled, with what was not undone; or both sides of a divergence.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Value>,
    /// The call it was begun again with; absent where its script went on from where the old one stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    restarted_position: Option<String>,
    /// The runs that were begun again from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    restarted_as: Vec<String>,
    /// The run that goes on where it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    continued_as: Option<String>,
    /// The runs its steps had done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<String>,
    /// Every step it asked for, in that order.
    steps: Vec<StepView>,
    /// What it waits for now.
    waiting_for: Vec<WaitView>,
}

/// One step of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    /// Position of the call in the script's run.
    position: String,
    /// What sort of step.
    kind: String,
    /// Where it stands: `ready`, `leased`, `done`, `failed`, `cancelled`.
    state: String,
    /// How often it was tried.
    attempt: i64,
    /// What it was given.
    input: Value,
    /// What it gave back.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    /// Share done, 0–1.
    progress: f64,
    /// What it is doing.
    phase: String,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    /// When it was first claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// What it made, digest by name.
    artifacts: BTreeMap<String, String>,
}

/// A call of the run's script that has no answer yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitView {
    /// Position of the call.
    position: String,
    /// `step`, `sleep`, `wait_event`, `approval`.
    kind: String,
    /// What was asked.
    input: Value,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// When it gives up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    due: Option<Timestamp>,
}

/// Runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunList {
    /// This page.
    runs: Vec<RunSummary>,
    /// Where the list goes on.
    next: Option<String>,
}

/// One line of a journal.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryView {
    /// The call it answers.
    position: String,
    /// What sort of call.
    kind: String,
    /// Line of the script.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<i64>,
    /// What was asked.
    input: Value,
    /// Digest of that.
    input_digest: String,
    /// Whether a closure of `on_failure` made it, to undo something.
    undo: bool,
    /// How it was answered, once it was: `ok`, `err` or `artifact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Value>,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    answered_at: Option<Timestamp>,
}

/// A run's journal.
#[derive(Debug, Serialize, ToSchema)]
pub struct JournalView {
    /// In the order the script made the calls.
    entries: Vec<EntryView>,
    /// Where it goes on.
    next: Option<String>,
}

/// Which part of a journal.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JournalQuery {
    /// `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    pub after: Option<i64>,
    /// How many at most, 1 to 500; 500 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunQuery {
    /// Only those in this state.
    #[param(inline)]
    pub state: Option<RunStateView>,
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those whose event names this asset.
    pub asset: Option<String>,
    /// Only those started at this moment or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only those started before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(RunQuery),
    responses((status = 200, body = RunList)))]
pub async fn list_runs(
    app: App,
    _: auth::Reader,
    Query(query): Query<RunQuery>,
) -> ApiResult<Json<RunList>> {
    let only = RunFilter {
        state: query.state.map(RunStateView::name),
        workflow: query.workflow.as_deref(),
        asset: query.asset.as_deref(),
        from: query.from.map(|at| at.0),
        to: query.to.map(|at| at.0),
    };
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let rows = store::runs::list(&app.db.read, only, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    let runs = rows
        .iter()
        .map(RunSummary::read)
        .collect::<ApiResult<_>>()?;
    Ok(Json(RunList { runs, next }))
}

/// One run with its steps.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = RunView)))]
pub async fn get_run(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<RunView>> {
    Ok(Json(RunView::load(&app, &id).await?))
}

/// Start a run of a workflow. The same `Idempotency-Key` gives the same run.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs",
    params(("idempotency-key" = Option<String>, Header, description = "Makes the call repeatable")),
    request_body = NewRunBody, responses((status = 201, body = RunView),
        (status = 200, body = RunView, description = "A run stands for the same `dedup_key` already")))]
pub async fn create_run(
    app: App,
    who: auth::Engineer,
    headers: HeaderMap,
    Json(body): Json<NewRunBody>,
) -> ApiResult<(StatusCode, Json<RunView>)> {
    let seed = body.event.get("seed").and_then(Value::as_u64);
    let cause = cause(&app, &body)?;
    let event = Value::Object(body.event.clone());
    let start = Start {
        cause,
        workflow: &body.workflow,
        event: &event,
        seed,
        actor: &who.0.subject,
    };
    let started = start_once(&app, &headers, &start).await?;
    let status = if started.is_repeat {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(RunView::load(&app, &started.run).await?)))
}

/// What names the cause of a run, and how long it stands for it, ms.
fn cause<'a>(app: &App, body: &'a NewRunBody) -> ApiResult<Option<(&'a str, i64)>> {
    let window_s = body
        .dedup_window_s
        .unwrap_or(app.config.policy.dedup_window_s);
    let refuse = |field: &str, what: &str| {
        let detail = format!("`{field}` must be {what}");
        Err(ApiError::refused("invalid_dedup", detail).with("field", field))
    };
    if !(1..=604_800).contains(&window_s) {
        return refuse("dedup_window_s", "1 to 604,800 seconds");
    }
    match body.dedup_key.as_deref() {
        Some(key) if !(1..=256).contains(&key.chars().count()) => {
            refuse("dedup_key", "1 to 256 characters")
        }
        key => Ok(key.map(|key| (key, window_s * 1_000))),
    }
}

/// What a run has been told so far, page by page: a journal may hold 10,000 entries.
#[utoipa::path(get, path = "/api/v1/runs/{id}/journal", tag = "runs",
    params(("id" = String, Path), JournalQuery), responses((status = 200, body = JournalView)))]
pub async fn get_journal(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
    Query(query): Query<JournalQuery>,
) -> ApiResult<Json<JournalView>> {
    let paging = PageQuery {
        after: None,
        limit: Some(query.limit.unwrap_or(500)),
    };
    let page = paging.page()?;
    store::runs::get(&app.db.read, &id).await?;
    let rows = journal::page(&app.db.read, &id, query.after, page.limit).await?;
    let last = rows.last().map(|row| row.ordinal.to_string());
    let next = PageQuery::next(page, rows.len(), last.as_deref()).map(str::to_owned);
    let entries = rows.iter().map(EntryView::read).collect::<ApiResult<_>>()?;
    Ok(Json(JournalView { entries, next }))
}

/// How a run is to be stopped.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CancelQuery {
    /// End it at once and undo nothing more.
    pub force: Option<bool>,
}

/// Ask a run to stop: what it waits for is called off, its `on_failure` closures run, then it is `cancelled`.
///
/// Asking again changes nothing. With `force` it ends at once, whatever is left undone.
#[utoipa::path(post, path = "/api/v1/runs/{id}/cancel", tag = "runs",
    params(("id" = String, Path), CancelQuery), responses((status = 202, body = RunView)))]
pub async fn cancel_run(
    app: App,
    who: auth::Engineer,
    Path(id): Path<String>,
    Query(query): Query<CancelQuery>,
) -> ApiResult<(StatusCode, Json<RunView>)> {
    store::runs::get(&app.db.read, &id).await?;
    let force = query.force.unwrap_or(false);
    let tx = store::begin(&app.db.write).await?;
    store::runs::request_cancel(&tx, app.now_ms(), &who.0.subject, &id, force).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok((StatusCode::ACCEPTED, Json(RunView::load(&app, &id).await?)))
}

impl RunStateView {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Running, "running"),
        (Self::Waiting, "waiting"),
        (Self::Succeeded, "succeeded"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
        (Self::Diverged, "diverged"),
        (Self::Continued, "continued"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn read(name: &str) -> ApiResult<Self> {
        let found = Self::ALL.into_iter().find(|&(_, n)| n == name);
        found
            .map(|(s, _)| s)
            .ok_or_else(|| ApiError::internal(format!("run state `{name}`")))
    }
}

impl RunSummary {
    fn read(row: &run::Model) -> ApiResult<Self> {
        Ok(Self {
            id: row.id.clone(),
            workflow: row.workflow.clone(),
            revision: row.revision.clone(),
            state: RunStateView::read(&row.state)?,
            cancelling: row.cancel_requested && row.ended_at.is_none(),
            event: json(&row.event)?,
            decision: row.decision.clone(),
            restarted_from: row.restarted_from.clone(),
            parent: row.parent.clone(),
            parent_position: row.parent_position.clone(),
            continues: row.continues.clone(),
            started_at: Timestamp(row.started_at),
            ended_at: row.ended_at.map(Timestamp),
        })
    }
}

impl RunView {
    /// Reads a run whole.
    pub(super) async fn load(app: &App, id: &str) -> ApiResult<Self> {
        let db = &app.db.read;
        let row = store::runs::get(db, id).await?;
        // Steps first: one that is done here has its outcome in the journal read after it.
        let rows = store::steps::of_run(db, id).await?;
        let entries = journal::of_run(db, id).await?;
        let made = store::artifacts::of_run(db, id).await?;
        let again = store::restarts::of(db, id).await?;
        let children = store::children::of(db, id).await?;
        // The order of the script's calls, which the journal keeps.
        let order: BTreeMap<&str, usize> = entries
            .iter()
            .enumerate()
            .map(|(place, entry)| (entry.position.as_str(), place))
            .collect();
        let mut artifacts: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        for one in &made {
            let of_step = artifacts.entry(&one.position).or_default();
            of_step.insert(one.name.clone(), one.digest.clone());
        }
        let mut steps = Vec::new();
        for step in rows {
            let entry = order.get(&*step.position).map(|&place| &entries[place]);
            let mut view = StepView::read(&step)?;
            view.read_outcome(app, entry).await?;
            view.artifacts = artifacts.remove(&*step.position).unwrap_or_default();
            steps.push(view);
        }
        steps.sort_by_key(|s| order.get(&*s.position));
        let waiting = entries
            .iter()
            .filter(|e| e.outcome.is_none() && row.ended_at.is_none());
        Ok(Self {
            summary: RunSummary::read(&row)?,
            result: row.result.as_deref().map(json).transpose()?,
            failure: row.failure.as_deref().map(json).transpose()?,
            restarted_position: row.restarted_position.clone(),
            restarted_as: again.into_iter().map(|run| run.id).collect(),
            continued_as: store::runs::continued_as(db, id).await?,
            children: children.into_iter().map(|run| run.id).collect(),
            steps,
            waiting_for: waiting.map(WaitView::read).collect::<ApiResult<_>>()?,
        })
    }
}

impl StepView {
    fn read(row: &step::Model) -> ApiResult<Self> {
        Ok(Self {
            position: row.position.clone(),
            kind: row.kind.clone(),
            state: row.state.clone(),
            attempt: row.attempt,
            input: json(&row.input)?,
            output: None,
            error: row.error.as_deref().map(last_error),
            progress: row.share_done,
            phase: row.phase.clone(),
            waiting_for: row.waiting_for.clone(),
            started_at: row.started_at.map(Timestamp),
            ended_at: row.ended_at.map(Timestamp),
            artifacts: BTreeMap::new(),
        })
    }

    async fn read_outcome(
        &mut self,
        app: &App,
        entry: Option<&journal::journal::Model>,
    ) -> ApiResult<()> {
        let Some(outcome) = entry.and_then(|e| e.outcome.as_deref()) else {
            return Ok(());
        };
        match serde_json::from_str(outcome).map_err(ApiError::internal)? {
            CallOutcome::Ok(output) => self.output = Some(whole(app, output).await?),
            CallOutcome::Err(failure) => {
                self.error = Some(serde_json::to_value(failure).map_err(ApiError::internal)?);
            }
        }
        Ok(())
    }
}

impl WaitView {
    fn read(row: &journal::journal::Model) -> ApiResult<Self> {
        Ok(Self {
            position: row.position.clone(),
            kind: row.kind.clone(),
            input: json(&row.input)?,
            since: Timestamp(row.recorded_at),
            due: row.due.map(Timestamp),
        })
    }
}

impl EntryView {
    fn read(row: &journal::journal::Model) -> ApiResult<Self> {
        Ok(Self {
            position: row.position.clone(),
            kind: row.kind.clone(),
            line: row.line,
            input: json(&row.input)?,
            input_digest: row.input_digest.clone(),
            undo: row.undo,
            outcome: row.outcome.as_deref().map(json).transpose()?,
            recorded_at: Timestamp(row.recorded_at),
            answered_at: row.answered_at.map(Timestamp),
        })
    }
}

/// An attempt's error, which its row holds as `code: message`.
fn last_error(text: &str) -> Value {
    let (code, message) = text.split_once(": ").unwrap_or(("failed", text));
    serde_json::json!({ "code": code, "message": message })
}

/// A value as the script sees it: what is large lies in the artifact store.
async fn whole(app: &App, value: Value) -> ApiResult<Value> {
    let mut named = None;
    // Asked once for the digest, and once more with the bytes.
    let _ = inline_stored(value.clone(), |digest| {
        named = Some(digest.to_owned());
        Ok::<_, serde_json::Error>(b"null".to_vec())
    });
    let Some(digest) = named else {
        return Ok(value);
    };
    let bytes = app.artifacts.get(&digest).await?;
    inline_stored(value, |_| Ok::<_, serde_json::Error>(bytes.to_vec())).map_err(ApiError::internal)
}

fn json(text: &str) -> ApiResult<Value> {
    serde_json::from_str(text).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Role;
    use crate::testing::TestServer;

    async fn start(server: &TestServer, token: &str, workflow: &str, asset: &str) -> String {
        let body = json!({ "workflow": workflow, "event": { "asset": asset } }).to_string();
        let run = server.ask("POST", "/api/v1/runs", token, &body).await;
        assert_eq!(run.status, 201, "{:?}", run.body);
        run.json()["id"].as_str().expect("an id").to_owned()
    }

    #[tokio::test]
    async fn runs_are_found_by_workflow_asset_state_and_time() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "ada").await;
        for name in ["v", "w"] {
            let body = json!({ "name": name, "source": "fn run(event) { 1 }" }).to_string();
            server.ask("POST", "/api/v1/workflows", &token, &body).await;
        }
        let mut runs = Vec::new();
        let mut times = Vec::new();
        for (workflow, asset) in [("v", "a"), ("v", "b"), ("w", "a"), ("v", "a")] {
            times.push(server.app.clock.now());
            runs.push(start(&server, &token, workflow, asset).await);
            server.app.clock.advance(60_000);
        }
        let tx = store::begin(&server.app.db.write)
            .await
            .expect("a transaction");
        let ended = store::runs::RunEnd::Succeeded(Value::Null);
        store::runs::end(&tx, server.app.now_ms(), &runs[0], &ended)
            .await
            .expect("ended");
        tx.commit().await.expect("a commit");
        let (from, to) = (times[1], times[3]);
        for (query, found) in [
            ("", &[3, 2, 1, 0][..]),
            ("workflow=v", &[3, 1, 0]),
            ("asset=a", &[3, 2, 0]),
            ("workflow=v&asset=a&state=running", &[3]),
            ("state=succeeded", &[0]),
            (&format!("from={from}"), &[3, 2, 1]),
            (&format!("from={from}&to={to}"), &[2, 1]),
            (&format!("to={to}&asset=a"), &[2, 0]),
            ("workflow=none", &[]),
        ] {
            // Page by page, so that what is filtered is also what is counted.
            let (mut after, mut seen) = (String::new(), Vec::new());
            loop {
                let path = format!("/api/v1/runs?limit=1&{query}{after}");
                let page = server.ask("GET", &path, &token, "").await;
                assert_eq!(page.status, 200, "{query}: {:?}", page.body);
                let page = page.json();
                let ids = page["runs"].as_array().expect("runs").iter();
                seen.extend(ids.map(|run| run["id"].as_str().expect("an id").to_owned()));
                let Some(next) = page["next"].as_str() else {
                    break;
                };
                after = format!("&after={next}");
            }
            let expected: Vec<&String> = found.iter().map(|&n| &runs[n]).collect();
            assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "{query}");
        }
        let malformed = server
            .ask("GET", "/api/v1/runs?from=yesterday", &token, "")
            .await;
        assert_eq!(malformed.problem(400), "malformed_query");
    }

    #[tokio::test]
    async fn a_long_journal_is_read_page_by_page() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "ada").await;
        let body = r#"{"name":"w","source":"fn run(event) { 1 }"}"#;
        server.ask("POST", "/api/v1/workflows", &token, body).await;
        let run = start(&server, &token, "w", "a").await;
        let input = Value::Null;
        let positions: Vec<String> = (1..=1_203).map(|n| n.to_string()).collect();
        let entries: Vec<_> = positions
            .iter()
            .map(|position| journal::NewEntry {
                position,
                kind: "now",
                input: &input,
                input_digest: "",
                line: None,
                due: None,
                outcome: None,
                undo: false,
            })
            .collect();
        let tx = store::begin(&server.app.db.write)
            .await
            .expect("a transaction");
        journal::append(&tx, 0, &run, &entries)
            .await
            .expect("appended");
        tx.commit().await.expect("a commit");
        let (mut after, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let path = format!("/api/v1/runs/{run}/journal{after}");
            let page = server.ask("GET", &path, &token, "").await.json();
            let entries = page["entries"].as_array().expect("entries").iter();
            seen.extend(entries.map(|e| e["position"].as_str().expect("a position").to_owned()));
            pages += 1;
            let Some(next) = page["next"].as_str() else {
                break;
            };
            after = format!("?after={next}");
        }
        assert_eq!((seen, pages), (positions, 3));
        for query in ["limit=0", "limit=501", "after=x"] {
            let path = format!("/api/v1/runs/{run}/journal?{query}");
            assert_eq!(
                server.ask("GET", &path, &token, "").await.problem(400),
                "malformed_query"
            );
        }
    }
}
