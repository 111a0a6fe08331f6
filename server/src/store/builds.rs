//! Builds: makings of a design. A build belongs to the step that ordered it.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use workflows::build::dispatch::Demand;
use workflows::build::machine::{self, BuildEffect, BuildEvent, OnPlate};
use workflows::model::{Build, BuildEnd, BuildState, NewBuild, Timestamp};

use super::database::{
    all, execute, for_update, from_json, listed, listed_in, notify_builds, one, to_json,
};
use super::{Page, StoreError, audit, events, leases, new_id, steps};

table!(
    /// Builds; `ending` is the JSON of a [`workflows::model::BuildEnd`].
    build, "build", {
    #[sea_orm(primary_key, auto_increment = false)]
    id: String,
    run_id: String,
    position: String,
    gcode: String,
    gcode_size_bytes: i64,
    material: String,
    printer: String,
    design: String,
    state: String,
    fence: i64,
    cell: Option<String>,
    cancel_requested: bool,
    priority: i64,
    physical_starts: i64,
    share_done: f64,
    phase: String,
    ending: Option<String>,
    created_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    on_plate: Option<String>,
});

impl TryFrom<build::Model> for Build {
    type Error = StoreError;

    fn try_from(row: build::Model) -> Result<Self, StoreError> {
        Ok(Self {
            state: row.state()?,
            ended: row
                .ending
                .as_deref()
                .map(|text| from_json("build ending", text))
                .transpose()?,
            id: row.id,
            run: row.run_id,
            position: row.position,
            order: NewBuild {
                gcode: row.gcode,
                gcode_size_bytes: row.gcode_size_bytes.cast_unsigned(),
                material: row.material,
                printer: row.printer,
                design: row.design,
            },
            fence: row.fence,
            cell: row.cell,
            started_at: row.started_at.map(Timestamp),
            share_done: row.share_done,
        })
    }
}

impl build::Model {
    /// Where it stands.
    pub fn state(&self) -> Result<BuildState, StoreError> {
        from_json("build state", &format!("\"{}\"", self.state))
    }

    /// What somebody found on its plate, where it stays uncertain all the same.
    pub fn on_plate(&self) -> Result<Option<OnPlate>, StoreError> {
        let read = |word: &String| from_json("plate", &format!("\"{word}\""));
        self.on_plate.as_ref().map(read).transpose()
    }
}

/// The word a state is stored as.
pub(super) fn word(state: BuildState) -> &'static str {
    match state {
        BuildState::Waiting => "waiting",
        BuildState::Leased => "leased",
        BuildState::Staged => "staged",
        BuildState::Started => "started",
        BuildState::Uncertain => "uncertain",
        BuildState::Ended => "ended",
    }
}

/// The build a step ordered; ordered now if it had not been. To be called in a transaction.
pub async fn of_step(
    db: &impl ConnectionTrait,
    now: i64,
    (run, position): (&str, &str),
    order: &NewBuild,
) -> Result<Build, StoreError> {
    let sql = "INSERT INTO build (id, run_id, position, gcode, gcode_size_bytes, material, printer, \
               design, state, created_at, priority) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', \
               $9, COALESCE((SELECT priority FROM step WHERE run_id = $2 AND position = $3), 0)) \
               ON CONFLICT (run_id, position) DO NOTHING";
    let id = new_id(now);
    let values = values![
        id.as_str(),
        run,
        position,
        order.gcode.as_str(),
        order.gcode_size_bytes.cast_signed(),
        order.material.as_str(),
        order.printer.as_str(),
        order.design.as_str(),
        now
    ];
    if execute(db, sql, values).await? == 1 {
        let detail = json!({ "run": run, "position": position, "gcode": order.gcode });
        events::record(db, now, "build.ordered", &id, &detail).await?;
        notify_builds(db).await?;
    }
    let row = build::Entity::find()
        .filter(build::Column::RunId.eq(run))
        .filter(build::Column::Position.eq(position))
        .one(db)
        .await?;
    row.ok_or_else(|| StoreError::unknown("build of step", format!("{run}/{position}")))?
        .try_into()
}

/// One build.
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<build::Model, StoreError> {
    let row = build::Entity::find_by_id(id.to_owned()).one(db).await?;
    row.ok_or_else(|| StoreError::unknown("build", id))
}

/// One build, held until the end of the transaction.
pub(super) async fn hold(db: &impl ConnectionTrait, id: &str) -> Result<build::Model, StoreError> {
    let sql = format!("SELECT * FROM build WHERE id = $1 {}", for_update(db));
    let row = one(db, &sql, values![id]).await?;
    row.ok_or_else(|| StoreError::unknown("build", id))
}

/// Builds, newest first, of any state or of one.
pub async fn list(
    db: &impl ConnectionTrait,
    state: Option<&str>,
    page: Page<'_>,
) -> Result<Vec<build::Model>, StoreError> {
    let mut find = build::Entity::find()
        .order_by_desc(build::Column::Id)
        .limit(page.limit);
    if let Some(state) = state {
        find = find.filter(build::Column::State.eq(state));
    }
    if let Some(after) = page.after {
        find = find.filter(build::Column::Id.lt(after));
    }
    Ok(find.all(db).await?)
}

/// The cells of which nobody knows what lies on the plate, each with the build that left it so.
pub async fn unknown_plates(
    db: &impl ConnectionTrait,
) -> Result<BTreeMap<String, String>, StoreError> {
    let sql = "SELECT * FROM build WHERE state = 'uncertain' AND cell IS NOT NULL";
    let rows: Vec<build::Model> = all(db, sql, values![]).await?;
    let of_cell = |row: build::Model| Some((row.cell?, row.id));
    Ok(rows.into_iter().filter_map(of_cell).collect())
}

/// Checks that no build of a cell is uncertain: on a plate that nobody has looked at nothing else is made.
///
/// # Errors
///
/// `PlateUnknown` where one is.
pub async fn check_plate(db: &impl ConnectionTrait, cell: &str) -> Result<(), StoreError> {
    let sql = "SELECT * FROM build WHERE cell = $1 AND state = 'uncertain' ORDER BY id LIMIT 1";
    match one::<build::Model>(db, sql, values![cell]).await? {
        None => Ok(()),
        Some(build) => Err(StoreError::PlateUnknown {
            cell: cell.to_owned(),
            build: build.id,
            fence: build.fence,
        }),
    }
}

#[derive(sea_orm::FromQueryResult)]
struct DemandRow {
    printer: String,
    material: String,
    builds: i64,
}

/// How many builds wait for a cell, by what they need; of a very long queue, its beginning.
pub async fn demands(db: &impl ConnectionTrait) -> Result<Vec<Demand>, StoreError> {
    let sql = "SELECT printer, material, COUNT(*) AS builds FROM \
               (SELECT printer, material FROM build WHERE state = 'waiting' \
                AND NOT cancel_requested ORDER BY created_at, id LIMIT 10000) AS first \
               GROUP BY printer, material ORDER BY printer, material";
    let rows: Vec<DemandRow> = all(db, sql, values![]).await?;
    let demand = |row: DemandRow| Demand {
        printer: row.printer,
        material: row.material,
        builds: usize::try_from(row.builds).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(demand).collect())
}

/// What somebody found who looked at a plate.
#[derive(Debug, Clone, Copy)]
pub struct Looked<'a> {
    /// Who looked.
    pub actor: &'a str,
    /// The fence the build had then.
    pub fence: i64,
    /// What lies there.
    pub on_plate: OnPlate,
    /// Digest of the scan of a finished part.
    pub scan: Option<&'a str>,
}

/// Settles an uncertain build by what lies on the plate. To be called in a transaction.
///
/// # Errors
///
/// `Stale` when the build was leased again since somebody looked: an answer that comes late or twice is about an earlier
/// plate, and would have a part made a second time. `build_not_uncertain` when there is nothing to settle.
pub async fn resolve(
    db: &impl ConnectionTrait,
    now: i64,
    id: &str,
    looked: Looked<'_>,
) -> Result<build::Model, StoreError> {
    let Looked {
        actor,
        fence,
        on_plate,
        scan,
    } = looked;
    let row = hold(db, id).await?;
    if row.fence != fence {
        return Err(StoreError::stale("build", id));
    }
    let Ok((_, effect)) = machine::apply(row.state()?, BuildEvent::Resolve(on_plate)) else {
        return Err(StoreError::refused(
            "build_not_uncertain",
            format_args!(
                "build `{id}` is {}; only an uncertain one is settled",
                row.state
            ),
        ));
    };
    match effect {
        // Nobody takes what nobody wants any more: offered again it would wait for ever.
        BuildEffect::Requeue if row.cancel_requested => {
            finish(db, now, &row, &called_off()).await?;
        }
        BuildEffect::Requeue => requeue(db, id).await?,
        BuildEffect::ReportFailed => {
            let ending = BuildEnd::Failed {
                code: "partial_print".to_owned(),
                message: "the print was left unfinished".to_owned(),
            };
            finish(db, now, &row, &ending).await?;
        }
        // A finished part is made once its scan says so, whether the cell or somebody else sends it.
        _ => {
            let sql = "UPDATE build SET on_plate = 'finished' WHERE id = $1";
            execute(db, sql, values![id]).await?;
        }
    }
    let detail = json!({ "on_plate": on_plate, "fence": fence, "scan": scan });
    audit::record_with_fact(
        db,
        now,
        "build.resolved",
        (actor, "resolve_build"),
        id,
        &detail,
    )
    .await?;
    if let (BuildEffect::ScanPlate, Some(scan)) = (effect, scan) {
        leases::complete_by_hand(db, now, &row, actor, scan).await?;
    }
    // Its cell may wait to make another.
    notify_builds(db).await?;
    get(db, id).await
}

/// Offers a build again; whoever had it finds its fence passed on when it is leased next.
pub(super) async fn requeue(db: &impl ConnectionTrait, id: &str) -> Result<(), StoreError> {
    let sql = "UPDATE build SET state = 'waiting', cell = NULL, started_at = NULL, \
               share_done = 0, phase = '', on_plate = NULL WHERE id = $1";
    execute(db, sql, values![id]).await?;
    notify_builds(db).await
}

/// Ends a build and wakes the step that ordered it.
pub(super) async fn finish(
    db: &impl ConnectionTrait,
    now: i64,
    row: &build::Model,
    ending: &BuildEnd,
) -> Result<(), StoreError> {
    let sql = "UPDATE build SET state = 'ended', ending = $2, ended_at = $3 WHERE id = $1";
    let values = values![row.id.as_str(), to_json("build ending", ending)?, now];
    execute(db, sql, values).await?;
    steps::wake(db, now, &row.run_id, &row.position).await
}

/// How a build ends that nobody wants any more.
fn called_off() -> BuildEnd {
    BuildEnd::Failed {
        code: "cancelled".to_owned(),
        message: "the run that ordered it does not wait for it any more".to_owned(),
    }
}

/// Calls off the builds of a run, or of some of its steps: those not started end, and the cells that make the others
/// are asked to stop. This is [`BuildEvent::Cancel`] in one statement.
pub async fn cancel(
    db: &impl ConnectionTrait,
    now: i64,
    run: &str,
    positions: Option<&[String]>,
) -> Result<(), StoreError> {
    let sql = "UPDATE build SET cancel_requested = TRUE, \
               ending = CASE WHEN state IN ('waiting', 'leased', 'staged') THEN $2 ELSE ending END, \
               ended_at = CASE WHEN state IN ('waiting', 'leased', 'staged') THEN $3 ELSE ended_at END, \
               state = CASE WHEN state IN ('waiting', 'leased', 'staged') THEN 'ended' ELSE state END \
               WHERE run_id = $1 AND state <> 'ended'";
    let ending = to_json("build ending", &called_off())?;
    let mut values = values![run, ending, now];
    let of_calls = positions.map(|positions| {
        values.push(listed(positions).into());
        format!(" AND position IN {}", listed_in(db, 4))
    });
    execute(
        db,
        &format!("{sql}{}", of_calls.unwrap_or_default()),
        values,
    )
    .await?;
    Ok(())
}
