//! What a shadow or a canary answered beside the revision that serves.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::database::all;
use super::{Page, StoreError};

table!(
    /// Comparisons; outcomes are in short, e.g. `start replace_part`.
    comparison, "comparison", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    decision_id: String,
    policy: String,
    asset: String,
    at: i64,
    before_revision: String,
    revision: String,
    role: String,
    before_outcome: String,
    outcome: String,
    flipped: bool,
    failed: bool,
});

/// Keeps a comparison.
pub async fn insert(db: &impl ConnectionTrait, row: comparison::Model) -> Result<(), StoreError> {
    comparison::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// The comparisons of a revision that flipped, newest first.
pub async fn flips(
    db: &impl ConnectionTrait,
    policy: &str,
    revision: &str,
    page: Page<'_>,
) -> Result<Vec<comparison::Model>, StoreError> {
    let mut find = comparison::Entity::find()
        .filter(comparison::Column::Policy.eq(policy))
        .filter(comparison::Column::Revision.eq(revision))
        .filter(comparison::Column::Flipped.eq(true))
        .order_by_desc(comparison::Column::Id)
        .limit(page.limit);
    if let Some(after) = page.after {
        find = find.filter(comparison::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

/// How often a revision answered one thing where the one that serves answered another.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Pair {
    /// What the one that serves answered.
    pub before_outcome: String,
    /// What the revision answered.
    pub outcome: String,
    /// Whether that is a flip.
    pub flipped: bool,
    /// Whether the revision failed.
    pub failed: bool,
    /// How often.
    pub comparisons: i64,
    /// On how many assets.
    pub assets: i64,
}

/// All comparisons of a revision, counted by what the two answered, most frequent first.
pub async fn pairs(
    db: &impl ConnectionTrait,
    policy: &str,
    revision: &str,
) -> Result<Vec<Pair>, StoreError> {
    let sql = "SELECT before_outcome, outcome, flipped, failed, COUNT(*) AS comparisons, \
               COUNT(DISTINCT asset) AS assets FROM comparison \
               WHERE policy = $1 AND revision = $2 \
               GROUP BY before_outcome, outcome, flipped, failed \
               ORDER BY comparisons DESC, before_outcome, outcome";
    all(db, sql, values![policy, revision]).await
}

/// An asset and how often a revision flipped on it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AssetFlips {
    /// The asset.
    pub asset: String,
    /// How often.
    pub flips: i64,
}

/// The assets a revision flipped on most often.
pub async fn assets(
    db: &impl ConnectionTrait,
    policy: &str,
    revision: &str,
    limit: i64,
) -> Result<Vec<AssetFlips>, StoreError> {
    let sql = "SELECT asset, COUNT(*) AS flips FROM comparison \
               WHERE policy = $1 AND revision = $2 AND flipped \
               GROUP BY asset ORDER BY flips DESC, asset LIMIT $3";
    all(db, sql, values![policy, revision, limit]).await
}
