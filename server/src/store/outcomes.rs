//! What really happened to assets; what models learn from.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use super::StoreError;
use super::database::{execute, new_id};

table!(
    /// Outcomes.
    outcome, "outcome", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    asset: String,
    kind: String,
    at: i64,
    note: String,
    run_id: Option<String>,
    position: Option<String>,
    recorded_at: i64,
});

/// An outcome to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct NewOutcome<'a> {
    /// The asset it happened to.
    pub asset: &'a str,
    /// `failed`, `replaced`, `prevented` or `healthy`.
    pub kind: &'a str,
    /// When it happened.
    pub at: i64,
    /// In words.
    pub note: &'a str,
    /// The run and position that recorded it, if a step did.
    pub step: Option<(&'a str, &'a str)>,
}

/// Records what happened; the same kind at the same moment is recorded once. Says whether it was new.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    new: NewOutcome<'_>,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO outcome (id, asset, kind, at, note, run_id, position, recorded_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (asset, kind, at) DO NOTHING";
    let values = values![
        new_id(now),
        new.asset,
        new.kind,
        new.at,
        new.note,
        new.step.map(|(run, _)| run.to_owned()),
        new.step.map(|(_, position)| position.to_owned()),
        now
    ];
    Ok(execute(db, sql, values).await? == 1)
}

/// Every outcome, or those of one asset, in order of time.
pub async fn list(
    db: &impl ConnectionTrait,
    asset: Option<&str>,
) -> Result<Vec<outcome::Model>, StoreError> {
    let mut find = outcome::Entity::find()
        .order_by_asc(outcome::Column::At)
        .order_by_asc(outcome::Column::Id);
    if let Some(asset) = asset {
        find = find.filter(outcome::Column::Asset.eq(asset));
    }
    Ok(find.all(db).await?)
}
