//! Builds: makings of a design, and what lies on the plate when nobody can tell.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use workflows::build::machine::OnPlate;
use workflows::model::{Build, BuildEnd, BuildState, Timestamp};

use super::name::PageQuery;
use crate::app::App;
use crate::auth::{PlateReader, Reader, Role};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path, Query};
use crate::store::{self, StoreError, builds::Looked, builds::build, dispatch::Obstacle};

/// One making of a design.
#[derive(Debug, Serialize, ToSchema)]
pub struct BuildView {
    /// Stable name.
    id: String,
    /// The run that ordered it.
    run: String,
    /// Position of the step in it.
    position: String,
    /// The design it makes.
    design: String,
    /// Digest of the G-code.
    gcode: String,
    /// Material it needs.
    material: String,
    /// Printer profile it is sliced for.
    printer: String,
    /// Where it stands.
    state: BuildStateView,
    /// Raised by every lease.
    fence: i64,
    /// The cell that holds or held it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<String>,
    /// When matter first moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// Share done, 0–1.
    progress: f64,
    /// Digest of the scan, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<String>,
    /// Why no usable part came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What somebody found on its plate, where it stays uncertain all the same: a finished part waits for its scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_plate: Option<OnPlateView>,
    /// Until when the lease on it holds without a heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    lease_expires_at: Option<Timestamp>,
    /// Of one build that waits: what stands between it and each cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_dispatched_because: Option<Vec<ObstacleView>>,
}

/// What stands between a build and a cell.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObstacleView {
    /// The cell; none when there is no cell at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<String>,
    /// Stable code: `misfit`, `plate_unknown`, `away`, `busy`, `maintenance`, `quiet_hours`, `heat_group_full`, `next`,
    /// `no_cells`.
    code: String,
    /// In words.
    detail: String,
    /// When it ends, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

impl From<Obstacle> for ObstacleView {
    fn from(obstacle: Obstacle) -> Self {
        Self {
            cell: obstacle.cell,
            code: obstacle.code.to_owned(),
            detail: obstacle.detail,
            until: obstacle.until.map(Timestamp),
        }
    }
}

/// Where a build stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildStateView {
    /// No cell has it.
    Waiting,
    /// A cell has it.
    Leased,
    /// G-code verified at the machine.
    Staged,
    /// Matter has moved.
    Started,
    /// The lease was lost after the start.
    Uncertain,
    /// It is over.
    Ended,
}

const STATES: [(BuildState, BuildStateView, &str); 6] = [
    (BuildState::Waiting, BuildStateView::Waiting, "waiting"),
    (BuildState::Leased, BuildStateView::Leased, "leased"),
    (BuildState::Staged, BuildStateView::Staged, "staged"),
    (BuildState::Started, BuildStateView::Started, "started"),
    (
        BuildState::Uncertain,
        BuildStateView::Uncertain,
        "uncertain",
    ),
    (BuildState::Ended, BuildStateView::Ended, "ended"),
];

/// Builds, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct BuildList {
    /// This page.
    builds: Vec<BuildView>,
    /// Where the list goes on.
    next: Option<String>,
}

/// Which builds.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BuildQuery {
    /// Only those in this state.
    #[param(inline)]
    pub state: Option<BuildStateView>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

/// What somebody who looked found.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Resolution {
    /// What is on the plate.
    pub on_plate: OnPlateView,
    /// Digest of a stored scan of the finished part: it completes the build, as its cell would. Without one a finished part
    /// waits for it.
    #[schema(pattern = "^sha256:[0-9a-f]{64}$")]
    pub scan: Option<String>,
    /// The build's fence as it was when the plate was looked at. A build that was leased again since has another, and is
    /// not settled by what is said of an earlier plate.
    pub fence: i64,
}

/// What is on the plate.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnPlateView {
    /// Nothing: no matter has moved, so it may be offered again.
    Nothing,
    /// A part of it, of no use.
    Partial,
    /// The whole part, which nobody scanned.
    Finished,
}

impl From<OnPlate> for OnPlateView {
    fn from(on_plate: OnPlate) -> Self {
        match on_plate {
            OnPlate::Nothing => Self::Nothing,
            OnPlate::Partial => Self::Partial,
            OnPlate::Finished => Self::Finished,
        }
    }
}

impl BuildView {
    /// A build, and until when the lease on it holds.
    fn new(row: build::Model, lease_expires_at: Option<i64>) -> ApiResult<Self> {
        let on_plate = match row.state()? {
            BuildState::Uncertain => row.on_plate()?.map(Into::into),
            _ => None,
        };
        let b = Build::try_from(row)?;
        let (scan, failure) = match b.ended {
            Some(BuildEnd::Completed { scan, .. }) => (Some(scan), None),
            Some(BuildEnd::Failed { code, message }) => (None, Some(format!("{code}: {message}"))),
            None => (None, None),
        };
        Ok(Self {
            id: b.id,
            run: b.run,
            position: b.position,
            design: b.order.design,
            gcode: b.order.gcode,
            material: b.order.material,
            printer: b.order.printer,
            state: STATES[b.state as usize].1,
            fence: b.fence,
            cell: b.cell,
            started_at: b.started_at,
            progress: b.share_done,
            scan,
            failure,
            on_plate,
            lease_expires_at: lease_expires_at.map(Timestamp),
            not_dispatched_because: None,
        })
    }
}

/// Builds, newest first.
#[utoipa::path(get, path = "/api/v1/builds", tag = "cells", params(BuildQuery),
    responses((status = 200, body = BuildList)))]
pub async fn list_builds(
    app: App,
    _: Reader,
    Query(query): Query<BuildQuery>,
) -> ApiResult<Json<BuildList>> {
    let paging = PageQuery {
        after: query.after,
        limit: query.limit,
    };
    let page = paging.page()?;
    let state = query.state.map(|s| STATES[s as usize].2);
    let rows = store::builds::list(&app.db.read, state, page).await?;
    let next = PageQuery::next(page, rows.len(), rows.last().map(|r| r.id.as_str()));
    let next = next.map(str::to_owned);
    let held = store::leases::held_until(&app.db.read).await?;
    let builds = rows.into_iter().map(|row| {
        let until = held.get(&row.id).copied();
        BuildView::new(row, until)
    });
    Ok(Json(BuildList {
        builds: builds.collect::<ApiResult<_>>()?,
        next,
    }))
}

/// One build.
#[utoipa::path(get, path = "/api/v1/builds/{id}", tag = "cells", params(("id" = String, Path)),
    responses((status = 200, body = BuildView)))]
pub async fn get_build(app: App, _: Reader, Path(id): Path<String>) -> ApiResult<Json<BuildView>> {
    let row = store::builds::get(&app.db.read, &id).await?;
    let obstacles = match row.state()? {
        BuildState::Waiting => {
            let found = store::dispatch::why_waiting(&app.db.read, app.now_ms(), &row).await?;
            Some(found.into_iter().map(Into::into).collect())
        }
        _ => None,
    };
    let held = store::leases::held_until(&app.db.read).await?;
    let until = held.get(&row.id).copied();
    Ok(Json(BuildView {
        not_dispatched_because: obstacles,
        ..BuildView::new(row, until)?
    }))
}

/// Say what is on the plate of an uncertain build: a person who looked, or the cell whose machine knows.
///
/// A finished part with its `scan` completes the build. 409 `stale` if the build was leased again since.
#[utoipa::path(post, path = "/api/v1/builds/{id}/resolve", tag = "cells",
    params(("id" = String, Path)), request_body = Resolution,
    responses((status = 200, body = BuildView)))]
pub async fn resolve_build(
    app: App,
    who: PlateReader,
    Path(id): Path<String>,
    Json(body): Json<Resolution>,
) -> ApiResult<Json<BuildView>> {
    if who.0.role == Role::Cell {
        let build = store::builds::get(&app.db.read, &id).await?;
        if build.cell.as_deref() != Some(&who.0.subject) {
            let detail = "it takes an operator, a technician or the cell that held the build";
            return Err(ApiError::forbidden(detail));
        }
        // The fence that was just seen beside the cell's name: with another one this would be somebody else's build.
        if build.fence != body.fence {
            return Err(StoreError::stale("build", id).into());
        }
    }
    let on_plate = match body.on_plate {
        OnPlateView::Nothing => OnPlate::Nothing,
        OnPlateView::Partial => OnPlate::Partial,
        OnPlateView::Finished => OnPlate::Finished,
    };
    match (&body.scan, on_plate) {
        (None, _) => {}
        // A scan nobody uploaded would strand the step that verifies it.
        (Some(scan), OnPlate::Finished) => drop(app.artifacts.size(scan).await?),
        (Some(_), _) => {
            let detail = "`scan` is of a finished part; without one on the plate there is none";
            return Err(ApiError::refused("unexpected_scan", detail).with("field", "scan"));
        }
    }
    let tx = store::begin(&app.db.write).await?;
    let looked = Looked {
        actor: &who.0.subject,
        fence: body.fence,
        on_plate,
        scan: body.scan.as_deref(),
    };
    let build = store::builds::resolve(&tx, app.now_ms(), &id, looked).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(BuildView::new(build, None)?))
}
