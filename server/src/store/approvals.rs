//! A person's yes that a run waits for.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::{Value, json};
use workflows::model::WindowState;
use workflows::run::CallOutcome;

use super::database::{execute, from_json, to_json};
use super::{Page, StoreError, audit, events, journal, new_id, steps, windows};

table!(
    /// Approvals; `subject` is JSON.
    approval, "approval", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    run_id: String,
    position: String,
    role: String,
    subject: String,
    state: String,
    due: Option<i64>,
    answer: Option<bool>,
    comment: Option<String>,
    answered_by: Option<String>,
    created_at: i64,
    answered_at: Option<i64>,
});

/// Asks for a yes; asking again at the same position changes nothing.
pub async fn ask(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    (role, subject): (&str, &Value),
    due: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO approval (id, run_id, position, role, subject, state, due, created_at) \
               VALUES ($1, $2, $3, $4, $5, 'open', $6, $7) ON CONFLICT (run_id, position) DO NOTHING";
    let id = new_id(now);
    let subject_json = to_json("approval subject", subject)?;
    let values = values![id.as_str(), run, position, role, subject_json, due, now];
    if execute(db, sql, values).await? == 1 {
        let detail = json!({ "run": run, "role": role, "subject": subject });
        events::record(db, now, "approval.asked", &id, &detail).await?;
    }
    Ok(())
}

/// Somebody's answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Who answers.
    pub by: &'a str,
    /// Yes or no.
    pub answer: bool,
    /// In words.
    pub comment: Option<&'a str>,
}

/// Answers and wakes the run; the same answer from the same person may be given again. To be called in a transaction.
///
/// # Errors
///
/// `approval_closed` when it was answered otherwise, came due or was withdrawn.
pub async fn answer(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    given: Answer<'_>,
) -> Result<approval::Model, StoreError> {
    let sql = "UPDATE approval SET state = 'answered', answer = $2, comment = $3, \
               answered_by = $4, answered_at = $5 WHERE id = $1 AND state = 'open'";
    let comment = given.comment.map(str::to_owned);
    let values = values![id, given.answer, comment, given.by, now];
    let changed = execute(db, sql, values).await? == 1;
    let row = get(db, id).await?;
    if !changed {
        let again =
            row.answer == Some(given.answer) && row.answered_by.as_deref() == Some(given.by);
        return if again {
            Ok(row)
        } else {
            Err(StoreError::refused(
                "approval_closed",
                format_args!("approval `{id}` is {}", row.state),
            ))
        };
    }
    let told = json!({ "answer": given.answer, "by": given.by, "comment": given.comment });
    let outcome = CallOutcome::Ok(told);
    journal::answer(db, now, &row.run_id, &row.position, &outcome).await?;
    steps::wake(db, now, &row.run_id, steps::ADVANCE).await?;
    // After the run's own rows and before what is numbered, as everywhere.
    answer_window(db, now, &row, given).await?;
    let detail = json!({ "run": row.run_id, "answer": given.answer, "comment": given.comment });
    audit::record_with_fact(
        db,
        now,
        "approval.answered",
        (given.by, "answer_approval"),
        id,
        &detail,
    )
    .await?;
    Ok(row)
}

/// A yes to a run that asks about a window it proposed accepts the window, a no rejects it. A window that is settled
/// already stays as it is.
async fn answer_window(
    db: &impl ConnectionTrait,
    now: i64,
    asked: &approval::Model,
    given: Answer<'_>,
) -> Result<(), StoreError> {
    let subject: Value = from_json("approval subject", &asked.subject)?;
    let Some(id) = subject["window"].as_str() else {
        return Ok(());
    };
    let state = if given.answer {
        WindowState::Accepted
    } else {
        WindowState::Rejected
    };
    match windows::get(db, id).await {
        Ok(window)
            if window.run == asked.run_id
                && matches!(window.state, WindowState::Proposed | WindowState::Accepted) =>
        {
            windows::set_state(db, now, given.by, id, state).await?;
            Ok(())
        }
        // Any script may ask about anything it calls a window.
        Ok(_) | Err(StoreError::Unknown { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The open approval of a run that asks about a window.
pub async fn about_window(
    db: &impl ConnectionTrait,
    run: &str,
    window: &str,
) -> Result<Option<approval::Model>, StoreError> {
    let open = approval::Entity::find()
        .filter(approval::Column::RunId.eq(run))
        .filter(approval::Column::State.eq("open"))
        .all(db)
        .await?;
    Ok(open.into_iter().find(|row| {
        let subject: Value = serde_json::from_str(&row.subject).unwrap_or_default();
        subject["window"] == window
    }))
}

/// Closes the approval of a call that came due.
pub async fn expire(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    position: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE approval SET state = 'expired', answered_at = $3 \
               WHERE run_id = $1 AND position = $2 AND state = 'open'";
    execute(db, sql, values![run, position, now]).await?;
    Ok(())
}

/// One approval.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<approval::Model, StoreError> {
    let row = approval::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("approval", id))
}

/// Approvals, newest first, of any state or of one (`open`, `answered`, `expired`, `withdrawn`).
pub async fn list(
    db: &impl ConnectionTrait,
    state: Option<&str>,
    page: Page<'_>,
) -> Result<Vec<approval::Model>, StoreError> {
    let mut find = approval::Entity::find()
        .order_by_desc(approval::Column::Id)
        .limit(page.limit);
    if let Some(state) = state {
        find = find.filter(approval::Column::State.eq(state));
    }
    if let Some(after) = page.after {
        find = find.filter(approval::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

#[cfg(test)]
mod tests {
    use workflows::model::{NewWindow, Timestamp};

    use super::*;
    use crate::testing::{Fresh, on_both};

    on_both!(an_answer_about_a_window_is_the_answer_to_the_window);

    async fn an_answer_about_a_window_is_the_answer_to_the_window(f: Fresh) {
        let db = &f.db.write;
        let (ours, theirs) = (
            f.start("fn run(event) { 1 }", Value::Null).await,
            f.start("fn run(event) { 2 }", Value::Null).await,
        );
        let new = NewWindow {
            asset: "a1".into(),
            from: Timestamp(1_000),
            to: Timestamp(2_000),
            technician: None,
            reasons: Value::Null,
            alternatives: Vec::new(),
        };
        for (position, answer, by, state) in [
            ("1", true, &ours, WindowState::Accepted),
            ("2", false, &ours, WindowState::Rejected),
            // Somebody else's window is nothing this run's approval decides about.
            ("3", true, &theirs, WindowState::Proposed),
        ] {
            let window = windows::insert(db, 0, (by, position), &new).await.unwrap();
            let subject = json!({ "window": window.id });
            ask(db, 0, (&ours, position), ("technician", &subject), None)
                .await
                .unwrap();
            let asked = about_window(db, &ours, &window.id).await.unwrap();
            let given = Answer {
                by: "ada",
                answer,
                comment: None,
            };
            super::answer(db, 0, &asked.unwrap().id, given)
                .await
                .unwrap();
            assert_eq!(windows::get(db, &window.id).await.unwrap().state, state);
            let open = about_window(db, &ours, &window.id).await.unwrap();
            assert!(open.is_none());
        }
    }
}
