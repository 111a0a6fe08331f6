//! What policies and workflows have in common: their revisions, on the wire and through the door.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::policy::{DECISION_TIME, RevisionState};
use workflows::script::{
    Finding, Limits, Script, ScriptError, Severity, StepInput, StopFlag, StopReason, TestReport,
    look_over_policy, look_over_workflow, run_tests, workflow_name_findings,
};

use super::name::{Name, PageQuery, checked_name};
use crate::app::App;
use crate::auth::Principal;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;
use crate::store::{self, scripts::Revision, scripts::Scripts};

/// How long the tests that come with a script may take together.
const TESTS_TAKE: Duration = Duration::from_secs(20);
/// How often somebody looks whether decisions asked for again take longer than they may.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One version of a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptView {
    /// Its name.
    pub name: String,
    /// Digest of its source.
    pub revision: String,
    /// Its source.
    pub source: String,
    /// Whether it is the one that serves.
    pub active: bool,
    /// Where it stands.
    pub state: RevisionStateView,
    /// The share of assets a canary decides about, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last began to serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub served_at: Option<Timestamp>,
    /// Whether nobody rolled back from it since.
    pub good: bool,
    /// The tests it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<String>,
}

/// Where a revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevisionStateView {
    /// Written, and asked by nobody.
    Draft,
    /// Asked beside the one that serves, and only compared.
    Shadow,
    /// Decides about a share of the assets.
    Canary,
    /// Serves.
    Active,
    /// Served or was tried once; kept.
    Retired,
}

/// Revisions of one script, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevisionList {
    /// This page.
    revisions: Vec<ScriptView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which revision serves after a roll-back.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolledBack {
    /// Digest of the revision that served until now.
    from: String,
    /// The one that serves again.
    to: ScriptView,
}

/// A script to be stored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewScript {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// Its source, Rhai.
    pub source: String,
    /// Where it is to stand: `active` if not said; a `draft` is only kept.
    #[serde(default)]
    pub state: NewState,
    /// Its tests, the text of its `_test.rhai`: it is refused unless there are some and all pass.
    #[serde(default)]
    pub tests: Option<String>,
}

/// Where a new revision is to stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewState {
    /// It serves at once.
    #[default]
    Active,
    /// It is kept, and asked by nobody.
    Draft,
}

/// A script to be looked at.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ScriptSource {
    /// Its source, Rhai.
    pub source: String,
}

/// What was found in a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckReport {
    /// Whether it would be taken: there is no error among what was found.
    pub ok: bool,
    /// In order of line; empty if nothing was found.
    pub problems: Vec<ScriptProblem>,
}

/// One thing found in a script.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScriptProblem {
    /// How bad it is.
    severity: SeverityView,
    /// Stable code.
    code: String,
    /// What is wrong.
    message: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    /// Line of the first character behind what it is about, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_line: Option<u32>,
    /// Column of that, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_column: Option<u32>,
    /// The nearest known name, where one was unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// How bad it is, what was found in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeverityView {
    /// It fails, or cannot do what it says; a script with one is refused.
    Error,
    /// It works, and is probably not what was meant.
    Warning,
}

impl From<RevisionState> for RevisionStateView {
    fn from(state: RevisionState) -> Self {
        match state {
            RevisionState::Draft => Self::Draft,
            RevisionState::Shadow => Self::Shadow,
            RevisionState::Canary => Self::Canary,
            RevisionState::Active => Self::Active,
            RevisionState::Retired => Self::Retired,
        }
    }
}

impl From<Revision> for ScriptView {
    fn from(r: Revision) -> Self {
        let state = r.stands();
        Self {
            name: r.name,
            revision: r.digest,
            source: r.source,
            active: state == RevisionState::Active,
            state: state.into(),
            percent: r.percent,
            created_at: Timestamp(r.created_at),
            served_at: r.served_at.map(Timestamp),
            good: r.good,
            tests: r.tests,
        }
    }
}

impl From<Finding> for ScriptProblem {
    fn from(found: Finding) -> Self {
        Self {
            severity: match found.severity {
                Severity::Error => SeverityView::Error,
                Severity::Warning => SeverityView::Warning,
            },
            code: found.error.code,
            message: found.error.message,
            line: found.error.line,
            column: found.error.column,
            end_line: found.end_line,
            end_column: found.end_column,
            nearest: found.error.nearest,
            hint: found.hint,
        }
    }
}

/// Refuses a script with what was found in it.
pub fn refusal(problems: &[ScriptError]) -> ApiError {
    let mut error = ApiError::refused("script", problems[0].to_string());
    if let Some(line) = problems[0].line {
        error = error.with("line", line);
    }
    if let Some(column) = problems[0].column {
        error = error.with("column", column);
    }
    error.with("problems", problems.len())
}

/// The revisions that serve, by name.
pub(super) async fn serving(app: &App, sort: Scripts) -> ApiResult<Vec<ScriptView>> {
    let rows = sort.list(&app.db.read).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// What is wrong with a script, or probably is; looking takes a while, so it is done on a thread for such work.
async fn findings(sort: Scripts, name: String, source: String) -> ApiResult<Vec<Finding>> {
    let look = move || match sort {
        Scripts::Policies => look_over_policy(&name, &source),
        Scripts::Workflows => {
            let kinds = StepInput::all(&workflows::steps::registry());
            look_over_workflow(&name, &source, &kinds)
        }
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(ApiError::internal)
}

/// What in a script is only likely to be a mistake.
///
/// # Errors
///
/// `script` where anything is wrong with it.
pub(super) async fn sound(
    sort: Scripts,
    name: &str,
    source: &str,
) -> ApiResult<Vec<ScriptProblem>> {
    let found = findings(sort, name.to_owned(), source.to_owned()).await?;
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    let (wrong, likely): (Vec<_>, Vec<_>) = found.into_iter().partition(is_error);
    if !wrong.is_empty() {
        let wrong: Vec<_> = wrong.into_iter().map(|finding| finding.error).collect();
        return Err(refusal(&wrong));
    }
    Ok(likely.into_iter().map(Into::into).collect())
}

/// What was found in a script that is not to be stored.
pub(super) async fn look_over(sort: Scripts, source: String) -> ApiResult<Json<CheckReport>> {
    let found = findings(sort, sort.noun().to_owned(), source).await?;
    Ok(Json(CheckReport {
        ok: found.iter().all(|f| f.severity == Severity::Warning),
        problems: found.into_iter().map(Into::into).collect(),
    }))
}

/// Definitions, as text.
pub(super) fn definitions(text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, text).into_response()
}

/// A script that was stored.
pub(super) struct Stored {
    /// The revision.
    pub revision: Revision,
    /// What is likely to be a mistake in it.
    pub warnings: Vec<ScriptProblem>,
}

/// Stores a script where it is to stand; one with a fault, or whose tests fail, is refused and nothing changes.
///
/// # Errors
///
/// `script` for a fault, `tests_failed` and `no_tests` for its tests.
pub(super) async fn put(
    app: &App,
    sort: Scripts,
    who: &Principal,
    body: NewScript,
) -> ApiResult<Stored> {
    let name = checked_name("name", body.name)?;
    let mut warnings = sound(sort, &name, &body.source).await?;
    if sort == Scripts::Policies {
        warnings.extend(workflows_missing(app, &name, &body.source).await?);
        warnings.sort_by_key(|problem| (problem.line, problem.column));
    }
    if let Some(tests) = &body.tests {
        let report = tested(name.clone(), body.source.clone(), tests.clone()).await?;
        refuse_failing(&name, &report)?;
        warnings.extend(report.findings.into_iter().map(Into::into));
    }
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    let tests = body.tests.as_deref();
    let mut stored = sort.put(&tx, now, &name, &body.source, tests).await?;
    let mut verb = "store";
    if body.state == NewState::Active {
        let to = RevisionState::Active;
        stored = sort
            .move_to(&tx, now, &name, &stored.digest, to, None)
            .await?;
        tell_moved(&tx, now, sort, &name, &place(&stored)).await?;
        verb = "activate";
    }
    let verb = format!("{verb}_{}", sort.noun());
    let detail = json!({ "revision": stored.digest });
    store::audit::record(&tx, now, &who.subject, &verb, &name, &detail).await?;
    tx.commit().await?;
    Ok(Stored {
        revision: stored,
        warnings,
    })
}

/// The workflows a policy starts that this server does not have; they may come later, so it is only told.
async fn workflows_missing(app: &App, name: &str, source: &str) -> ApiResult<Vec<ScriptProblem>> {
    let serving = Scripts::Workflows.list(&app.db.read).await?;
    let names: Vec<&str> = serving.iter().map(|r| r.name.as_str()).collect();
    let script = Script::compile(name, source).map_err(|error| refusal(&[error]))?;
    let missing = workflow_name_findings(&script, &names);
    Ok(missing.into_iter().map(Into::into).collect())
}

/// Runs the tests that came with a script, as long as they may take.
async fn tested(name: String, source: String, tests: String) -> ApiResult<TestReport> {
    let report = for_at_most(TESTS_TAKE, Limits::test(), move |limits| {
        let script = Script::compile(&name, &source)?;
        let tests = Script::compile(&format!("{name}_test"), &tests)?;
        run_tests(&script, &tests, limits.stop.clone())
    });
    report.await?.map_err(|error| refusal(&[error]))
}

/// Runs scripts on a thread for such work; those at work when the time is over are stopped, and so are all after them.
pub(super) async fn for_at_most<T: Send + 'static>(
    time: Duration,
    limits: Limits,
    work: impl FnOnce(&Limits) -> T + Send + 'static,
) -> ApiResult<T> {
    let stop = StopFlag::default();
    let limits = limits.stopped_by(stop.clone());
    let late = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        stop.raise(StopReason::GivenUp);
    });
    let done = tokio::task::spawn_blocking(move || work(&limits)).await;
    late.abort();
    done.map_err(ApiError::internal)
}

/// Has decisions made again on threads for such work, a thread for each piece of it; gives what came of the pieces.
///
/// All are stopped when they have had this time together, and when nobody waits for them any more.
pub(super) async fn in_time<T, W>(time: Duration, pieces: Vec<W>) -> ApiResult<Vec<T>>
where
    T: Send + 'static,
    W: FnOnce(&Turns) -> T + Send + 'static,
{
    let mut watch = Watch(Vec::new());
    let begin = |piece: W| {
        let turns = Arc::new(Turns::new());
        watch.0.push(turns.clone());
        tokio::task::spawn_blocking(move || piece(&turns))
    };
    let begun: Vec<_> = pieces.into_iter().map(begin).collect();
    let mut all = pin!(try_join_all(begun));
    loop {
        match tokio::time::timeout(LOOK_EVERY, all.as_mut()).await {
            Ok(done) => return done.map_err(ApiError::internal),
            Err(_) => watch.look(time),
        }
    }
}

/// Pieces of work that are stopped when this is dropped.
struct Watch(Vec<Arc<Turns>>);

impl Watch {
    fn look(&self, time: Duration) {
        let first = self.0.iter().filter_map(|turns| turns.first_began()).min();
        let over = first.is_some_and(|first| first.elapsed() > time);
        for turns in &self.0 {
            if over {
                turns.end();
            } else {
                turns.look();
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.iter().for_each(|turns| turns.end());
    }
}

/// Decisions that are made one after the other, each in the time it has where it counts.
pub(super) struct Turns {
    limits: Limits,
    stop: StopFlag,
    /// When the first began, and when the latest did.
    began: Mutex<Option<(Instant, Instant)>>,
}

impl Turns {
    fn new() -> Self {
        let stop = StopFlag::default();
        Self {
            limits: Limits::decision().stopped_by(stop.clone()),
            stop,
            began: Mutex::default(),
        }
    }

    /// The limits of each.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The next one begins and has all the time again; `false` where there is no time for another.
    pub(super) fn begin(&self) -> bool {
        let mut began = self.began();
        if self.is_over() {
            return false;
        }
        let now = Instant::now();
        let first = began.map_or(now, |(first, _)| first);
        *began = Some((first, now));
        self.stop.lower();
        true
    }

    /// Whether there is no time any more; what was at work then may have been stopped by that.
    pub(super) fn is_over(&self) -> bool {
        self.stop.raised() == Some(StopReason::GivenUp)
    }

    fn first_began(&self) -> Option<Instant> {
        self.began().map(|(first, _)| first)
    }

    fn look(&self) {
        // Raised under the lock, so that it cannot hit the one that has just begun.
        let began = self.began();
        if began.is_some_and(|(_, latest)| latest.elapsed() > DECISION_TIME) {
            self.stop.raise(StopReason::UsedUp);
        }
    }

    fn end(&self) {
        // Under the lock and in place of any other reason, so that the next one to begin does not lower it.
        let _began = self.began();
        if !self.is_over() {
            self.stop.lower();
            self.stop.raise(StopReason::GivenUp);
        }
    }

    fn began(&self) -> MutexGuard<'_, Option<(Instant, Instant)>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse_failing(name: &str, report: &TestReport) -> ApiResult<()> {
    if let Some(error) = report.error() {
        return Err(refusal(std::slice::from_ref(error)));
    }
    if report.tests.is_empty() {
        let detail = format!("the tests of `{name}` have no `fn test_…()`");
        return Err(ApiError::refused("no_tests", detail));
    }
    let failures = report.tests.iter().filter_map(|test| {
        let failure = test.failure.as_ref()?;
        Some(json!({ "test": test.name, "failure": failure.to_string() }))
    });
    let failures: Vec<_> = failures.collect();
    let Some(first) = failures.first() else {
        return Ok(());
    };
    let detail = format!(
        "{} of {} tests failed, first `{}`: {}; what served goes on serving",
        failures.len(),
        report.tests.len(),
        first["test"].as_str().unwrap_or_default(),
        first["failure"].as_str().unwrap_or_default()
    );
    Err(ApiError::refused("tests_failed", detail).with("failures", failures))
}

/// A page of the revisions of one script.
pub(super) async fn revisions(
    app: &App,
    sort: Scripts,
    name: &str,
    query: PageQuery,
) -> ApiResult<Json<RevisionList>> {
    let page = query.page()?;
    let rows = sort.revisions(&app.db.read, name, page).await?;
    if rows.is_empty() && page.after.is_none() {
        return Err(ApiError::not_found(sort.noun(), name));
    }
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.digest.as_str()));
    Ok(Json(RevisionList {
        next: next.map(str::to_owned),
        revisions: rows.into_iter().map(Into::into).collect(),
    }))
}

/// Where a revision is to be moved.
pub(super) struct Move<'a> {
    /// The script.
    pub name: &'a str,
    /// The revision.
    pub digest: &'a str,
    /// The state it is to be in.
    pub to: RevisionState,
    /// The share of a canary, percent.
    pub percent: Option<i64>,
}

/// Moves a revision and records who did.
pub(super) async fn move_revision(
    app: &App,
    sort: Scripts,
    who: &Principal,
    step: Move<'_>,
) -> ApiResult<Json<ScriptView>> {
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    let moved = sort.move_to(&tx, now, step.name, step.digest, step.to, step.percent);
    let moved = moved.await?;
    let verb = match step.to {
        RevisionState::Active => format!("activate_{}", sort.noun()),
        _ => format!("move_{}", sort.noun()),
    };
    let detail = place(&moved);
    tell(app, &tx, sort, who, (&verb, step.name, detail)).await?;
    tx.commit().await?;
    Ok(Json(moved.into()))
}

/// Lets the last good revision serve again and records who did.
pub(super) async fn roll_back(
    app: &App,
    sort: Scripts,
    who: &Principal,
    name: &str,
) -> ApiResult<Json<RolledBack>> {
    let tx = store::begin(&app.db.write).await?;
    let (from, to) = sort.roll_back(&tx, app.now_ms(), name).await?;
    let verb = format!("roll_back_{}", sort.noun());
    let detail = json!({ "from": from, "revision": to.digest });
    tell(app, &tx, sort, who, (&verb, name, detail)).await?;
    tx.commit().await?;
    Ok(Json(RolledBack {
        from,
        to: to.into(),
    }))
}

async fn tell(
    app: &App,
    tx: &store::DatabaseTransaction,
    sort: Scripts,
    who: &Principal,
    (verb, name, detail): (&str, &str, Value),
) -> ApiResult<()> {
    let now = app.now_ms();
    tell_moved(tx, now, sort, name, &detail).await?;
    store::audit::record(tx, now, &who.subject, verb, name, &detail).await?;
    Ok(())
}

async fn tell_moved(
    tx: &store::DatabaseTransaction,
    now: i64,
    sort: Scripts,
    name: &str,
    detail: &Value,
) -> ApiResult<()> {
    let event = format!("{}.revision_moved", sort.noun());
    store::events::record(tx, now, &event, name, detail).await?;
    Ok(())
}

/// Which revision stands where.
fn place(revision: &Revision) -> Value {
    json!({
        "revision": revision.digest,
        "state": revision.state,
        "percent": revision.percent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_decision_has_the_time_it_has_on_a_server_and_all_have_a_bound() {
        // Waits for the flag as a script does, which looks at it from time to time.
        let wait = |turns: &Turns| {
            let stop = turns.limits().stop.clone().expect("a flag");
            while stop.raised().is_none() {
                std::thread::yield_now();
            }
            stop.raised()
        };
        let began = Instant::now();
        let work = move |turns: &Turns| {
            let first = turns.begin().then(|| wait(turns)).flatten();
            let second = turns.begin().then(|| wait(turns)).flatten();
            (first, second, turns.begin())
        };
        let time = DECISION_TIME * 2;
        let done = in_time(time, vec![work]).await.unwrap();
        let wanted = (Some(StopReason::UsedUp), Some(StopReason::GivenUp), false);
        assert_eq!(done, [wanted]);
        assert!(began.elapsed() >= time);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_no_work_behind() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let work = move |turns: &Turns| {
            while turns.begin() {
                std::thread::yield_now();
            }
            let _ = ended.send(());
        };
        let asked = in_time(Duration::from_secs(600), vec![work]);
        let gone = tokio::time::timeout(Duration::from_millis(20), asked).await;
        assert!(gone.is_err(), "it would have gone on");
        end.await.expect("the work has ended");
    }
}
