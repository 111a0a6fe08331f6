//! Designs: versions of parts' geometry, each with its proof.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use workflows::model::{Design, NewDesign, Timestamp};

use super::database::{execute, from_json, one, to_json};
use super::{Page, StoreError, new_id};

table!(
    /// Designs; one per step that stores one.
    design, "design", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    part: String,
    asset: String,
    run_id: String,
    position: String,
    artifacts: String,
    certificate: String,
    created_at: i64,
});

impl TryFrom<design::Model> for Design {
    type Error = StoreError;

    fn try_from(row: design::Model) -> Result<Self, StoreError> {
        Ok(Self {
            artifacts: from_json("design", &row.artifacts)?,
            certificate: from_json("certificate", &row.certificate)?,
            id: row.id,
            part: row.part,
            asset: row.asset,
            run: row.run_id,
            created_at: Timestamp(row.created_at),
        })
    }
}

/// Stores the design of a step; the step's second attempt gets the first one's.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    new: &NewDesign,
) -> Result<Design, StoreError> {
    let sql = "INSERT INTO design (id, part, asset, run_id, position, artifacts, certificate, created_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (run_id, position) DO NOTHING";
    let values = values![
        new_id(now),
        new.part.as_str(),
        new.asset.as_str(),
        run,
        position,
        to_json("design", &new.artifacts)?,
        to_json("certificate", &new.certificate)?,
        now
    ];
    execute(db, sql, values).await?;
    let stored = of_step(db, (run, position)).await?;
    stored.ok_or_else(|| StoreError::unknown("design of step", format!("{run}/{position}")))
}

/// The design of a step, if it has stored one.
pub async fn of_step(
    db: &impl ConnectionTrait,
    (run, position): (&str, &str),
) -> Result<Option<Design>, StoreError> {
    let sql = "SELECT * FROM design WHERE run_id = $1 AND position = $2";
    let row: Option<design::Model> = one(db, sql, values![run, position]).await?;
    row.map(Design::try_from).transpose()
}

/// One design.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Design, StoreError> {
    let row = design::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("design", id))?
        .try_into()
}

/// Designs, newest first.
pub async fn list(db: &impl ConnectionTrait, page: Page<'_>) -> Result<Vec<Design>, StoreError> {
    let mut find = design::Entity::find()
        .order_by_desc(design::Column::Id)
        .limit(page.limit);
    if let Some(after) = page.after {
        find = find.filter(design::Column::Id.lt(after));
    }
    let rows = find.all(db).await?;
    rows.into_iter().map(Design::try_from).collect()
}
