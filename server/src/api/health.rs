//! Health: whether the server can answer, and what it is.

use sea_orm::ConnectionTrait;
use serde::Serialize;
use utoipa::ToSchema;
use workflows::model::Timestamp;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;

/// The server and its database answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthView {
    /// `ok`.
    status: &'static str,
    /// Version of the server.
    version: &'static str,
    /// Its clock.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// `sqlite` or `postgres`.
    database: &'static str,
    /// Names this database's history.
    instance: String,
    /// Money is in this currency.
    currency: String,
}

/// Whether the server and its database answer. Needs no token.
#[utoipa::path(get, path = "/api/v1/health", tag = "health", security(()),
    responses((status = 200, body = HealthView)))]
pub async fn get_health(app: App) -> ApiResult<Json<HealthView>> {
    app.db
        .read
        .execute_unprepared("SELECT 1")
        .await
        .map_err(|error| {
            tracing::warn!(error = %error, "the database does not answer");
            ApiError::unavailable("the database does not answer", 1)
        })?;
    Ok(Json(HealthView {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        now: app.clock.now(),
        database: app.db.name(),
        instance: app.instance.clone(),
        currency: app.config.server.currency.clone(),
    }))
}
