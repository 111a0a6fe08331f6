//! Actions: what was done to the twin, with reason, benefit and inverse.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Query};
use crate::store::{self, Page};

/// One change, carried out.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionView {
    /// Stable name.
    id: String,
    /// The run that ordered it.
    run: String,
    /// Position of the step in it.
    position: String,
    /// What was done, why, for what benefit, and what undoes it.
    action: Value,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Actions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionList {
    /// Newest first.
    actions: Vec<ActionView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which actions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ActionQuery {
    /// Only those of this run.
    pub run: Option<String>,
}

/// How many actions are told.
const LAST: Page<'static> = Page {
    after: None,
    limit: 500,
};

/// The last 500 actions, newest first.
#[utoipa::path(get, path = "/api/v1/actions", tag = "actions", params(ActionQuery),
    responses((status = 200, body = ActionList)))]
pub async fn list_actions(
    app: App,
    _: auth::Reader,
    Query(query): Query<ActionQuery>,
) -> ApiResult<Json<ActionList>> {
    let rows = store::actions::list(&app.db.read, query.run.as_deref(), LAST).await?;
    let actions = rows.into_iter().map(|row| {
        let action = serde_json::from_str(&row.body).map_err(ApiError::internal)?;
        let (id, run, position) = (row.id, row.run_id, row.position);
        Ok(ActionView {
            id,
            run,
            position,
            action,
            at: Timestamp(row.at),
        })
    });
    Ok(Json(ActionList {
        actions: actions.collect::<ApiResult<_>>()?,
        next: None,
    }))
}
