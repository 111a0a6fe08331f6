//! The document behind `openapi/v1.json`: what the routes say, plus what is true of all of them.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, path::Operation};
use utoipa::{Modify, OpenApi as _};

use crate::error::Problem;

/// What the document says before any route is added.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Forewright",
        version = "1",
        description = "Foresees failing hardware and makes the replacement.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    security(("token" = [])),
    modifiers(&BearerToken)
)]
struct Base;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document without routes.
pub fn base() -> OpenApi {
    Base::openapi()
}

/// Adds the refusals every operation may answer with, so that no handler has to list them.
pub fn with_refusals(mut openapi: OpenApi) -> OpenApi {
    for (path, item) in &mut openapi.paths.paths {
        let may_be_archived = ["/api/v1/runs", "/api/v1/dead_letters/"]
            .iter()
            .any(|about_runs| path.starts_with(about_runs));
        let operations = [
            (&mut item.get, false),
            (&mut item.head, false),
            (&mut item.put, true),
            (&mut item.post, true),
            (&mut item.patch, true),
            (&mut item.delete, false),
        ];
        for (operation, writes) in operations {
            if let Some(operation) = operation {
                describe_refusals(operation, writes, may_be_archived);
            }
        }
    }
    openapi
}

const TOO_MANY: &str =
    "More requests than the limit; `Retry-After` says when, `RateLimit` how many are left.";

fn describe_refusals(operation: &mut Operation, writes: bool, may_be_archived: bool) {
    let guarded = operation.security.as_ref().is_none_or(|s| !s.is_empty());
    let mut refusals = vec![("400", "It cannot be read; `detail` says where and why.")];
    if guarded {
        refusals.push(("401", "No valid token."));
        refusals.push(("403", "The token's role may not do this."));
    }
    if operation.parameters.as_ref().is_some_and(|p| !p.is_empty()) {
        refusals.push(("404", "Unknown or hidden."));
    }
    if writes {
        refusals.push(("409", "An old fence, or a state that does not allow it."));
        refusals.push(("413", "The body is too large."));
    }
    if may_be_archived {
        refusals.push(("410", "The run is archived; `archive` is the digest."));
    }
    if operation.request_body.is_some() {
        refusals.push(("415", "The body's media type is not understood."));
    }
    refusals.push(("422", "Understood but refused."));
    refusals.push(("429", TOO_MANY));
    refusals.push(("503", "Not now; `Retry-After` says when."));
    if writes {
        refusals.push(("507", "There is no room left on the disk."));
    }
    for (status, description) in refusals {
        let content = ContentBuilder::new()
            .schema(Some(RefOr::<utoipa::openapi::Schema>::Ref(
                Ref::from_schema_name("Problem"),
            )))
            .build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build();
        operation
            .responses
            .responses
            .entry(status.into())
            .or_insert_with(|| response.into());
    }
}
