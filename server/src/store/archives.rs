//! Runs that are kept no longer: where their archives are.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;

use super::database::{all, from_json};
use super::{Page, StoreError};

table!(
    /// Archived runs; `digest` names the archive's bytes and is absent while a run is removed without one.
    run_archive, "run_archive", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    workflow: String,
    revision: String,
    state: String,
    asset: Option<String>,
    started_at: i64,
    ended_at: i64,
    digest: Option<String>,
    size_bytes: i64,
    archived_at: i64,
});

/// What is answered instead of a run that is not there: where it is, or that nobody knows it.
pub(super) async fn instead_of(
    db: &impl ConnectionTrait,
    id: &str,
) -> Result<StoreError, StoreError> {
    let row = run_archive::Entity::find_by_id(id.to_owned())
        .one(db)
        .await?;
    Ok(match row.filter(|row| row.digest.is_some()) {
        Some(row) => StoreError::Archived(Box::new(row)),
        None => StoreError::unknown("run", id),
    })
}

/// Which archived runs are listed; what is absent is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArchiveFilter<'a> {
    /// Of this workflow.
    pub workflow: Option<&'a str>,
    /// About this asset.
    pub asset: Option<&'a str>,
}

/// Archived runs, those started last first.
pub async fn list(
    db: &impl ConnectionTrait,
    only: ArchiveFilter<'_>,
    page: Page<'_>,
) -> Result<Vec<run_archive::Model>, StoreError> {
    use run_archive::Column;
    let conditions = [
        only.workflow.map(|workflow| Column::Workflow.eq(workflow)),
        only.asset.map(|asset| Column::Asset.eq(asset)),
        page.after.map(|after| Column::Id.lt(after)),
    ];
    let mut find = run_archive::Entity::find()
        .filter(Column::Digest.is_not_null())
        .order_by_desc(Column::Id)
        .limit(page.limit);
    for condition in conditions.into_iter().flatten() {
        find = find.filter(condition);
    }
    Ok(find.all(db).await?)
}

/// A part of an archive: rows of one table.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its name in the archive.
    pub name: &'static str,
    /// Which rows, where `$1` is the run; what orders them is unique.
    rows: &'static str,
    /// The columns that hold JSON.
    json: &'static [&'static str],
}

/// What an archive of a run holds, beside the run.
pub const PARTS: [Part; 9] = [
    Part {
        name: "decision",
        rows: "decision WHERE id = (SELECT decision FROM run WHERE id = $1) ORDER BY id",
        json: &["facts", "verdict", "stopped_by", "fell_back"],
    },
    Part {
        name: "journal",
        rows: "journal WHERE run_id = $1 ORDER BY ordinal",
        json: &["input", "outcome"],
    },
    Part {
        name: "steps",
        rows: "step WHERE run_id = $1 ORDER BY id",
        json: &["input"],
    },
    Part {
        name: "approvals",
        rows: "approval WHERE run_id = $1 ORDER BY id",
        json: &["subject"],
    },
    Part {
        name: "builds",
        rows: "build WHERE run_id = $1 ORDER BY id",
        json: &["ending"],
    },
    Part {
        name: "leases",
        rows: "lease WHERE build IN (SELECT id FROM build WHERE run_id = $1) ORDER BY id",
        json: &["ending"],
    },
    Part {
        name: "actions",
        rows: "action WHERE run_id = $1 ORDER BY id",
        json: &["body"],
    },
    Part {
        name: "artifacts",
        rows: "provenance WHERE run_id = $1 ORDER BY position, name",
        json: &[],
    },
    Part {
        name: "events",
        rows: "event WHERE subject = $1 ORDER BY seq",
        json: &["payload"],
    },
];

/// The run itself, as its archive tells it.
pub async fn told(db: &impl ConnectionTrait, run: &str) -> Result<Option<Value>, StoreError> {
    let part = Part {
        name: "run",
        rows: "run WHERE id = $1 ORDER BY id",
        json: &["event", "result", "failure"],
    };
    Ok(rows(db, run, part, 0, 1).await?.pop())
}

/// Rows of a part, from one on: their columns by name, as they are stored, documents as what they are.
pub async fn rows(
    db: &impl ConnectionTrait,
    run: &str,
    part: Part,
    from: usize,
    limit: usize,
) -> Result<Vec<Value>, StoreError> {
    let sql = format!("SELECT * FROM {} LIMIT {limit} OFFSET {from}", part.rows);
    let mut rows: Vec<Value> = all(db, &sql, values![run]).await?;
    for row in &mut rows {
        for column in part.json {
            if let Some(Value::String(text)) = row.get(column) {
                row[column] = from_json("archived row", text)?;
            }
        }
    }
    Ok(rows)
}
