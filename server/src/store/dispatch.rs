//! Why a build waits: what stands between it and each cell.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait;
use workflows::build::fit::{Capabilities, why_not};

use super::builds::build;
use super::database::all;
use super::{StoreError, builds, cells, leases::lease, rules};

/// After this long without a word a cell counts as away: a long poll lasts less.
const AWAY_MS: i64 = 120_000;

/// What stands between a build and a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The cell; none when there is no cell at all.
    pub cell: Option<String>,
    /// Stable code.
    pub code: &'static str,
    /// In words.
    pub detail: String,
    /// When it ends, where that is known.
    pub until: Option<i64>,
}

/// Why no cell has taken a build that waits: one reason for each cell.
pub async fn why_waiting(
    db: &impl ConnectionTrait,
    now: i64,
    build: &build::Model,
) -> Result<Vec<Obstacle>, StoreError> {
    let cells = cells::list(db).await?;
    if cells.is_empty() {
        return Ok(vec![Obstacle {
            cell: None,
            code: "no_cells",
            detail: "no cell is enrolled".to_owned(),
            until: None,
        }]);
    }
    let held: Vec<lease::Model> =
        all(db, "SELECT * FROM lease WHERE state = 'held'", values![]).await?;
    let busy: BTreeSet<String> = held.into_iter().map(|lease| lease.cell).collect();
    let unknown = builds::unknown_plates(db).await?;
    let barred = rules::barred(db, now).await?;
    let obstacle = |cell: cells::cell::Model| {
        let about = |code, detail, until| Obstacle {
            cell: Some(cell.id.clone()),
            code,
            detail,
            until,
        };
        if let Some(misfit) = why_not(&told(&cell.machine), &build.printer, &build.material) {
            return about("misfit", misfit.to_string(), None);
        }
        // Also of a cell that is away: coming back is not enough for it.
        if let Some(left) = unknown.get(&cell.id)
            && !busy.contains(&cell.id)
        {
            let detail = format!(
                "nobody knows what build `{left}` left on its plate; \
                 `POST /api/v1/builds/{left}/resolve` says so"
            );
            return about("plate_unknown", detail, None);
        }
        if cell.seen_at.is_none_or(|seen| seen < now - AWAY_MS) {
            let detail = "the cell has not spoken for two minutes".to_owned();
            return about("away", detail, None);
        }
        if busy.contains(&cell.id) {
            return about(
                "busy",
                "the cell has another build in hand".to_owned(),
                None,
            );
        }
        match barred.get(&cell.id) {
            Some(why) => about(why.code(), why.to_string(), Some(why.until().0)),
            None => {
                let detail = "nothing: the cell takes it when its turn has come".to_owned();
                about("next", detail, None)
            }
        }
    };
    Ok(cells.into_iter().map(obstacle).collect())
}

/// What a cell said of its machine when it enrolled; of what it left open, anything goes.
fn told(machine: &str) -> Capabilities {
    let machine: serde_json::Value = serde_json::from_str(machine).unwrap_or_default();
    let names = |key: &str| {
        let listed = machine[key].as_array().into_iter().flatten();
        listed
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    Capabilities {
        printers: names("printers"),
        materials: names("materials"),
        volume_mm: None,
    }
}
