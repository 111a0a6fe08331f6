//! Models: what predicts, how well it did on what it had not seen, and which one serves.

use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use workflows::model::Timestamp;

use super::start::{Start, start_once};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store::{self, models::model};

/// A trained model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelView {
    /// Stable name.
    id: String,
    /// What it predicts.
    kind: String,
    /// The kind of asset it was trained for.
    asset_kind: String,
    /// Digest of the artifact that holds it.
    digest: String,
    /// How it did on data it had not seen.
    evaluation: Value,
    /// Whether it is the one that serves.
    champion: bool,
    /// When it was trained.
    #[schema(value_type = String, format = DateTime)]
    trained_at: Timestamp,
}

/// Models, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelList {
    /// Newest first.
    models: Vec<ModelView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// A model to be trained.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewTraining {
    /// What it is to predict: `failure`.
    #[schema(pattern = "^failure$")]
    pub kind: String,
    /// The kind of asset to train for.
    pub asset_kind: String,
    /// Seed of everything random in the training.
    #[serde(default)]
    #[schema(format = "uint64", maximum = 18_446_744_073_709_551_615_u64)]
    pub seed: u64,
}

/// The run that trains.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrainingStarted {
    /// Its id.
    run: String,
}

impl TryFrom<model::Model> for ModelView {
    type Error = ApiError;

    fn try_from(row: model::Model) -> ApiResult<Self> {
        Ok(Self {
            evaluation: serde_json::from_str(&row.evaluation).map_err(ApiError::internal)?,
            id: row.id,
            kind: row.kind,
            asset_kind: row.asset_kind,
            digest: row.digest,
            champion: row.champion,
            trained_at: Timestamp(row.trained_at),
        })
    }
}

/// Models, newest first.
#[utoipa::path(get, path = "/api/v1/models", tag = "predictions",
    responses((status = 200, body = ModelList)))]
pub async fn list_models(app: App, _: auth::Reader) -> ApiResult<Json<ModelList>> {
    let rows = store::models::list(&app.db.read).await?;
    let models = rows
        .into_iter()
        .map(TryInto::try_into)
        .collect::<ApiResult<_>>()?;
    Ok(Json(ModelList { models, next: None }))
}

/// One model.
#[utoipa::path(get, path = "/api/v1/models/{id}", tag = "predictions",
    params(("id" = String, Path)), responses((status = 200, body = ModelView)))]
pub async fn get_model(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<ModelView>> {
    Ok(Json(
        store::models::get(&app.db.read, &id).await?.try_into()?,
    ))
}

/// Train a model as a run of the workflow `train_model`; it serves if it beats the one that does. The same
/// `Idempotency-Key` gives the same run.
#[utoipa::path(post, path = "/api/v1/models", tag = "predictions",
    params(("idempotency-key" = Option<String>, Header, description = "Makes the call repeatable")),
    request_body = NewTraining, responses((status = 202, body = TrainingStarted)))]
pub async fn train_model(
    app: App,
    who: auth::Engineer,
    headers: HeaderMap,
    Json(body): Json<NewTraining>,
) -> ApiResult<(StatusCode, Json<TrainingStarted>)> {
    if body.kind != "failure" {
        let detail = format!("`kind`: `{}` cannot be trained; `failure` can", body.kind);
        return Err(ApiError::refused("unknown_model_kind", detail).with("field", "kind"));
    }
    let event = json!({ "kind": body.kind, "asset_kind": body.asset_kind, "seed": body.seed });
    let start = Start {
        workflow: "train_model",
        event: &event,
        seed: Some(body.seed),
        actor: &who.0.subject,
        cause: None,
    };
    let run = start_once(&app, &headers, &start).await?.run;
    Ok((StatusCode::ACCEPTED, Json(TrainingStarted { run })))
}
