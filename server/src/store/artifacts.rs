//! What is known of artifacts; their bytes lie in the object store.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use workflows::model::ArtifactRef;

use super::StoreError;
use super::database::{all, execute};

table!(
    /// Artifacts.
    artifact, "artifact", {
    #[sea_orm(primary_key, auto_increment = false)]
    digest: String,
    size_bytes: i64,
    media: String,
    created_at: i64,
});

table!(
    /// Which step made which artifact, under what name, by which revision.
    provenance, "provenance", {
    digest: String,
    #[sea_orm(primary_key, auto_increment = false)]
    run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    position: String,
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    kind: String,
    revision: String,
    recorded_at: i64,
});

impl From<artifact::Model> for ArtifactRef {
    fn from(row: artifact::Model) -> Self {
        Self {
            digest: row.digest,
            size_bytes: row.size_bytes.cast_unsigned(),
            media: row.media,
        }
    }
}

/// Notes that bytes are stored.
pub async fn put(
    db: &impl ConnectionTrait,
    now: i64,
    artifact: &ArtifactRef,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO artifact (digest, size_bytes, media, created_at) \
               VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING";
    let values = values![
        artifact.digest.as_str(),
        artifact.size_bytes.cast_signed(),
        artifact.media.as_str(),
        now
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// Notes which step made an artifact. A later attempt that makes other bytes under the name replaces the note.
pub async fn put_provenance(
    db: &impl ConnectionTrait,
    row: &provenance::Model,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO provenance (digest, run_id, position, name, kind, revision, recorded_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (run_id, position, name) \
               DO UPDATE SET digest = excluded.digest, recorded_at = excluded.recorded_at";
    let values = values![
        row.digest.as_str(),
        row.run_id.as_str(),
        row.position.as_str(),
        row.name.as_str(),
        row.kind.as_str(),
        row.revision.as_str(),
        row.recorded_at
    ];
    execute(db, sql, values).await?;
    Ok(())
}

/// One artifact.
pub async fn get(db: &impl ConnectionTrait, digest: &str) -> Result<artifact::Model, StoreError> {
    let row = artifact::Entity::find_by_id(digest.to_owned())
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("artifact", digest))
}

/// Every step that made these bytes, first maker first.
pub async fn provenance_of(
    db: &impl ConnectionTrait,
    digest: &str,
) -> Result<Vec<provenance::Model>, StoreError> {
    Ok(provenance::Entity::find()
        .filter(provenance::Column::Digest.eq(digest))
        .order_by_asc(provenance::Column::RecordedAt)
        .all(db)
        .await?)
}

/// An artifact of a run, with the step and the name it was made under.
#[derive(Debug, Clone, PartialEq, Eq, sea_orm::FromQueryResult)]
pub struct RunArtifact {
    /// Digest of the bytes.
    pub digest: String,
    /// Size of the bytes.
    pub size_bytes: i64,
    /// Media type.
    pub media: String,
    /// Position of the step that made it.
    pub position: String,
    /// Kind of that step.
    pub kind: String,
    /// Its name in that step.
    pub name: String,
}

/// Everything a run made, in the order of making.
pub async fn of_run(db: &impl ConnectionTrait, run: &str) -> Result<Vec<RunArtifact>, StoreError> {
    let sql = "SELECT p.digest, a.size_bytes, a.media, p.position, p.kind, p.name \
               FROM provenance p JOIN artifact a ON a.digest = p.digest \
               WHERE p.run_id = $1 ORDER BY p.recorded_at, p.position, p.name";
    all(db, sql, values![run]).await
}
