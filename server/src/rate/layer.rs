//! The layer that counts requests: one that is over the limit is answered 429 before anything is done for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::callers::Standing;
use crate::app::App;
use crate::auth;
use crate::error::ApiError;

/// Told by whoever finds out that the sender of a request is known.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<AtomicBool>);

impl Known {
    /// The sender is known.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a request of the API; a long poll and a stream are one each. Health is for whoever watches, and pages are files.
pub async fn limit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !path.starts_with("/api/") || path == "/api/v1/health" {
        return next.run(request).await;
    }
    let callers = &app.callers;
    let address = callers.of_address(address(&request, callers.forwarded_for));
    let caller = match auth::bearer(request.headers()) {
        Some(token) => callers.of_token(token),
        None => address,
    };
    let admitted = match callers.admit(caller, address, callers.now_ms()) {
        Ok(admitted) => admitted,
        Err(refused) => return refusal(refused),
    };
    let known = Known::default();
    request.extensions_mut().insert(known.clone());
    let mut response = next.run(request).await;
    if admitted.is_some() && response.status() == StatusCode::UNAUTHORIZED {
        callers.forget(caller);
    }
    let standing = match admitted {
        Some(standing) => Some(standing),
        None if known.is_told() => callers.welcome(caller, callers.now_ms()),
        None => callers.charge(address, callers.now_ms()),
    };
    if let Some(standing) = standing {
        tell(response.headers_mut(), standing);
    }
    response
}

/// Where a request comes from; behind a proxy, what that proxy says, which is the last it has added.
fn address(request: &Request, forwarded_for: bool) -> IpAddr {
    let forwarded = request
        .headers()
        .get_all("x-forwarded-for")
        .iter()
        .next_back();
    let forwarded = forwarded
        .filter(|_| forwarded_for)
        .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    forwarded
        .or_else(|| peer.map(|peer| peer.0.ip()))
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn refusal(standing: Standing) -> Response {
    let wait_ms = standing.refused_for_ms.unwrap_or_default();
    let mut response = ApiError::rate_limited(standing.name, wait_ms).into_response();
    tell(response.headers_mut(), standing);
    response
}

/// The fields of `draft-ietf-httpapi-ratelimit-headers`: how much there is in which time, and how much of it is left.
fn tell(headers: &mut HeaderMap, standing: Standing) {
    let Standing {
        name,
        policy,
        left,
        full_in_s,
        ..
    } = standing;
    let (quota, window) = (policy.burst, policy.fills_in_s());
    for (field, value) in [
        (
            "ratelimit-policy",
            format!("\"{name}\";q={quota};w={window}"),
        ),
        ("ratelimit", format!("\"{name}\";r={left};t={full_in_s}")),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(header::HeaderName::from_static(field), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use crate::auth::Role;
    use crate::testing::{Answered, TestServer};

    use super::*;

    fn field<'a>(answer: &'a Answered, name: &str) -> &'a str {
        let value = answer.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default()
    }

    #[tokio::test]
    async fn a_token_over_its_limit_is_told_when_to_come_again_and_others_go_on() {
        let settings = [
            ("FOREWRIGHT_RATE_PER_S", "1"),
            ("FOREWRIGHT_RATE_BURST", "600"),
        ];
        let server = TestServer::with(&settings).await;
        let ada = server.token(Role::Engineer, "ada").await;
        let bob = server.token(Role::Engineer, "bob").await;
        let first = server.ask("GET", "/api/v1/events", &ada, "").await;
        assert_eq!(field(&first, "ratelimit-policy"), "\"token\";q=600;w=600");
        assert_eq!(field(&first, "ratelimit"), "\"token\";r=599;t=1");
        let mut refused = None;
        for _ in 0..900 {
            let answer = server.ask("GET", "/api/v1/nothing", &ada, "").await;
            if answer.status == 429 {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("no more than 600 and what comes back");
        assert_eq!(refused.problem(429), "rate_limited");
        assert_eq!(field(&refused, "retry-after"), "1");
        assert!(field(&refused, "ratelimit").starts_with("\"token\";r=0;"));
        assert!(
            refused.json()["retry_after_ms"]
                .as_u64()
                .is_some_and(|ms| ms <= 1_000)
        );
        assert_eq!(
            server.ask("GET", "/api/v1/events", &bob, "").await.status,
            200
        );
        for path in ["/api/v1/health", "/", "/openapi.json"] {
            let open = server.ask("GET", path, &ada, "").await;
            assert_eq!(open.status, 200, "{path}");
        }
    }

    #[tokio::test]
    async fn guesses_share_the_bucket_of_their_address_and_harm_nobody_who_is_known() {
        let settings = [
            ("FOREWRIGHT_RATE_ANONYMOUS_PER_S", "1"),
            ("FOREWRIGHT_RATE_ANONYMOUS_BURST", "5"),
            ("FOREWRIGHT_RATE_FORWARDED_FOR", "true"),
        ];
        let server = TestServer::with(&settings).await;
        let ada = server.token(Role::Engineer, "ada").await;
        let ask = async |token: &str, from: &str| {
            let request = Request::get("/api/v1/events")
                .header("x-forwarded-for", from)
                .header("authorization", format!("Bearer {token}"))
                .body(Body::empty());
            server.send(request.expect("a request")).await
        };
        assert_eq!(ask(&ada, "1.1.1.1").await.status, 200);
        let mut answers = Vec::new();
        for n in 0..40 {
            // What the guesser writes stands before what the proxy adds.
            let from = format!("9.9.9.{n}, 1.1.1.1");
            answers.push(ask(&format!("fw_{n}"), &from).await.status.as_u16());
        }
        assert!(
            answers[..5].iter().all(|&status| status == 401),
            "{answers:?}"
        );
        assert!(answers.contains(&429), "{answers:?}");
        assert_eq!(ask(&ada, "1.1.1.1").await.status, 200, "it is known");
        assert_eq!(ask("fw_x", "2.2.2.2").await.status, 401, "elsewhere");
    }

    #[tokio::test]
    async fn a_revoked_token_is_a_guess_again() {
        let server = TestServer::with(&[]).await;
        let olga = server.token(Role::Operator, "olga").await;
        let ada = server.token(Role::Engineer, "ada").await;
        let ask = async || server.ask("GET", "/api/v1/events", &ada, "").await;
        assert!(field(&ask().await, "ratelimit").starts_with("\"token\""));
        let listed = server.ask("GET", "/api/v1/tokens", &olga, "").await.json();
        let tokens = listed["tokens"].as_array().expect("tokens").iter();
        let found = tokens
            .clone()
            .find(|token| token["name"] == "ada")
            .expect("ada's");
        let path = format!("/api/v1/tokens/{}", found["id"].as_str().expect("an id"));
        assert_eq!(server.ask("DELETE", &path, &olga, "").await.status, 204);
        assert_eq!(ask().await.problem(401), "unauthorized");
        assert!(field(&ask().await, "ratelimit").starts_with("\"anonymous\""));
    }
}
