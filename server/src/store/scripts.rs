//! Revisions of policies and workflows, named by the digest of their source.

use sea_orm::{ConnectionTrait, DbBackend};

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
             VALUES ($1, $2, $3, FALSE, $4) ON CONFLICT (name, digest) DO NOTHING"
        );
        let values = values![name, digest.as_str(), source, now];
        one_at_a_time(db, &format!("{table} {name}")).await?;
        execute(db, &sql, values).await?;
        // First the one that served stops: the table lets only one serve, row by row.
        let sql = format!(
            "UPDATE {table} SET active = FALSE WHERE name = $1 AND active AND digest <> $2"
        );
        execute(db, &sql, values![name, digest.as_str()]).await?;
        let sql = format!("UPDATE {table} SET active = TRUE WHERE name = $1 AND digest = $2");
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

/// Makes others who activate the same script wait for the end of this transaction; without it they would not see the
/// revision this one activates, and two would serve.
async fn one_at_a_time(db: &impl ConnectionTrait, script: &str) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        execute(db, sql, values![script]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::begin;
    use crate::testing::{Fresh, NOW, on_both};

    on_both!(
        one_revision_serves_whoever_activates_at_once,
        an_old_revision_serves_again,
        the_table_lets_one_revision_serve,
    );

    async fn one_revision_serves_whoever_activates_at_once(fresh: Fresh) {
        let activate = |n: usize| {
            let db = fresh.db.write.clone();
            async move {
                let tx = begin(&db).await.expect("a transaction");
                let source = format!("fn run(event) {{ {n} }}");
                let stored = Scripts::Workflows.activate(&tx, NOW, "w", &source).await;
                stored.expect("a revision");
                tx.commit().await.expect("a commit");
            }
        };
        let all: Vec<_> = (0..8).map(|n| tokio::spawn(activate(n))).collect();
        for one in all {
            one.await.expect("no panic");
        }
        let serving = Scripts::Workflows.list(&fresh.db.read).await;
        assert_eq!(serving.expect("a list").len(), 1);
    }

    async fn an_old_revision_serves_again(fresh: Fresh) {
        let db = &fresh.db.write;
        let mut first = None;
        for source in ["1", "2", "2", "1"] {
            let tx = begin(db).await.expect("a transaction");
            let stored = Scripts::Policies.activate(&tx, NOW, "p", source).await;
            tx.commit().await.expect("a commit");
            let stored = stored.expect("a revision");
            assert!(stored.active);
            let serving = Scripts::Policies.active(db, "p").await.expect("one");
            assert_eq!(serving, stored);
            first.get_or_insert(stored);
        }
        let serving = Scripts::Policies.active(db, "p").await.expect("one");
        assert_eq!(Some(serving), first);
    }

    async fn the_table_lets_one_revision_serve(fresh: Fresh) {
        let db = &fresh.db.write;
        let stored = Scripts::Policies.activate(db, NOW, "p", "1").await;
        stored.expect("a revision");
        let sql = "INSERT INTO policy_revision (name, digest, source, active, created_at) \
                   VALUES ('p', 'd', 's', TRUE, 0)";
        assert!(execute(db, sql, values![]).await.is_err());
    }
}
