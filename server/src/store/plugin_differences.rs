//! What a version of a plugin said of each asset beside what somebody else said of it at the same time.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::StoreError;
use super::database::{all, execute, from_json, one, to_json};

/// What two said of one asset, the latest time that both were asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The asset.
    pub asset: String,
    /// When.
    pub at: i64,
    /// Who else was asked: the digest of a model or a plugin.
    pub other: String,
    /// What the version said, number by number.
    pub own: BTreeMap<String, f64>,
    /// What the other said.
    pub theirs: BTreeMap<String, f64>,
}

impl Difference {
    /// The largest distance of two numbers of one name; infinite where a name is on one side alone.
    #[must_use]
    pub fn largest(&self) -> f64 {
        let names = self.own.keys().chain(self.theirs.keys());
        let apart = |name: &String| match (self.own.get(name), self.theirs.get(name)) {
            (Some(own), Some(theirs)) => (own - theirs).abs(),
            _ => f64::INFINITY,
        };
        names.map(apart).fold(0.0, f64::max)
    }
}

#[derive(FromQueryResult)]
struct Row {
    asset: String,
    at: i64,
    other: String,
    own: String,
    theirs: String,
}

impl Row {
    fn read(self) -> Result<Difference, StoreError> {
        Ok(Difference {
            own: from_json("answer of a plugin", &self.own)?,
            theirs: from_json("answer beside a plugin", &self.theirs)?,
            asset: self.asset,
            at: self.at,
            other: self.other,
        })
    }
}

/// Keeps a difference in place of the asset's last one.
pub async fn put(
    db: &impl ConnectionTrait,
    version_id: &str,
    difference: &Difference,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO plugin_difference (version_id, asset, at, other, own, theirs, largest) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (version_id, asset) DO UPDATE SET \
               at = EXCLUDED.at, other = EXCLUDED.other, own = EXCLUDED.own, theirs = EXCLUDED.theirs, \
               largest = EXCLUDED.largest";
    // No database keeps an infinite number in every language that reads it.
    let largest = difference.largest().min(f64::MAX);
    let values = values![
        version_id,
        difference.asset.as_str(),
        difference.at,
        difference.other.as_str(),
        to_json("answer of a plugin", &difference.own)?,
        to_json("answer beside a plugin", &difference.theirs)?,
        largest
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// All differences of a version in short.
#[derive(Debug, Clone, Copy, PartialEq, FromQueryResult)]
pub struct Summary {
    /// Assets that both were asked about.
    pub assets: i64,
    /// The mean of the largest distances.
    pub mean: Option<f64>,
    /// The largest of all.
    pub largest: Option<f64>,
}

/// All differences of a version in short.
pub async fn summary(db: &impl ConnectionTrait, version_id: &str) -> Result<Summary, StoreError> {
    let sql = "SELECT COUNT(*) AS assets, AVG(largest) AS mean, MAX(largest) AS largest \
               FROM plugin_difference WHERE version_id = $1";
    let row = one(db, sql, values![version_id]).await?;
    row.ok_or_else(|| StoreError::unknown("version of a plugin", version_id))
}

/// The assets that a version differs about most.
pub async fn largest(
    db: &impl ConnectionTrait,
    version_id: &str,
    limit: i64,
) -> Result<Vec<Difference>, StoreError> {
    let sql = "SELECT asset, at, other, own, theirs FROM plugin_difference WHERE version_id = $1 \
               ORDER BY largest DESC, asset LIMIT $2";
    let rows: Vec<Row> = all(db, sql, values![version_id, limit]).await?;
    rows.into_iter().map(Row::read).collect()
}
