//! What API clients get instead of an answer: one `problem+json` shape (RFC 9457), and the only place that chooses statuses.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use workflows::script::nearest;

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

/// A refusal or failure, on its way to `problem+json`.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
    extra: Map<String, Value>,
}

/// The body of every error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Stable URI of the kind of problem; ends in `code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong here, where, and what to do.
    pub detail: String,
    /// Stable code, the last part of `type`.
    pub code: String,
    /// More about it, by name.
    #[serde(flatten)]
    #[schema(additional_properties = true)]
    pub extra: Map<String, Value>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_s: None,
            extra: Map::new(),
        }
    }

    /// 400: cannot be read as what it should be.
    pub fn malformed(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: no token, or one nobody knows.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send `Authorization: Bearer <token>` with a token that is valid here",
        )
    }

    /// 403: the token's role may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: unknown or hidden.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("no {what} `{id}`"),
        )
        .with("what", what)
        .with("id", id)
    }

    /// 404 that names the known one that was probably meant.
    pub fn not_found_among<'a>(
        what: &str,
        id: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut error = Self::not_found(what, id);
        let Some(meant) = nearest(id, known) else {
            return error;
        };
        error.detail = format!("{}; did you mean `{meant}`?", error.detail);
        error.with("nearest", meant)
    }

    /// 405: the path is known, what is to be done with it is not.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("`{path}` cannot be asked with {method}; the header `Allow` says with what"),
        )
    }

    /// 408: the body came too slowly.
    pub fn too_slow(limit_s: u64) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!("the body did not arrive within {limit_s} seconds; send it again"),
        )
        .with("limit_s", limit_s)
    }

    /// 409: an old fence or epoch.
    pub fn stale(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "stale", detail)
    }

    /// 409: not in a state that allows it.
    pub fn wrong_state(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 409: allowed, but not now; nothing is wrong with whoever asked.
    pub fn not_yet(code: &'static str, detail: impl Into<String>, retry_after_ms: i64) -> Self {
        let mut error = Self::new(StatusCode::CONFLICT, code, detail);
        error.retry_after_s = Some(retry_after_ms.max(0).cast_unsigned().div_ceil(1_000));
        error.with("retry_after_ms", retry_after_ms)
    }

    /// 410: it was here once.
    pub fn gone(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, code, detail)
    }

    /// 410: a run that is kept no longer, with where its archive is.
    fn archived(run: &crate::store::archives::run_archive::Model) -> Self {
        let digest = run.digest.clone().unwrap_or_default();
        let detail = format!(
            "run `{}` ended long ago and is archived; `GET /api/v1/artifacts/{digest}` has it, gzipped",
            run.id
        );
        Self::gone("run_archived", detail)
            .with("archive", digest)
            .with("workflow", run.workflow.clone())
            .with("state", run.state.clone())
    }

    /// 413: larger than the limit.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than {limit_bytes} bytes; send it in smaller pieces"),
        )
        .with("limit_bytes", limit_bytes)
    }

    /// 415: a body of another kind than JSON.
    pub fn not_json() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send `Content-Type: application/json`",
        )
    }

    /// 416: no such bytes.
    pub fn range_not_satisfiable(size_bytes: u64) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range_not_satisfiable",
            format!("the artifact has {size_bytes} bytes"),
        )
        .with("size_bytes", size_bytes)
    }

    /// 422: understood but refused.
    pub fn refused(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 429: more of these than the server keeps.
    pub fn too_many(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
    }

    /// 429: more requests than somebody may send; `policy` is which of the limits.
    pub fn rate_limited(policy: &str, retry_after_ms: u64) -> Self {
        let detail = format!(
            "these are more requests than the limit `{policy}` lets in; wait as long as `Retry-After` says"
        );
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        error.retry_after_s = Some(retry_after_ms.div_ceil(1_000));
        error
            .with("policy", policy)
            .with("retry_after_ms", retry_after_ms)
    }

    /// 503: try again.
    pub fn unavailable(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        error.retry_after_s = Some(retry_after_s);
        error
    }

    /// 507: the disk is full; what was kept before is kept still.
    pub fn no_room(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "there is no room left to keep what was sent");
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "no_room",
            "the server has no room left to keep this; ask again when its disk has some",
        )
    }

    /// 500: our fault; logged here, once, and never shown.
    pub fn internal(error: impl std::fmt::Display + std::fmt::Debug) -> Self {
        tracing::error!(error = ?error, "failed to answer a request: {error:#}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed; its log says why",
        )
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("https://forewright.dev/problems/{}", self.code),
            title: self.code.replace('_', " "),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.into(),
            extra: self.extra,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<sea_orm::DbErr> for ApiError {
    fn from(error: sea_orm::DbErr) -> Self {
        match error {
            sea_orm::DbErr::ConnectionAcquire(e) => {
                tracing::warn!(error = %e, "no database connection was free");
                Self::unavailable("the database is busy", 1)
            }
            other if crate::store::database::is_passing(&other) => {
                tracing::warn!(error = %other, "the database did not do what was asked, for now");
                Self::unavailable("the database did not answer; ask again", 1)
            }
            other if crate::store::database::is_full(&other) => Self::no_room(&other),
            other => Self::internal(other),
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is larger than `server.max_body_bytes`; send it in smaller pieces",
            ),
            _ => Self::malformed("malformed_body", rejection.body_text()),
        }
    }
}

impl From<serde_path_to_error::Error<serde_json::Error>> for ApiError {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        match error.inner().is_data() {
            true => Self::refused(
                "invalid_body",
                format!("the body is not what is wanted here: {error}"),
            ),
            false => Self::malformed("malformed_body", format!("the body is no JSON: {error}")),
        }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed("malformed_path", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed("malformed_query", rejection.body_text())
    }
}

/// Refusals of the store that speak of a state, not of the request.
const WRONG_STATE: [&str; 23] = [
    "approval_closed",
    "build_cancelled",
    "build_not_uncertain",
    "enrolment_claimed",
    "enrolment_pending",
    "enrolment_rejected",
    "heat_group_used",
    "idempotency_key_reused",
    "kill_switch_on",
    "lease_ended",
    "lease_held",
    "no_earlier_revision",
    "not_started",
    "plugin.other-world",
    "plugin.version-taken",
    "plugin_key_known",
    "plugin_state",
    "revision_state",
    "run_ended",
    "run_not_diverged",
    "run_not_restartable",
    "upload_differs",
    "window_state",
];

impl From<crate::store::StoreError> for ApiError {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        match error {
            StoreError::Unknown { what, id } => Self::not_found(what, &id),
            StoreError::Archived(run) => Self::archived(&run),
            StoreError::Stale { .. } => Self::stale(error.to_string()),
            StoreError::Refused { code, message } if WRONG_STATE.contains(&code) => {
                Self::wrong_state(code, message)
            }
            StoreError::Refused { code, message } if code.starts_with("too_many_") => {
                Self::too_many(code, message)
            }
            StoreError::Refused { code, message } => Self::refused(code, message),
            StoreError::NotYet {
                code,
                message,
                retry_after_ms,
            } => Self::not_yet(code, message, retry_after_ms),
            StoreError::PlateUnknown {
                ref build, fence, ..
            } => Self::wrong_state("plate_unknown", error.to_string())
                .with("build", build.clone())
                .with("fence", fence),
            StoreError::Database(error) => error.into(),
            other => Self::internal(anyhow::Error::from(other)),
        }
    }
}

impl From<crate::artifacts::ArtifactError> for ApiError {
    fn from(error: crate::artifacts::ArtifactError) -> Self {
        use crate::artifacts::ArtifactError;
        match error {
            ArtifactError::NotADigest(_) => Self::malformed("not_a_digest", error.to_string()),
            ArtifactError::Mismatch { .. } => Self::refused("digest_mismatch", error.to_string()),
            ArtifactError::Missing(digest) => Self::not_found("artifact", &digest),
            ArtifactError::Store(_) if is_full(&error) => Self::no_room(&error),
            ArtifactError::Store(_) => Self::internal(anyhow::Error::from(error)),
        }
    }
}

/// Whether somewhere at its root a disk was full, or a quota used up.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, ErrorKind};

    use axum::http::StatusCode;

    use super::ApiError;
    use crate::artifacts::ArtifactError;

    #[test]
    fn a_full_disk_is_told_as_what_it_is() {
        let kept = |kind| {
            let source = object_store::Error::Generic {
                store: "LocalFileSystem",
                source: Box::new(IoError::from(kind)),
            };
            ApiError::from(ArtifactError::Store(source)).status
        };
        assert_eq!(
            kept(ErrorKind::StorageFull),
            StatusCode::INSUFFICIENT_STORAGE
        );
        assert_eq!(
            kept(ErrorKind::QuotaExceeded),
            StatusCode::INSUFFICIENT_STORAGE
        );
        assert_eq!(
            kept(ErrorKind::PermissionDenied),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
}
