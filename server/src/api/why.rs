//! Why a run is where it is.

use serde::Serialize;
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::run::why::{OpenCall, Standing, WaitsFor, Why, why};

use crate::app::App;
use crate::auth;
use crate::error::ApiResult;
use crate::extract::{Json, Path};
use crate::store::{self, runs::run, steps::ADVANCE};

/// Why a run is where it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyView {
    /// The run.
    run: String,
    /// Its state.
    state: String,
    /// In words.
    reason: String,
    /// Who can let it go on, where it is not one of its calls that waits: roles.
    released_by: Vec<String>,
    /// Every call that has no answer.
    calls: Vec<CallWhyView>,
}

/// Why one call has no answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallWhyView {
    /// Position of the call.
    position: String,
    /// A step's kind, or `sleep`, `wait_event`, `approval`.
    kind: String,
    /// What it waits for.
    waits_for: WaitsForView,
    /// The thing itself: a role, an event's name, a queue, the key of a rate, a build, a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    /// The same in words, and what to do about it.
    reason: String,
    /// Who or what can let it go on: roles, cells, a worker.
    released_by: Vec<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Until when at most; then it goes on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// What a call may wait for.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsForView {
    /// A moment.
    Time,
    /// A fact from outside.
    Event,
    /// A person's answer.
    Approval,
    /// A worker that claims its step.
    Worker,
    /// The rate of its step.
    Rate,
    /// Steps that have its key.
    Key,
    /// The next attempt of its step.
    Retry,
    /// A worker that is at its step.
    Work,
    /// A cell that takes its build.
    Cell,
    /// A cell that is at its build.
    Build,
    /// A person who says what lies on a plate.
    Plate,
    /// Another run.
    Run,
    /// An operator who turns the kill switch off.
    KillSwitch,
}

impl From<WaitsFor> for WaitsForView {
    fn from(waits_for: WaitsFor) -> Self {
        match waits_for {
            WaitsFor::Time => Self::Time,
            WaitsFor::Event => Self::Event,
            WaitsFor::Approval => Self::Approval,
            WaitsFor::Worker => Self::Worker,
            WaitsFor::Rate => Self::Rate,
            WaitsFor::Key => Self::Key,
            WaitsFor::Retry => Self::Retry,
            WaitsFor::Work => Self::Work,
            WaitsFor::Cell => Self::Cell,
            WaitsFor::Build => Self::Build,
            WaitsFor::Plate => Self::Plate,
            WaitsFor::Run => Self::Run,
            WaitsFor::KillSwitch => Self::KillSwitch,
        }
    }
}

impl From<Why> for CallWhyView {
    fn from(why: Why) -> Self {
        Self {
            position: why.position.to_string(),
            kind: why.kind,
            waits_for: why.waits_for.into(),
            what: why.what,
            reason: why.reason,
            released_by: why.released_by,
            since: why.since,
            until: why.until,
        }
    }
}

/// Why a run is where it is: what it waits for, since when, until when, and who or what can let it go on.
#[utoipa::path(get, path = "/api/v1/runs/{id}/why", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = WhyView)))]
pub async fn get_why(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<WhyView>> {
    let (db, now) = (&app.db.read, app.now_ms());
    let run = store::runs::get(db, &id).await?;
    let open = match run.ended_at {
        Some(_) => Vec::new(),
        None => store::standing::open_calls(db, now, &id).await?,
    };
    let calls: Vec<Why> = open.iter().map(|call| why(call, Timestamp(now))).collect();
    let (reason, released_by) = in_words(&app, &run, &open, &calls).await?;
    Ok(Json(WhyView {
        run: run.id,
        state: run.state,
        reason,
        released_by: released_by.iter().map(|&role| role.to_owned()).collect(),
        calls: calls.into_iter().map(Into::into).collect(),
    }))
}

/// The one sentence about the whole run, and who can let it go on where that is not one of its calls.
async fn in_words(
    app: &App,
    run: &run::Model,
    open: &[OpenCall],
    calls: &[Why],
) -> ApiResult<(String, &'static [&'static str])> {
    if run.ended_at.is_some() {
        let reason = match run.state.as_str() {
            "failed" | "cancelled" => {
                format!(
                    "it is over: {}; `POST …/restart` begins it again",
                    run.state
                )
            }
            state => format!("it is over: {state}"),
        };
        return Ok((reason, &[]));
    }
    if run.state == "diverged" {
        let reason = "its script asks for something else than its journal holds; `failure` shows both sides. \
                      `POST …/pin` lets it go on with a revision, `POST …/restart` begins it again from a call, \
                      `POST …/cancel` ends it";
        return Ok((reason.to_owned(), &["engineer", "operator"]));
    }
    let undoing = match run.cancel_requested {
        true => "it is being cancelled: what it did is being undone; ",
        false => "",
    };
    let db = &app.db.read;
    let now = app.now_ms();
    let row = store::steps::at(db, &run.id, ADVANCE).await?;
    let step = store::standing::step_now(db, now, &row).await?;
    let is_held_back = matches!(step.standing, Standing::KillSwitch(_));
    if let [only] = calls
        && !is_held_back
    {
        return Ok((format!("{undoing}{}", only.reason), &[]));
    }
    if !calls.is_empty() && run.state == "waiting" && !is_held_back {
        let reason = format!("{undoing}it waits for {} calls", calls.len());
        return Ok((reason, &[]));
    }
    // Nothing of its calls holds it up, so its own advancement says where it is.
    let advance = OpenCall {
        position: workflows::run::Position::top(0),
        kind: row.kind,
        input: serde_json::Value::Null,
        since: Timestamp(row.run_at.min(now)),
        until: None,
        step: Some(step),
    };
    let reason = why(&advance, Timestamp(now)).reason;
    let (waits, released_by): (_, &[_]) = match open.len() {
        _ if is_held_back => ("it is to go on in a new run", &["operator"]),
        0 => ("its script is to be replayed", &[]),
        _ => (
            "its script is to be replayed, for something was answered",
            &[],
        ),
    };
    Ok((format!("{undoing}{waits}: {reason}"), released_by))
}
