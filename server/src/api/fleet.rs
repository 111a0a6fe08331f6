//! The fleet: score it and ask the policy now, instead of at the next tick.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;

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
    responses((status = 200, body = TickReport)))]
pub async fn tick(
    app: App,
    _: auth::Operator,
    Json(body): Json<TickRequest>,
) -> ApiResult<Json<TickReport>> {
    let tick = crate::fleet::tick(&app, body.about.as_deref(), body.ask)
        .await
        .map_err(ApiError::internal)?;
    Ok(Json(TickReport {
        scored: tick.scored,
        decisions: tick.decisions,
    }))
}
