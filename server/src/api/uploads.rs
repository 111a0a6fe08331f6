//! Uploads that survive a cut connection: announce the bytes, send them in as many stretches as it takes, finish.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::{ArtifactRef, Timestamp};

use super::artifacts::Stored;
use super::name::Digest;
use crate::app::App;
use crate::artifacts::{ArtifactError, PIECE_BYTES};
use crate::auth::{self, Principal};
use crate::error::{ApiError, ApiResult, Problem};
use crate::extract::{Json, Path};
use crate::store::uploads::{NewUpload, Piece, upload};
use crate::store::{self, uploads};

/// Where an upload stands: how many bytes are kept, and so where the next one belongs.
const OFFSET: &str = "upload-offset";
/// How many bytes there will be.
const LENGTH: &str = "upload-length";

/// How long a sender may be silent before what came is kept and its connection given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes to be uploaded.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewUploadBody {
    /// The digest they have.
    #[schema(value_type = Digest)]
    pub digest: String,
    /// How many they are.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub size_bytes: u64,
    /// Their media type; `application/octet-stream` if not said.
    #[schema(pattern = "^[!-~]([ -~]{0,126}[!-~])?$")]
    pub media: Option<String>,
}

/// An upload and where it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadView {
    /// Its name.
    id: String,
    /// The digest the bytes will have.
    digest: String,
    /// How many there will be.
    size_bytes: i64,
    /// Their media type.
    media: String,
    /// How many have come: the next `PATCH` begins there.
    offset: i64,
    /// `open`, or `stored` once the bytes are kept under their digest.
    #[schema(pattern = "^(open|stored)$")]
    state: String,
    /// When it is dropped unless somebody goes on with it.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl From<upload::Model> for UploadView {
    fn from(row: upload::Model) -> Self {
        Self {
            id: row.id,
            digest: row.digest,
            size_bytes: row.size_bytes,
            media: row.media,
            offset: row.received_bytes,
            state: row.state,
            expires_at: Timestamp(row.expires_at),
        }
    }
}

/// Announce bytes that will come in one or more stretches.
///
/// Announced again by the same owner, it is the same upload, so that whoever lost its answer, or its memory, asks again
/// and goes on; bytes that are stored already need not be sent at all.
#[utoipa::path(post, path = "/api/v1/artifacts/uploads", tag = "artifacts",
    request_body = NewUploadBody,
    responses((status = 201, description = "Begun.", body = UploadView),
        (status = 200, description = "It was begun before, or the bytes are stored already.", body = UploadView),
        (status = 429, description = "Too many are open.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn create_upload(
    app: App,
    who: auth::Uploader,
    Json(body): Json<NewUploadBody>,
) -> ApiResult<Response> {
    let limit = app.config.server.max_artifact_bytes;
    let size = usize::try_from(body.size_bytes).unwrap_or(usize::MAX);
    if size > limit {
        return Err(ApiError::too_large(limit));
    }
    let media = body
        .media
        .unwrap_or_else(|| "application/octet-stream".into());
    checked_media(&media)?;
    let stored = match app.artifacts.size(&body.digest).await {
        Ok(stored) => stored == body.size_bytes,
        Err(ArtifactError::Missing(_)) => false,
        Err(error) => return Err(error.into()),
    };
    let new = NewUpload {
        owner: &owner(&who.0),
        digest: &body.digest,
        size_bytes: body.size_bytes.cast_signed(),
        media: &media,
        stored,
        ttl_ms: ttl_ms(&app),
    };
    let tx = store::begin(&app.db.write).await?;
    let (row, begun) = uploads::begin(&tx, app.now_ms(), &new).await?;
    if stored {
        store::artifacts::put(&tx, app.now_ms(), &artifact(&row)).await?;
    }
    tx.commit().await?;
    let status = match begun && !stored {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, at(&row), Json(UploadView::from(row))).into_response())
}

/// Where an upload stands. `HEAD` tells the same in the headers `Upload-Offset` and `Upload-Length` alone.
#[utoipa::path(get, path = "/api/v1/artifacts/uploads/{id}", tag = "artifacts",
    params(("id" = String, Path)), responses((status = 200, body = UploadView)))]
pub async fn get_upload(
    app: App,
    who: auth::Uploader,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let row = uploads::get(&app.db.read, &owner(&who.0), &id).await?;
    Ok((at(&row), Json(UploadView::from(row))).into_response())
}

/// Send bytes from `Upload-Offset` on. What has come when the connection is cut is kept; ask where the upload stands
/// and go on from there.
#[utoipa::path(patch, path = "/api/v1/artifacts/uploads/{id}", tag = "artifacts",
    params(("id" = String, Path),
        ("upload-offset" = u64, Header, description = "Where these bytes belong: the number that have come before")),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 204, description = "Kept; `Upload-Offset` says how many have come."),
        (status = 408, description = "The sender fell silent; what came is kept.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn append_upload(
    app: App,
    who: auth::Uploader,
    Path(id): Path<String>,
    request: Request,
) -> ApiResult<Response> {
    let offset = wanted_offset(request.headers())?;
    let row = uploads::get(&app.db.read, &owner(&who.0), &id).await?;
    if row.received_bytes != offset || row.state != "open" {
        return Err(not_there(&row));
    }
    let body = request.into_body();
    // In a task of its own: when the connection is cut this handler is dropped, and what came must be kept all the same.
    let received = tokio::spawn(receive(app.clone(), row, body));
    let row = received.await.map_err(ApiError::internal)??;
    Ok((StatusCode::NO_CONTENT, at(&row)).into_response())
}

/// Store the whole under its digest once every byte has come; saying so again answers the same.
#[utoipa::path(post, path = "/api/v1/artifacts/uploads/{id}/finish", tag = "artifacts",
    params(("id" = String, Path)), responses((status = 201, body = Stored)))]
pub async fn finish_upload(
    app: App,
    who: auth::Uploader,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<Stored>)> {
    let row = uploads::get(&app.db.read, &owner(&who.0), &id).await?;
    if row.received_bytes < row.size_bytes {
        return Err(ApiError::wrong_state(
            "upload_incomplete",
            format!(
                "{} of {} bytes have come; send the rest",
                row.received_bytes, row.size_bytes
            ),
        )
        .with("offset", row.received_bytes));
    }
    let stored = Stored::new(row.digest.clone(), row.size_bytes.cast_unsigned());
    if row.state == "open" {
        // Joining takes a while; whoever hangs up meanwhile finds it done.
        let joined = tokio::spawn(join(app.clone(), row));
        joined.await.map_err(ApiError::internal)??;
    }
    Ok((StatusCode::CREATED, Json(stored)))
}

/// Abandon an upload; what came of it is dropped. Bytes that are stored stay.
#[utoipa::path(delete, path = "/api/v1/artifacts/uploads/{id}", tag = "artifacts",
    params(("id" = String, Path)), responses((status = 204, description = "Dropped.")))]
pub async fn delete_upload(
    app: App,
    who: auth::Uploader,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let row = uploads::get(&app.db.read, &owner(&who.0), &id).await?;
    abandon(&app, &row.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drops an upload and whatever came of it.
async fn abandon(app: &App, id: &str) -> ApiResult<()> {
    let tx = store::begin(&app.db.write).await?;
    uploads::forget(&tx, id).await?;
    tx.commit().await?;
    // After the row: a piece without a row is garbage, a row without its piece would be a lie.
    app.artifacts.drop_pieces(id).await?;
    Ok(())
}

/// Keeps what comes, piece by piece, until the sender ends, is cut off or falls silent.
async fn receive(app: App, mut row: upload::Model, body: Body) -> ApiResult<upload::Model> {
    let _turn = app.uploads.acquire().await.map_err(ApiError::internal)?;
    let mut stream = body.into_data_stream();
    let mut piece = BytesMut::new();
    let ended = loop {
        match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(bytes))) => {
                let kept = keep_full(&app, &mut row, &mut piece, bytes).await;
                if let Err(error) = kept {
                    break Err(error);
                }
            }
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => {
                let detail =
                    "the connection was cut; ask where the upload stands and go on from there";
                break Err(ApiError::malformed("incomplete_body", detail));
            }
            Err(_) => break Err(ApiError::too_slow(SILENCE.as_secs())),
        }
    };
    if !piece.is_empty() {
        keep(&app, &mut row, piece.freeze()).await?;
    }
    ended.map(|()| row)
}

/// Adds bytes to the piece in hand, and keeps it as often as it is full.
async fn keep_full(
    app: &App,
    row: &mut upload::Model,
    piece: &mut BytesMut,
    mut bytes: Bytes,
) -> ApiResult<()> {
    let have = row.received_bytes
        + i64::try_from(piece.len() + bytes.len()).map_err(ApiError::internal)?;
    if have > row.size_bytes {
        let detail = format!(
            "more than the {} bytes that were announced came",
            row.size_bytes
        );
        return Err(ApiError::refused("upload_too_long", detail).with("size_bytes", row.size_bytes));
    }
    while !bytes.is_empty() {
        if piece.is_empty() {
            let left = row.size_bytes - row.received_bytes;
            piece.reserve(
                usize::try_from(left)
                    .unwrap_or(PIECE_BYTES)
                    .min(PIECE_BYTES),
            );
        }
        let part = bytes.split_to(bytes.len().min(PIECE_BYTES - piece.len()));
        piece.extend_from_slice(&part);
        if piece.len() == PIECE_BYTES {
            keep(app, row, piece.split().freeze()).await?;
        }
    }
    Ok(())
}

async fn keep(app: &App, row: &mut upload::Model, bytes: Bytes) -> ApiResult<()> {
    let size_bytes = i64::try_from(bytes.len()).map_err(ApiError::internal)?;
    let piece = Piece {
        at_byte: row.received_bytes,
        size_bytes,
        object: app.artifacts.put_piece(&row.id, bytes).await?,
    };
    let expires_at = app.now_ms() + ttl_ms(app);
    let tx = store::begin(&app.db.write).await?;
    let counted = uploads::receive(&tx, expires_at, &row.id, &piece).await?;
    tx.commit().await?;
    if !counted {
        // Another connection went on with it, or it was abandoned.
        return Err(not_there(
            &uploads::get(&app.db.write, &row.owner, &row.id).await?,
        ));
    }
    row.received_bytes += size_bytes;
    row.expires_at = expires_at;
    Ok(())
}

/// Joins the pieces, makes sure of the digest, and puts the whole in its place.
async fn join(app: App, row: upload::Model) -> ApiResult<()> {
    let _turn = app.uploads.acquire().await.map_err(ApiError::internal)?;
    let pieces = uploads::pieces(&app.db.read, &row.id).await?;
    let objects: Vec<String> = pieces.into_iter().map(|piece| piece.object).collect();
    match app.artifacts.join(&row.digest, &objects).await {
        Ok(()) => {}
        Err(error @ ArtifactError::Mismatch { .. }) => {
            // No more bytes would make it right.
            abandon(&app, &row.id).await?;
            return Err(error.into());
        }
        Err(ArtifactError::Missing(_)) => {
            // Another call may have finished it meanwhile.
            let now = uploads::get(&app.db.write, &row.owner, &row.id).await?;
            return match now.state == "stored" {
                true => Ok(()),
                false => Err(ApiError::internal(anyhow::anyhow!(
                    "a piece of upload `{}` is gone",
                    row.id
                ))),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let tx = store::begin(&app.db.write).await?;
    store::artifacts::put(&tx, app.now_ms(), &artifact(&row)).await?;
    uploads::finish(&tx, &row.id).await?;
    tx.commit().await?;
    app.artifacts.drop_pieces(&row.id).await?;
    Ok(())
}

fn artifact(row: &upload::Model) -> ArtifactRef {
    ArtifactRef {
        digest: row.digest.clone(),
        size_bytes: row.size_bytes.cast_unsigned(),
        media: row.media.clone(),
    }
}

/// A cell and a person may have the same name.
fn owner(who: &Principal) -> String {
    format!("{}:{}", who.role.name(), who.subject)
}

fn ttl_ms(app: &App) -> i64 {
    app.config.artifacts.upload_hours.saturating_mul(3_600_000)
}

fn at(row: &upload::Model) -> [(&'static str, HeaderValue); 2] {
    [
        (OFFSET, HeaderValue::from(row.received_bytes)),
        (LENGTH, HeaderValue::from(row.size_bytes)),
    ]
}

fn wanted_offset(headers: &HeaderMap) -> ApiResult<i64> {
    let value = headers.get(OFFSET).and_then(|v| v.to_str().ok());
    let offset = value
        .and_then(|v| v.trim().parse().ok())
        .filter(|n| *n >= 0);
    offset.ok_or_else(|| {
        let detail = "say in `Upload-Offset` where the bytes belong: a whole number of bytes";
        ApiError::malformed("malformed_header", detail).with("header", "Upload-Offset")
    })
}

fn not_there(row: &upload::Model) -> ApiError {
    let detail = match row.state.as_str() {
        "open" => format!(
            "the upload stands at {} bytes; go on from there",
            row.received_bytes
        ),
        _ => "the upload is finished; nothing more belongs to it".to_owned(),
    };
    ApiError::wrong_state("upload_offset", detail).with("offset", row.received_bytes)
}

/// Refuses what could not be said in a header when the bytes are fetched.
fn checked_media(media: &str) -> ApiResult<()> {
    let fits = (1..=128).contains(&media.len())
        && media.bytes().all(|b| (b' '..=b'~').contains(&b))
        && media.trim() == media;
    if fits {
        return Ok(());
    }
    let detail = "`media` is a media type of at most 128 ASCII characters, such as `model/stl`";
    Err(ApiError::refused("invalid_media", detail).with("field", "media"))
}
