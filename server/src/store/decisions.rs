//! What policies decided, and on what facts.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use workflows::model::Timestamp;
use workflows::policy::Recorded;

use super::database::{all, execute, number};
use super::runs::run;
use super::{DatabaseTransaction, Page, StoreError};

table!(
    /// Decisions; `facts` and `verdict` are what went into the policy and what came out, JSON.
    ///
    /// `stopped_by` is what kept it from starting a run, and `fell_back` the revisions that failed before the one that
    /// decided; both are JSON too.
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
    stopped_by: Option<String>,
    fell_back: Option<String>,
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

/// Which decisions are listed; what is absent is not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecisionFilter<'a> {
    /// On this asset.
    pub asset: Option<&'a str>,
    /// Of this policy.
    pub policy: Option<&'a str>,
    /// With this action.
    pub action: Option<&'a str>,
    /// Stopped by this guard, or by some.
    pub stopped_by: Option<StoppedBy<'a>>,
    /// Made at this time or later, ms.
    pub from: Option<i64>,
    /// Made before this time, ms.
    pub to: Option<i64>,
}

/// What kept a decision from starting a run.
#[derive(Debug, Clone, Copy)]
pub enum StoppedBy<'a> {
    /// Whichever guard.
    Any,
    /// This one.
    Guard(&'a str),
}

/// Decisions, newest first.
pub async fn list(
    db: &impl ConnectionTrait,
    only: DecisionFilter<'_>,
    page: Page<'_>,
) -> Result<Vec<decision::Model>, StoreError> {
    let mut find = decision::Entity::find()
        .order_by_desc(decision::Column::Id)
        .limit(page.limit);
    if let Some(asset) = only.asset {
        find = find.filter(decision::Column::Asset.eq(asset));
    }
    if let Some(policy) = only.policy {
        find = find.filter(decision::Column::Policy.eq(policy));
    }
    if let Some(action) = only.action {
        find = find.filter(is(db, "verdict", "action", action));
    }
    match only.stopped_by {
        None => {}
        Some(StoppedBy::Any) => find = find.filter(decision::Column::StoppedBy.is_not_null()),
        Some(StoppedBy::Guard(guard)) => {
            // Both: the index is of those that were stopped.
            find = find
                .filter(decision::Column::StoppedBy.is_not_null())
                .filter(is(db, "stopped_by", "guard", guard));
        }
    }
    if let Some(from) = only.from {
        find = find.filter(decision::Column::At.gte(from));
    }
    if let Some(to) = only.to {
        find = find.filter(decision::Column::At.lt(to));
    }
    if let Some(after) = page.after {
        find = find.filter(decision::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

/// That a member of a JSON column has a value; written as in the index of it.
fn is(db: &impl ConnectionTrait, column: &str, member: &str, value: &str) -> SimpleExpr {
    let (sql, value) = match db.get_database_backend() {
        DbBackend::Postgres => (format!("({column}::json ->> '{member}') = $1"), value),
        _ => (format!("json_extract({column}, '$.{member}') = ?"), value),
    };
    Expr::cust_with_values(sql, [value])
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

/// When a run that a decision started was last at work on an asset, if after `since`, ms.
pub async fn acted_on(
    db: &impl ConnectionTrait,
    asset: &str,
    since: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MAX(COALESCE(ended_at, started_at)) AS n FROM run \
               WHERE asset = $1 AND decision IS NOT NULL AND (started_at > $2 OR ended_at > $2)";
    number(db, sql, values![asset, since]).await
}

/// The assets on which a run that a decision started was at work after `since`, ms, and when it last was: it may take
/// days, and what it did counts from its end.
pub async fn acted_on_since(
    db: &impl ConnectionTrait,
    since: i64,
) -> Result<BTreeMap<String, i64>, StoreError> {
    let runs = run::Entity::find()
        .filter(
            Condition::any()
                .add(run::Column::StartedAt.gt(since))
                .add(run::Column::EndedAt.gt(since)),
        )
        .filter(run::Column::Decision.is_not_null())
        .all(db)
        .await?;
    let mut acted = BTreeMap::new();
    for run in runs {
        let at = run.ended_at.unwrap_or(run.started_at);
        if let Some(asset) = run.asset {
            let last = acted.entry(asset).or_insert(at);
            *last = at.max(*last);
        }
    }
    Ok(acted)
}

/// Which recorded decisions of a policy: those whose facts speak of a moment from `from` on and before `to`, ms.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The policy.
    pub policy: &'a str,
    /// The first moment.
    pub from: i64,
    /// The first moment no more.
    pub to: i64,
}

/// How many decisions there are.
pub async fn count(db: &impl ConnectionTrait, span: Span<'_>) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) AS n FROM decision WHERE policy = $1 AND at >= $2 AND at < $3";
    let count = number(db, sql, values![span.policy, span.from, span.to]).await?;
    Ok(count.unwrap_or(0))
}

/// Decisions in the order they were made, to be asked about again.
pub async fn recorded(
    db: &impl ConnectionTrait,
    span: Span<'_>,
    page: Page<'_>,
) -> Result<Vec<Recorded>, StoreError> {
    let sql = "SELECT id, asset, revision, facts, verdict, at FROM decision \
               WHERE policy = $1 AND at >= $2 AND at < $3 AND id > $4 ORDER BY id LIMIT $5";
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let after = page.after.unwrap_or_default();
    let values = values![span.policy, span.from, span.to, after, limit];
    let rows: Vec<RecordedRow> = all(db, sql, values).await?;
    Ok(rows.into_iter().map(RecordedRow::told).collect())
}

/// The latest decisions of a policy, newest first.
pub async fn latest(
    db: &impl ConnectionTrait,
    policy: &str,
    limit: i64,
) -> Result<Vec<Recorded>, StoreError> {
    let sql = "SELECT id, asset, revision, facts, verdict, at FROM decision \
               WHERE policy = $1 ORDER BY id DESC LIMIT $2";
    let rows: Vec<RecordedRow> = all(db, sql, values![policy, limit]).await?;
    Ok(rows.into_iter().map(RecordedRow::told).collect())
}

#[derive(FromQueryResult)]
struct RecordedRow {
    id: String,
    asset: String,
    revision: String,
    facts: String,
    verdict: String,
    at: i64,
}

impl RecordedRow {
    fn told(self) -> Recorded {
        Recorded {
            decision: self.id,
            asset: self.asset,
            at: Timestamp(self.at),
            revision: self.revision,
            facts: self.facts,
            verdict: self.verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fresh, on_both};

    async fn found(
        db: &crate::store::DatabaseConnection,
        only: DecisionFilter<'_>,
        limit: u64,
    ) -> Vec<String> {
        let page = Page { after: None, limit };
        let rows = list(db, only, page).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    on_both!(decisions_are_found_by_what_was_decided_and_what_stopped_them,);

    async fn decisions_are_found_by_what_was_decided_and_what_stopped_them(f: Fresh) {
        let db = &f.db.write;
        for (n, (policy, action, guard)) in [
            ("p", "monitor", None),
            ("p", "start", None),
            ("p", "start", Some("cool_down")),
            ("q", "start", Some("dry_run")),
            ("q", "monitor", None),
        ]
        .into_iter()
        .enumerate()
        {
            let row = decision::Model {
                id: format!("d{n}"),
                asset: format!("fan-{}", n % 2),
                policy: policy.into(),
                revision: "sha256:0".into(),
                facts: "{}".into(),
                verdict: serde_json::json!({ "action": action, "reason": "so" }).to_string(),
                reason: "so".into(),
                operations: 1,
                duration_us: 1,
                run_id: None,
                at: i64::try_from(n).unwrap() * 10,
                stopped_by: guard.map(|g| serde_json::json!({ "guard": g }).to_string()),
                fell_back: None,
            };
            insert(db, row).await.unwrap();
        }
        let all = DecisionFilter::default();
        let of = |action| DecisionFilter {
            action: Some(action),
            ..all
        };
        let stopped = |by| DecisionFilter {
            stopped_by: Some(by),
            ..all
        };
        assert_eq!(found(db, of("start"), 9).await, ["d3", "d2", "d1"]);
        assert_eq!(
            found(db, of("start"), 1).await,
            ["d3"],
            "of all, not of a page"
        );
        assert_eq!(found(db, of("shift_bandwidth"), 9).await, [""; 0]);
        assert_eq!(found(db, stopped(StoppedBy::Any), 9).await, ["d3", "d2"]);
        let cool = stopped(StoppedBy::Guard("cool_down"));
        assert_eq!(found(db, cool, 9).await, ["d2"]);
        let one = DecisionFilter {
            policy: Some("p"),
            asset: Some("fan-1"),
            ..of("start")
        };
        assert_eq!(found(db, one, 9).await, ["d1"]);
        let then = DecisionFilter {
            from: Some(10),
            to: Some(30),
            ..all
        };
        assert_eq!(found(db, then, 9).await, ["d2", "d1"]);
    }
}
