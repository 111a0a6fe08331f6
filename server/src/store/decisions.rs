//! What policies decided, and on what facts.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::database::execute;
use super::runs::run;
use super::{Page, StoreError};

table!(
    /// Decisions; `facts` and `verdict` are what went into the policy and what came out, JSON.
    decision, "decision", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    asset: String,
    policy: String,
    revision: String,
    facts: String,
    verdict: String,
    reason: String,
    operations: i64,
    duration_us: i64,
    run_id: Option<String>,
    at: i64,
});

/// Keeps a decision.
pub async fn insert(db: &impl ConnectionTrait, row: decision::Model) -> Result<(), StoreError> {
    decision::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// One decision.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<decision::Model, StoreError> {
    let row = decision::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("decision", id))
}

/// Decisions, newest first, of all assets or of one.
pub async fn list(
    db: &impl ConnectionTrait,
    asset: Option<&str>,
    page: Page<'_>,
) -> Result<Vec<decision::Model>, StoreError> {
    let mut find = decision::Entity::find()
        .order_by_desc(decision::Column::Id)
        .limit(page.limit);
    if let Some(asset) = asset {
        find = find.filter(decision::Column::Asset.eq(asset));
    }
    if let Some(after) = page.after {
        find = find.filter(decision::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

/// Lets one process at a time turn decisions into runs, until its transaction ends. SQLite has one writer anyway.
pub async fn one_at_a_time(tx: &DatabaseTransaction) -> Result<(), StoreError> {
    if tx.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT pg_advisory_xact_lock($1)";
        execute(tx, sql, values![4_179_i64]).await?;
    }
    Ok(())
}

/// The runs that deal with an asset, by asset; the oldest where there are several. One that diverged deals with
/// nothing any more.
pub async fn open_runs(db: &impl ConnectionTrait) -> Result<BTreeMap<String, String>, StoreError> {
    let open = run::Entity::find()
        .filter(run::Column::EndedAt.is_null())
        .filter(run::Column::State.ne("diverged"))
        .filter(run::Column::Asset.is_not_null())
        .order_by_desc(run::Column::Id)
        .all(db)
        .await?;
    let about = |run: run::Model| Some((run.asset?, run.id));
    Ok(open.into_iter().filter_map(about).collect())
}

/// The assets on which a run that a decision started was at work after `since`, ms: it may take days, and what it
/// did counts from its end.
pub async fn acted_on_since(
    db: &impl ConnectionTrait,
    since: i64,
) -> Result<BTreeSet<String>, StoreError> {
    let runs = run::Entity::find()
        .filter(
            Condition::any()
                .add(run::Column::StartedAt.gt(since))
                .add(run::Column::EndedAt.gt(since)),
        )
        .filter(run::Column::Decision.is_not_null())
        .all(db)
        .await?;
    Ok(runs.into_iter().filter_map(|run| run.asset).collect())
}
