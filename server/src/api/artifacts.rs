//! Artifacts: immutable bytes by digest, whole or in part.

use std::ops::Range;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::model::{ArtifactRef, Timestamp};

use super::name::Digest;
use crate::app::App;
use crate::artifacts::ArtifactWriter;
use crate::auth;
use crate::error::{ApiError, ApiResult, Problem};
use crate::extract::{Json, Path, Query};
use crate::store;

/// How long the bytes of one upload may take to arrive.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(600);

/// Who made an artifact.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProvenanceView {
    /// The run.
    run: String,
    /// Position of the step in it.
    position: String,
    /// What sort of step.
    kind: String,
    /// What the step calls it.
    name: String,
    /// Digest of the workflow's revision.
    revision: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Everything that made these bytes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProvenanceList {
    /// The artifact.
    digest: String,
    /// Its size.
    size_bytes: i64,
    /// Its media type.
    media: String,
    /// Who made it, first maker first; empty for uploads.
    made_by: Vec<ProvenanceView>,
}

/// One artifact of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArtifactView {
    /// Its digest.
    digest: String,
    /// Its size.
    size_bytes: i64,
    /// Its media type.
    media: String,
    /// Position of the step that made it.
    position: String,
    /// What sort of step.
    kind: String,
    /// What the step calls it.
    name: String,
}

/// The artifacts of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArtifactList {
    /// In the order of making.
    artifacts: Vec<ArtifactView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which artifacts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ArtifactQuery {
    /// The run that made them.
    pub run: String,
}

/// What a stored upload is called.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stored {
    /// Its digest.
    digest: String,
    /// Its size.
    size_bytes: u64,
}

impl Stored {
    /// Bytes that are stored.
    pub const fn new(digest: String, size_bytes: u64) -> Self {
        Self { digest, size_bytes }
    }
}

/// The artifacts of a run.
#[utoipa::path(get, path = "/api/v1/artifacts", tag = "artifacts", params(ArtifactQuery),
    responses((status = 200, body = ArtifactList)))]
pub async fn list_artifacts(
    app: App,
    _: auth::Reader,
    Query(query): Query<ArtifactQuery>,
) -> ApiResult<Json<ArtifactList>> {
    match store::runs::get(&app.db.read, &query.run).await {
        // What it made is still there.
        Ok(_) | Err(store::StoreError::Archived(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let rows = store::artifacts::of_run(&app.db.read, &query.run).await?;
    let artifacts = rows.into_iter().map(|a| ArtifactView {
        digest: a.digest,
        size_bytes: a.size_bytes,
        media: a.media,
        position: a.position,
        kind: a.kind,
        name: a.name,
    });
    Ok(Json(ArtifactList {
        artifacts: artifacts.collect(),
        next: None,
    }))
}

/// The bytes of a digest; `Range` gives a part of them.
#[utoipa::path(get, path = "/api/v1/artifacts/{digest}", tag = "artifacts",
    params(("digest" = inline(Digest), Path, example = "sha256:…"),
        ("range" = Option<String>, Header, description = "`bytes=0-1023`")),
    responses((status = 200, content_type = "*/*", body = serde_json::Value),
        (status = 206, content_type = "*/*", body = serde_json::Value),
        (status = 304, description = "`If-None-Match` names it"),
        (status = 416, body = Problem, content_type = "application/problem+json")))]
pub async fn get_artifact(
    app: App,
    _: auth::Anybody,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let size = app.artifacts.size(&digest).await?;
    let etag = format!("\"{digest}\"");
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|v| v == etag.as_str())
    {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let fresh = headers
        .get(header::IF_RANGE)
        .is_none_or(|v| v == etag.as_str());
    let range = match headers.get(header::RANGE).filter(|_| fresh) {
        Some(value) => wanted_range(value, size)?,
        None => None,
    };
    let body = app.artifacts.open_range(&digest, range.clone()).await?;
    let mut response = Body::from_stream(body.into_stream()).into_response();
    let known = store::artifacts::get(&app.db.read, &digest).await.ok();
    let media = known.map_or_else(|| "application/octet-stream".into(), |a| a.media);
    describe(
        response.headers_mut(),
        &digest,
        &media,
        range.as_ref(),
        size,
    )?;
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Store bytes under the digest they have; any other digest is refused and nothing is kept.
#[utoipa::path(put, path = "/api/v1/artifacts/{digest}", tag = "artifacts",
    params(("digest" = inline(Digest), Path, example = "sha256:…")),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 201, body = Stored),
        (status = 408, description = "The bytes came too slowly.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn put_artifact(
    app: App,
    _: auth::Uploader,
    Path(digest): Path<String>,
    request: Request,
) -> ApiResult<(StatusCode, Json<Stored>)> {
    let media = request.headers().get(header::CONTENT_TYPE);
    let media = media
        .and_then(|v| v.to_str().ok())
        .unwrap_or("application/octet-stream");
    let media = media.to_owned();
    let limit = app.config.server.max_artifact_bytes;
    let _turn = app.uploads.acquire().await.map_err(ApiError::internal)?;
    let writer = app.artifacts.writer(&digest)?;
    let kept = keep(writer, request.into_body(), limit);
    // Whoever stops sending must not keep their turn.
    let size_bytes = tokio::time::timeout(UPLOAD_PATIENCE, kept)
        .await
        .map_err(|_| ApiError::too_slow(UPLOAD_PATIENCE.as_secs()))??;
    let artifact = ArtifactRef {
        digest,
        size_bytes,
        media,
    };
    store::artifacts::put(&app.db.write, app.now_ms(), &artifact).await?;
    Ok((
        StatusCode::CREATED,
        Json(Stored::new(artifact.digest, size_bytes)),
    ))
}

/// Keeps a body as it comes, a piece of it in memory; says how long it was.
async fn keep(mut writer: ArtifactWriter, body: Body, limit: usize) -> ApiResult<u64> {
    let mut stream = body.into_data_stream();
    let mut size = 0;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|_| {
            ApiError::malformed(
                "incomplete_body",
                "the body did not come whole; send it again",
            )
        })?;
        size += bytes.len();
        if size > limit {
            return Err(ApiError::too_large(limit));
        }
        writer.write(bytes).await?;
    }
    writer.finish().await?;
    Ok(size as u64)
}

/// Who made these bytes.
#[utoipa::path(get, path = "/api/v1/artifacts/{digest}/provenance", tag = "artifacts",
    params(("digest" = inline(Digest), Path, example = "sha256:…")),
    responses((status = 200, body = ProvenanceList)))]
pub async fn get_provenance(
    app: App,
    _: auth::Reader,
    Path(digest): Path<String>,
) -> ApiResult<Json<ProvenanceList>> {
    let artifact = store::artifacts::get(&app.db.read, &digest).await?;
    let rows = store::artifacts::provenance_of(&app.db.read, &digest).await?;
    let made_by = rows.into_iter().map(|p| ProvenanceView {
        run: p.run_id,
        position: p.position,
        kind: p.kind,
        name: p.name,
        revision: p.revision,
        at: Timestamp(p.recorded_at),
    });
    Ok(Json(ProvenanceList {
        digest: artifact.digest,
        size_bytes: artifact.size_bytes,
        media: artifact.media,
        made_by: made_by.collect(),
    }))
}

/// The one range of a `Range` header; `None` for what RFC 9110 lets a server ignore.
fn wanted_range(value: &HeaderValue, size: u64) -> ApiResult<Option<Range<u64>>> {
    let Some(spec) = value.to_str().ok().and_then(|v| v.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Ok(None);
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.start >= range.end {
        return Err(ApiError::range_not_satisfiable(size));
    }
    Ok(Some(range))
}

fn describe(
    headers: &mut HeaderMap,
    digest: &str,
    media: &str,
    range: Option<&Range<u64>>,
    size: u64,
) -> ApiResult<()> {
    let length = range.map_or(size, |r| r.end - r.start);
    let mut set = |name, value: String| {
        let value = HeaderValue::from_str(&value).map_err(ApiError::internal)?;
        headers.insert(name, value);
        Ok::<_, ApiError>(())
    };
    set(header::CONTENT_TYPE, media.into())?;
    set(header::CONTENT_LENGTH, length.to_string())?;
    set(header::ETAG, format!("\"{digest}\""))?;
    set(header::ACCEPT_RANGES, "bytes".into())?;
    set(
        header::CACHE_CONTROL,
        "private, max-age=31536000, immutable".into(),
    )?;
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff".into())?;
    set(
        header::HeaderName::from_static("repr-digest"),
        repr_digest(digest),
    )?;
    if let Some(range) = range {
        set(
            header::CONTENT_RANGE,
            format!("bytes {}-{}/{size}", range.start, range.end - 1),
        )?;
    }
    Ok(())
}

/// The digest as RFC 9530 writes it: base64 between colons.
fn repr_digest(digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap_or_default();
    let bytes: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    format!("sha-256=:{}:", BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(value: &str) -> Option<Range<u64>> {
        wanted_range(&HeaderValue::from_str(value).expect("ascii"), 10)
            .ok()
            .flatten()
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        assert_eq!(range("bytes=0-3"), Some(0..4));
        assert_eq!(range("bytes=4-"), Some(4..10));
        assert_eq!(range("bytes=-3"), Some(7..10));
        assert_eq!(range("bytes=8-99"), Some(8..10));
        assert_eq!(range("bytes=0-1,4-5"), None);
        assert_eq!(range("lines=0-1"), None);
        let beyond = HeaderValue::from_static("bytes=10-");
        assert!(wanted_range(&beyond, 10).is_err());
    }

    #[test]
    fn a_digest_is_written_as_rfc_9530_does() {
        let digest = crate::artifacts::digest(b"{\"hello\": \"world\"}\n");
        // RFC 9530, appendix B.1.
        assert_eq!(
            repr_digest(&digest),
            "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
        );
    }
}
