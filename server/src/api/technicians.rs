//! Technicians: who can do maintenance, and when.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::{Absence, Shift, Technician, Timestamp, Weekday};

use super::name::{Name, checked_name};
use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};
use crate::store;

/// Who can do maintenance, and when.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TechnicianView {
    /// Stable name.
    #[serde(default)]
    pub id: String,
    /// What people call them.
    pub name: String,
    /// What they can do.
    #[serde(default)]
    pub skills: Vec<String>,
    /// IANA time zone their shifts are told in.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
    /// When they work.
    pub shifts: Vec<ShiftView>,
    /// When they do not, whatever their shifts say.
    #[serde(default)]
    pub away: Vec<AbsenceView>,
}

/// A weekly recurring shift, local time; `to` at or before `from` ends the next day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ShiftView {
    /// Days it begins on.
    pub days: Vec<WeekdayView>,
    /// Begin.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "08:00")]
    pub from: String,
    /// End.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "16:00")]
    pub to: String,
}

/// Day of the week.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum WeekdayView {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A time somebody is not there.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AbsenceView {
    /// First moment away.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// First moment back.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
}

/// Every technician.
#[derive(Debug, Serialize, ToSchema)]
pub struct TechnicianList {
    /// By id.
    technicians: Vec<TechnicianView>,
    /// Where the list goes on.
    next: Option<String>,
}

const DAYS: [(Weekday, WeekdayView); 7] = [
    (Weekday::Mon, WeekdayView::Mon),
    (Weekday::Tue, WeekdayView::Tue),
    (Weekday::Wed, WeekdayView::Wed),
    (Weekday::Thu, WeekdayView::Thu),
    (Weekday::Fri, WeekdayView::Fri),
    (Weekday::Sat, WeekdayView::Sat),
    (Weekday::Sun, WeekdayView::Sun),
];

impl From<Weekday> for WeekdayView {
    fn from(day: Weekday) -> Self {
        DAYS[day as usize].1
    }
}

impl From<WeekdayView> for Weekday {
    fn from(day: WeekdayView) -> Self {
        DAYS[day as usize].0
    }
}

impl From<Technician> for TechnicianView {
    fn from(t: Technician) -> Self {
        let shift = |s: Shift| ShiftView {
            days: s.days.into_iter().map(Into::into).collect(),
            from: s.from,
            to: s.to,
        };
        Self {
            id: t.id,
            name: t.name,
            skills: t.skills,
            time_zone: t.time_zone,
            shifts: t.shifts.into_iter().map(shift).collect(),
            away: t
                .away
                .into_iter()
                .map(|a| AbsenceView {
                    from: a.from,
                    to: a.to,
                })
                .collect(),
        }
    }
}

impl From<TechnicianView> for Technician {
    fn from(t: TechnicianView) -> Self {
        let shift = |s: ShiftView| Shift {
            days: s.days.into_iter().map(Into::into).collect(),
            from: s.from,
            to: s.to,
        };
        Self {
            id: t.id,
            name: t.name,
            skills: t.skills,
            time_zone: t.time_zone,
            shifts: t.shifts.into_iter().map(shift).collect(),
            away: t
                .away
                .into_iter()
                .map(|a| Absence {
                    from: a.from,
                    to: a.to,
                })
                .collect(),
        }
    }
}

/// Every technician.
#[utoipa::path(get, path = "/api/v1/technicians", tag = "maintenance",
    responses((status = 200, body = TechnicianList)))]
pub async fn list_technicians(app: App, _: auth::Reader) -> ApiResult<Json<TechnicianList>> {
    let technicians = store::technicians::list(&app.db.read).await?;
    let technicians = technicians.into_iter().map(Into::into).collect();
    Ok(Json(TechnicianList {
        technicians,
        next: None,
    }))
}

/// One technician.
#[utoipa::path(get, path = "/api/v1/technicians/{id}", tag = "maintenance",
    params(("id" = String, Path)), responses((status = 200, body = TechnicianView)))]
pub async fn get_technician(
    app: App,
    _: auth::Reader,
    Path(id): Path<String>,
) -> ApiResult<Json<TechnicianView>> {
    Ok(Json(
        store::technicians::get(&app.db.read, &id).await?.into(),
    ))
}

/// Create or replace a technician.
#[utoipa::path(put, path = "/api/v1/technicians/{id}", tag = "maintenance",
    params(("id" = inline(Name), Path)), request_body = TechnicianView,
    responses((status = 200, body = TechnicianView)))]
pub async fn put_technician(
    app: App,
    who: auth::Operator,
    Path(id): Path<String>,
    Json(mut body): Json<TechnicianView>,
) -> ApiResult<Json<TechnicianView>> {
    body.id = checked_name("id", id)?;
    check(&body)?;
    let technician = Technician::from(body);
    let (now, actor) = (app.now_ms(), &who.0.subject);
    let tx = store::begin(&app.db.write).await?;
    store::technicians::put(&tx, now, &technician).await?;
    store::audit::record_put(
        &tx,
        now,
        actor,
        "put_technician",
        &technician.id,
        &technician,
    )
    .await?;
    tx.commit().await?;
    Ok(Json(technician.into()))
}

fn check(body: &TechnicianView) -> ApiResult<()> {
    jiff::tz::TimeZone::get(&body.time_zone).map_err(|e| {
        let detail = format!("`time_zone`: {e}; write an IANA name such as `Europe/Berlin`");
        ApiError::refused("unknown_time_zone", detail).with("field", "time_zone")
    })?;
    for (index, shift) in body.shifts.iter().enumerate() {
        for (end, text) in [("from", &shift.from), ("to", &shift.to)] {
            text.parse::<jiff::civil::Time>()
                .ok()
                .filter(|_| text.len() == 5)
                .ok_or_else(|| {
                    let field = format!("shifts[{index}].{end}");
                    ApiError::refused(
                        "invalid_time",
                        format!("`{field}`: `{text}` is not `HH:MM`"),
                    )
                    .with("field", field)
                })?;
        }
    }
    Ok(())
}
