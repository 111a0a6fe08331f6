//! axum's extractors with our errors: what cannot be read is answered as `problem+json`.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::json;

/// A JSON body, read as [`json`] does.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::not_json());
        }
        let bytes = Bytes::from_request(request, state).await?;
        Ok(Self(json::from_slice(&bytes)?))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE);
    let media = media.and_then(|value| value.to_str().ok());
    let essence = media.and_then(|media| media.split(';').next());
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A JSON body of at most `LIMIT` bytes, for what needs no token: nobody's memory is for everybody to fill.
#[derive(Debug)]
pub struct SmallJson<const LIMIT: usize, T>(pub T);

impl<const LIMIT: usize, T, S> FromRequest<S> for SmallJson<LIMIT, T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = axum::body::to_bytes(body, LIMIT)
            .await
            .map_err(|_| ApiError::too_large(LIMIT))?;
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(value) = Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// Parts of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// The query string.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);
