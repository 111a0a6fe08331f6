//! What each run has been told so far.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::Serialize;
use serde_json::Value;
use workflows::run::CallOutcome;

use super::StoreError;
use super::database::{execute, number, rows_in, to_json};

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
    #[derive(Serialize)]
    struct Row<'a> {
        n: usize,
        position: &'a str,
        kind: &'a str,
        input: String,
        input_digest: &'a str,
        line: Option<i64>,
        due: Option<i64>,
        outcome: Option<String>,
        answered_at: Option<i64>,
        undo: bool,
    }
    if entries.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(entries.len());
    for (n, entry) in entries.iter().enumerate() {
        let outcome = entry.outcome;
        rows.push(Row {
            n,
            position: entry.position,
            kind: entry.kind,
            input: to_json("input", entry.input)?,
            input_digest: entry.input_digest,
            line: entry.line,
            due: entry.due,
            outcome: outcome.map(|o| to_json("outcome", o)).transpose()?,
            answered_at: outcome.is_some().then_some(now),
            undo: entry.undo,
        });
    }
    let columns = [
        ("n", "bigint"),
        ("position", "text"),
        ("kind", "text"),
        ("input", "text"),
        ("input_digest", "text"),
        ("line", "bigint"),
        ("due", "bigint"),
        ("outcome", "text"),
        ("answered_at", "bigint"),
        ("undo", "boolean"),
    ];
    // Ordinals go on without a gap: only what is new is numbered.
    let sql = format!(
        "INSERT INTO journal (run_id, position, ordinal, kind, input, input_digest, \
         line, due, outcome, recorded_at, answered_at, undo) \
         SELECT $1, f.position, \
         (SELECT COUNT(*) FROM journal WHERE run_id = $1) + ROW_NUMBER() OVER (ORDER BY f.n) - 1, \
         f.kind, f.input, f.input_digest, f.line, f.due, f.outcome, $2, f.answered_at, f.undo FROM {} \
         WHERE NOT EXISTS (SELECT 1 FROM journal WHERE run_id = $1 AND position = f.position) \
         ON CONFLICT (run_id, position) DO NOTHING",
        rows_in(db, 3, &columns)
    );
    execute(db, &sql, values![run, now, to_json("journal", &rows)?]).await?;
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

/// Answers many calls, each once; says how many of them had no answer.
pub async fn answer_all(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    outcomes: &[(String, CallOutcome)],
) -> Result<usize, StoreError> {
    #[derive(Serialize)]
    struct Answer<'a> {
        position: &'a str,
        outcome: String,
    }
    let mut rows = Vec::with_capacity(outcomes.len());
    for (position, outcome) in outcomes {
        rows.push(Answer {
            position,
            outcome: to_json("outcome", outcome)?,
        });
    }
    let f = rows_in(db, 3, &[("position", "text"), ("outcome", "text")]);
    let sql = format!(
        "UPDATE journal SET outcome = f.outcome, answered_at = $2 FROM {f} \
         WHERE journal.run_id = $1 AND journal.position = f.position AND journal.outcome IS NULL"
    );
    let answered = execute(db, &sql, values![run, now, to_json("answers", &rows)?]).await?;
    Ok(usize::try_from(answered).unwrap_or(usize::MAX))
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
