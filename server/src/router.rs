//! The one list of routes.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Extensions, HeaderMap, Method, StatusCode, Uri, Version, header};
use axum::middleware::{self, Next};
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
    actions, approvals, artifacts, assets, builds, cells, dead_letters, decisions, designs,
    enrolments, events, fleet, flips, health, leases, localities, migrate, models, outcomes, parts,
    plugin_calls, plugin_differences, plugin_keys, plugins, policies, predictions, queues, replays,
    restarts, retention, rules, run_archives, runs, technicians, telemetry, tokens, triggers, twin,
    uploads, webhook_deliveries, why, windows, work_orders, workflows,
};
use crate::app::App;
use crate::error::ApiError;
use crate::links::with_links;
use crate::{dashboard, openapi, rate};

/// Everything the server answers.
pub fn router(app: App) -> Router {
    let (api, document) = routes().split_for_parts();
    let document = with_links(openapi::with_refusals(document));
    let docs = SwaggerUi::new("/docs").url("/openapi.json", document);
    api.layer(DefaultBodyLimit::max(app.config.server.max_body_bytes))
        .method_not_allowed_fallback(not_this_way)
        .fallback(page)
        .merge(docs)
        .layer(middleware::from_fn_with_state(PATIENCE, in_time))
        .layer(middleware::from_fn_with_state(app.clone(), rate::limit))
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

/// How long a handler may take to begin its answer; streams begin at once and last as long as they like.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gives up on a handler that hangs, so that whoever asked learns of it and its connection is free again.
async fn in_time(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    if takes_its_time(request.uri().path()) {
        return next.run(request).await;
    }
    match tokio::time::timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("the answer took too long; ask again", 1).into_response(),
    }
}

/// Long polls and uploads wait for somebody else; ticks, trainings and migrations compute as
/// long as the fleet is large.
fn takes_its_time(path: &str) -> bool {
    path.ends_with("/leases")
        || path.starts_with("/api/v1/artifacts/")
        || path == "/api/v1/fleet/ticks"
        || path == "/api/v1/models"
        || path == "/api/v1/plugins"
        || path.ends_with("/migrate")
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
    with_links(openapi::with_refusals(routes().into_openapi()))
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::get_health))
        .merge(twin_routes())
        .merge(telemetry_routes())
        .merge(script_routes())
        .merge(plugin_routes())
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
        .routes(routes!(fleet::get_kill_switch, fleet::put_kill_switch))
}

fn script_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(policies::list_policies, policies::put_policy))
        .routes(routes!(policies::get_policy))
        .routes(routes!(policies::get_definitions))
        .routes(routes!(policies::check_policy))
        .merge(revision_routes())
        .routes(routes!(decisions::list_decisions))
        .routes(routes!(decisions::get_decision))
        .routes(routes!(workflows::list_workflows, workflows::put_workflow))
        .routes(routes!(workflows::get_workflow))
        .routes(routes!(workflows::get_workflow_definitions))
        .routes(routes!(workflows::check_workflow))
        .routes(routes!(queues::list_queues))
        .routes(routes!(retention::get_retention))
        .routes(routes!(run_archives::list_run_archives))
        .routes(routes!(runs::list_runs, runs::create_run))
        .routes(routes!(runs::get_run))
        .routes(routes!(runs::get_journal))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(why::get_why))
        .routes(routes!(restarts::pin_run))
        .routes(routes!(restarts::restart_run))
        .routes(routes!(migrate::migrate_workflow))
        .routes(routes!(dead_letters::list_dead_letters))
        .routes(routes!(dead_letters::redrive_dead_letter))
        .routes(routes!(triggers::list_triggers))
        .routes(routes!(
            triggers::get_trigger,
            triggers::put_trigger,
            triggers::delete_trigger
        ))
        .routes(routes!(triggers::list_ticks))
        .routes(routes!(events::list_events, events::create_event))
        .routes(routes!(events::stream_events))
        .routes(routes!(artifacts::list_artifacts))
        .routes(routes!(artifacts::get_provenance))
        .routes(routes!(uploads::create_upload))
        .routes(routes!(uploads::finish_upload))
        .merge(
            // Uploads have a limit of their own.
            OpenApiRouter::new()
                .routes(routes!(artifacts::get_artifact, artifacts::put_artifact))
                .routes(routes!(
                    uploads::get_upload,
                    uploads::append_upload,
                    uploads::delete_upload
                ))
                .layer(DefaultBodyLimit::disable()),
        )
}

fn revision_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(policies::list_policy_revisions))
        .routes(routes!(policies::get_policy_revision))
        .routes(routes!(policies::activate_policy_revision))
        .routes(routes!(policies::shadow_policy_revision))
        .routes(routes!(policies::canary_policy_revision))
        .routes(routes!(policies::retire_policy_revision))
        .routes(routes!(policies::roll_back_policy))
        .routes(routes!(policies::get_dry_run, policies::put_dry_run))
        .routes(routes!(flips::get_flips))
        .routes(routes!(replays::replay_policy))
        .routes(routes!(decisions::explain_decision))
        .routes(routes!(workflows::list_workflow_revisions))
        .routes(routes!(workflows::get_workflow_revision))
        .routes(routes!(workflows::activate_workflow_revision))
        .routes(routes!(workflows::retire_workflow_revision))
        .routes(routes!(workflows::roll_back_workflow))
}

fn plugin_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(
            // A plugin's file has a limit of its own.
            OpenApiRouter::new()
                .routes(routes!(plugins::list_plugins, plugins::upload_plugin))
                .layer(DefaultBodyLimit::disable()),
        )
        .routes(routes!(plugins::get_plugin_version))
        .routes(routes!(plugins::promote_plugin))
        .routes(routes!(plugins::canary_plugin))
        .routes(routes!(plugins::demote_plugin))
        .routes(routes!(plugins::retire_plugin))
        .routes(routes!(
            plugins::get_plugin_settings,
            plugins::put_plugin_settings
        ))
        .routes(routes!(plugin_differences::get_plugin_differences))
        .routes(routes!(plugin_calls::list_plugin_calls))
        .routes(routes!(plugin_calls::get_plugin_call))
        .routes(routes!(plugin_calls::get_plugin_recording))
        .routes(routes!(plugin_keys::list_plugin_keys))
        .routes(routes!(
            plugin_keys::put_plugin_key,
            plugin_keys::delete_plugin_key
        ))
}

fn cell_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(
            enrolments::list_enrolments,
            enrolments::create_enrolment
        ))
        .routes(routes!(enrolments::approve_enrolment))
        .routes(routes!(enrolments::reject_enrolment))
        .routes(routes!(enrolments::claim_cell_token))
        .routes(routes!(cells::list_cells))
        .routes(routes!(cells::get_cell))
        .routes(routes!(cells::rotate_cell_token, cells::revoke_cell_token))
        .routes(routes!(cells::open_epoch))
        .routes(routes!(rules::get_cell_rules, rules::put_cell_rules))
        .routes(routes!(rules::list_heat_groups))
        .routes(routes!(
            rules::get_heat_group,
            rules::put_heat_group,
            rules::delete_heat_group
        ))
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
    use crate::app::MAX_UPLOADS;
    use crate::auth::Role;
    use crate::store::audit;
    use crate::store::cells::MAX_PENDING;
    use crate::store::database::all;
    use crate::testing::TestServer;
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::{get, post};
    use serde_json::json;
    use tower::ServiceExt;

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

    #[tokio::test]
    async fn enrolments_of_anybody_are_small_and_few() {
        let server = TestServer::with(&[]).await;
        let path = "/api/v1/enrolments";
        let long = format!(
            r#"{{"name":"c1","machine":{{"is":"{}"}}}}"#,
            "x".repeat(17_000)
        );
        let refused = server.ask("POST", path, "", &long).await;
        assert_eq!(refused.problem(413), "too_large");
        assert_eq!(refused.json()["limit_bytes"], 16 * 1024);
        for n in 0..MAX_PENDING {
            let asked = server
                .ask("POST", path, "", &format!(r#"{{"name":"c{n}"}}"#))
                .await;
            assert_eq!(asked.status, 201, "{:?}", asked.body);
        }
        let more = || server.ask("POST", path, "", r#"{"name":"late"}"#);
        assert_eq!(more().await.problem(429), "too_many_enrolments");
        // A day later nobody has looked at them, and they make room.
        server.app.clock.advance(25 * 3_600_000);
        assert_eq!(more().await.status, 201);
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_given_up_unless_it_was_asked_to_wait() {
        let slow = || async { tokio::time::sleep(Duration::from_millis(100)).await };
        let patience = Duration::from_millis(10);
        let router: Router = Router::new()
            .route("/api/v1/assets", get(slow))
            .route("/api/v1/cells/c1/leases", post(slow))
            .layer(middleware::from_fn_with_state(patience, in_time));
        let hangs = Request::get("/api/v1/assets").body(Body::empty());
        let hangs = router.clone().oneshot(hangs.expect("a request")).await;
        let hangs = hangs.expect("infallible");
        assert_eq!(hangs.status(), 503);
        assert_eq!(hangs.headers()[header::RETRY_AFTER], "1");
        let waits = Request::post("/api/v1/cells/c1/leases").body(Body::empty());
        let waits = router.oneshot(waits.expect("a request")).await;
        assert_eq!(waits.expect("infallible").status(), 200);
    }

    #[tokio::test]
    async fn uploads_wait_for_their_turn() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Operator, "olga").await;
        let turns = server.app.uploads.acquire_many(MAX_UPLOADS as u32).await;
        let path = format!("/api/v1/artifacts/{}", crate::artifacts::digest(b"x"));
        let mut upload = Box::pin(server.ask("PUT", &path, &token, "x"));
        let soon = tokio::time::timeout(Duration::from_millis(200), &mut upload).await;
        assert!(soon.is_err(), "no turn is free");
        drop(turns);
        assert_eq!(upload.await.status, 201);
    }

    #[tokio::test]
    async fn who_changes_what_others_rely_on_is_recorded() {
        let server = TestServer::with(&[]).await;
        let token = server.token(Role::Operator, "olga").await;
        let brief = include_str!("../../workflows/demo/part.toml");
        let part = json!({ "name": "Bracket", "brief": brief }).to_string();
        let policy = r#"fn decide(facts) { #{ action: "monitor", reason: "r" } }"#;
        let policy = json!({ "name": "p", "source": policy }).to_string();
        for (method, path, body) in [
            (
                "PUT",
                "/localities/hall",
                r#"{"name":"Hall","x":0,"y":0,"width":1,"height":1}"#,
            ),
            (
                "PUT",
                "/assets/a1",
                r#"{"kind":"fan","name":"Fan","locality":"hall"}"#,
            ),
            ("PUT", "/parts/p1", &part),
            (
                "PUT",
                "/technicians/t1",
                r#"{"name":"Tom","time_zone":"Europe/Berlin","shifts":[]}"#,
            ),
            ("POST", "/policies", &policy),
            (
                "POST",
                "/workflows",
                r#"{"name":"w","source":"fn run(event) { 1 }"}"#,
            ),
            ("POST", "/tokens", r#"{"role":"agent","name":"a"}"#),
        ] {
            let answer = server
                .ask(method, &format!("/api/v1{path}"), &token, body)
                .await;
            assert!(answer.status.is_success(), "{path}: {:?}", answer.body);
        }
        let listed = server.ask("GET", "/api/v1/tokens", &token, "").await.json();
        let issued = listed["tokens"].as_array().expect("tokens");
        let issued = issued
            .iter()
            .find(|t| t["name"] == "a")
            .expect("the agent's");
        let path = format!("/api/v1/tokens/{}", issued["id"].as_str().expect("an id"));
        assert_eq!(server.ask("DELETE", &path, &token, "").await.status, 204);

        let db = &server.app.db.read;
        let rows: Vec<audit::audit::Model> = all(db, "SELECT * FROM audit ORDER BY seq", vec![])
            .await
            .expect("the chain");
        let by_olga = rows.iter().filter(|row| row.actor == "olga");
        let verbs: Vec<&str> = by_olga.map(|row| row.verb.as_str()).collect();
        assert_eq!(
            verbs,
            [
                "put_locality",
                "put_asset",
                "put_part",
                "put_technician",
                "activate_policy",
                "activate_workflow",
                "issue_token",
                "revoke_token",
            ]
        );
        assert_eq!(audit::first_broken(db).await.expect("the chain"), None);
    }
}
