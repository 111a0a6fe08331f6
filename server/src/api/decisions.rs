//! Decisions: what policies decided, and on what facts.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;
use workflows::policy::{
    Decided, Explained, Facts, Guard, PolicyError, Stopped, explain, read_facts,
};
use workflows::script::{Limits, Script, ScriptError};

use super::flips::TraceStepView;
use super::name::PageQuery;
use super::script::{for_at_most, refusal};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::decisions::{DecisionFilter, StoppedBy, decision};
use crate::store::{self, scripts::Scripts};

/// How long an explanation may take; a policy that is watched takes longer than when it decides.
const EXPLANATION_TAKES: Duration = Duration::from_secs(5);

/// One decision, with everything that led to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionView {
    /// Stable name.
    id: String,
    /// The asset decided on.
    asset: String,
    /// The policy asked.
    policy: String,
    /// Digest of the revision that answered.
    revision: String,
    /// What it saw.
    facts: Value,
    /// What it answered.
    decision: Value,
    /// Why.
    reason: String,
    /// How many operations it took.
    operations: i64,
    /// How long it took, µs.
    duration_us: i64,
    /// The run it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// What kept it from starting a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<StoppedView>,
    /// Revisions that failed before the one that answered was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fell_back: Vec<FailedView>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// What kept a decision from starting a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoppedView {
    /// Which guard.
    #[schema(inline)]
    guard: GuardView,
    /// In words.
    reason: String,
    /// When it would no longer, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// What stands between a decision and its run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardView {
    /// An operator has stopped all new runs.
    KillSwitch,
    /// Decisions are recorded and start nothing.
    DryRun,
    /// A run is dealing with the asset already.
    OpenRun,
    /// Something was done for the asset a short while ago.
    CoolDown,
    /// A run stands for the same cause already.
    Deduplication,
    /// Too many assets are being worked on, or offline, at once.
    BlastRadius,
}

/// A revision that failed to decide.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FailedView {
    /// Its digest.
    revision: String,
    /// Stable code of the failure.
    code: String,
    /// What went wrong, with line and column.
    message: String,
}

impl From<Stopped> for StoppedView {
    fn from(stopped: Stopped) -> Self {
        Self {
            guard: match stopped.guard {
                Guard::KillSwitch => GuardView::KillSwitch,
                Guard::DryRun => GuardView::DryRun,
                Guard::OpenRun => GuardView::OpenRun,
                Guard::CoolDown => GuardView::CoolDown,
                Guard::Deduplication => GuardView::Deduplication,
                Guard::BlastRadius => GuardView::BlastRadius,
            },
            reason: stopped.reason,
            until: stopped.until,
        }
    }
}

/// Decisions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionList {
    /// This page.
    decisions: Vec<DecisionView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DecisionQuery {
    /// Only those on this asset.
    pub asset: Option<String>,
    /// Only those of this policy.
    pub policy: Option<String>,
    /// Only those with this action.
    #[param(inline)]
    pub action: Option<ActionQuery>,
    /// Only those that this guard kept from starting a run; `any` is whichever.
    #[param(inline)]
    pub stopped_by: Option<StoppedByQuery>,
    /// Only those whose facts speak of this moment or a later one.
    #[param(value_type = Option<String>, format = DateTime)]
    pub from: Option<Timestamp>,
    /// Only those whose facts speak of a moment before this one.
    #[param(value_type = Option<String>, format = DateTime)]
    pub to: Option<Timestamp>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// What may be decided.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionQuery {
    /// Nothing is done.
    Monitor,
    /// A run is started.
    Start,
    /// Load is moved.
    ShiftBandwidth,
}

impl ActionQuery {
    const fn word(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Start => "start",
            Self::ShiftBandwidth => "shift_bandwidth",
        }
    }
}

/// What may keep a decision from starting a run.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoppedByQuery {
    /// Whichever guard.
    Any,
    /// An operator has stopped all new runs.
    KillSwitch,
    /// Decisions are recorded and start nothing.
    DryRun,
    /// A run is dealing with the asset already.
    OpenRun,
    /// Something was done for the asset a short while ago.
    CoolDown,
    /// A run stands for the same cause already.
    Deduplication,
    /// Too many assets are being worked on, or offline, at once.
    BlastRadius,
}

impl From<StoppedByQuery> for StoppedBy<'static> {
    fn from(asked: StoppedByQuery) -> Self {
        Self::Guard(match asked {
            StoppedByQuery::Any => return Self::Any,
            StoppedByQuery::KillSwitch => "kill_switch",
            StoppedByQuery::DryRun => "dry_run",
            StoppedByQuery::OpenRun => "open_run",
            StoppedByQuery::CoolDown => "cool_down",
            StoppedByQuery::Deduplication => "deduplication",
            StoppedByQuery::BlastRadius => "blast_radius",
        })
    }
}

impl TryFrom<decision::Model> for DecisionView {
    type Error = ApiError;

    fn try_from(row: decision::Model) -> ApiResult<Self> {
        Ok(Self {
            facts: serde_json::from_str(&row.facts).map_err(ApiError::internal)?,
            decision: serde_json::from_str(&row.verdict).map_err(ApiError::internal)?,
            stopped_by: read::<Stopped>(row.stopped_by.as_deref())?.map(Into::into),
            fell_back: read(row.fell_back.as_deref())?.unwrap_or_default(),
            id: row.id,
            asset: row.asset,
            policy: row.policy,
            revision: row.revision,
            reason: row.reason,
            operations: row.operations,
            duration_us: row.duration_us,
            run: row.run_id,
            at: Timestamp(row.at),
        })
    }
}

/// The way a policy came to a decision.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    /// The decision.
    decision: String,
    /// Digest of the revision that made it.
    revision: String,
    /// The answer on the recorded facts; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
    /// Why there is none; also that it takes longer to explain than anybody can wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether that is what was decided then.
    is_as_recorded: bool,
    /// The statements it came by, in the order they ran, with what they read and the ways they took.
    trace: Vec<TraceStepView>,
    /// How many statements are left out between the first and the last ones told, because there were too many.
    left_out: u64,
}

fn read<T: DeserializeOwned>(text: Option<&str>) -> ApiResult<Option<T>> {
    let read = text.map(serde_json::from_str).transpose();
    read.map_err(ApiError::internal)
}

/// Decisions, newest first.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "policies", params(DecisionQuery),
    responses((status = 200, body = DecisionList)))]
pub async fn list_decisions(
    app: App,
    _: auth::Reader,
    Query(query): Query<DecisionQuery>,
) -> ApiResult<Json<DecisionList>> {
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let only = DecisionFilter {
        asset: query.asset.as_deref(),
        policy: query.policy.as_deref(),
        action: query.action.map(ActionQuery::word),
        stopped_by: query.stopped_by.map(Into::into),
        from: query.from.map(|at| at.0),
        to: query.to.map(|at| at.0),
    };
    let rows = store::decisions::list(&app.db.read, only, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    let decisions = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<ApiResult<_>>()?;
    Ok(Json(DecisionList { decisions, next }))
}

/// One decision.
#[utoipa::path(get, path = "/api/v1/decisions/{id}", tag = "policies",
    params(("id" = String, Path)), responses((status = 200, body = DecisionView)))]
pub async fn get_decision(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<DecisionView>> {
    Ok(Json(
        store::decisions::get(&app.db.read, &id).await?.try_into()?,
    ))
}

/// Why a policy decided as it did: the statements it came by, with the values they read and the ways they took, from the
/// recorded facts and the revision that decided.
///
/// Where that takes longer than 5 seconds `error` says so, and the statements are those it came by until then.
#[utoipa::path(get, path = "/api/v1/decisions/{id}/explanation", tag = "policies",
    params(("id" = String, Path)), responses((status = 200, body = ExplanationView)))]
pub async fn explain_decision(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<ExplanationView>> {
    let row = store::decisions::get(&app.db.read, &id).await?;
    let revision = Scripts::Policies.revision(&app.db.read, &row.policy, &row.revision);
    let source = revision.await?.source;
    let facts = read_facts(&row.facts).map_err(ApiError::internal)?;
    let explained = explained(row.policy, source, facts, EXPLANATION_TAKES).await?;
    let recorded: Value = serde_json::from_str(&row.verdict).map_err(ApiError::internal)?;
    let (answer, error) = answer(explained.decided);
    Ok(Json(ExplanationView {
        decision: id,
        revision: row.revision,
        is_as_recorded: answer.as_ref() == Some(&recorded),
        answer,
        error,
        trace: explained.trace.into_iter().map(Into::into).collect(),
        left_out: explained.left_out,
    }))
}

async fn explained(
    policy: String,
    source: String,
    facts: Facts,
    time: Duration,
) -> ApiResult<Explained> {
    let explained = for_at_most(time, Limits::decision(), move |limits| {
        let script = Script::compile(&policy, &source)?;
        Ok(explain(&script, &facts, limits))
    });
    let explained = explained.await?;
    explained.map_err(|error: ScriptError| refusal(&[error]))
}

/// What a policy answered, or why there is no answer.
fn answer(decided: Result<Decided, PolicyError>) -> (Option<Value>, Option<String>) {
    match decided {
        Ok(decided) => (serde_json::to_value(decided.decision).ok(), None),
        Err(error) if error.is_deadline() => {
            let why = "no explanation could be made in time; this is how far it came";
            (None, Some(format!("{why}: {error}")))
        }
        Err(error) => (None, Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use workflows::policy::decide;

    use super::*;
    use crate::auth::Role;
    use crate::testing::{NOW, TestServer};

    const POLICY: &str = r#"fn decide(facts) {
    let risk = facts.fps.get("7d");
    if risk > 0.5 {
        return #{ action: "shift_bandwidth", reason: `${risk}` };
    }
    #{ action: "monitor", reason: "quiet" }
}"#;

    #[tokio::test]
    async fn a_decision_is_explained_by_the_branch_it_took_and_the_values() {
        let server = TestServer::with(&[]).await;
        let db = &server.app.db.write;
        let revision = Scripts::Policies.activate(db, NOW, "p", POLICY).await;
        let mut facts = Facts::about("fan-1", "fan", Timestamp(NOW));
        facts.fps.insert("7d".into(), 0.75);
        let script = Script::compile("p", POLICY).unwrap();
        let decided = decide(&script, &facts, &Limits::decision()).unwrap();
        let row = decision::Model {
            id: "d1".into(),
            asset: "fan-1".into(),
            policy: "p".into(),
            revision: revision.unwrap().digest,
            facts: serde_json::to_string(&facts).unwrap(),
            verdict: serde_json::to_string(&decided.decision).unwrap(),
            reason: "0.75".into(),
            operations: 1,
            duration_us: 1,
            run_id: None,
            at: NOW,
            stopped_by: Some(
                r#"{"guard":"cool_down","reason":"so","until":"2026-01-01T00:00:00Z"}"#.into(),
            ),
            fell_back: None,
        };
        store::decisions::insert(db, row).await.unwrap();
        // Another revision serves by now; the decision is explained by the one that made it.
        let other = POLICY.replace("0.5", "0.9");
        Scripts::Policies
            .activate(db, NOW + 1, "p", &other)
            .await
            .unwrap();
        let token = server.token(Role::Engineer, "emil").await;
        let path = "/api/v1/decisions/d1";
        let seen = server.ask("GET", path, &token, "").await.json();
        assert_eq!(seen["stopped_by"]["guard"], "cool_down");
        let explained = server
            .ask("GET", &format!("{path}/explanation"), &token, "")
            .await;
        let explained = explained.json();
        assert_eq!(explained["is_as_recorded"], true, "{explained}");
        let trace = explained["trace"].as_array().unwrap();
        let branch = trace.iter().find(|step| step["line"] == 3).unwrap();
        assert_eq!(
            (&branch["taken"], &branch["values"]["risk"]),
            (&true.into(), &0.75.into())
        );
        assert!(
            trace.iter().all(|step| step["line"] != 6),
            "it never came there"
        );
        let unknown = server
            .ask("GET", "/api/v1/decisions/d2/explanation", &token, "")
            .await;
        assert_eq!(unknown.problem(404), "not_found");
    }

    #[tokio::test]
    async fn a_policy_that_takes_too_long_to_explain_is_not_waited_for_and_that_is_told() {
        let slow = "fn decide(facts) { let a = []; a.pad(900, 1); while a == a { } }";
        let facts = Facts::about("fan-1", "fan", Timestamp(NOW));
        let time = Duration::from_millis(300);
        let explained = explained("p".into(), slow.into(), facts, time)
            .await
            .unwrap();
        assert!(!explained.trace.is_empty(), "how far it came");
        let (none, error) = answer(explained.decided);
        let error = error.unwrap();
        assert_eq!(none, None);
        assert!(
            error.starts_with("no explanation could be made in time"),
            "{error}"
        );
    }
}
