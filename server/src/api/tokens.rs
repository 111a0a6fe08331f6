//! Tokens: who may speak to the server; only their hashes are kept.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use workflows::model::Timestamp;

use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth::{self, Role};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::{self, tokens::token};

/// A token to be given out.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewToken {
    /// What its holder may do; cells get theirs by enrolling.
    #[schema(value_type = String, pattern = "^(operator|technician|engineer|developer|agent)$")]
    pub role: Role,
    /// Who holds it.
    #[schema(value_type = Name)]
    pub name: String,
}

/// A token, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenIssued {
    /// Its name here.
    id: String,
    /// The secret.
    token: String,
}

/// What is known of a token.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Its name here.
    id: String,
    /// What its holder may do.
    role: String,
    /// Who holds it.
    name: String,
    /// When it was given out.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Whether it still counts.
    valid: bool,
}

/// A cell's token, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CellToken {
    /// The cell's id.
    pub cell: String,
    /// Its token.
    pub token: String,
}

/// Every token.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenList {
    /// Oldest first.
    tokens: Vec<TokenView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Every token, without its secret.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access",
    responses((status = 200, body = TokenList)))]
pub async fn list_tokens(app: App, _: auth::Operator) -> ApiResult<Json<TokenList>> {
    let rows = store::tokens::list(&app.db.read).await?;
    let tokens = rows.into_iter().map(|row| TokenView {
        id: row.id,
        role: row.role,
        name: row.subject,
        created_at: Timestamp(row.created_at),
        valid: row.revoked_at.is_none(),
    });
    Ok(Json(TokenList {
        tokens: tokens.collect(),
        next: None,
    }))
}

/// Give out a token; its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = NewToken,
    responses((status = 201, body = TokenIssued)))]
pub async fn create_token(
    app: App,
    who: auth::Operator,
    Json(body): Json<NewToken>,
) -> ApiResult<(StatusCode, Json<TokenIssued>)> {
    if body.role == Role::Cell {
        let detail = "a cell gets its token by enrolling: POST /api/v1/enrolments";
        return Err(ApiError::refused("cells_enrol", detail).with("field", "role"));
    }
    let name = checked_name("name", body.name)?;
    let tx = store::begin(&app.db.write).await?;
    let actor = &who.0.subject;
    let (id, token) = issue_in(&tx, app.now_ms(), actor, body.role, &name).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(TokenIssued { id, token })))
}

/// Make a token worthless.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access",
    params(("id" = String, Path)), responses((status = 204)))]
pub async fn revoke_token(
    app: App,
    who: auth::Operator,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    if !store::tokens::revoke(&tx, now, &id).await? {
        return Err(ApiError::not_found("token", &id));
    }
    store::audit::record(&tx, now, actor, "revoke_token", &id, &Value::Null).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a token and stores its hash; answers its id and the secret. To be called in a transaction.
pub async fn issue_in(
    db: &impl sea_orm::ConnectionTrait,
    now: i64,
    actor: &str,
    role: Role,
    subject: &str,
) -> ApiResult<(String, String)> {
    let secret = auth::new_token();
    let row = token::Model {
        id: store::new_id(now),
        hash: auth::hash(&secret),
        role: role.name().into(),
        subject: subject.into(),
        created_at: now,
        revoked_at: None,
    };
    let id = row.id.clone();
    store::tokens::insert(db, row).await?;
    let detail = json!({ "role": role.name(), "name": subject });
    store::audit::record(db, now, actor, "issue_token", &id, &detail).await?;
    Ok((id, secret))
}
