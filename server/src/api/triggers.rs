//! Triggers: workflows that the clock starts, and what became of each of their ticks.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;
use workflows::run::trigger::late_by_ms;
use workflows::run::{Cron, CronError, zone_named};

use super::name::{Name, PageQuery, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::jobs;
use crate::store::scripts::Scripts;
use crate::store::triggers::{cron_trigger, trigger_tick};
use crate::store::{self, StoreError};

/// A workflow to be started by the clock.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTrigger {
    /// Minute, hour, day of month, month, day of week; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schema(example = "30 2 * * mon-fri")]
    pub cron: String,
    /// IANA time zone the expression is told in; `UTC` if not said.
    #[serde(default = "utc")]
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
    /// The workflow; each tick starts the revision that serves then.
    pub workflow: String,
    /// What its script is given, and `trigger`: the name and the tick. The tick is also `at`, unless given here.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub event: Map<String, Value>,
    /// What becomes of ticks that nobody was there to fire; `skip` if not said.
    #[serde(default)]
    pub missed: MissedView,
    /// What becomes of a tick while a run of an earlier one goes on; `skip` if not said.
    #[serde(default)]
    pub overlap: OverlapView,
    /// Fires this many seconds late at most; how many, the trigger's name decides.
    #[serde(default)]
    #[schema(maximum = 3600)]
    pub jitter_s: u32,
    /// Whether it rests. Ticks of that time count as never having been.
    #[serde(default)]
    pub paused: bool,
}

/// What becomes of ticks that nobody was there to fire.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedView {
    /// They are passed over.
    #[default]
    Skip,
    /// All that came due together become one.
    Once,
    /// Each fires, up to `triggers.catch_up` of the latest.
    All,
}

/// What becomes of a tick while a run of an earlier one goes on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlapView {
    /// It is passed over.
    #[default]
    Skip,
    /// It fires all the same.
    Allow,
    /// It waits until that run is over.
    Queue,
}

/// A trigger.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriggerView {
    /// Stable name.
    name: String,
    /// Its expression.
    cron: String,
    /// The zone it is told in.
    time_zone: String,
    /// The workflow it starts.
    workflow: String,
    /// What the script is given.
    #[schema(value_type = Object)]
    event: Map<String, Value>,
    /// What becomes of missed ticks.
    missed: MissedView,
    /// What becomes of a tick while a run of an earlier one goes on.
    overlap: OverlapView,
    /// Fires this many seconds late at most.
    jitter_s: i64,
    /// Whether it rests.
    paused: bool,
    /// How many seconds after its tick it fires.
    late_by_s: i64,
    /// The next five ticks; none while it is paused.
    #[schema(value_type = Vec<String>)]
    next_ticks: Vec<Timestamp>,
    /// When it was first stored.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last stored.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// Triggers by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct TriggerList {
    /// This page.
    triggers: Vec<TriggerView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// What became of a tick.
#[derive(Debug, Serialize, ToSchema)]
pub struct TickView {
    /// The moment the expression names.
    #[schema(value_type = String, format = DateTime)]
    tick: Timestamp,
    /// `started`; `queued` behind an earlier run; `skipped` because of one; `missed`; `refused`.
    state: TickStateView,
    /// How many missed ticks this one stands for, itself among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_over: Option<i64>,
    /// Why it did not fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The run it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// When that was decided.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// What became of a tick.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TickStateView {
    /// It started a run.
    Started,
    /// It waits for an earlier run to end.
    Queued,
    /// It was passed over because of an earlier run.
    Skipped,
    /// Nobody was there to fire it.
    Missed,
    /// Its workflow could not be started.
    Refused,
}

/// What became of a trigger's ticks.
#[derive(Debug, Serialize, ToSchema)]
pub struct TickList {
    /// Latest first.
    ticks: Vec<TickView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which ticks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TickQuery {
    /// `next` of the page before.
    #[param(value_type = Option<String>, format = DateTime)]
    pub after: Option<Timestamp>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// How many ticks ahead a trigger shows.
const AHEAD: usize = 5;
/// Longest event of a trigger: every tick copies it into a run.
const MAX_EVENT_BYTES: usize = 65_536;
const MAX_JITTER_S: u32 = 3_600;

/// Every trigger.
#[utoipa::path(get, path = "/api/v1/triggers", tag = "runs", params(PageQuery),
    responses((status = 200, body = TriggerList)))]
pub async fn list_triggers(
    app: App,
    _: auth::Reader,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<TriggerList>> {
    let page = query.page()?;
    let rows = store::triggers::list(&app.db.read, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.name.as_str()));
    let next = next.map(str::to_owned);
    let triggers = rows
        .iter()
        .map(TriggerView::read)
        .collect::<ApiResult<_>>()?;
    Ok(Json(TriggerList { triggers, next }))
}

/// One trigger, with the ticks ahead.
#[utoipa::path(get, path = "/api/v1/triggers/{name}", tag = "runs",
    params(("name" = String, Path)), responses((status = 200, body = TriggerView)))]
pub async fn get_trigger(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
) -> ApiResult<Json<TriggerView>> {
    let row = store::triggers::get(&app.db.read, &name).await?;
    Ok(Json(TriggerView::read(&row)?))
}

/// Start a workflow by the clock. The same name replaces the trigger; its next tick stays unless its time changed or it
/// was paused.
#[utoipa::path(put, path = "/api/v1/triggers/{name}", tag = "runs",
    params(("name" = inline(Name), Path)), request_body = NewTrigger,
    responses((status = 200, body = TriggerView)))]
pub async fn put_trigger(
    app: App,
    who: auth::Engineer,
    Path(name): Path<String>,
    Json(body): Json<NewTrigger>,
) -> ApiResult<Json<TriggerView>> {
    let name = checked_name("name", name)?;
    let now = app.now_ms();
    let tx = store::begin(&app.db.write).await?;
    match Scripts::Workflows.active(&tx, &body.workflow).await {
        Err(StoreError::Unknown { .. }) => return Err(unknown_workflow(&body.workflow)),
        other => other.map(drop)?,
    }
    let before = store::triggers::find(&tx, &name).await?;
    let row = body.row(name, before.as_ref(), now)?;
    let stored = store::triggers::put(&tx, row).await?;
    let actor = &who.0.subject;
    store::audit::record_put(&tx, now, actor, "put_trigger", &stored.name, &body).await?;
    tx.commit().await?;
    Ok(Json(TriggerView::read(&stored)?))
}

/// Remove a trigger. Runs it started go on; what it had queued is given up.
#[utoipa::path(delete, path = "/api/v1/triggers/{name}", tag = "runs",
    params(("name" = String, Path)), responses((status = 204)))]
pub async fn delete_trigger(
    app: App,
    who: auth::Engineer,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    if !store::triggers::delete(&tx, now, &name).await? {
        return Err(ApiError::not_found("trigger", &name));
    }
    store::audit::record(&tx, now, actor, "delete_trigger", &name, &Value::Null).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What became of a trigger's ticks, latest first.
#[utoipa::path(get, path = "/api/v1/triggers/{name}/ticks", tag = "runs",
    params(("name" = String, Path), TickQuery), responses((status = 200, body = TickList)))]
pub async fn list_ticks(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
    Query(query): Query<TickQuery>,
) -> ApiResult<Json<TickList>> {
    let db = &app.db.read;
    let paging = PageQuery {
        after: None,
        limit: query.limit,
    };
    let page = paging.page()?;
    store::triggers::get(db, &name).await?;
    let before = query.after.map(|at| at.0);
    let rows = store::triggers::ticks(db, &name, before, page.limit).await?;
    let last = rows.last().map(|row| Timestamp(row.tick).to_string());
    let next = PageQuery::next(page, rows.len(), last.as_deref()).map(str::to_owned);
    let ticks = rows
        .into_iter()
        .map(TickView::read)
        .collect::<ApiResult<_>>()?;
    Ok(Json(TickList { ticks, next }))
}

fn utc() -> String {
    "UTC".into()
}

impl NewTrigger {
    /// The row of this trigger; refuses what can never fire.
    fn row(
        &self,
        name: String,
        before: Option<&cron_trigger::Model>,
        now: i64,
    ) -> ApiResult<cron_trigger::Model> {
        let cron: Cron = self.cron.parse().map_err(|e| refused("cron", &e))?;
        let zone = zone_named(&self.time_zone).map_err(|e| refused("time_zone", &e))?;
        if self.jitter_s > MAX_JITTER_S {
            let detail = format!("`jitter_s` must be 0 to {MAX_JITTER_S}");
            return Err(ApiError::refused("invalid_jitter", detail).with("field", "jitter_s"));
        }
        let event = serde_json::to_string(&self.event).map_err(ApiError::internal)?;
        if event.len() > MAX_EVENT_BYTES {
            let detail = format!(
                "the event is larger than {MAX_EVENT_BYTES} bytes; upload an artifact and name its digest"
            );
            return Err(ApiError::refused("event_too_large", detail).with("field", "event"));
        }
        let kept = before
            .filter(|b| (&b.cron, &b.time_zone, b.paused) == (&self.cron, &self.time_zone, false));
        let fresh = || cron.next_after(&zone, Timestamp(now)).map(|at| at.0);
        let next_tick = kept.map_or_else(fresh, |before| before.next_tick);
        let late_by_ms = late_by_ms(&name, self.jitter_s);
        Ok(cron_trigger::Model {
            cron: self.cron.clone(),
            time_zone: self.time_zone.clone(),
            workflow: self.workflow.clone(),
            event,
            missed: word(self.missed)?,
            overlap: word(self.overlap)?,
            jitter_s: self.jitter_s.into(),
            paused: self.paused,
            next_tick,
            due: next_tick.map(|tick| tick + late_by_ms),
            created_at: before.map_or(now, |before| before.created_at),
            updated_at: now,
            name,
        })
    }
}

impl TriggerView {
    fn read(row: &cron_trigger::Model) -> ApiResult<Self> {
        let schedule = jobs::schedule(row).map_err(ApiError::internal)?;
        let first = row.next_tick.filter(|_| !row.paused).map(Timestamp);
        let next = |at: &Timestamp| schedule.cron.next_after(&schedule.zone, *at);
        Ok(Self {
            name: row.name.clone(),
            cron: row.cron.clone(),
            time_zone: row.time_zone.clone(),
            workflow: row.workflow.clone(),
            event: serde_json::from_str(&row.event).map_err(ApiError::internal)?,
            missed: worded(&row.missed)?,
            overlap: worded(&row.overlap)?,
            jitter_s: row.jitter_s,
            paused: row.paused,
            late_by_s: schedule.late_by_ms / 1_000,
            next_ticks: std::iter::successors(first, next).take(AHEAD).collect(),
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
        })
    }
}

impl TickView {
    fn read(row: trigger_tick::Model) -> ApiResult<Self> {
        Ok(Self {
            tick: Timestamp(row.tick),
            state: worded(&row.state)?,
            passed_over: Some(row.passed_over).filter(|&count| count > 0),
            reason: row.reason,
            run: row.run_id,
            at: Timestamp(row.at),
        })
    }
}

/// The word a choice is stored as, which is the one on the wire.
fn word(choice: impl Serialize) -> ApiResult<String> {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => Ok(word),
        other => Err(ApiError::internal(format!(
            "a choice is no word: {other:?}"
        ))),
    }
}

fn worded<T: serde::de::DeserializeOwned>(word: &str) -> ApiResult<T> {
    serde_json::from_value(word.into()).map_err(ApiError::internal)
}

fn refused(field: &str, error: &CronError) -> ApiError {
    let code = if field == "cron" {
        "invalid_cron"
    } else {
        "unknown_time_zone"
    };
    let refusal = ApiError::refused(code, error.to_string()).with("field", field);
    match &error.fix {
        Some(fix) => refusal.with("did_you_mean", fix.as_str()),
        None => refusal,
    }
}

fn unknown_workflow(name: &str) -> ApiError {
    let detail = format!("there is no workflow `{name}`; store it first: POST /api/v1/workflows");
    ApiError::refused("unknown_workflow", detail).with("field", "workflow")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Role;
    use crate::testing::TestServer;

    async fn server() -> (TestServer, String) {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Engineer, "ada").await;
        let workflow = r#"{"name":"w","source":"fn run(event) { 1 }"}"#;
        let put = server
            .ask("POST", "/api/v1/workflows", &token, workflow)
            .await;
        assert!(put.status.is_success(), "{:?}", put.body);
        (server, token)
    }

    const PATH: &str = "/api/v1/triggers/nightly";

    #[tokio::test]
    async fn a_trigger_is_stored_shown_with_its_next_ticks_and_removed() {
        let (server, token) = server().await;
        let body = r#"{"cron":"0 3 * * *","time_zone":"Europe/Berlin","workflow":"w","event":{"asset":"a"},"missed":"once","jitter_s":60}"#;
        let put = server.ask("PUT", PATH, &token, body).await;
        assert_eq!(put.status, 200, "{:?}", put.body);
        let put = put.json();
        assert_eq!(
            (
                &put["missed"],
                &put["overlap"],
                &put["paused"],
                &put["event"]
            ),
            (
                &json!("once"),
                &json!("skip"),
                &json!(false),
                &json!({"asset":"a"})
            )
        );
        assert!((0..=60).contains(&put["late_by_s"].as_i64().expect("a number")));
        let ticks = put["next_ticks"].as_array().expect("ticks");
        assert_eq!(ticks.len(), 5);
        assert!(ticks.is_sorted_by(|a, b| a.as_str() < b.as_str()));
        assert_eq!(server.ask("GET", PATH, &token, "").await.json(), put);
        let list = server
            .ask("GET", "/api/v1/triggers", &token, "")
            .await
            .json();
        assert_eq!(list["triggers"], json!([put]));

        let paused = body.replace("\"jitter_s\":60", "\"paused\":true");
        let paused = server.ask("PUT", PATH, &token, &paused).await.json();
        assert_eq!(paused["next_ticks"], json!([]));
        assert_eq!(paused["created_at"], put["created_at"]);
        assert_eq!(server.ask("DELETE", PATH, &token, "").await.status, 204);
        assert_eq!(
            server.ask("GET", PATH, &token, "").await.problem(404),
            "not_found"
        );
        assert_eq!(
            server.ask("DELETE", PATH, &token, "").await.problem(404),
            "not_found"
        );
    }

    #[tokio::test]
    async fn an_unchanged_time_keeps_the_next_tick_and_a_pause_does_not() {
        let (server, token) = server().await;
        let put = async |body: &str| {
            let put = server.ask("PUT", PATH, &token, body).await;
            assert_eq!(put.status, 200, "{:?}", put.body);
            put.json()["next_ticks"][0].clone()
        };
        let first = put(r#"{"cron":"@hourly","workflow":"w"}"#).await;
        server.app.clock.advance(2 * 3_600_000);
        let again = put(r#"{"cron":"@hourly","workflow":"w","missed":"all"}"#).await;
        assert_eq!(again, first, "what is due is not lost by storing it again");
        put(r#"{"cron":"@hourly","workflow":"w","paused":true}"#).await;
        let resumed = put(r#"{"cron":"@hourly","workflow":"w"}"#).await;
        assert!(
            resumed.as_str() > first.as_str(),
            "a pause is not made up for"
        );
    }

    #[tokio::test]
    async fn what_became_of_ticks_is_told_page_by_page() {
        let (server, token) = server().await;
        let body = r#"{"cron":"@hourly","workflow":"w","missed":"all","overlap":"queue"}"#;
        server.ask("PUT", PATH, &token, body).await;
        server.app.clock.advance(3 * 3_600_000);
        let limits = jobs::TriggerLimits {
            patience: workflows::run::trigger::Patience {
                missed_after_ms: 60_000,
                catch_up: 9,
            },
            queued: 9,
        };
        let app = &server.app;
        let fired = jobs::fire_triggers(&app.db, app.now_ms(), &limits).await;
        assert_eq!(fired.expect("fired"), 1);
        let path = format!("{PATH}/ticks?limit=2");
        let page = server.ask("GET", &path, &token, "").await.json();
        let states = |page: &Value| -> Vec<Value> {
            let ticks = page["ticks"].as_array().expect("ticks");
            ticks.iter().map(|tick| tick["state"].clone()).collect()
        };
        assert_eq!(states(&page), ["queued", "queued"]);
        let path = format!(
            "{path}&after={}",
            page["next"].as_str().expect("a next page")
        );
        let page = server.ask("GET", &path, &token, "").await.json();
        assert_eq!(states(&page), ["started"]);
        assert!(page["ticks"][0]["run"].is_string());
        assert_eq!(page["next"], Value::Null);
        let malformed = server
            .ask("GET", &format!("{PATH}/ticks?after=soon"), &token, "")
            .await;
        assert_eq!(malformed.problem(400), "malformed_query");
    }

    #[tokio::test]
    async fn what_can_never_fire_is_refused_with_what_to_do() {
        let (server, token) = server().await;
        let long =
            json!({ "cron": "@daily", "workflow": "w", "event": { "a": "x".repeat(70_000) } });
        for (body, code, said) in [
            (
                json!({"cron":"0 25 * * *","workflow":"w"}),
                "invalid_cron",
                "field `hour`: `25` is not between 0 and 23",
            ),
            (
                json!({"cron":"@daily","workflow":"w","time_zone":"Europe/Berln"}),
                "unknown_time_zone",
                "did you mean `Europe/Berlin`?",
            ),
            (
                json!({"cron":"@daily","workflow":"v"}),
                "unknown_workflow",
                "POST /api/v1/workflows",
            ),
            (
                json!({"cron":"@daily","workflow":"w","jitter_s":3601}),
                "invalid_jitter",
                "0 to 3600",
            ),
            (
                json!({"cron":"@daily","workflow":"w","mised":"all"}),
                "invalid_body",
                "unknown field `mised`",
            ),
            (
                json!({"cron":"@daily","workflow":"w","missed":"twice"}),
                "invalid_body",
                "`skip`, `once`, `all`",
            ),
            (long, "event_too_large", "upload an artifact"),
        ] {
            let answer = server.ask("PUT", PATH, &token, &body.to_string()).await;
            assert_eq!(answer.problem(422), code, "{body}");
            let detail = answer.json()["detail"]
                .as_str()
                .expect("a detail")
                .to_owned();
            assert!(detail.contains(said), "{detail}");
        }
        let reader = server.token(Role::Technician, "tom").await;
        let body = r#"{"cron":"@daily","workflow":"w"}"#;
        assert_eq!(
            server.ask("PUT", PATH, &reader, body).await.problem(403),
            "forbidden"
        );
        assert_eq!(
            server
                .ask("GET", "/api/v1/triggers", &reader, "")
                .await
                .status,
            200
        );
    }
}
