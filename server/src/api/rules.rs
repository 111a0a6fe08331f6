//! Rules of dispatch: when a cell begins nothing new, and which machines must not heat at the same time.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::build::rules::{
    BadRule, CellRules, Closed, HeatGroup, Quiet, QuietHours, check_quiet, check_rules,
};
use workflows::model::{Timestamp, Weekday};

use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult, Problem};
use crate::extract::{Json, Path};
use crate::store::{self, rules};

/// The most spans of either kind a rule may list.
const MAX_SPANS: usize = 100;

/// When a cell may take and start builds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CellRulesView {
    /// The group of machines that share a circuit with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat_group: Option<String>,
    /// When it begins nothing new; what it is at goes on.
    #[serde(default)]
    pub quiet: QuietView,
    /// When it is being maintained and begins nothing new.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub maintenance: Vec<ClosedView>,
}

/// Hours of the week in the time of the place.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct QuietView {
    /// IANA name, such as `Europe/Berlin`; empty means UTC.
    #[serde(default)]
    pub time_zone: String,
    /// The hours.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub hours: Vec<QuietHoursView>,
}

/// Some hours of some days.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct QuietHoursView {
    /// Days on which they begin; none named means every day.
    #[serde(default)]
    pub days: Vec<DayView>,
    /// `HH:MM`.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "22:00")]
    pub from: String,
    /// `HH:MM`; no later than `from` means of the next day.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "06:00")]
    pub to: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum DayView {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A span of time, the end not in it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ClosedView {
    /// First moment.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// First moment after.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
}

/// How machines on one circuit may heat.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NewHeatGroup {
    /// How many may heat at once.
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_heating: u32,
    /// The least time between two starts; 0 if not said.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub stagger_ms: i64,
    /// How long a machine heats at most, unless its cell names another phase than `heating` before; 10 minutes if not
    /// said.
    #[serde(default = "ten_minutes")]
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub heating_ms: i64,
    /// When none of them begins anything new.
    #[serde(default)]
    pub quiet: QuietView,
}

/// Machines on one circuit.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeatGroupView {
    /// Its name.
    name: String,
    /// How they may heat.
    #[serde(flatten)]
    limits: NewHeatGroup,
}

/// Every group.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeatGroupList {
    /// By name.
    heat_groups: Vec<HeatGroupView>,
    /// Where the list goes on.
    next: Option<String>,
}

const fn ten_minutes() -> i64 {
    600_000
}

/// When a cell may take and start builds.
#[utoipa::path(get, path = "/api/v1/cells/{cell}/rules", tag = "cells",
    params(("cell" = String, Path)), responses((status = 200, body = CellRulesView)))]
pub async fn get_cell_rules(
    app: App,
    _: auth::Reader,
    Path(cell): Path<String>,
) -> ApiResult<Json<CellRulesView>> {
    store::cells::get(&app.db.read, &cell).await?;
    Ok(Json(rules::of_cell(&app.db.read, &cell).await?.into()))
}

/// Set when a cell may take and start builds; it counts from the next claim or start on.
#[utoipa::path(put, path = "/api/v1/cells/{cell}/rules", tag = "cells",
    params(("cell" = String, Path)), request_body = CellRulesView,
    responses((status = 200, body = CellRulesView)))]
pub async fn put_cell_rules(
    app: App,
    who: auth::Operator,
    Path(cell): Path<String>,
    Json(body): Json<CellRulesView>,
) -> ApiResult<Json<CellRulesView>> {
    check_count("maintenance", body.maintenance.len())?;
    check_count("quiet.hours", body.quiet.hours.len())?;
    let wanted = CellRules::from(body);
    check_rules(&wanted).map_err(|bad| refused(&bad))?;
    let tx = store::begin(&app.db.write).await?;
    rules::put(&tx, app.now_ms(), &who.0.subject, &cell, &wanted).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json(wanted.into()))
}

/// Every group of machines that share a circuit.
#[utoipa::path(get, path = "/api/v1/heat_groups", tag = "cells",
    responses((status = 200, body = HeatGroupList)))]
pub async fn list_heat_groups(app: App, _: auth::Reader) -> ApiResult<Json<HeatGroupList>> {
    let groups = rules::groups(&app.db.read).await?;
    let heat_groups = groups.into_iter().map(Into::into).collect();
    Ok(Json(HeatGroupList {
        heat_groups,
        next: None,
    }))
}

/// One group of machines that share a circuit.
#[utoipa::path(get, path = "/api/v1/heat_groups/{name}", tag = "cells",
    params(("name" = String, Path)), responses((status = 200, body = HeatGroupView)))]
pub async fn get_heat_group(
    app: App,
    _: auth::Reader,
    Path(name): Path<String>,
) -> ApiResult<Json<HeatGroupView>> {
    let limits = rules::group(&app.db.read, &name).await?;
    Ok(Json((name, limits).into()))
}

/// Make or change a group of machines that share a circuit; cells are put into it by their rules.
#[utoipa::path(put, path = "/api/v1/heat_groups/{name}", tag = "cells",
    params(("name" = inline(Name), Path)), request_body = NewHeatGroup,
    responses((status = 200, body = HeatGroupView)))]
pub async fn put_heat_group(
    app: App,
    who: auth::Operator,
    Path(name): Path<String>,
    Json(body): Json<NewHeatGroup>,
) -> ApiResult<Json<HeatGroupView>> {
    let name = checked_name("name", name)?;
    check_limits(&body)?;
    let limits = HeatGroup::from(body);
    check_quiet(&limits.quiet).map_err(|bad| refused(&bad))?;
    let tx = store::begin(&app.db.write).await?;
    rules::put_group(&tx, app.now_ms(), &who.0.subject, &name, &limits).await?;
    tx.commit().await?;
    app.queue.notify_local();
    Ok(Json((name, limits).into()))
}

/// Remove a group no cell belongs to.
#[utoipa::path(delete, path = "/api/v1/heat_groups/{name}", tag = "cells",
    params(("name" = String, Path)), responses((status = 204, description = "Removed."),
        (status = 409, description = "Cells belong to it.",
            body = Problem, content_type = "application/problem+json")))]
pub async fn delete_heat_group(
    app: App,
    who: auth::Operator,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    let tx = store::begin(&app.db.write).await?;
    rules::delete_group(&tx, app.now_ms(), &who.0.subject, &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_limits(body: &NewHeatGroup) -> ApiResult<()> {
    const DAY_MS: i64 = 86_400_000;
    check_count("quiet.hours", body.quiet.hours.len())?;
    let wrong = [
        (
            "max_heating",
            (1..=10_000).contains(&body.max_heating),
            "1 to 10000",
        ),
        (
            "stagger_ms",
            (0..=DAY_MS).contains(&body.stagger_ms),
            "0 to 86400000",
        ),
        (
            "heating_ms",
            (1..=DAY_MS).contains(&body.heating_ms),
            "1 to 86400000",
        ),
    ];
    match wrong.into_iter().find(|(_, fits, _)| !fits) {
        Some((field, _, range)) => {
            let detail = format!("`{field}` must be {range}");
            Err(ApiError::refused("invalid_heat_group", detail).with("field", field))
        }
        None => Ok(()),
    }
}

fn check_count(field: &str, count: usize) -> ApiResult<()> {
    if count <= MAX_SPANS {
        return Ok(());
    }
    let detail = format!("`{field}` lists {count} spans; at most {MAX_SPANS} are kept");
    Err(ApiError::refused("too_long", detail).with("field", field))
}

fn refused(bad: &BadRule) -> ApiError {
    let code = match bad {
        BadRule::UnknownZone(_) => "unknown_time_zone",
        BadRule::NotATime(_) => "invalid_time",
        BadRule::EndsBefore { .. } => "invalid_span",
    };
    ApiError::refused(code, bad.to_string())
}

const DAYS: [(Weekday, DayView); 7] = [
    (Weekday::Mon, DayView::Mon),
    (Weekday::Tue, DayView::Tue),
    (Weekday::Wed, DayView::Wed),
    (Weekday::Thu, DayView::Thu),
    (Weekday::Fri, DayView::Fri),
    (Weekday::Sat, DayView::Sat),
    (Weekday::Sun, DayView::Sun),
];

impl From<QuietView> for Quiet {
    fn from(view: QuietView) -> Self {
        let hours = view.hours.into_iter().map(|hours| QuietHours {
            days: hours
                .days
                .into_iter()
                .map(|day| DAYS[day as usize].0)
                .collect(),
            from: hours.from,
            to: hours.to,
        });
        Self {
            hours: hours.collect(),
            time_zone: view.time_zone,
        }
    }
}

impl From<Quiet> for QuietView {
    fn from(quiet: Quiet) -> Self {
        let hours = quiet.hours.into_iter().map(|hours| QuietHoursView {
            days: hours
                .days
                .into_iter()
                .map(|day| DAYS[day as usize].1)
                .collect(),
            from: hours.from,
            to: hours.to,
        });
        Self {
            hours: hours.collect(),
            time_zone: quiet.time_zone,
        }
    }
}

impl From<CellRulesView> for CellRules {
    fn from(view: CellRulesView) -> Self {
        let closed = |ClosedView { from, to }| Closed { from, to };
        Self {
            heat_group: view.heat_group,
            quiet: view.quiet.into(),
            maintenance: view.maintenance.into_iter().map(closed).collect(),
        }
    }
}

impl From<CellRules> for CellRulesView {
    fn from(rules: CellRules) -> Self {
        let closed = |Closed { from, to }| ClosedView { from, to };
        Self {
            heat_group: rules.heat_group,
            quiet: rules.quiet.into(),
            maintenance: rules.maintenance.into_iter().map(closed).collect(),
        }
    }
}

impl From<NewHeatGroup> for HeatGroup {
    fn from(new: NewHeatGroup) -> Self {
        Self {
            max_heating: new.max_heating,
            stagger_ms: new.stagger_ms,
            heating_ms: new.heating_ms,
            quiet: new.quiet.into(),
        }
    }
}

impl From<(String, HeatGroup)> for HeatGroupView {
    fn from((name, limits): (String, HeatGroup)) -> Self {
        Self {
            name,
            limits: NewHeatGroup {
                max_heating: limits.max_heating,
                stagger_ms: limits.stagger_ms,
                heating_ms: limits.heating_ms,
                quiet: limits.quiet.into(),
            },
        }
    }
}
