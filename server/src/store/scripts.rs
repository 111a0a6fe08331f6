//! Revisions of policies and workflows, named by the digest of their source.

use sea_orm::ConnectionTrait;

use super::database::{all, execute, one};
use super::{StoreError, sha256_hex};

table!(
    /// Revisions of policies.
    policy_revision, "policy_revision", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    digest: String,
    source: String,
    active: bool,
    created_at: i64,
});

table!(
    /// Revisions of workflows; the same columns as those of policies.
    workflow_revision, "workflow_revision", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    digest: String,
    source: String,
    active: bool,
    created_at: i64,
});

/// One version of a script.
#[derive(Debug, Clone, PartialEq, Eq, sea_orm::FromQueryResult)]
pub struct Revision {
    /// The script's name.
    pub name: String,
    /// `sha256:…` of the source.
    pub digest: String,
    /// The source.
    pub source: String,
    /// Whether it is the one that serves.
    pub active: bool,
    /// When it was stored.
    pub created_at: i64,
}

/// Which sort of script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// Scripts that decide.
    Policies,
    /// Scripts that act.
    Workflows,
}

impl Scripts {
    fn table(self) -> &'static str {
        match self {
            Self::Policies => "policy_revision",
            Self::Workflows => "workflow_revision",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Policies => "policy",
            Self::Workflows => "workflow",
        }
    }

    /// Stores a source and lets it serve; the same source is the same revision. To be called in a transaction.
    pub async fn activate(
        self,
        db: &impl ConnectionTrait,
        now: i64,
        name: &str,
        source: &str,
    ) -> Result<Revision, StoreError> {
        let table = self.table();
        let digest = format!("sha256:{}", sha256_hex(source.as_bytes()));
        let sql = format!(
            "INSERT INTO {table} (name, digest, source, active, created_at) \
             VALUES ($1, $2, $3, TRUE, $4) ON CONFLICT (name, digest) DO NOTHING"
        );
        let values = values![name, digest.as_str(), source, now];
        execute(db, &sql, values).await?;
        let sql = format!("UPDATE {table} SET active = (digest = $2) WHERE name = $1");
        execute(db, &sql, values![name, digest.as_str()]).await?;
        self.revision(db, name, &digest).await
    }

    /// The revision that serves.
    pub async fn active(
        self,
        db: &impl ConnectionTrait,
        name: &str,
    ) -> Result<Revision, StoreError> {
        let sql = format!("SELECT * FROM {} WHERE name = $1 AND active", self.table());
        let found = one(db, &sql, values![name]).await?;
        found.ok_or_else(|| StoreError::unknown(self.noun(), name))
    }

    /// One revision, by its digest.
    pub async fn revision(
        self,
        db: &impl ConnectionTrait,
        name: &str,
        digest: &str,
    ) -> Result<Revision, StoreError> {
        let sql = format!(
            "SELECT * FROM {} WHERE name = $1 AND digest = $2",
            self.table()
        );
        let found = one(db, &sql, values![name, digest]).await?;
        found.ok_or_else(|| StoreError::unknown(self.noun(), format!("{name}@{digest}")))
    }

    /// The serving revision of every script, by name.
    pub async fn list(self, db: &impl ConnectionTrait) -> Result<Vec<Revision>, StoreError> {
        let sql = format!("SELECT * FROM {} WHERE active ORDER BY name", self.table());
        all(db, &sql, values![]).await
    }
}
