//! The fleet: score it and ask the policy now, instead of at the next tick.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Timestamp;
use workflows::policy::KillSwitch;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult, Problem};
use crate::extract::Json;
use crate::store::{self, StoreError, scripts::Scripts};

/// What to score and ask about.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TickRequest {
    /// Assets; every asset whose kind has a model if not said.
    #[serde(default)]
    pub about: Option<Vec<String>>,
    /// Whether the policy is asked about what was scored.
    #[serde(default = "yes")]
    pub ask: bool,
}

fn yes() -> bool {
    true
}

/// What a tick did.
#[derive(Debug, Serialize, ToSchema)]
pub struct TickReport {
    /// How many assets were scored.
    scored: usize,
    /// The decisions made, most urgent first.
    decisions: Vec<String>,
}

/// Score the fleet and ask the policy now.
#[utoipa::path(post, path = "/api/v1/fleet/ticks", tag = "predictions", request_body = TickRequest,
    responses((status = 200, body = TickReport),
        (status = 404, description = "An asset to score is unknown.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn tick(
    app: App,
    _: auth::Operator,
    Json(body): Json<TickRequest>,
) -> ApiResult<Json<TickReport>> {
    known_assets(&app, body.about.as_deref().unwrap_or_default()).await?;
    if body.ask {
        known_policy(&app, &app.config.fleet.policy).await?;
    }
    let tick = crate::fleet::tick(&app, body.about.as_deref(), body.ask)
        .await
        .map_err(ApiError::internal)?;
    Ok(Json(TickReport {
        scored: tick.scored,
        decisions: tick.decisions,
    }))
}

/// The switch that stops all new runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct KillSwitchView {
    /// Whether it is on.
    on: bool,
    /// Why it was turned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who turned it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

/// How the switch is to stand.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewKillSwitch {
    /// Whether it is to be on.
    pub on: bool,
    /// Why; needed to turn it on.
    #[serde(default)]
    pub reason: String,
}

impl From<Option<KillSwitch>> for KillSwitchView {
    fn from(switch: Option<KillSwitch>) -> Self {
        let on = switch.is_some();
        let (mut reason, mut by, mut since) = (None, None, None);
        if let Some(switch) = switch {
            reason = Some(switch.reason);
            by = Some(switch.by);
            since = Some(switch.since);
        }
        Self {
            on,
            reason,
            by,
            since,
        }
    }
}

/// Whether new runs are stopped, by whom and why.
#[utoipa::path(get, path = "/api/v1/fleet/kill_switch", tag = "runs",
    responses((status = 200, body = KillSwitchView)))]
pub async fn get_kill_switch(app: App, _: auth::Reader) -> ApiResult<Json<KillSwitchView>> {
    let switch = store::guards::kill_switch(&app.db.read).await?;
    Ok(Json(switch.into()))
}

/// Stop all new runs at once, or let them start again. Runs at work go on; cancel those that must not.
#[utoipa::path(put, path = "/api/v1/fleet/kill_switch", tag = "runs", request_body = NewKillSwitch,
    responses((status = 200, body = KillSwitchView)))]
pub async fn put_kill_switch(
    app: App,
    who: auth::Operator,
    Json(body): Json<NewKillSwitch>,
) -> ApiResult<Json<KillSwitchView>> {
    let reason = body.reason.trim();
    if body.on && reason.is_empty() {
        let detail = "say in `reason` why new runs are stopped; whoever is stopped is told";
        return Err(ApiError::refused("reason_missing", detail).with("field", "reason"));
    }
    let tx = store::begin(&app.db.write).await?;
    let reason = body.on.then_some(reason);
    let actor = &who.0.subject;
    let switch = store::guards::set_kill_switch(&tx, app.now_ms(), actor, reason).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(switch.into()))
}

async fn known_assets(app: &App, about: &[String]) -> ApiResult<()> {
    if about.is_empty() {
        return Ok(());
    }
    let assets = store::assets::list(&app.db.read).await?;
    let known: BTreeSet<&str> = assets.iter().map(|a| a.id.as_str()).collect();
    let unknown = about.iter().filter(|id| !known.contains(id.as_str()));
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(ApiError::not_found("asset", &unknown.join("`, `")).with("unknown", unknown))
}

async fn known_policy(app: &App, name: &str) -> ApiResult<()> {
    match Scripts::Policies.active(&app.db.read, name).await {
        Ok(_) => Ok(()),
        Err(StoreError::Unknown { .. }) => {
            let detail = format!(
                "the setting `fleet.policy` names `{name}`, which is no stored policy; store it \
                 or name another"
            );
            Err(ApiError::refused("unknown_policy", detail).with("policy", name))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::auth::Role;
    use crate::testing::TestServer;

    #[tokio::test]
    async fn a_tick_about_nothing_known_is_refused() {
        let server = TestServer::with(&[("FOREWRIGHT_FLEET_POLICY", "nobody_wrote_it")]).await;
        let token = server.token(Role::Operator, "olga").await;
        let path = "/api/v1/fleet/ticks";
        let about = r#"{"about":["a1","a2"],"ask":false}"#;
        let refused = server.ask("POST", path, &token, about).await;
        assert_eq!(refused.problem(404), "not_found");
        assert_eq!(refused.json()["detail"], "no asset `a1`, `a2`");
        assert_eq!(refused.json()["unknown"][1], "a2");

        let refused = server.ask("POST", path, &token, "{}").await;
        assert_eq!(refused.problem(422), "unknown_policy");
        let scored = server.ask("POST", path, &token, r#"{"ask":false}"#).await;
        assert_eq!(scored.status, 200, "{:?}", scored.body);
    }
}
