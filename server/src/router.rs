//! The one list of routes.

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, Uri, Version, header};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::trace::TraceLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::api::{
    actions, approvals, artifacts, assets, builds, cells, decisions, designs, enrolments, events,
    fleet, health, leases, localities, models, outcomes, parts, policies, predictions, runs,
    technicians, telemetry, tokens, twin, webhook_deliveries, windows, work_orders, workflows,
};
use crate::app::App;
use crate::error::ApiError;
use crate::{dashboard, openapi};

/// Everything the server answers.
pub fn router(app: App) -> Router {
    let (api, document) = routes().split_for_parts();
    let document = openapi::with_refusals(document);
    let docs = SwaggerUi::new("/docs").url("/openapi.json", document);
    api.layer(DefaultBodyLimit::max(app.config.server.max_body_bytes))
        .method_not_allowed_fallback(not_this_way)
        .fallback(page)
        .merge(docs)
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(is_whole)))
        .layer(CatchPanicLayer::custom(
            |panic: Box<dyn std::any::Any + Send>| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                let error = anyhow::anyhow!(text.unwrap_or_else(|| "a handler panicked".into()));
                ApiError::internal(error).into_response()
            },
        ))
        .layer(TraceLayer::new_for_http().on_failure(()).on_response(
            |response: &Response, latency: Duration, _: &tracing::Span| {
                tracing::debug!(
                    status = response.status().as_u16(),
                    duration_ms = latency.as_secs_f64() * 1e3,
                    "answered"
                );
            },
        ))
        .with_state(app)
}

/// Pages are the dashboard's. A path of the API that no route has is a mistake, which a page would hide.
async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if path == "/api" || path.starts_with("/api/") {
        return ApiError::not_found("path", path).into_response();
    }
    if method == Method::GET || method == Method::HEAD {
        return dashboard::serve(uri, headers).await;
    }
    let refused = ApiError::method_not_allowed(method.as_str(), path);
    ([(header::ALLOW, "GET,HEAD")], refused).into_response()
}

async fn not_this_way(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(method.as_str(), uri.path())
}

/// Whether an answer is never asked for in parts. The parts and the digest of one that is speak of its plain bytes: a
/// client cut off within compressed ones would join what does not fit.
fn is_whole(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    !headers.contains_key(header::ACCEPT_RANGES)
}

/// The document behind `openapi/v1.json`.
pub fn document() -> OpenApi {
    openapi::with_refusals(routes().into_openapi())
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::get_health))
        .merge(twin_routes())
        .merge(telemetry_routes())
        .merge(script_routes())
        .merge(cell_routes())
        .merge(maintenance_routes())
}

fn twin_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(twin::get_twin))
        .routes(routes!(twin::get_heatmap))
        .routes(routes!(twin::get_heatmap_png))
        .routes(routes!(localities::list_localities))
        .routes(routes!(localities::get_locality, localities::put_locality))
        .routes(routes!(assets::list_assets))
        .routes(routes!(assets::get_asset, assets::put_asset))
        .routes(routes!(predictions::get_prediction))
        .routes(routes!(parts::list_parts))
        .routes(routes!(parts::get_part, parts::put_part))
        .routes(routes!(designs::list_designs))
        .routes(routes!(designs::get_design))
}

fn telemetry_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(telemetry::write_samples))
        .routes(routes!(telemetry::remote_write))
        .routes(routes!(telemetry::list_series))
        .routes(routes!(telemetry::get_range))
        .routes(routes!(models::list_models, models::train_model))
        .routes(routes!(models::get_model))
        .routes(routes!(predictions::list_predictions))
        .routes(routes!(outcomes::list_outcomes, outcomes::create_outcome))
        .routes(routes!(fleet::tick))
}

fn script_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(policies::list_policies, policies::put_policy))
        .routes(routes!(policies::get_policy))
        .routes(routes!(policies::get_definitions))
        .routes(routes!(policies::check_policy))
        .routes(routes!(decisions::list_decisions))
        .routes(routes!(decisions::get_decision))
        .routes(routes!(workflows::list_workflows, workflows::put_workflow))
        .routes(routes!(workflows::get_workflow))
        .routes(routes!(workflows::check_workflow))
        .routes(routes!(runs::list_runs, runs::create_run))
        .routes(routes!(runs::get_run))
        .routes(routes!(runs::get_journal))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(events::list_events, events::create_event))
        .routes(routes!(events::stream_events))
        .routes(routes!(artifacts::list_artifacts))
        .routes(routes!(artifacts::get_provenance))
        .merge(
            // Uploads have a limit of their own.
            OpenApiRouter::new()
                .routes(routes!(artifacts::get_artifact, artifacts::put_artifact))
                .layer(DefaultBodyLimit::disable()),
        )
}

fn cell_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(
            enrolments::list_enrolments,
            enrolments::create_enrolment
        ))
        .routes(routes!(enrolments::approve_enrolment))
        .routes(routes!(enrolments::claim_cell_token))
        .routes(routes!(cells::list_cells))
        .routes(routes!(cells::get_cell))
        .routes(routes!(cells::open_epoch))
        .routes(routes!(cells::acquire_lease))
        .routes(routes!(leases::renew_lease))
        .routes(routes!(leases::stage_build))
        .routes(routes!(leases::start_build))
        .routes(routes!(leases::complete_build))
        .routes(routes!(leases::fail_build))
        .routes(routes!(builds::list_builds))
        .routes(routes!(builds::get_build))
        .routes(routes!(builds::resolve_build))
}

fn maintenance_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(technicians::list_technicians))
        .routes(routes!(
            technicians::get_technician,
            technicians::put_technician
        ))
        .routes(routes!(approvals::list_approvals))
        .routes(routes!(approvals::answer_approval))
        .routes(routes!(windows::list_windows))
        .routes(routes!(windows::get_window))
        .routes(routes!(windows::accept_window))
        .routes(routes!(windows::reject_window))
        .routes(routes!(work_orders::list_work_orders))
        .routes(routes!(work_orders::get_work_order))
        .routes(routes!(actions::list_actions))
        .routes(routes!(webhook_deliveries::list_webhook_deliveries))
        .routes(routes!(tokens::list_tokens, tokens::create_token))
        .routes(routes!(tokens::revoke_token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;
    use crate::testing::TestServer;
    use axum::body::Body;
    use axum::http::Request;

    #[tokio::test]
    async fn artifact_bytes_are_the_same_whole_and_in_parts() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Operator, "olga").await;
        let bytes = "G1 X10 Y10 E1.5\n".repeat(1_000);
        let digest = crate::artifacts::digest(bytes.as_bytes());
        let path = format!("/api/v1/artifacts/{digest}");
        let put = Request::put(&path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "text/x-gcode")
            .body(Body::from(bytes.clone()));
        assert_eq!(server.send(put.expect("a request")).await.status, 201);
        let get = || {
            Request::get(&path)
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::ACCEPT_ENCODING, "gzip")
        };
        let whole = server
            .send(get().body(Body::empty()).expect("a request"))
            .await;
        assert!(!whole.headers.contains_key(header::CONTENT_ENCODING));
        assert_eq!(whole.body, bytes);
        let rest = get()
            .header(header::RANGE, "bytes=100-")
            .header(header::IF_RANGE, &whole.headers[header::ETAG])
            .body(Body::empty());
        let rest = server.send(rest.expect("a request")).await;
        assert_eq!(rest.status, 206);
        assert_eq!(rest.body, bytes[100..]);
        let document = Request::get("/openapi.json").header(header::ACCEPT_ENCODING, "gzip");
        let document = server
            .send(document.body(Body::empty()).expect("a request"))
            .await;
        assert_eq!(document.headers[header::CONTENT_ENCODING], "gzip");
    }

    #[tokio::test]
    async fn a_misspelt_path_is_no_page_and_a_wrong_method_says_which_is_right() {
        let server = TestServer::with(&[]).await;
        for method in ["GET", "POST"] {
            let misspelt = server.ask(method, "/api/v1/assest", "", "").await;
            assert_eq!(misspelt.problem(404), "not_found");
            assert_eq!(misspelt.json()["id"], "/api/v1/assest");
        }
        for (path, allowed) in [
            ("/api/v1/assets", "GET,HEAD"),
            ("/api/v1/artifacts/sha256:0", "GET,HEAD,PUT"),
            ("/fleet/a1", "GET,HEAD"),
        ] {
            let wrong = server.ask("DELETE", path, "", "").await;
            assert_eq!(wrong.problem(405), "method_not_allowed");
            assert_eq!(wrong.headers[header::ALLOW], allowed);
        }
        let page = server.ask("GET", "/fleet/a1", "", "").await;
        assert_eq!(page.status, 200);
        let media = page.headers[header::CONTENT_TYPE].to_str();
        assert!(media.expect("text").starts_with("text/html"));
    }
}
