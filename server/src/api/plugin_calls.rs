//! Calls of plugins: how they went, why they came to nothing, and what is needed to run them again.

use ::plugins::failure::Failure;
use ::plugins::log::{Level, Line};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::Timestamp;

use super::name::PageQuery;
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::plugin_calls::PluginCall;
use crate::store::{self, Page, plugin_calls, plugins};

/// One call of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginCallView {
    /// Its name.
    id: String,
    /// The plugin.
    plugin: String,
    /// Its version.
    version: String,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who asked and about what.
    purpose: String,
    /// Why it came to nothing, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<PluginFailureView>,
    /// What the plugin wrote.
    log: Vec<PluginLogLineView>,
    /// Lines that were left out of it, because they were too many.
    log_left_out: u64,
    /// What it used.
    used: PluginUsedView,
    /// Size of its recording; without one it cannot be run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_bytes: Option<i64>,
}

/// Why a call came to nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginFailureView {
    /// Stable code, such as `plugin.trap`.
    code: String,
    /// What happened.
    message: String,
    /// The function of the contract that was called.
    function: String,
    /// The guest's stack where it trapped, innermost first.
    frames: Vec<PluginFrameView>,
    /// The last lines of its log.
    log: Vec<PluginLogLineView>,
    /// The limit it met.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<PluginLimitView>,
    /// What its author may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Whether the same call may go well another time.
    retryable: bool,
}

/// One function of a guest's stack.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginFrameView {
    /// Its name.
    function: String,
    /// Where in the module, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// A limit that was met.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginLimitView {
    /// Its name in the manifest.
    name: String,
    /// How much there is, in the unit of its name.
    allowed: u64,
    /// How much was asked for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<u64>,
}

/// One line of a plugin's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginLogLineView {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    level: String,
    /// What it says.
    message: String,
    /// Names and values beside it.
    fields: Vec<PluginLogFieldView>,
}

/// A name and a value beside a line.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginLogFieldView {
    /// The name.
    name: String,
    /// The value.
    value: String,
}

/// What a call used.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginUsedView {
    /// From its beginning to its end, ms.
    wall_ms: f64,
    /// The most memory at one time.
    memory_bytes: u64,
    /// Calls to the host.
    host_calls: u64,
    /// Capabilities that it really used.
    capabilities: Vec<String>,
    /// What it used them for: what a narrower grant would have to name.
    names: Vec<PluginUsedNameView>,
}

/// A metric, media type or origin that a call used.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginUsedNameView {
    /// The capability.
    capability: String,
    /// The metric, media type or origin.
    name: String,
}

/// Calls of a version, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginCallList {
    /// Newest first.
    calls: Vec<PluginCallView>,
    /// `after` of the next page.
    next: Option<String>,
}

/// Which calls.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PluginCallQuery {
    /// Only those that came to nothing.
    #[serde(default)]
    pub failed: bool,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

impl From<&Line> for PluginLogLineView {
    fn from(line: &Line) -> Self {
        let level = match line.level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let field = |(name, value): &(String, String)| PluginLogFieldView {
            name: name.clone(),
            value: value.clone(),
        };
        Self {
            level: level.to_owned(),
            message: line.message.clone(),
            fields: line.fields.iter().map(field).collect(),
        }
    }
}

impl From<Failure> for PluginFailureView {
    fn from(failure: Failure) -> Self {
        let frame = |frame: ::plugins::failure::Frame| PluginFrameView {
            function: frame.function,
            offset: frame.offset,
        };
        Self {
            code: failure.code.name(),
            retryable: failure.code.retryable(),
            message: failure.message,
            function: failure.function,
            frames: failure.frames.into_iter().map(frame).collect(),
            log: failure.log.iter().map(Into::into).collect(),
            limit: failure.limit.map(|limit| PluginLimitView {
                name: limit.name,
                allowed: limit.allowed,
                asked: limit.asked,
            }),
            hint: failure.hint,
        }
    }
}

fn view(call: PluginCall, plugin: &str, version: &str) -> ApiResult<PluginCallView> {
    let (log, used) = (call.log()?, call.used()?);
    let name = |(capability, name): (::plugins::world::Capability, String)| PluginUsedNameView {
        capability: capability.name().to_owned(),
        name,
    };
    let capabilities = used.capabilities.iter();
    Ok(PluginCallView {
        failure: call.failure()?.map(Into::into),
        log: log.lines().map(Into::into).collect(),
        log_left_out: log.left_out,
        used: PluginUsedView {
            wall_ms: used.wall_ms,
            memory_bytes: used.memory_bytes,
            host_calls: used.host_calls,
            capabilities: capabilities.map(|one| one.name().to_owned()).collect(),
            names: used.names.into_iter().map(name).collect(),
        },
        id: call.id,
        plugin: plugin.to_owned(),
        version: version.to_owned(),
        at: Timestamp(call.at),
        purpose: call.purpose,
        recording_bytes: call.recording_bytes,
    })
}

/// The newest calls of a version; of those that went well, and of those that did not, as many as `plugins.keep_calls`
/// says.
#[utoipa::path(get, path = "/api/v1/plugins/{plugin}/versions/{version}/calls", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path), PluginCallQuery),
    responses((status = 200, body = PluginCallList)))]
pub async fn list_plugin_calls(
    app: App,
    _: auth::Reader,
    Path((plugin, version)): Path<(String, String)>,
    Query(query): Query<PluginCallQuery>,
) -> ApiResult<Json<PluginCallList>> {
    let asked = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page: Page<'_> = asked.page()?;
    let row = plugins::get(&app.db.read, &plugin, &version).await?;
    let found = plugin_calls::list(&app.db.read, &row.id, query.failed, page).await?;
    let next = PageQuery::next(page, found.len(), found.last().map(|call| call.id.as_str()));
    let next = next.map(str::to_owned);
    let calls = found
        .into_iter()
        .map(|call| view(call, &plugin, &version))
        .collect::<ApiResult<_>>()?;
    Ok(Json(PluginCallList { calls, next }))
}

/// One call of a plugin.
#[utoipa::path(get, path = "/api/v1/plugin_calls/{id}", tag = "plugins",
    params(("id" = String, Path)), responses((status = 200, body = PluginCallView)))]
pub async fn get_plugin_call(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<PluginCallView>> {
    let call = plugin_calls::get(&app.db.read, &id).await?;
    let row = plugins::by_id(&app.db.read, &call.version_id).await?;
    Ok(Json(view(call, &row.plugin, &row.version)?))
}

/// Everything a call was asked and told, for `forewright plugin replay`.
#[utoipa::path(get, path = "/api/v1/plugin_calls/{id}/recording", tag = "plugins",
    params(("id" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = serde_json::Value)))]
pub async fn get_plugin_recording(
    app: App,
    _: auth::Developer,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let recording = store::plugin_calls::recording(&app.db.read, &id).await?;
    let Some(bytes) = recording else {
        let detail = "the call was told more than `plugins.recording_kib` holds, so there is no recording of it";
        return Err(ApiError::not_found("recording of call", &id).with("why", detail));
    };
    let media = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((media, bytes).into_response())
}
