//! Windows: agreed spans when an asset may be offline.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use workflows::model::{NewWindow, Window, WindowState};

use super::database::{all, execute, from_json, one, to_json};
use super::{Page, StoreError, audit, events, new_id};

table!(
    /// Windows; `proposal` is the JSON of a [`workflows::model::NewWindow`].
    maintenance_window, "maintenance_window", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    asset: String,
    state: String,
    from_at: i64,
    to_at: i64,
    proposal: String,
    run_id: String,
    position: String,
    created_at: i64,
});

impl TryFrom<maintenance_window::Model> for Window {
    type Error = StoreError;

    fn try_from(row: maintenance_window::Model) -> Result<Self, StoreError> {
        Ok(Self {
            state: from_json("window state", &format!("\"{}\"", row.state))?,
            proposal: from_json("window", &row.proposal)?,
            id: row.id,
            run: row.run_id,
            position: row.position,
        })
    }
}

/// Stores the proposal of a step; the step's second attempt gets the first one's. To be called in a transaction.
pub async fn insert(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    new: &NewWindow,
) -> Result<Window, StoreError> {
    let sql = "INSERT INTO maintenance_window \
               (id, asset, state, from_at, to_at, proposal, run_id, position, created_at) \
               VALUES ($1, $2, 'proposed', $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (run_id, position) DO NOTHING";
    let id = new_id(now);
    let values = values![
        id.as_str(),
        new.asset.as_str(),
        new.from.0,
        new.to.0,
        to_json("window", new)?,
        run,
        position,
        now
    ];
    if execute(db, sql, values).await? == 1 {
        let detail = json!({ "asset": new.asset, "from": new.from, "to": new.to });
        events::record(db, now, "window.proposed", &id, &detail).await?;
    }
    let sql = "SELECT * FROM maintenance_window WHERE run_id = $1 AND position = $2";
    let row: Option<maintenance_window::Model> = one(db, sql, values![run, position]).await?;
    row.ok_or_else(|| StoreError::unknown("window of step", format!("{run}/{position}")))?
        .try_into()
}

/// Moves a window on, if it is where that can be done from; moving it where it is changes nothing. To be called in a
/// transaction.
///
/// # Errors
///
/// `window_state` when it cannot go there from where it is.
pub async fn set_state(
    db: &impl ConnectionTrait,
    now: i64,
    actor: &str,
    id: &str,
    state: WindowState,
) -> Result<Window, StoreError> {
    let from: &[WindowState] = match state {
        WindowState::Proposed => &[WindowState::Rejected],
        WindowState::Accepted | WindowState::Rejected => {
            &[WindowState::Proposed, WindowState::Accepted]
        }
        WindowState::Done => &[WindowState::Proposed, WindowState::Accepted],
        WindowState::Cancelled => &[
            WindowState::Proposed,
            WindowState::Accepted,
            WindowState::Rejected,
        ],
    };
    let window = get(db, id).await?;
    if window.state == state {
        return Ok(window);
    }
    if !from.contains(&window.state) {
        return Err(StoreError::refused(
            "window_state",
            format_args!(
                "window `{id}` is {} and cannot become {}",
                word(window.state),
                word(state)
            ),
        ));
    }
    let detail = json!({ "state": word(state) });
    let name = format!("window.{}", word(state));
    // A run may wait for this; waits and runs come before windows in every transaction.
    let answered = events::answer_waits(db, now, &name, id, &detail).await?;
    let sql = "UPDATE maintenance_window SET state = $2 WHERE id = $1 AND state = $3";
    let values = values![id, word(state), word(window.state)];
    if execute(db, sql, values).await? == 0 {
        return Err(StoreError::stale("window", id));
    }
    let seq = events::record(db, now, &name, id, &detail).await?;
    events::told(db, now, (seq, &name, id), &detail, answered).await?;
    audit::record(db, now, actor, "set_window_state", id, &detail).await?;
    get(db, id).await
}

/// Cancels what is left of the windows of a run that came to nothing. To be called in a transaction.
pub(super) async fn cancel_of_run(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE maintenance_window SET state = 'cancelled' \
               WHERE run_id = $1 AND state IN ('proposed', 'accepted') RETURNING *";
    let cancelled: Vec<maintenance_window::Model> = all(db, sql, values![run]).await?;
    for window in cancelled {
        let detail = json!({ "state": window.state });
        audit::record_with_fact(
            db,
            now,
            "window.cancelled",
            ("server", "set_window_state"),
            &window.id,
            &detail,
        )
        .await?;
    }
    Ok(())
}

/// The word a state is stored as.
#[must_use]
pub fn word(state: WindowState) -> &'static str {
    match state {
        WindowState::Proposed => "proposed",
        WindowState::Accepted => "accepted",
        WindowState::Rejected => "rejected",
        WindowState::Done => "done",
        WindowState::Cancelled => "cancelled",
    }
}

/// One window.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Window, StoreError> {
    let row = maintenance_window::Entity::find_by_id(id.to_owned())
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("window", id))?
        .try_into()
}

/// Where the windows of these ids stand, as stored words.
pub async fn states(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, String>, StoreError> {
    let rows = maintenance_window::Entity::find()
        .filter(maintenance_window::Column::Id.is_in(ids))
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.state)).collect())
}

/// Windows that overlap a span, cancelled and rejected ones left out, in order of time.
pub async fn overlapping(
    db: &impl ConnectionTrait,
    from: i64,
    to: i64,
) -> Result<Vec<Window>, StoreError> {
    let rows = maintenance_window::Entity::find()
        .filter(maintenance_window::Column::FromAt.lt(to))
        .filter(maintenance_window::Column::ToAt.gt(from))
        .filter(maintenance_window::Column::State.is_not_in(["cancelled", "rejected"]))
        .order_by_asc(maintenance_window::Column::FromAt)
        .order_by_asc(maintenance_window::Column::Id)
        .all(db)
        .await?;
    rows.into_iter().map(Window::try_from).collect()
}

/// Windows, newest first.
pub async fn list(db: &impl ConnectionTrait, page: Page<'_>) -> Result<Vec<Window>, StoreError> {
    let mut find = maintenance_window::Entity::find()
        .order_by_desc(maintenance_window::Column::Id)
        .limit(page.limit);
    if let Some(after) = page.after {
        find = find.filter(maintenance_window::Column::Id.lt(after));
    }
    let rows = find.all(db).await?;
    rows.into_iter().map(Window::try_from).collect()
}
