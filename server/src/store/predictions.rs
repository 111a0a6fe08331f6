//! What the models said of each asset at each moment.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use workflows::model::Prediction;

use super::StoreError;
use super::database::{all, execute, from_json, new_id, to_json};

table!(
    /// Predictions, one per asset and moment.
    prediction, "prediction", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    asset: String,
    at: i64,
    body: String,
});

/// Keeps a prediction; the same asset and moment keep the latest, so a repeated step leaves one row.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    prediction: &Prediction,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO prediction (id, asset, at, body) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (asset, at) DO UPDATE SET body = excluded.body";
    let body = to_json("prediction", prediction)?;
    let values = values![
        new_id(now),
        prediction.asset.as_str(),
        prediction.at.0,
        body
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// The latest prediction of an asset.
pub async fn latest(
    db: &impl ConnectionTrait,
    asset: &str,
) -> Result<Option<Prediction>, StoreError> {
    Ok(list(db, asset, None, 1).await?.pop())
}

/// The newest row of every asset.
const NEWEST: &str = "SELECT p.* FROM prediction p \
    JOIN (SELECT asset, MAX(at) AS at FROM prediction GROUP BY asset) newest \
    ON newest.asset = p.asset AND newest.at = p.at";

/// The latest prediction of every asset that has one, whichever of its parts it speaks of.
pub async fn latest_of_all(db: &impl ConnectionTrait) -> Result<Vec<Prediction>, StoreError> {
    let sql = format!("{NEWEST} ORDER BY p.asset");
    predictions(&all(db, &sql, values![]).await?)
}

/// The latest prediction of every asset where it speaks of the part now in it: a replacement leaves the old part's risk
/// behind.
pub async fn present_of_all(
    db: &impl ConnectionTrait,
    now: i64,
) -> Result<Vec<Prediction>, StoreError> {
    // As in the lives of an asset: the moment of a replacement is still the old part's, and one that is announced for
    // later has not happened.
    let sql = format!(
        "{NEWEST} WHERE NOT EXISTS (SELECT 1 FROM outcome o WHERE o.asset = p.asset \
         AND o.kind = 'replaced' AND o.at >= p.at AND o.at < $1) ORDER BY p.asset"
    );
    predictions(&all(db, &sql, values![now]).await?)
}

fn predictions(rows: &[prediction::Model]) -> Result<Vec<Prediction>, StoreError> {
    rows.iter()
        .map(|row| from_json("prediction", &row.body))
        .collect()
}

/// The predictions of an asset before a moment, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    asset: &str,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<Prediction>, StoreError> {
    let rows = prediction::Entity::find()
        .filter(prediction::Column::Asset.eq(asset))
        .filter(prediction::Column::At.lt(before.unwrap_or(i64::MAX)))
        .order_by_desc(prediction::Column::At)
        .limit(limit)
        .all(db)
        .await?;
    predictions(&rows)
}
