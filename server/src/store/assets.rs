//! Assets and the graph of them.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use workflows::model::{Asset, Twin};

use super::database::{execute, for_update, from_json, one, to_json};
use super::{StoreError, localities};

table!(
    /// Assets; the columns beside `body` repeat what is searched for.
    asset, "asset", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    kind: String,
    locality: String,
    state: String,
    body: String,
    updated_at: i64,
});

/// Stores or replaces an asset.
pub async fn put(db: &impl ConnectionTrait, now: i64, asset: &Asset) -> Result<(), StoreError> {
    let sql = "INSERT INTO asset (id, kind, locality, state, body, updated_at) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET \
               kind = excluded.kind, locality = excluded.locality, state = excluded.state, \
               body = excluded.body, updated_at = excluded.updated_at";
    let state = to_json("asset", &asset.state)?;
    let values = values![
        asset.id.as_str(),
        asset.kind.as_str(),
        asset.locality.as_str(),
        state.trim_matches('"'),
        to_json("asset", asset)?,
        now
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// One asset.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Asset, StoreError> {
    let row = asset::Entity::find_by_id(id.to_owned()).one(db).await?;
    let row = row.ok_or_else(|| StoreError::unknown("asset", id))?;
    from_json("asset", &row.body)
}

/// One asset, held until the end of the transaction.
pub(super) async fn hold(db: &impl ConnectionTrait, id: &str) -> Result<Asset, StoreError> {
    let sql = format!("SELECT * FROM asset WHERE id = $1 {}", for_update(db));
    let row: Option<asset::Model> = one(db, &sql, values![id]).await?;
    let row = row.ok_or_else(|| StoreError::unknown("asset", id))?;
    from_json("asset", &row.body)
}

/// Every asset, by name.
pub async fn list(db: &impl ConnectionTrait) -> Result<Vec<Asset>, StoreError> {
    let find = asset::Entity::find().order_by_asc(asset::Column::Id);
    read(&find.all(db).await?)
}

/// Every asset of a kind, by name.
pub async fn of_kind(db: &impl ConnectionTrait, kind: &str) -> Result<Vec<Asset>, StoreError> {
    let find = asset::Entity::find()
        .filter(asset::Column::Kind.eq(kind))
        .order_by_asc(asset::Column::Id);
    read(&find.all(db).await?)
}

/// Removes an asset; says whether there was one.
pub async fn remove(db: &impl ConnectionTrait, id: &str) -> Result<bool, StoreError> {
    Ok(execute(db, "DELETE FROM asset WHERE id = $1", values![id]).await? == 1)
}

/// The graph of assets as it is now.
pub async fn twin(db: &impl ConnectionTrait) -> Result<Twin, StoreError> {
    let assets = list(db).await?;
    let localities = localities::list(db).await?;
    Ok(Twin {
        assets: assets.into_iter().map(|a| (a.id.clone(), a)).collect(),
        localities: localities.into_iter().map(|l| (l.id.clone(), l)).collect(),
    })
}

fn read(rows: &[asset::Model]) -> Result<Vec<Asset>, StoreError> {
    rows.iter()
        .map(|row| from_json("asset", &row.body))
        .collect()
}
