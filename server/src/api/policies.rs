//! Policies: scripts that only decide.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::policy::{Recorded, RevisionState, forecast, read_facts};
use workflows::script::{Limits, Script, policy_definitions};

use super::name::PageQuery;
use super::script::{
    self, CheckReport, Move, NewScript, RevisionList, RolledBack, ScriptProblem, ScriptSource,
    ScriptView,
};
use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path, Query};
use crate::store::{self, scripts::Revision, scripts::Scripts};

/// On how many recorded decisions the cost of a new revision is forecast.
const FORECAST: i64 = 500;
/// How long that may take; what is not done by then counts as failed.
const FORECAST_TAKES: Duration = Duration::from_secs(5);

const SORT: Scripts = Scripts::Policies;

/// The policies that serve.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    /// By name.
    policies: Vec<ScriptView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// A policy that was stored, and what it is going to cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredPolicy {
    /// The revision.
    #[serde(flatten)]
    script: ScriptView,
    /// What in it works and is probably not what was meant, in order of line.
    warnings: Vec<ScriptProblem>,
    /// What it takes on the facts of the latest decisions; absent where none are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<CostView>,
}

/// What decisions are going to take, in operations; each failed one counts with what it took until then.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostView {
    /// How many recorded decisions it was asked about again.
    decisions: u64,
    /// How many of those failed, for whatever reason.
    failed: u64,
    /// How many of those were stopped because the budget was used up.
    over_budget: u64,
    /// Half of them took no more.
    p50: u64,
    /// 99 of 100 took no more.
    p99: u64,
    /// None took more.
    max: u64,
    /// What one decision may take.
    budget: u64,
    /// The recorded decision whose facts took the most.
    heaviest: String,
}

/// The share of assets a canary decides about.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CanaryShare {
    /// Percent, 1 to 100; the same assets as long as the revision is the same, and more of them as it grows.
    #[schema(minimum = 1, maximum = 100)]
    pub percent: i64,
}

/// Whether what a policy decides is only recorded.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct DryRun {
    /// Whether it is.
    pub on: bool,
}

/// The policies that serve.
#[utoipa::path(get, path = "/api/v1/policies", tag = "policies",
    responses((status = 200, body = PolicyList)))]
pub async fn list_policies(app: App, _: auth::Reader) -> ApiResult<Json<PolicyList>> {
    Ok(Json(PolicyList {
        policies: script::serving(&app, SORT).await?,
        next: None,
    }))
}

/// The serving revision of a policy.
#[utoipa::path(get, path = "/api/v1/policies/{name}", tag = "policies",
    params(("name" = String, Path)), responses((status = 200, body = ScriptView)))]
pub async fn get_policy(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
) -> ApiResult<Json<ScriptView>> {
    Ok(Json(SORT.active(&app.db.read, &name).await?.into()))
}

/// Store a policy and let it serve, or keep it as a draft; one with a fault, or whose tests fail, is refused and the
/// last good one keeps serving.
#[utoipa::path(post, path = "/api/v1/policies", tag = "policies", request_body = NewScript,
    responses((status = 201, body = StoredPolicy)))]
pub async fn put_policy(
    app: App,
    who: auth::Engineer,
    Json(body): Json<NewScript>,
) -> ApiResult<(StatusCode, Json<StoredPolicy>)> {
    let stored = script::put(&app, SORT, &who.0, body).await?;
    let cost = cost(&app, &stored.revision).await?;
    let stored = StoredPolicy {
        script: stored.revision.into(),
        warnings: stored.warnings,
        cost,
    };
    Ok((StatusCode::CREATED, Json(stored)))
}

/// What a revision takes on the facts of the latest decisions of its policy.
async fn cost(app: &App, stored: &Revision) -> ApiResult<Option<CostView>> {
    let recorded = store::decisions::latest(&app.db.read, &stored.name, FORECAST).await?;
    let script = Script::compile(&stored.name, &stored.source);
    let script = script.map_err(|error| script::refusal(&[error]))?;
    let asked = move |limits: &Limits| {
        let read = |r: Recorded| Some((read_facts(&r.facts).ok()?, r.decision));
        let (facts, ids): (Vec<_>, Vec<_>) = recorded.into_iter().filter_map(read).unzip();
        let told = forecast(&script, &facts, limits);
        let heaviest = ids.into_iter().nth(told.heaviest?)?;
        Some(CostView {
            decisions: told.decisions as u64,
            failed: told.failed as u64,
            over_budget: told.over_budget as u64,
            p50: told.p50,
            p99: told.p99,
            max: told.max,
            budget: told.budget,
            heaviest,
        })
    };
    script::for_at_most(FORECAST_TAKES, Limits::decision(), asked).await
}

/// Look a policy over without storing it.
#[utoipa::path(post, path = "/api/v1/policies/check", tag = "policies", request_body = ScriptSource,
    responses((status = 200, body = CheckReport)))]
pub async fn check_policy(
    _: auth::Reader,
    Json(body): Json<ScriptSource>,
) -> ApiResult<Json<CheckReport>> {
    script::look_over(SORT, body.source).await
}

/// What a policy can call and see, for editors (`.d.rhai`).
#[utoipa::path(get, path = "/api/v1/policies/definitions", tag = "policies",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn get_definitions(_: auth::Reader) -> Response {
    script::definitions(policy_definitions())
}

/// The revisions of a policy, newest first.
#[utoipa::path(get, path = "/api/v1/policies/{name}/revisions", tag = "policies",
    params(("name" = String, Path), PageQuery), responses((status = 200, body = RevisionList)))]
pub async fn list_policy_revisions(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> ApiResult<Json<RevisionList>> {
    script::revisions(&app, SORT, &name, query).await
}

/// One revision of a policy.
#[utoipa::path(get, path = "/api/v1/policies/{name}/revisions/{digest}", tag = "policies",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn get_policy_revision(
    app: App,
    _: auth::Reader,
    Path((name, digest)): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    let revision = SORT.revision(&app.db.read, &name, &digest).await?;
    Ok(Json(revision.into()))
}

/// Let a revision serve; the one that served until now is retired.
#[utoipa::path(post, path = "/api/v1/policies/{name}/revisions/{digest}/activate", tag = "policies",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn activate_policy_revision(
    app: App,
    who: auth::Engineer,
    Path(revision): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    move_to(&app, &who, &revision, RevisionState::Active, None).await
}

/// Ask a revision beside the one that serves, on every decision, and only compare.
#[utoipa::path(post, path = "/api/v1/policies/{name}/revisions/{digest}/shadow", tag = "policies",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn shadow_policy_revision(
    app: App,
    who: auth::Engineer,
    Path(revision): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    move_to(&app, &who, &revision, RevisionState::Shadow, None).await
}

/// Let a revision decide about a share of the assets; where it fails, the one that serves decides.
#[utoipa::path(post, path = "/api/v1/policies/{name}/revisions/{digest}/canary", tag = "policies",
    params(("name" = String, Path), ("digest" = String, Path)), request_body = CanaryShare,
    responses((status = 200, body = ScriptView)))]
pub async fn canary_policy_revision(
    app: App,
    who: auth::Engineer,
    Path(revision): Path<(String, String)>,
    Json(share): Json<CanaryShare>,
) -> ApiResult<Json<ScriptView>> {
    let to = RevisionState::Canary;
    move_to(&app, &who, &revision, to, Some(share.percent)).await
}

/// Ask a revision no more; it is kept. The one that serves cannot be retired.
#[utoipa::path(post, path = "/api/v1/policies/{name}/revisions/{digest}/retire", tag = "policies",
    params(("name" = String, Path), ("digest" = String, Path)),
    responses((status = 200, body = ScriptView)))]
pub async fn retire_policy_revision(
    app: App,
    who: auth::Engineer,
    Path(revision): Path<(String, String)>,
) -> ApiResult<Json<ScriptView>> {
    move_to(&app, &who, &revision, RevisionState::Retired, None).await
}

/// Let the revision serve again that served last, and that nobody rolled back from.
#[utoipa::path(post, path = "/api/v1/policies/{name}/rollback", tag = "policies",
    params(("name" = String, Path)), responses((status = 200, body = RolledBack)))]
pub async fn roll_back_policy(
    app: App,
    who: auth::Engineer,
    Path(name): Path<String>,
) -> ApiResult<Json<RolledBack>> {
    script::roll_back(&app, SORT, &who.0, &name).await
}

/// Whether what a policy decides is only recorded.
#[utoipa::path(get, path = "/api/v1/policies/{name}/dry_run", tag = "policies",
    params(("name" = String, Path)), responses((status = 200, body = DryRun)))]
pub async fn get_dry_run(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
) -> ApiResult<Json<DryRun>> {
    SORT.active(&app.db.read, &name).await?;
    let on = store::guards::dry_run(&app.db.read, &name).await?;
    Ok(Json(DryRun { on }))
}

/// Let a policy decide without starting anything, or let it start runs again.
#[utoipa::path(put, path = "/api/v1/policies/{name}/dry_run", tag = "policies",
    params(("name" = String, Path)), request_body = DryRun, responses((status = 200, body = DryRun)))]
pub async fn put_dry_run(
    app: App,
    who: auth::Engineer,
    Path(name): Path<String>,
    Json(body): Json<DryRun>,
) -> ApiResult<Json<DryRun>> {
    let tx = store::begin(&app.db.write).await?;
    SORT.active(&tx, &name).await?;
    let actor = &who.0.subject;
    store::guards::set_dry_run(&tx, app.now_ms(), actor, &name, body.on).await?;
    tx.commit().await?;
    Ok(Json(body))
}

async fn move_to(
    app: &App,
    who: &auth::Engineer,
    (name, digest): &(String, String),
    to: RevisionState,
    percent: Option<i64>,
) -> ApiResult<Json<ScriptView>> {
    let step = Move {
        name,
        digest,
        to,
        percent,
    };
    script::move_revision(app, SORT, &who.0, step).await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use workflows::model::Timestamp;
    use workflows::policy::Facts;

    use crate::auth::Role;
    use crate::store::{self, audit, decisions::decision};
    use crate::testing::TestServer;

    const MONITOR: &str = r#"fn decide(facts) { #{ action: "monitor", reason: "ok" } }"#;
    const SHIFT: &str = r#"fn decide(facts) { #{ action: "shift_bandwidth", reason: "hot" } }"#;

    struct Desk {
        server: TestServer,
        token: String,
    }

    impl Desk {
        async fn open() -> Self {
            let server = TestServer::with(&[]).await;
            let token = server.token(Role::Engineer, "emil").await;
            Self { server, token }
        }

        async fn post(&self, path: &str, body: Value) -> crate::testing::Answered {
            let (path, body) = (format!("/api/v1/{path}"), body.to_string());
            self.server.ask("POST", &path, &self.token, &body).await
        }

        async fn get(&self, path: &str) -> Value {
            let path = format!("/api/v1/{path}");
            let answer = self.server.ask("GET", &path, &self.token, "").await;
            assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
            answer.json()
        }

        async fn stored(&self, body: Value) -> String {
            let stored = self.post("policies", body).await;
            assert_eq!(stored.status, 201, "{:?}", stored.body);
            stored.json()["revision"].as_str().unwrap().to_owned()
        }
    }

    #[tokio::test]
    async fn a_revision_is_drafted_tried_and_rolled_back_from() {
        let desk = Desk::open().await;
        let old = desk.stored(json!({ "name": "p", "source": MONITOR })).await;
        let draft = json!({ "name": "p", "source": SHIFT, "state": "draft" });
        let new = desk.stored(draft).await;
        assert_eq!(desk.get("policies/p").await["revision"], json!(old));
        let path = |revision: &str, step: &str| format!("policies/p/revisions/{revision}/{step}");
        let shadow = desk.post(&path(&new, "shadow"), json!(null)).await;
        assert_eq!(shadow.json()["state"], "shadow");
        let share = json!({ "percent": 101 });
        let refused = desk.post(&path(&new, "canary"), share).await;
        assert_eq!(refused.problem(422), "invalid_share");
        let share = json!({ "percent": 25 });
        let canary = desk.post(&path(&new, "canary"), share).await.json();
        assert_eq!(
            (&canary["state"], &canary["percent"]),
            (&json!("canary"), &json!(25))
        );
        let active = desk.post(&path(&new, "activate"), json!(null)).await.json();
        assert_eq!(
            (&active["state"], &active["active"]),
            (&json!("active"), &json!(true))
        );
        let refused = desk.post(&path(&new, "retire"), json!(null)).await;
        assert_eq!(refused.problem(409), "revision_state");
        let back = desk.post("policies/p/rollback", json!(null)).await.json();
        assert_eq!(
            (&back["from"], &back["to"]["revision"]),
            (&json!(new), &json!(old))
        );
        let refused = desk.post("policies/p/rollback", json!(null)).await;
        assert_eq!(refused.problem(409), "no_earlier_revision");
        let listed = desk.get("policies/p/revisions?limit=1").await;
        let next = listed["next"].as_str().unwrap();
        let rest = desk
            .get(&format!("policies/p/revisions?after={next}"))
            .await;
        assert_eq!(rest["revisions"].as_array().map(Vec::len), Some(1));
        let report = desk.get(&path(&new, "flips")).await;
        assert_eq!(report["compared"], 0);
        let unknown = desk.post(&path("sha256:0", "activate"), json!(null)).await;
        assert_eq!(unknown.problem(404), "not_found");
        let broken = audit::first_broken(&desk.server.app.db.read).await;
        assert_eq!(broken.unwrap(), None);
    }

    #[tokio::test]
    async fn whatever_lets_a_revision_serve_or_moves_it_is_told() {
        let desk = Desk::open().await;
        let old = desk.stored(json!({ "name": "p", "source": MONITOR })).await;
        let draft = json!({ "name": "p", "source": SHIFT, "state": "draft" });
        let new = desk.stored(draft).await;
        desk.post(&format!("policies/p/revisions/{new}/shadow"), json!(null))
            .await;
        desk.stored(json!({ "name": "p", "source": SHIFT })).await;
        let events = desk.get("events?name=policy.revision_moved").await;
        let told = events["events"].as_array().unwrap().iter();
        let told: Vec<_> = told.map(|e| (&e["subject"], &e["payload"])).collect();
        let moved = |revision: &str, state: &str| json!({ "revision": revision, "state": state, "percent": null });
        let wanted = [
            moved(&old, "active"),
            moved(&new, "shadow"),
            moved(&new, "active"),
        ];
        let p = json!("p");
        let wanted: Vec<_> = wanted.iter().map(|payload| (&p, payload)).collect();
        assert_eq!(told, wanted, "a draft moves nothing");
        let broken = audit::first_broken(&desk.server.app.db.read).await;
        assert_eq!(broken.unwrap(), None);
    }

    #[tokio::test]
    async fn a_workflow_is_drafted_activated_and_retired() {
        let desk = Desk::open().await;
        let stored = async |source: &str, state: &str| {
            let body = json!({ "name": "w", "source": source, "state": state });
            let stored = desk.post("workflows", body).await;
            assert_eq!(stored.status, 201, "{:?}", stored.body);
            stored.json()["revision"].as_str().unwrap().to_owned()
        };
        let serving = stored("fn run(event) { event }", "active").await;
        let draft = stored("fn run(event) { 1 }", "draft").await;
        let retire = async |revision: &str| {
            let path = format!("workflows/w/revisions/{revision}/retire");
            desk.post(&path, json!(null)).await
        };
        assert_eq!(retire(&draft).await.json()["state"], "retired");
        assert_eq!(retire(&serving).await.problem(409), "revision_state");
        let events = desk.get("events?name=workflow.revision_moved").await;
        let told = events["events"].as_array().unwrap().iter();
        let told: Vec<_> = told.map(|e| &e["payload"]["state"]).collect();
        assert_eq!(told, ["active", "retired"]);
    }

    #[tokio::test]
    async fn a_policy_whose_tests_break_the_budget_of_a_decision_is_refused() {
        let desk = Desk::open().await;
        let source = "fn decide(facts) { let n = 0; while n < 200_000 { n += 1; } \
                      #{ action: \"monitor\", reason: \"counted\" } }";
        let tests = "fn test_a() { assert_decision(decide(example_facts())); }";
        let body = json!({ "name": "p", "source": source, "tests": tests });
        let refused = desk.post("policies", body).await;
        assert_eq!(refused.problem(422), "tests_failed");
        let detail = refused.json()["detail"].to_string();
        assert!(detail.contains("200000 operations"), "{detail}");
    }

    #[tokio::test]
    async fn what_is_wrong_with_tests_is_refused_and_what_is_likely_is_told() {
        let desk = Desk::open().await;
        let post = |tests: &str| {
            let body = json!({ "name": "p", "source": MONITOR, "tests": tests });
            desk.post("policies", body)
        };
        let replaced = post("fn decide(facts) { 1 } fn test_a() { decide(1); }").await;
        assert_eq!(replaced.problem(422), "script");
        let detail = replaced.json()["detail"].to_string();
        assert!(
            detail.contains("p_test:1:4: ") && detail.contains("`p`, line 1"),
            "{detail}"
        );
        let stored = post("fn test_a() { } fn tset_b() { }").await;
        assert_eq!(stored.status, 201);
        assert_eq!(stored.json()["warnings"][0]["nearest"], "test_b");
    }

    #[tokio::test]
    async fn a_workflow_nobody_has_stored_is_warned_of() {
        let desk = Desk::open().await;
        let workflow =
            json!({ "name": "mend_fan", "source": "fn run(event) { log(\"done\", #{}); }" });
        let stored = desk.post("workflows", workflow).await;
        assert_eq!(stored.status, 201, "{:?}", stored.body);
        let starts = |workflow: &str| {
            let source = format!(
                "fn decide(facts) {{ #{{ action: \"start\", workflow: \"{workflow}\", reason: \"hot\" }} }}"
            );
            desk.post("policies", json!({ "name": "p", "source": source }))
        };
        let told = starts("mend_fna").await.json()["warnings"].clone();
        assert_eq!(
            (&told[0]["code"], &told[0]["nearest"]),
            (&json!("unknown_workflow"), &json!("mend_fan"))
        );
        let told = starts("mend_fan").await.json()["warnings"].clone();
        assert_eq!(told, json!([]));
    }

    #[tokio::test]
    async fn definitions_of_both_sorts_are_served() {
        let desk = Desk::open().await;
        for (sort, wanted) in [("policies", "`fps`"), ("workflows", "fn step(")] {
            let path = format!("/api/v1/{sort}/definitions");
            let answer = desk.server.ask("GET", &path, &desk.token, "").await;
            assert_eq!(answer.status, 200, "{path}");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(text.contains(wanted), "{path}");
        }
    }

    #[tokio::test]
    async fn a_revision_whose_tests_fail_is_refused_and_the_last_good_one_serves() {
        let desk = Desk::open().await;
        let old = desk.stored(json!({ "name": "p", "source": MONITOR })).await;
        let tests =
            r#"fn test_it_monitors() { assert_eq(decide(example_facts()).action, "monitor"); }"#;
        for (tests, code) in [
            (tests, "tests_failed"),
            ("fn helper() { 1 }", "no_tests"),
            ("fn test_a( {", "script"),
        ] {
            let body = json!({ "name": "p", "source": SHIFT, "tests": tests });
            let refused = desk.post("policies", body).await;
            assert_eq!(refused.problem(422), code);
            assert_eq!(desk.get("policies/p").await["revision"], json!(old));
        }
        let listed = desk.get("policies/p/revisions").await;
        assert_eq!(
            listed["revisions"].as_array().map(Vec::len),
            Some(1),
            "nothing is kept"
        );
        let body = json!({ "name": "p", "source": MONITOR, "tests": tests });
        desk.stored(body).await;
        assert_eq!(desk.get("policies/p").await["tests"], tests);
    }

    #[tokio::test]
    async fn what_is_likely_a_mistake_is_told_and_does_not_keep_a_script_from_serving() {
        let desk = Desk::open().await;
        let unused = MONITOR.replace("{ #", "{ let never = 1;\n #");
        let checked = desk
            .post("policies/check", json!({ "source": unused }))
            .await;
        let report = checked.json();
        let found = &report["problems"][0];
        assert_eq!(
            (&report["ok"], &found["severity"]),
            (&json!(true), &json!("warning"))
        );
        assert_eq!(
            (&found["code"], &found["line"]),
            (&json!("unused_variable"), &json!(1))
        );
        assert!(
            found["end_column"].is_u64() && found["hint"].is_string(),
            "{found}"
        );
        let stored = desk
            .post("policies", json!({ "name": "p", "source": unused }))
            .await;
        assert_eq!(
            (stored.status, &stored.json()["warnings"][0]["code"]),
            (201.try_into().unwrap(), &json!("unused_variable"))
        );
        let workflow = json!({ "name": "w", "source": "fn run(event) { let never = 1; event }" });
        let stored = desk.post("workflows", workflow).await;
        assert_eq!(stored.json()["warnings"][0]["code"], "unused_variable");
        let wrong = unused.replace("facts)", "facts, more)");
        let report = desk
            .post("policies/check", json!({ "source": wrong }))
            .await
            .json();
        assert_eq!(
            (&report["ok"], &report["problems"][0]["severity"]),
            (&json!(false), &json!("error"))
        );
        let quiet = desk
            .post("policies", json!({ "name": "p", "source": MONITOR }))
            .await;
        assert_eq!(quiet.json()["warnings"], json!([]));
    }

    #[tokio::test]
    async fn what_a_revision_is_going_to_cost_is_told_when_it_is_stored() {
        let desk = Desk::open().await;
        let first = desk
            .post("policies", json!({ "name": "p", "source": MONITOR }))
            .await
            .json();
        assert_eq!(first.get("cost"), None, "nothing was decided yet");
        let db = &desk.server.app.db.write;
        for n in 0..10 {
            let asset = format!("fan-{n}");
            let mut facts = Facts::about(&asset, "fan", Timestamp(n));
            facts.dependents = u32::try_from(n).unwrap();
            let row = decision::Model {
                id: format!("{n}"),
                asset,
                policy: "p".into(),
                revision: "r".into(),
                facts: serde_json::to_string(&facts).unwrap(),
                verdict: r#"{"action":"monitor","reason":"ok"}"#.into(),
                reason: "ok".into(),
                operations: 0,
                duration_us: 0,
                run_id: None,
                at: n,
                stopped_by: None,
                fell_back: None,
            };
            store::decisions::insert(db, row).await.unwrap();
        }
        let heavy = r#"fn decide(facts) {
            let n = 0;
            while n < facts.dependents * 100 { n += 1; }
            if facts.dependents == 7 { loop { } }
            if facts.dependents == 3 { throw "no"; }
            #{ action: "monitor", reason: `${n}` }
        }"#;
        let stored = desk
            .post("policies", json!({ "name": "p", "source": heavy }))
            .await
            .json();
        let cost = &stored["cost"];
        assert_eq!(
            (&cost["decisions"], &cost["budget"]),
            (&json!(10), &json!(200_000))
        );
        assert_eq!(
            (&cost["failed"], &cost["over_budget"]),
            (&json!(2), &json!(1)),
            "{cost}"
        );
        assert_eq!(
            (&cost["heaviest"], &cost["max"]),
            (&json!("7"), &json!(200_000))
        );
        assert!(cost["p50"].as_u64() < cost["p99"].as_u64(), "{cost}");
    }

    #[tokio::test]
    async fn the_kill_switch_and_a_cause_keep_runs_from_starting() {
        let desk = Desk::open().await;
        let workflow = json!({ "name": "w", "source": "fn run(event) { event }" });
        assert_eq!(desk.post("workflows", workflow).await.status, 201);
        let alert =
            json!({ "workflow": "w", "event": { "n": 1 }, "dedup_key": "k", "dedup_window_s": 60 });
        let first = desk.post("runs", alert.clone()).await;
        assert_eq!(first.status, 201, "{:?}", first.body);
        for n in 2..10 {
            let mut again = alert.clone();
            again["event"]["n"] = json!(n);
            let again = desk.post("runs", again).await;
            assert_eq!(
                (again.status.as_u16(), &again.json()["id"]),
                (200, &first.json()["id"])
            );
        }
        let long = json!({ "workflow": "w", "dedup_key": "k".repeat(257) });
        assert_eq!(desk.post("runs", long).await.problem(422), "invalid_dedup");
        let operator = desk.server.token(Role::Operator, "olga").await;
        let switch = "/api/v1/fleet/kill_switch";
        let turn = async |body: Value| {
            let body = body.to_string();
            desk.server.ask("PUT", switch, &operator, &body).await
        };
        assert_eq!(
            turn(json!({ "on": true })).await.problem(422),
            "reason_missing"
        );
        turn(json!({ "on": true, "reason": "a fire" })).await;
        assert_eq!(desk.get("fleet/kill_switch").await["by"], "olga");
        let refused = desk.post("runs", json!({ "workflow": "w" })).await;
        assert_eq!(refused.problem(409), "kill_switch_on");
        let first = first.json()["id"].as_str().unwrap_or_default().to_owned();
        let cancel = format!("runs/{first}/cancel?force=true");
        assert_eq!(desk.post(&cancel, Value::Null).await.status, 202);
        let restart = format!("runs/{first}/restart");
        let refused = desk.post(&restart, json!({})).await;
        assert_eq!(refused.problem(409), "kill_switch_on");
        let body = json!({ "on": false }).to_string();
        let forbidden = desk.server.ask("PUT", switch, &desk.token, &body).await;
        assert_eq!(forbidden.problem(403), "forbidden");
        turn(json!({ "on": false })).await;
        assert_eq!(
            desk.post("runs", json!({ "workflow": "w" })).await.status,
            201
        );
    }
}
