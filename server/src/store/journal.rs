//! What each run has been told so far.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Value;
use workflows::run::CallOutcome;

use super::StoreError;
use super::database::{execute, number, to_json};

table!(
    /// Journal entries; `outcome` is the JSON of an [`workflows::run::CallOutcome`], absent until the call is answered.
    journal, "journal", {
    #[sea_orm(primary_key, auto_increment = false)]
    run_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    position: String,
    ordinal: i64,
    kind: String,
    input: String,
    input_digest: String,
    line: Option<i64>,
    due: Option<i64>,
    outcome: Option<String>,
    recorded_at: i64,
    answered_at: Option<i64>,
    undo: bool,
});

/// A call to be recorded.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    /// Where in the script.
    pub position: &'a str,
    /// What sort of call.
    pub kind: &'a str,
    /// What was handed in.
    pub input: &'a Value,
    /// Digest of what was handed in.
    pub input_digest: &'a str,
    /// Line of the script.
    pub line: Option<i64>,
    /// When it is answered whatever happens: a time-out, or the end of a sleep.
    pub due: Option<i64>,
    /// Whether it undoes something.
    pub undo: bool,
    /// How it was answered, if at once.
    pub outcome: Option<&'a CallOutcome>,
}

/// Records calls in the order the script made them; a position already recorded is left as it is.
pub async fn append(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    entries: &[NewEntry<'_>],
) -> Result<(), StoreError> {
    let sql = "SELECT COUNT(*) AS n FROM journal WHERE run_id = $1";
    let mut ordinal = number(db, sql, values![run]).await?.unwrap_or(0);
    for entry in entries {
        let sql = "INSERT INTO journal (run_id, position, ordinal, kind, input, input_digest, \
                   line, due, outcome, recorded_at, answered_at, undo) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                   ON CONFLICT (run_id, position) DO NOTHING";
        let outcome = entry
            .outcome
            .map(|outcome| to_json("outcome", outcome))
            .transpose()?;
        let answered_at = outcome.is_some().then_some(now);
        let values = values![
            run,
            entry.position,
            ordinal,
            entry.kind,
            to_json("input", entry.input)?,
            entry.input_digest,
            entry.line,
            entry.due,
            outcome,
            now,
            answered_at,
            entry.undo
        ];
        ordinal += i64::try_from(execute(db, sql, values).await?).unwrap_or(0);
    }
    Ok(())
}

/// Answers a call, once: `false` when it was answered before or never made.
pub async fn answer(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    position: &str,
    outcome: &CallOutcome,
) -> Result<bool, StoreError> {
    let sql = "UPDATE journal SET outcome = $3, answered_at = $4 \
               WHERE run_id = $1 AND position = $2 AND outcome IS NULL";
    let values = values![run, position, to_json("outcome", outcome)?, now];
    Ok(execute(db, sql, values).await? == 1)
}

/// A run's journal, in the order the script made the calls.
pub async fn of_run(
    db: &impl ConnectionTrait,
    run: &str,
) -> Result<Vec<journal::Model>, StoreError> {
    Ok(journal::Entity::find()
        .filter(journal::Column::RunId.eq(run))
        .order_by_asc(journal::Column::Ordinal)
        .all(db)
        .await?)
}

/// A part of a run's journal, in the order the script made the calls: what comes after an ordinal.
pub async fn page(
    db: &impl ConnectionTrait,
    run: &str,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<journal::Model>, StoreError> {
    use sea_orm::QuerySelect;
    Ok(journal::Entity::find()
        .filter(journal::Column::RunId.eq(run))
        .filter(journal::Column::Ordinal.gt(after.unwrap_or(-1)))
        .order_by_asc(journal::Column::Ordinal)
        .limit(limit)
        .all(db)
        .await?)
}

/// The unanswered calls of a run that are due.
pub async fn overdue(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
) -> Result<Vec<journal::Model>, StoreError> {
    Ok(journal::Entity::find()
        .filter(journal::Column::RunId.eq(run))
        .filter(journal::Column::Outcome.is_null())
        .filter(journal::Column::Due.lte(now))
        .order_by_asc(journal::Column::Ordinal)
        .all(db)
        .await?)
}

/// When the next unanswered call of a run comes due.
pub async fn next_due(db: &impl ConnectionTrait, run: &str) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(due) AS n FROM journal WHERE run_id = $1 AND outcome IS NULL";
    number(db, sql, values![run]).await
}
