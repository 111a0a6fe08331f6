//! Webhook deliveries: what was told outside, recorded whether or not anybody listens.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;
use crate::store;

/// A message that was told outside.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// Stable name.
    id: String,
    /// Where to; `recorded` if no webhook is set.
    target: String,
    /// What it is about.
    subject: String,
    /// The message.
    payload: Value,
    /// The HTTP status that answered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i64>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    delivered_at: Timestamp,
}

/// The last 500 deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryList {
    /// Newest first.
    webhook_deliveries: Vec<DeliveryView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// The last 500 deliveries, newest first.
#[utoipa::path(get, path = "/api/v1/webhook_deliveries", tag = "actions",
    responses((status = 200, body = DeliveryList)))]
pub async fn list_webhook_deliveries(app: App, _: auth::Reader) -> ApiResult<Json<DeliveryList>> {
    let rows = store::outbox::deliveries(&app.db.read, 500).await?;
    let deliveries = rows.into_iter().map(|row| {
        Ok(DeliveryView {
            payload: serde_json::from_str(&row.payload).map_err(ApiError::internal)?,
            id: row.id,
            target: row.target,
            subject: row.subject,
            status: row.status,
            delivered_at: Timestamp(row.delivered_at),
        })
    });
    let webhook_deliveries = deliveries.collect::<ApiResult<_>>()?;
    Ok(Json(DeliveryList {
        webhook_deliveries,
        next: None,
    }))
}
