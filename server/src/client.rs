//! A small client of our own REST API, for the commands that speak to a server like any stranger.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Speaks to one server with one token.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Why a call did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, and said why.
    #[error("{status}: {detail}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Stable code of the problem.
        code: String,
        /// What the server says of it.
        detail: String,
        /// When to ask again, where the server has the caller wait its turn.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error("failed to reach {url}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is not what it should be.
    #[error("the answer of {url} cannot be read")]
    Unreadable {
        /// What was asked.
        url: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Whether the same call may work later: nobody answered, or the server asked for patience.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Unreachable { .. } => true,
            Self::Unreadable { .. } => false,
        }
    }

    /// When to ask again what is allowed, but not now.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The stable code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl Client {
    /// A client of the server at `base`, e.g. `http://127.0.0.1:8600`.
    pub fn new(base: &str, token: Option<String>) -> anyhow::Result<Self> {
        // Longer than the longest long poll a server grants.
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(90))
            .build()?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// The same server, with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    /// `GET`, answered as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON, answered as JSON (`null` where there is no body).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` of JSON under an idempotency key.
    pub async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        let request = self
            .request(Method::POST, path)
            .header("idempotency-key", key);
        self.json(request.json(body)).await
    }

    /// `PUT` of JSON, answered as JSON.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// `PUT` of bytes.
    pub async fn put_bytes(
        &self,
        path: &str,
        media: &str,
        bytes: Vec<u8>,
    ) -> Result<(), ClientError> {
        let request = self
            .request(Method::PUT, path)
            .header("content-type", media)
            .body(bytes);
        self.bytes(request).await.map(drop)
    }

    /// `GET` of bytes.
    pub async fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        self.bytes(self.request(Method::GET, path)).await
    }

    /// A request to be sent with [`Self::json`] or [`Self::bytes`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and reads JSON.
    pub async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let (url, bytes) = self.send(request).await?;
        let bytes = if bytes.is_empty() {
            b"null".to_vec()
        } else {
            bytes
        };
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Unreadable { url, source })
    }

    /// Sends a request and reads bytes.
    pub async fn bytes(&self, request: RequestBuilder) -> Result<Vec<u8>, ClientError> {
        self.send(request).await.map(|(_, bytes)| bytes)
    }

    /// Sends a request and leaves the body of a success to be read as it comes.
    pub async fn open(&self, request: RequestBuilder) -> Result<reqwest::Response, ClientError> {
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|e| self.unreachable(e))?;
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        Err(ClientError::Refused {
            status,
            code: text("code"),
            detail: text("detail"),
            retry_after: problem["retry_after_ms"]
                .as_u64()
                .map(Duration::from_millis),
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<(String, Vec<u8>), ClientError> {
        let response = self.open(request).await?;
        let url = response.url().to_string();
        let bytes = response.bytes().await.map_err(|e| self.unreachable(e))?;
        Ok((url, bytes.to_vec()))
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable {
            url: source
                .url()
                .map_or_else(|| self.base.clone(), ToString::to_string),
            source,
        }
    }
}
