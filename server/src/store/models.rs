//! Trained models, and which of them serves.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
};
use workflows::model::{ModelRecord, NewModel, Timestamp};

use super::StoreError;
use super::database::{execute, from_json, new_id, to_json};

table!(
    /// Trained models; one champion per kind and kind of asset.
    model, "model", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    kind: String,
    asset_kind: String,
    digest: String,
    evaluation: String,
    champion: bool,
    run_id: Option<String>,
    position: Option<String>,
    trained_at: i64,
});

impl model::Model {
    /// What the rest of the process sees of it.
    pub fn record(self) -> Result<ModelRecord, StoreError> {
        Ok(ModelRecord {
            evaluation: from_json("model evaluation", &self.evaluation)?,
            id: self.id,
            kind: self.kind,
            asset_kind: self.asset_kind,
            digest: self.digest,
            trained_at: Timestamp(self.trained_at),
        })
    }
}

/// Registers the model a step trained, as a challenger; the step's second attempt gets the first one's.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    new: &NewModel,
) -> Result<model::Model, StoreError> {
    let row = model::Model {
        id: new_id(now),
        kind: new.kind.clone(),
        asset_kind: new.asset_kind.clone(),
        digest: new.digest.clone(),
        evaluation: to_json("model evaluation", &new.evaluation)?,
        champion: false,
        run_id: Some(run.to_owned()),
        position: Some(position.to_owned()),
        trained_at: now,
    };
    model::Entity::insert(row.into_active_model())
        .on_conflict_do_nothing()
        .exec_without_returning(db)
        .await?;
    let stored = model::Entity::find()
        .filter(model::Column::RunId.eq(run))
        .filter(model::Column::Position.eq(position))
        .one(db)
        .await?;
    stored.ok_or_else(|| StoreError::unknown("model of step", format!("{run}/{position}")))
}

/// Lets a model serve in place of the one that did; to be called in a transaction.
pub async fn crown(db: &impl ConnectionTrait, model: &model::Model) -> Result<(), StoreError> {
    let sql = "UPDATE model SET champion = (id = $3) WHERE kind = $1 AND asset_kind = $2";
    let values = values![
        model.kind.as_str(),
        model.asset_kind.as_str(),
        model.id.as_str()
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// The model that serves a kind of asset.
pub async fn champion(
    db: &impl ConnectionTrait,
    kind: &str,
    asset_kind: &str,
) -> Result<Option<model::Model>, StoreError> {
    Ok(model::Entity::find()
        .filter(model::Column::Kind.eq(kind))
        .filter(model::Column::AssetKind.eq(asset_kind))
        .filter(model::Column::Champion.eq(true))
        .one(db)
        .await?)
}

/// One model.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<model::Model, StoreError> {
    let row = model::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("model", id))
}

/// Every model, newest first.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<model::Model>, StoreError> {
    Ok(model::Entity::find()
        .order_by_desc(model::Column::Id)
        .all(db)
        .await?)
}
