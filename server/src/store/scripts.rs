//! Revisions of policies and workflows, named by the digest of their source, and where each stands.

use sea_orm::{ConnectionTrait, DbBackend};
use workflows::policy::{RevisionState, check_move};

use super::database::{all, execute, one};
use super::{Page, StoreError, sha256_hex};

table!(
    /// Revisions of policies.
    policy_revision, "policy_revision", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    digest: String,
    source: String,
    created_at: i64,
    state: String,
    percent: Option<i64>,
    served_at: Option<i64>,
    good: bool,
    tests: Option<String>,
});

table!(
    /// Revisions of workflows; the same columns as those of policies.
    workflow_revision, "workflow_revision", {
    #[sea_orm(primary_key, auto_increment = false)]
    name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    digest: String,
    source: String,
    created_at: i64,
    state: String,
    percent: Option<i64>,
    served_at: Option<i64>,
    good: bool,
    tests: Option<String>,
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
    /// When it was stored.
    pub created_at: i64,
    /// Where it stands, by the name of a [`RevisionState`].
    pub state: String,
    /// The share of assets a canary decides about, percent.
    pub percent: Option<i64>,
    /// When it last began to serve.
    pub served_at: Option<i64>,
    /// Whether nobody rolled back from it since.
    pub good: bool,
    /// The tests it passed, as text.
    pub tests: Option<String>,
}

impl Revision {
    /// Where it stands.
    #[must_use]
    pub fn stands(&self) -> RevisionState {
        // Only this file writes the column, from the names of the states.
        RevisionState::read(&self.state).unwrap_or(RevisionState::Retired)
    }
}

/// Which sort of script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// Scripts that decide.
    Policies,
    /// Scripts that act.
    Workflows,
}

/// The revisions of a script that have a say.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The one that serves.
    pub active: Revision,
    /// The one that served before it without fault.
    pub last_good: Option<Revision>,
    /// One that decides about a share.
    pub canary: Option<Revision>,
    /// One that is only compared.
    pub shadow: Option<Revision>,
}

impl Scripts {
    fn table(self) -> &'static str {
        match self {
            Self::Policies => "policy_revision",
            Self::Workflows => "workflow_revision",
        }
    }

    /// What one of them is called.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Policies => "policy",
            Self::Workflows => "workflow",
        }
    }

    /// Stores a source as a draft; the same source is the same revision and stays where it stands. To be called in a
    /// transaction.
    pub async fn put(
        self,
        db: &impl ConnectionTrait,
        now: i64,
        name: &str,
        source: &str,
        tests: Option<&str>,
    ) -> Result<Revision, StoreError> {
        let table = self.table();
        let digest = format!("sha256:{}", sha256_hex(source.as_bytes()));
        self.one_at_a_time(db, name).await?;
        let sql = format!(
            "INSERT INTO {table} (name, digest, source, created_at, state, tests) \
             VALUES ($1, $2, $3, $4, 'draft', $5) ON CONFLICT (name, digest) \
             DO UPDATE SET tests = COALESCE(EXCLUDED.tests, {table}.tests)"
        );
        let tests = tests.map(str::to_owned);
        let values = values![name, digest.as_str(), source, now, tests];
        execute(db, &sql, values).await?;
        self.revision(db, name, &digest).await
    }

    /// Stores a source and lets it serve. To be called in a transaction.
    pub async fn activate(
        self,
        db: &impl ConnectionTrait,
        now: i64,
        name: &str,
        source: &str,
    ) -> Result<Revision, StoreError> {
        let stored = self.put(db, now, name, source, None).await?;
        let to = RevisionState::Active;
        self.move_to(db, now, name, &stored.digest, to, None).await
    }

    /// Moves a revision; whichever stood there is retired. To be called in a transaction.
    ///
    /// # Errors
    ///
    /// `revision_state` when it serves, and `invalid_share` when the share of a canary is none.
    pub async fn move_to(
        self,
        db: &impl ConnectionTrait,
        now: i64,
        name: &str,
        digest: &str,
        to: RevisionState,
        percent: Option<i64>,
    ) -> Result<Revision, StoreError> {
        self.one_at_a_time(db, name).await?;
        let stored = self.revision(db, name, digest).await?;
        check_move(stored.stands(), to, percent).map_err(|error| refused(&error))?;
        let table = self.table();
        if to.is_exclusive() {
            // First the one that stood there goes: the table lets only one stand, row by row.
            let sql = format!(
                "UPDATE {table} SET state = 'retired', percent = NULL \
                 WHERE name = $1 AND state = $2 AND digest <> $3"
            );
            execute(db, &sql, values![name, to.name(), digest]).await?;
        }
        let share = percent.filter(|_| to == RevisionState::Canary);
        let sql =
            format!("UPDATE {table} SET state = $3, percent = $4 WHERE name = $1 AND digest = $2");
        execute(db, &sql, values![name, digest, to.name(), share]).await?;
        if to == RevisionState::Active && stored.stands() != to {
            let sql = format!(
                "UPDATE {table} SET served_at = $3, good = TRUE WHERE name = $1 AND digest = $2"
            );
            execute(db, &sql, values![name, digest, now]).await?;
        }
        self.revision(db, name, digest).await
    }

    /// Lets the revision serve that served last without fault, and marks the one it takes over from; answers the
    /// digest of that one, and the revision that serves now. To be called in a transaction.
    ///
    /// # Errors
    ///
    /// `no_earlier_revision` when none served before.
    pub async fn roll_back(
        self,
        db: &impl ConnectionTrait,
        now: i64,
        name: &str,
    ) -> Result<(String, Revision), StoreError> {
        self.one_at_a_time(db, name).await?;
        let left = self.active(db, name).await?;
        let Some(good) = self.last_good(db, name).await? else {
            return Err(StoreError::refused(
                "no_earlier_revision",
                format_args!(
                    "no other revision of {} `{name}` served before; activate one",
                    self.noun()
                ),
            ));
        };
        let to = RevisionState::Active;
        let serving = self.move_to(db, now, name, &good.digest, to, None).await?;
        let sql = format!(
            "UPDATE {} SET good = FALSE WHERE name = $1 AND digest = $2",
            self.table()
        );
        execute(db, &sql, values![name, left.digest.as_str()]).await?;
        Ok((left.digest, serving))
    }

    /// The revision that serves.
    pub async fn active(
        self,
        db: &impl ConnectionTrait,
        name: &str,
    ) -> Result<Revision, StoreError> {
        let found = self.in_state(db, name, RevisionState::Active).await?;
        found.ok_or_else(|| StoreError::unknown(self.noun(), name))
    }

    /// The revisions that have a say.
    pub async fn standing(
        self,
        db: &impl ConnectionTrait,
        name: &str,
    ) -> Result<Standing, StoreError> {
        Ok(Standing {
            active: self.active(db, name).await?,
            last_good: self.last_good(db, name).await?,
            canary: self.in_state(db, name, RevisionState::Canary).await?,
            shadow: self.in_state(db, name, RevisionState::Shadow).await?,
        })
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
        let sql = format!(
            "SELECT * FROM {} WHERE state = 'active' ORDER BY name",
            self.table()
        );
        all(db, &sql, values![]).await
    }

    /// The revisions of one script, newest first; a page goes on after a digest.
    pub async fn revisions(
        self,
        db: &impl ConnectionTrait,
        name: &str,
        page: Page<'_>,
    ) -> Result<Vec<Revision>, StoreError> {
        let table = self.table();
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let Some(after) = page.after else {
            let sql = format!(
                "SELECT * FROM {table} WHERE name = $1 ORDER BY created_at DESC, digest DESC LIMIT $2"
            );
            return all(db, &sql, values![name, limit]).await;
        };
        let last = self.revision(db, name, after).await?;
        let sql = format!(
            "SELECT * FROM {table} WHERE name = $1 \
             AND (created_at < $2 OR (created_at = $2 AND digest < $3)) \
             ORDER BY created_at DESC, digest DESC LIMIT $4"
        );
        let values = values![name, last.created_at, last.digest.as_str(), limit];
        all(db, &sql, values).await
    }

    async fn in_state(
        self,
        db: &impl ConnectionTrait,
        name: &str,
        state: RevisionState,
    ) -> Result<Option<Revision>, StoreError> {
        let sql = format!(
            "SELECT * FROM {} WHERE name = $1 AND state = $2",
            self.table()
        );
        one(db, &sql, values![name, state.name()]).await
    }

    /// The one that served last before the one that serves, and that nobody rolled back from.
    async fn last_good(
        self,
        db: &impl ConnectionTrait,
        name: &str,
    ) -> Result<Option<Revision>, StoreError> {
        let sql = format!(
            "SELECT * FROM {} WHERE name = $1 AND state <> 'active' AND good \
             AND served_at IS NOT NULL ORDER BY served_at DESC, created_at DESC LIMIT 1",
            self.table()
        );
        one(db, &sql, values![name]).await
    }

    /// Makes others who move revisions of the same script wait for the end of this transaction; without it they would
    /// not see the revision this one activates, and two would serve.
    async fn one_at_a_time(self, db: &impl ConnectionTrait, name: &str) -> Result<(), StoreError> {
        if db.get_database_backend() == DbBackend::Postgres {
            let script = format!("{} {name}", self.table());
            let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
            execute(db, sql, values![script]).await?;
        }
        Ok(())
    }
}

fn refused(error: &workflows::policy::MoveError) -> StoreError {
    use workflows::policy::MoveError;
    let code = match error {
        MoveError::Share { .. } => "invalid_share",
        MoveError::Serves | MoveError::NoDraft { .. } => "revision_state",
    };
    StoreError::refused(code, error)
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
        a_revision_walks_from_draft_to_active,
        rolling_back_goes_to_the_last_good_one_each_time,
        revisions_are_listed_in_pages,
    );

    async fn digests(db: &impl ConnectionTrait, sources: &[&str]) -> Vec<String> {
        let mut digests = Vec::new();
        for (n, source) in sources.iter().enumerate() {
            let now = NOW + n as i64;
            let stored = Scripts::Policies.activate(db, now, "p", source).await;
            digests.push(stored.expect("a revision").digest);
        }
        digests
    }

    async fn moved(
        db: &impl ConnectionTrait,
        digest: &str,
        to: RevisionState,
        percent: Option<i64>,
    ) -> Result<Revision, StoreError> {
        Scripts::Policies
            .move_to(db, NOW, "p", digest, to, percent)
            .await
    }

    async fn a_revision_walks_from_draft_to_active(fresh: Fresh) {
        use RevisionState::{Active, Canary, Draft, Retired, Shadow};
        let db = &fresh.db.write;
        let old = digests(db, &["old"]).await.remove(0);
        let draft = Scripts::Policies.put(db, NOW, "p", "new", Some("tests"));
        let draft = draft.await.expect("a draft");
        assert_eq!(
            (draft.stands(), draft.tests.as_deref()),
            (Draft, Some("tests"))
        );
        let standing = async || {
            Scripts::Policies
                .standing(db, "p")
                .await
                .expect("one serves")
        };
        assert_eq!(standing().await.active.digest, old);
        for (to, percent) in [(Shadow, None), (Canary, Some(10)), (Canary, Some(50))] {
            let now_at = moved(db, &draft.digest, to, percent).await.expect("moved");
            assert_eq!((now_at.stands(), now_at.percent), (to, percent));
        }
        let another = Scripts::Policies.put(db, NOW, "p", "another", None);
        let another = another.await.expect("a draft").digest;
        moved(db, &another, Canary, Some(5)).await.expect("moved");
        let displaced = Scripts::Policies.revision(db, "p", &draft.digest).await;
        assert_eq!(displaced.expect("kept").stands(), Retired);
        let refused = moved(db, &another, Canary, Some(0)).await;
        assert!(matches!(
            refused,
            Err(StoreError::Refused {
                code: "invalid_share",
                ..
            })
        ));
        moved(db, &draft.digest, Active, None).await.expect("moved");
        let now = standing().await;
        assert_eq!(now.active.digest, draft.digest);
        assert_eq!(now.last_good.map(|r| r.digest), Some(old));
        assert_eq!(now.canary.map(|r| r.digest), Some(another));
        let refused = moved(db, &draft.digest, Retired, None).await;
        assert!(matches!(
            refused,
            Err(StoreError::Refused {
                code: "revision_state",
                ..
            })
        ));
        // What serves is posted again as a draft: it goes on serving.
        let again = Scripts::Policies.put(db, NOW, "p", "new", None).await;
        let again = again.expect("a revision");
        assert_eq!(
            (again.stands(), again.tests.as_deref()),
            (Active, Some("tests"))
        );
    }

    async fn rolling_back_goes_to_the_last_good_one_each_time(fresh: Fresh) {
        let db = &fresh.db.write;
        let kept = digests(db, &["1", "2", "3"]).await;
        for (n, (left, serves)) in [(2, 1), (1, 0)].into_iter().enumerate() {
            let now = NOW + 10 + n as i64;
            let tx = begin(db).await.expect("a transaction");
            let back = Scripts::Policies.roll_back(&tx, now, "p").await;
            tx.commit().await.expect("a commit");
            let (from, to) = back.expect("rolled back");
            assert_eq!((&from, &to.digest), (&kept[left], &kept[serves]));
        }
        let refused = Scripts::Policies.roll_back(db, NOW + 20, "p").await;
        assert!(matches!(
            refused,
            Err(StoreError::Refused {
                code: "no_earlier_revision",
                ..
            })
        ));
        // Somebody activates what was rolled back from: it counts as good again.
        moved(db, &kept[2], RevisionState::Active, None)
            .await
            .expect("moved");
        let serving = Scripts::Policies.active(db, "p").await.expect("one");
        assert!(serving.good && serving.digest == kept[2]);
    }

    async fn revisions_are_listed_in_pages(fresh: Fresh) {
        let db = &fresh.db.write;
        let mut kept = digests(db, &["1", "2", "3", "4", "5"]).await;
        kept.reverse();
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().cloned();
            let page = Page {
                after: after.as_deref(),
                limit: 2,
            };
            let rows = Scripts::Policies.revisions(db, "p", page).await;
            let rows = rows.expect("a page");
            if rows.is_empty() {
                break;
            }
            seen.extend(rows.into_iter().map(|r| r.digest));
        }
        assert_eq!(seen, kept);
    }

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
            assert_eq!(stored.stands(), RevisionState::Active);
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
        let sql = "INSERT INTO policy_revision (name, digest, source, state, created_at) \
                   VALUES ('p', 'd', 's', 'active', 0)";
        assert!(execute(db, sql, values![]).await.is_err());
    }
}
