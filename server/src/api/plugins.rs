//! Plugins: uploaded, checked, compared, let serve, set aside; and what operators say of them.

use std::time::Duration;

use ::plugins::bundle::{self, Bundle, BundleError};
use ::plugins::grants::Capabilities;
use ::plugins::lifecycle::{CrashPolicy, Event, State};
use ::plugins::manifest::Manifest;
use ::plugins::schema::Schemas;
use ::plugins::shape::{self, ShapeError};
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::StreamExt;
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use workflows::model::{ArtifactRef, Timestamp};

use super::grants_view::{CapabilityView, GrantsView};
use crate::app::App;
use crate::auth::{self, Role};
use crate::error::{ApiError, ApiResult, Problem};
use crate::extract::{Json, Path, Query};
use crate::store::plugin_settings::PluginSettings;
use crate::store::plugins::{NewVersion, plugin_version};
use crate::store::{self, plugin_settings, plugins};

/// How long the bytes of a plugin may take to arrive.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);
/// The media type that a plugin's file is kept with.
const MEDIA: &str = "application/wasm";
/// Kinds of assets that a plugin's settings may list.
const MOST_KINDS: usize = 100;

/// One version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginVersionView {
    /// The plugin's name.
    plugin: String,
    /// This version.
    version: String,
    /// What it is for: `predictor`, `detector`, `designer`, `verifier`, `scheduler` or `action`.
    world: String,
    /// One sentence.
    description: String,
    /// SPDX, where its author says.
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    /// The contract it is written against.
    interface: String,
    /// Digest of its file, which is an artifact.
    digest: String,
    /// Its size.
    size_bytes: i64,
    /// Whose key signed it, by the name it has on the key ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    /// `uploaded`, `compiling`, `checking`, `shadow`, `canary`, `active`, `quarantined` or `retired`.
    state: String,
    /// Share of the assets that a canary is asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<i64>,
    /// Why it is in quarantine; begins with a stable code where it was never let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Since when it is where it is.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// What it asks for, and whether it is granted.
    capabilities: Vec<CapabilityView>,
    /// The same as settings would grant it.
    asks: GrantsView,
    /// How much a call may use, by the names of manifests.
    limits: Map<String, Value>,
    /// How it did in the conformance kit, once it was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<PluginScoreView>,
    /// How its calls went.
    health: PluginHealthView,
    /// Who uploaded it.
    uploaded_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    uploaded_at: Timestamp,
}

/// How a version did in the conformance kit.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginScoreView {
    /// Cases that it passed.
    passed: usize,
    /// Cases.
    cases: usize,
}

/// How a version's calls went.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginHealthView {
    /// Calls of all times.
    calls: u64,
    /// Those of them that failed by the plugin's own fault.
    failures: u64,
    /// Failures since the last call that went well.
    failures_in_a_row: u32,
}

/// Versions of plugins.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginList {
    /// By name, newest first.
    plugins: Vec<PluginVersionView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// One version with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PluginDetailView {
    /// In short.
    #[serde(flatten)]
    version: PluginVersionView,
    /// Its manifest, as its author wrote it.
    manifest: String,
    /// Every case of the conformance kit, once it was checked.
    verdicts: Vec<PluginCheckView>,
}

/// How a version did in one case.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PluginCheckView {
    /// The case.
    name: String,
    /// What it is about.
    about: String,
    /// Whether it passed.
    passed: bool,
    /// What it answered, in short, or why it failed.
    told: String,
    /// What its author may do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// How long the call took, ms.
    wall_ms: f64,
    /// The most memory at one time.
    memory_bytes: u64,
}

/// Which plugins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PluginQuery {
    /// Only versions of this one.
    pub plugin: Option<String>,
}

/// How a plugin is uploaded.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Take it though nobody on the key ring vouches for it. Only an operator may say so.
    #[serde(default)]
    pub unsigned: bool,
}

/// A share.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PluginShare {
    /// Of the assets, in percent.
    #[schema(minimum = 1, maximum = 99)]
    pub percent: u8,
}

/// What operators say of a plugin, for all its versions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginSettingsView {
    /// What it may reach: of what it asks for, what is in here too.
    #[serde(default)]
    pub granted: GrantsView,
    /// What it is told as its settings: an object.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    /// Kinds of assets that it is asked about, as globs; all if not said.
    #[serde(default = "all_kinds")]
    #[schema(max_items = 100)]
    pub asset_kinds: Vec<String>,
    /// Failures in a row before its quarantine; 10 if not said.
    #[serde(default = "quarantine_after")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quarantine_after: u32,
    /// Tries of one call; 2 if not said.
    #[serde(default = "tries")]
    #[schema(minimum = 1, maximum = 10)]
    pub tries: u32,
}

fn all_kinds() -> Vec<String> {
    vec!["*".to_owned()]
}

fn quarantine_after() -> u32 {
    CrashPolicy::default().quarantine_after
}

fn tries() -> u32 {
    CrashPolicy::default().tries
}

impl PluginVersionView {
    fn new(row: plugin_version::Model, granted: &Capabilities) -> ApiResult<Self> {
        // One that an older server took is shown all the same.
        let manifest = row.manifest().ok();
        let asked = manifest.as_ref().map(|own| &own.capabilities);
        let limits = manifest.as_ref().map(|own| own.limits.named());
        let health = row.health();
        let limits = limits.into_iter().flatten();
        Ok(Self {
            checks: score(row.report.as_deref())?,
            capabilities: asked.map_or_else(Vec::new, |asked| CapabilityView::of(asked, granted)),
            asks: asked.cloned().unwrap_or_default().into(),
            limits: limits
                .map(|(name, most)| (name.to_owned(), json!(most)))
                .collect(),
            interface: format!(
                "{}@{}",
                ::plugins::world::PACKAGE,
                manifest.as_ref().map_or(0, |own| own.major)
            ),
            description: manifest
                .as_ref()
                .map(|own| own.description.clone())
                .unwrap_or_default(),
            license: manifest.and_then(|own| own.license),
            plugin: row.plugin,
            version: row.version,
            world: row.world,
            digest: row.digest,
            size_bytes: row.size_bytes,
            signer: row.signer,
            state: row.state,
            percent: row.percent,
            reason: row.reason,
            since: Timestamp(row.since),
            health: PluginHealthView {
                calls: health.calls,
                failures: health.failures,
                failures_in_a_row: health.failures_in_a_row,
            },
            uploaded_by: row.uploaded_by,
            uploaded_at: Timestamp(row.uploaded_at),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
struct Report {
    verdicts: Vec<PluginCheckView>,
}

fn report(text: Option<&str>) -> ApiResult<Option<Report>> {
    let read = text.map(serde_json::from_str).transpose();
    read.map_err(ApiError::internal)
}

fn score(text: Option<&str>) -> ApiResult<Option<PluginScoreView>> {
    Ok(report(text)?.map(|report| PluginScoreView {
        passed: report.verdicts.iter().filter(|one| one.passed).count(),
        cases: report.verdicts.len(),
    }))
}

/// Upload a plugin's file, as `forewright plugin build` and `sign` make it.
///
/// It is compiled and checked next, and serves nobody before an operator lets it. The same file again is answered with
/// what is there.
#[utoipa::path(post, path = "/api/v1/plugins", tag = "plugins", params(UploadQuery),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 201, body = PluginVersionView),
        (status = 200, description = "It was there already.", body = PluginVersionView),
        (status = 408, description = "The bytes came too slowly.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn upload_plugin(
    app: App,
    who: auth::Developer,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> ApiResult<(StatusCode, Json<PluginVersionView>)> {
    let file = received(&app, request.into_body()).await?;
    let ring = store::plugin_keys::ring(&app.db.read).await?;
    let unsigned = Unsigned::of(&app, &who, query.unsigned)?;
    let taken_apart = file.clone();
    // A large component takes long to look through.
    let looked_at = tokio::task::spawn_blocking(move || {
        let (bundle, manifest) = bundle::open(&taken_apart).map_err(|e| not_a_plugin(&e))?;
        let signer = signer(&ring, &bundle, unsigned)?;
        let shape = shape::read(bundle.component).map_err(|e| misfit(&e, &manifest))?;
        Ok::<_, ApiError>((bundle.manifest.to_owned(), manifest, signer, shape))
    });
    let (text, manifest, signer, shape) = looked_at.await.map_err(ApiError::internal)??;
    let settings = plugin_settings::get(&app.db.read, &manifest.name).await?;
    shape::admit(&shape, &manifest, &settings.granted).map_err(|e| misfit(&e, &manifest))?;

    let (now, size_bytes) = (app.now_ms(), file.len() as u64);
    let digest = app.artifacts.put(file).await?;
    let tx = store::begin(&app.db.write).await?;
    let artifact = ArtifactRef {
        digest: digest.clone(),
        size_bytes,
        media: MEDIA.to_owned(),
    };
    store::artifacts::put(&tx, now, &artifact).await?;
    let new = NewVersion {
        manifest: &manifest,
        text: &text,
        digest: &digest,
        size_bytes: size_bytes.cast_signed(),
        signer: signer.as_deref(),
        by: &who.0.subject,
    };
    let (row, is_new) = plugins::upload(&tx, now, &new).await?;
    tx.commit().await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let view = PluginVersionView::new(row, &settings.granted)?;
    Ok((status, Json(view)))
}

async fn received(app: &App, body: Body) -> ApiResult<Bytes> {
    // Each holds its whole file in memory.
    let _turn = app.uploads.acquire().await.map_err(ApiError::internal)?;
    let read = tokio::time::timeout(UPLOAD_PATIENCE, collected(body));
    let read = read.await;
    read.map_err(|_| ApiError::too_slow(UPLOAD_PATIENCE.as_secs()))?
}

async fn collected(body: Body) -> ApiResult<Bytes> {
    let (mut file, mut stream) = (Vec::new(), body.into_data_stream());
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| {
            let detail = "the body did not come whole; send it again";
            ApiError::malformed("incomplete_body", detail)
        })?;
        if file.len() + piece.len() > bundle::LONGEST {
            return Err(ApiError::too_large(bundle::LONGEST));
        }
        file.extend_from_slice(&piece);
    }
    Ok(file.into())
}

/// Whether a plugin is taken that nobody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsigned {
    Taken,
    Refused,
}

impl Unsigned {
    fn of(app: &App, who: &auth::Developer, asked: bool) -> ApiResult<Self> {
        if app.config.plugins.allow_unsigned {
            return Ok(Self::Taken);
        }
        match (asked, who.0.role) {
            (false, _) => Ok(Self::Refused),
            (true, Role::Operator) => Ok(Self::Taken),
            (true, _) => Err(ApiError::forbidden(
                "only an operator takes a plugin unsigned; have it signed by a key of the key ring",
            )),
        }
    }
}

fn signer(
    ring: &::plugins::trust::KeyRing,
    bundle: &Bundle<'_>,
    unsigned: Unsigned,
) -> ApiResult<Option<String>> {
    match ring.signer(bundle.signed, bundle.signature) {
        Ok(name) => Ok(Some(name.to_owned())),
        Err(::plugins::trust::TrustError::Unsigned) if unsigned == Unsigned::Taken => Ok(None),
        // Somebody did sign it, and it is not what they signed, or they are not known: a flag for what has no signature
        // says nothing of that.
        Err(error) => Err(ApiError::refused(error.code(), error.to_string())),
    }
}

/// What a grant of all that a plugin asks for looks like on the wire.
#[must_use]
pub fn granted_as_asked(manifest: &Manifest) -> Value {
    json!(GrantsView::from(manifest.capabilities.clone()))
}

fn not_a_plugin(error: &BundleError) -> ApiError {
    ApiError::refused(error.code(), error.to_string())
}

fn misfit(error: &ShapeError, manifest: &Manifest) -> ApiError {
    let refused = ApiError::refused(error.code(), error.to_string());
    let ShapeError::NotGranted(missing) = error else {
        return refused;
    };
    let missing: Vec<Value> = missing
        .iter()
        .map(|one| json!({ "capability": one.capability, "line": one.line }))
        .collect();
    refused
        .with("missing", missing)
        .with(
            "settings",
            format!("/api/v1/plugins/{}/settings", manifest.name),
        )
        .with("grant", granted_as_asked(manifest))
}

/// Versions of plugins, by name, newest first.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins", params(PluginQuery),
    responses((status = 200, body = PluginList)))]
pub async fn list_plugins(
    app: App,
    _: auth::Reader,
    Query(query): Query<PluginQuery>,
) -> ApiResult<Json<PluginList>> {
    let rows = plugins::list(&app.db.read, query.plugin.as_deref()).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let settings = plugin_settings::get(&app.db.read, &row.plugin).await?;
        views.push(PluginVersionView::new(row, &settings.granted)?);
    }
    Ok(Json(PluginList {
        plugins: views,
        next: None,
    }))
}

/// One version, with its manifest and every case of the conformance kit.
#[utoipa::path(get, path = "/api/v1/plugins/{plugin}/versions/{version}", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = PluginDetailView)))]
pub async fn get_plugin_version(
    app: App,
    _: auth::Reader,
    Path((plugin, version)): Path<(String, String)>,
) -> ApiResult<Json<PluginDetailView>> {
    let row = plugins::get(&app.db.read, &plugin, &version).await?;
    let settings = plugin_settings::get(&app.db.read, &plugin).await?;
    let verdicts = report(row.report.as_deref())?.unwrap_or_default().verdicts;
    Ok(Json(PluginDetailView {
        manifest: row.manifest.clone(),
        version: PluginVersionView::new(row, &settings.granted)?,
        verdicts,
    }))
}

/// Let a version serve, in place of the one that does; that one is compared from now on.
#[utoipa::path(post, path = "/api/v1/plugins/{plugin}/versions/{version}/promote", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = PluginVersionView)))]
pub async fn promote_plugin(
    app: App,
    who: auth::Operator,
    Path(named): Path<(String, String)>,
) -> ApiResult<Json<PluginVersionView>> {
    moved(&app, &who, named, &Event::Promoted).await
}

/// Let a version serve a share of the assets, before the one that serves all.
#[utoipa::path(post, path = "/api/v1/plugins/{plugin}/versions/{version}/canary", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path)), request_body = PluginShare,
    responses((status = 200, body = PluginVersionView)))]
pub async fn canary_plugin(
    app: App,
    who: auth::Operator,
    Path(named): Path<(String, String)>,
    Json(share): Json<PluginShare>,
) -> ApiResult<Json<PluginVersionView>> {
    let percent = share.percent;
    if !(1..100).contains(&percent) {
        let detail = format!("`percent` is {percent}; a share is 1 to 99");
        return Err(ApiError::refused("invalid_share", detail).with("field", "percent"));
    }
    moved(&app, &who, named, &Event::Canaried { percent }).await
}

/// Take a version back to being compared; out of its quarantine it is compiled and checked anew first.
#[utoipa::path(post, path = "/api/v1/plugins/{plugin}/versions/{version}/demote", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = PluginVersionView)))]
pub async fn demote_plugin(
    app: App,
    who: auth::Operator,
    Path(named): Path<(String, String)>,
) -> ApiResult<Json<PluginVersionView>> {
    moved(&app, &who, named, &Event::Demoted).await
}

/// Retire a version for good; what it said stays on record.
#[utoipa::path(post, path = "/api/v1/plugins/{plugin}/versions/{version}/retire", tag = "plugins",
    params(("plugin" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = PluginVersionView)))]
pub async fn retire_plugin(
    app: App,
    who: auth::Operator,
    Path(named): Path<(String, String)>,
) -> ApiResult<Json<PluginVersionView>> {
    moved(&app, &who, named, &Event::Retired).await
}

async fn moved(
    app: &App,
    who: &auth::Operator,
    (plugin, version): (String, String),
    event: &Event,
) -> ApiResult<Json<PluginVersionView>> {
    let settings = plugin_settings::get(&app.db.read, &plugin).await?;
    let tx = store::begin(&app.db.write).await?;
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let row = plugins::move_by(&tx, now, actor, (&plugin, &version), event).await?;
    tx.commit().await?;
    if row.stands() == State::Retired {
        app.plugins.forget(&row.digest);
    }
    Ok(Json(PluginVersionView::new(row, &settings.granted)?))
}

/// What operators say of a plugin, for all its versions.
#[utoipa::path(get, path = "/api/v1/plugins/{plugin}/settings", tag = "plugins",
    params(("plugin" = String, Path)), responses((status = 200, body = PluginSettingsView)))]
pub async fn get_plugin_settings(
    app: App,
    _: auth::Developer,
    Path(plugin): Path<String>,
) -> ApiResult<Json<PluginSettingsView>> {
    let settings = plugin_settings::get(&app.db.read, &plugin).await?;
    Ok(Json(settings.into()))
}

/// Say what a plugin may reach, what its settings are, which assets it is asked about, and how often it may fail. It
/// counts from the next call on, and may be said before the plugin is there.
///
/// `config` has to fit the schema of every version that is asked; one that is empty says nothing yet.
#[utoipa::path(put, path = "/api/v1/plugins/{plugin}/settings", tag = "plugins",
    params(("plugin" = String, Path)), request_body = PluginSettingsView,
    responses((status = 200, body = PluginSettingsView)))]
pub async fn put_plugin_settings(
    app: App,
    who: auth::Operator,
    Path(plugin): Path<String>,
    Json(body): Json<PluginSettingsView>,
) -> ApiResult<Json<PluginSettingsView>> {
    let plugin = checked_plugin(plugin)?;
    check_settings(&body)?;
    let settings = PluginSettings::from(body);
    let refused = |e: ::plugins::grants::ReachError| {
        ApiError::refused("plugin.grant", e.to_string()).with("field", "granted")
    };
    settings.granted.check().map_err(refused)?;
    check_config(&app.db.read, &plugin, &settings).await?;
    let tx = store::begin(&app.db.write).await?;
    let (now, actor) = (app.now_ms(), &who.0.subject);
    plugin_settings::put(&tx, now, actor, &plugin, &settings).await?;
    tx.commit().await?;
    Ok(Json(settings.into()))
}

/// Refuses settings that do not fit what a version says of them that is asked.
async fn check_config(
    db: &impl ConnectionTrait,
    plugin: &str,
    settings: &PluginSettings,
) -> ApiResult<()> {
    if settings.config.is_empty() {
        return Ok(());
    }
    let config = Value::Object(settings.config.clone()).to_string();
    for row in store::plugins::list(db, Some(plugin)).await? {
        if matches!(row.stands(), State::Quarantined { .. } | State::Retired) {
            continue;
        }
        let schemas = Schemas::of(&row.manifest()?).map_err(anyhow::Error::msg);
        let fits = schemas.and_then(|all| all.check_config(&config).map_err(anyhow::Error::msg));
        if let Err(why) = fits {
            let detail = format!("version {} of `{plugin}`: {why}", row.version);
            return Err(ApiError::refused("plugin.config", detail).with("field", "config"));
        }
    }
    Ok(())
}

/// Refuses a name that no manifest can have.
fn checked_plugin(name: String) -> ApiResult<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= 64 && name.chars().all(plain) {
        return Ok(name);
    }
    let what = "a plugin's name is 1 to 64 of a–z 0–9 - and begins with a letter";
    Err(ApiError::refused("invalid_name", what).with("field", "plugin"))
}

fn check_settings(body: &PluginSettingsView) -> ApiResult<()> {
    let wrong = [
        (
            "asset_kinds",
            body.asset_kinds.len() <= MOST_KINDS,
            "at most 100 kinds",
        ),
        (
            "quarantine_after",
            (1..=1_000_000).contains(&body.quarantine_after),
            "1 to 1000000",
        ),
        ("tries", (1..=10).contains(&body.tries), "1 to 10"),
    ];
    match wrong.into_iter().find(|(_, fits, _)| !fits) {
        Some((field, _, range)) => {
            let detail = format!("`{field}` must be {range}");
            Err(ApiError::refused("invalid_plugin_settings", detail).with("field", field))
        }
        None => Ok(()),
    }
}

impl From<PluginSettings> for PluginSettingsView {
    fn from(own: PluginSettings) -> Self {
        Self {
            granted: own.granted.into(),
            config: own.config,
            asset_kinds: own.asset_kinds,
            quarantine_after: own.crash_policy.quarantine_after,
            tries: own.crash_policy.tries,
        }
    }
}

impl From<PluginSettingsView> for PluginSettings {
    fn from(told: PluginSettingsView) -> Self {
        Self {
            granted: told.granted.into(),
            config: told.config,
            asset_kinds: told.asset_kinds,
            crash_policy: CrashPolicy {
                quarantine_after: told.quarantine_after,
                tries: told.tries,
            },
        }
    }
}
