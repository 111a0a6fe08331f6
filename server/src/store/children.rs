//! Runs that steps of other runs had done.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::Value;
use workflows::host::{Child, ChildEnd, NewChild};

use super::database::{execute, from_json};
use super::runs::{self, NewRun, run};
use super::scripts::Scripts;
use super::{StoreError, guards, sha256_hex, steps};

/// How deep runs may have runs done.
pub const MAX_DEPTH: i64 = 8;

/// The run a step had done; started now if it had not been, or not yet while the kill switch is on. To be called in a
/// transaction that holds the step.
///
/// # Errors
///
/// `too_deep` beyond [`MAX_DEPTH`]; unknown when no workflow of that name serves.
pub async fn of_step(
    db: &impl ConnectionTrait,
    now: i64,
    parent: &run::Model,
    position: &str,
    order: &NewChild,
) -> Result<Option<Child>, StoreError> {
    let child = match at(db, &parent.id, position).await? {
        Some(child) => child,
        None if guards::is_stopped(db).await? => return Ok(None),
        None => start(db, now, parent, position, order).await?,
    };
    read(child).map(Some)
}

/// The run a step had done, if it has; of runs that continue each other the last.
pub async fn at(
    db: &impl ConnectionTrait,
    parent: &str,
    position: &str,
) -> Result<Option<run::Model>, StoreError> {
    Ok(run::Entity::find()
        .filter(run::Column::Parent.eq(parent))
        .filter(run::Column::ParentPosition.eq(position))
        // One that continued as a new run has handed its place on to that.
        .filter(run::Column::State.ne("continued"))
        .one(db)
        .await?)
}

async fn start(
    db: &impl ConnectionTrait,
    now: i64,
    parent: &run::Model,
    position: &str,
    order: &NewChild,
) -> Result<run::Model, StoreError> {
    if parent.depth >= MAX_DEPTH {
        return Err(StoreError::refused(
            "too_deep",
            format_args!(
                "run `{}` is {MAX_DEPTH} runs below the one that began it all; it cannot have another done",
                parent.id
            ),
        ));
    }
    let revision = Scripts::Workflows.active(db, &order.workflow).await?;
    // Of its own, yet the same whenever the parent is played with the same seed.
    let hash = sha256_hex(format!("{}/{position}", parent.seed).as_bytes());
    let new = NewRun {
        workflow: &order.workflow,
        revision: &revision.digest,
        event: &order.event,
        seed: order
            .event
            .get("seed")
            .and_then(Value::as_u64)
            .or_else(|| u64::from_str_radix(&hash[..16], 16).ok()),
        decision: parent.decision.as_deref(),
        actor: &format!("run:{}", parent.id),
    };
    let made = runs::create(db, now, &new).await?;
    let sql = "UPDATE run SET parent = $2, parent_position = $3, depth = $4 WHERE id = $1";
    let depth = parent.depth + 1;
    let values = values![made.id.as_str(), parent.id.as_str(), position, depth];
    execute(db, sql, values).await?;
    Ok(made)
}

fn read(run: run::Model) -> Result<Child, StoreError> {
    let ended = match run.state.as_str() {
        "succeeded" => Some(ChildEnd::Succeeded {
            result: match run.result.as_deref() {
                Some(text) => from_json("result", text)?,
                None => Value::Null,
            },
        }),
        "failed" => {
            let failure: Value = from_json("failure", run.failure.as_deref().unwrap_or("null"))?;
            let text = |name: &str, or: &str| failure[name].as_str().unwrap_or(or).to_owned();
            Some(ChildEnd::Failed {
                code: text("code", "failed"),
                message: text("message", "it failed"),
            })
        }
        "cancelled" => Some(ChildEnd::Cancelled),
        _ => None,
    };
    Ok(Child { id: run.id, ended })
}

/// Lets the step go on that had a run done, now that the run ends.
///
/// It comes first in the transaction that ends the run: rows of a run come before those of the runs it had done, so that
/// no two transactions wait for each other.
pub async fn wake_parent(
    db: &impl ConnectionTrait,
    now: i64,
    child: &run::Model,
) -> Result<(), StoreError> {
    match (&child.parent, &child.parent_position) {
        (Some(parent), Some(position)) => steps::wake(db, now, parent, position).await,
        _ => Ok(()),
    }
}

/// Asks the open runs that a run had done to stop: those of some of its calls, or all. They undo what they did.
pub async fn cancel(
    db: &impl ConnectionTrait,
    now: i64,
    parent: &str,
    positions: Option<&[String]>,
) -> Result<(), StoreError> {
    let mut find = run::Entity::find()
        .filter(run::Column::Parent.eq(parent))
        .filter(run::Column::EndedAt.is_null());
    if let Some(positions) = positions {
        find = find.filter(run::Column::ParentPosition.is_in(positions.iter().map(String::as_str)));
    }
    for child in find.all(db).await? {
        steps::wake(db, now, &child.id, steps::ADVANCE).await?;
        let sql = "UPDATE run SET cancel_requested = TRUE WHERE id = $1 AND ended_at IS NULL";
        execute(db, sql, values![child.id.as_str()]).await?;
    }
    Ok(())
}

/// The runs a run had done, oldest first.
pub async fn of(db: &impl ConnectionTrait, parent: &str) -> Result<Vec<run::Model>, StoreError> {
    use sea_orm::QueryOrder;
    Ok(run::Entity::find()
        .filter(run::Column::Parent.eq(parent))
        .order_by_asc(run::Column::Id)
        .all(db)
        .await?)
}
