//! The key ring: whose signatures on plugins are taken.

use ::plugins::trust::PublicKey;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Timestamp;

use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::plugin_keys::plugin_key;
use crate::store::{self, plugin_keys};

/// A key on the ring.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginKeyView {
    /// The name it is known under here.
    name: String,
    /// Ed25519, 64 hexadecimal digits.
    public_key: String,
    /// Who put it there.
    added_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    added_at: Timestamp,
}

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginKeyList {
    /// By name.
    plugin_keys: Vec<PluginKeyView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// A key to be trusted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewPluginKey {
    /// As `forewright plugin key` prints it: Ed25519, 64 hexadecimal digits.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    pub public_key: String,
}

impl From<plugin_key::Model> for PluginKeyView {
    fn from(row: plugin_key::Model) -> Self {
        Self {
            name: row.name,
            public_key: row.public_key,
            added_by: row.added_by,
            added_at: Timestamp(row.added_at),
        }
    }
}

/// The keys whose signatures on plugins are taken.
#[utoipa::path(get, path = "/api/v1/plugin_keys", tag = "plugins",
    responses((status = 200, body = PluginKeyList)))]
pub async fn list_plugin_keys(app: App, _: auth::Reader) -> ApiResult<Json<PluginKeyList>> {
    let rows = plugin_keys::list(&app.db.read).await?;
    Ok(Json(PluginKeyList {
        plugin_keys: rows.into_iter().map(Into::into).collect(),
        next: None,
    }))
}

/// Take the signatures of a key from now on, under a name, in place of the key that had it.
#[utoipa::path(put, path = "/api/v1/plugin_keys/{name}", tag = "plugins",
    params(("name" = inline(Name), Path)), request_body = NewPluginKey,
    responses((status = 200, body = PluginKeyView)))]
pub async fn put_plugin_key(
    app: App,
    who: auth::Operator,
    Path(name): Path<String>,
    Json(body): Json<NewPluginKey>,
) -> ApiResult<Json<PluginKeyView>> {
    let name = checked_name("name", name)?;
    let refused = |e: ::plugins::trust::NotAKey| {
        ApiError::refused("plugin.key", e.to_string()).with("field", "public_key")
    };
    let key = PublicKey::try_from(body.public_key).map_err(refused)?;
    let tx = store::begin(&app.db.write).await?;
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let row = plugin_keys::put(&tx, now, actor, &name, &key).await?;
    tx.commit().await?;
    Ok(Json(row.into()))
}

/// Take no more signatures of a key; plugins that it signed before stay.
#[utoipa::path(delete, path = "/api/v1/plugin_keys/{name}", tag = "plugins",
    params(("name" = String, Path)), responses((status = 204, description = "Removed.")))]
pub async fn delete_plugin_key(
    app: App,
    who: auth::Operator,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    let tx = store::begin(&app.db.write).await?;
    let (now, actor) = (app.now_ms(), &who.0.subject);
    plugin_keys::remove(&tx, now, actor, &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
