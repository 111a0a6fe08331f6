//! A client that knows nothing of the server but its published API.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// Speaks to one server with one token.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub bytes: Vec<u8>,
    asked: String,
}

impl Client {
    /// A client without a token.
    ///
    /// # Panics
    ///
    /// When this machine has no randomness to speak TLS with.
    #[must_use]
    pub fn new(base: &str) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let http = reqwest::Client::builder().timeout(Duration::from_secs(90));
        Self {
            http: http.build().expect("a client can be made"),
            base: base.to_owned(),
            token: None,
        }
    }

    /// The same server, with a token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    /// The same token, through another address.
    #[must_use]
    pub fn through(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request below `/api/v1`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}/api/v1{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The bytes of a `POST` of JSON as they go over the wire, on a connection that ends with the answer.
    #[must_use]
    pub fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Vec<u8> {
        let body = body.to_string();
        let mut head = format!(
            "POST /api/v1{path} HTTP/1.1\r\nhost: forewright\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n" + &body).into_bytes()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    ///
    /// When nobody answers.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer from {}: {error:?}", self.base),
        }
    }

    /// Sends a request to a server that may not be there.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        Ok(Answer {
            asked: response.url().path().to_owned(),
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            bytes: response.bytes().await?.to_vec(),
        })
    }

    /// Sends a request and leaves the body to be read as it comes.
    ///
    /// # Panics
    ///
    /// When nobody answers.
    pub async fn open(&self, request: RequestBuilder) -> Response {
        request.send().await.expect("the server answers")
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PUT` of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// `PUT` of bytes.
    pub async fn put_bytes(&self, path: &str, bytes: &[u8]) -> Answer {
        let request = self.request(Method::PUT, path).body(bytes.to_vec());
        self.send(request).await
    }
}

impl Answer {
    /// The body as JSON, `null` if there is none.
    ///
    /// # Panics
    ///
    /// When it is something else.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        if self.bytes.is_empty() {
            return Value::Null;
        }
        match serde_json::from_slice(&self.bytes) {
            Ok(value) => value,
            Err(error) => panic!(
                "{} did not answer JSON: {error}: {}",
                self.asked,
                self.text()
            ),
        }
    }

    /// The body as text, as well as it goes.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A header's value; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default()
    }

    /// The body of an answer that must have this status.
    ///
    /// # Panics
    ///
    /// When it has another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        self.json()
    }

    /// The body of a success.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(
            (200..300).contains(&self.status),
            "{} answered {}: {}",
            self.asked,
            self.status,
            self.text()
        );
        self.json()
    }

    /// The `problem+json` of a refusal, complete and of this kind.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        let kind = problem["type"].as_str().unwrap_or_default();
        assert!(kind.ends_with(&format!("/{code}")), "{problem}");
        for said in ["title", "detail"] {
            let text = problem[said].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "no `{said}`: {problem}");
        }
        problem
    }
}
