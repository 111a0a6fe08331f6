//! Steps whose failure ended their run, and beginning those runs again.

use sea_orm::{ConnectionTrait, EntityTrait};

use super::database::{all, execute};
use super::restarts::{self, Restart};
use super::runs::{self, run};
use super::steps::step;
use super::{Page, StoreError};

/// A step whose failure ended its run.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The step.
    pub step: step::Model,
    /// Its run.
    pub run: run::Model,
    /// The run that was begun again from it, if it was.
    pub redriven_as: Option<String>,
}

/// Which dead letters.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetters<'a> {
    /// Only of this workflow.
    pub workflow: Option<&'a str>,
    /// Only of this kind of step.
    pub kind: Option<&'a str>,
    /// Only those that were begun again, or were not.
    pub redriven: Option<bool>,
}

/// Dead letters, those of the newest runs first; a page goes on after the run of its last.
pub async fn list(
    db: &impl ConnectionTrait,
    which: DeadLetters<'_>,
    page: Page<'_>,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut wanted = vec!["r.failed_position IS NOT NULL AND r.archived_at IS NULL".to_owned()];
    let mut values = Vec::new();
    for (column, value, sign) in [
        ("r.workflow", which.workflow, "="),
        ("s.kind", which.kind, "="),
        ("r.id", page.after, "<"),
    ] {
        if let Some(value) = value {
            values.push(value.into());
            wanted.push(format!("{column} {sign} ${}", values.len()));
        }
    }
    if let Some(redriven) = which.redriven {
        let not = if redriven { "" } else { "NOT " };
        wanted.push(format!(
            "{not}EXISTS (SELECT 1 FROM run a WHERE a.restarted_from = r.id)"
        ));
    }
    let sql = format!(
        "SELECT s.* FROM run r JOIN step s ON s.run_id = r.id AND s.position = r.failed_position \
         AND s.state = 'failed' WHERE {} ORDER BY r.id DESC LIMIT {}",
        wanted.join(" AND "),
        page.limit
    );
    let steps: Vec<step::Model> = all(db, &sql, values).await?;
    let mut letters = Vec::with_capacity(steps.len());
    for step in steps {
        letters.push(read(db, step).await?);
    }
    Ok(letters)
}

async fn read(db: &impl ConnectionTrait, step: step::Model) -> Result<DeadLetter, StoreError> {
    let run = runs::get(db, &step.run_id).await?;
    let again = restarts::of(db, &run.id).await?;
    Ok(DeadLetter {
        redriven_as: again.into_iter().next().map(|run| run.id),
        step,
        run,
    })
}

/// One dead letter, by the name of its step.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<DeadLetter, StoreError> {
    let unknown = || StoreError::unknown("dead letter", id);
    let step = step::Entity::find_by_id(id.to_owned()).one(db).await?;
    let found = read(db, step.ok_or_else(unknown)?).await?;
    let dead = found.step.state == "failed"
        && found.run.failed_position.as_deref() == Some(&*found.step.position);
    dead.then_some(found).ok_or_else(unknown)
}

/// Begins the run of a dead letter again from its step, once: redriving it again gives the same run. To be called in a
/// transaction.
pub async fn redrive(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    id: &str,
) -> Result<String, StoreError> {
    let letter = get(db, id).await?;
    // Whoever redrives it at the same moment waits here and finds the run of the first.
    let sql = "UPDATE run SET state = state WHERE id = $1";
    execute(db, sql, values![letter.run.id.as_str()]).await?;
    if let Some(again) = get(db, id).await?.redriven_as {
        return Ok(again);
    }
    let position = letter.step.position.parse();
    let how = Restart {
        from: Some(&position.map_err(|error| StoreError::refused("invalid_position", error))?),
        revision: None,
        actor,
    };
    Ok(restarts::restart(db, now, &letter.run.id, &how).await?.id)
}
