//! What the planner is asked, with everything it may weigh.

use serde::{Deserialize, Serialize};

use super::calendar::{Span, hour_of_week};
use super::risk::RiskCurve;
use crate::model::{Technician, Timestamp};

/// Windows begin and end on a grid of 15 minutes: every time zone's offset is a multiple of it.
pub const GRID_MS: i64 = 15 * 60_000;
/// How far ahead windows are looked for.
pub const HORIZON_MS: i64 = 14 * 24 * 3_600_000;

/// One search for a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The asset that has to go offline.
    pub asset: String,
    /// The moment planned from; the clock is never asked.
    pub at: Timestamp,
    /// When the part is made and verified; nothing starts before.
    pub ready_at: Timestamp,
    /// When the work must be done at the latest.
    pub latest: Option<Timestamp>,
    /// How long the asset is offline.
    pub duration_ms: i64,
    /// P(failed by t) from `at` on.
    pub risk: RiskCurve,
    /// What an hour of unplanned outage costs, dependents included.
    pub outage_cost_per_hour: f64,
    /// What an hour offline costs the customers, by hour of the week.
    pub impact: ImpactProfile,
    /// Everybody who can do maintenance.
    pub technicians: Vec<Technician>,
    /// What whoever comes must be able to do.
    pub skills: Vec<String>,
    /// Windows already agreed or proposed.
    pub busy: Vec<Busy>,
    /// The group of equals the asset belongs to.
    pub group: Option<Group>,
    /// Spans in which nothing may be touched.
    pub freezes: Vec<Span>,
    /// Rates and limits.
    pub costs: Costs,
}

/// A window that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// The asset it takes offline.
    pub asset: String,
    /// Who works in it.
    pub technician: Option<String>,
    /// When.
    pub span: Span,
}

/// Equals of which some must serve at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many must serve.
    pub needed: u32,
    /// The members that serve now, the asset itself left out.
    pub serving: Vec<String>,
    /// Whether a stand-in serves for the asset while it is offline.
    pub stood_in: bool,
}

/// Rates and limits that are not the asset's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// An hour of work outside a shift.
    pub overtime_per_hour: f64,
    /// How long a technician may stay after the shift's end, minutes.
    pub overtime_limit_minutes: u32,
    /// How long an unplanned outage lasts until somebody repairs it, hours.
    pub emergency_hours: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            overtime_per_hour: 95.0,
            overtime_limit_minutes: 60,
            emergency_hours: 12.0,
        }
    }
}

/// What an hour offline costs, for each hour of the week in the site's time zone (Monday 00:00 first).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImpactProfile {
    /// IANA name of the site's time zone.
    pub time_zone: String,
    /// Cost per hour offline; 168 values.
    pub per_hour: Vec<f64>,
    /// Mean utilisation (0–1) of what is affected; 168 values, `None` where nothing was measured.
    pub utilisation: Vec<Option<f64>>,
    /// Who suffers besides the asset itself.
    pub dependents: Vec<String>,
}

impl ImpactProfile {
    /// Adds up what a span costs, hour by hour of local time.
    #[must_use]
    pub fn over(&self, span: Span, zone: &jiff::tz::TimeZone) -> f64 {
        let mut sum = 0.0;
        let mut from = span.from;
        while from < span.to {
            // A quarter hour never crosses a local hour's end.
            let to = Timestamp((from.0.div_euclid(GRID_MS) + 1) * GRID_MS).min(span.to);
            let rate = self.per_hour.get(hour_of_week(from, zone)).copied();
            sum += rate.unwrap_or(0.0) * to.since(from) as f64 / 3_600_000.0;
            from = to;
        }
        sum
    }

    /// Mean utilisation over a span where it is known.
    #[must_use]
    pub fn utilisation_over(&self, span: Span, zone: &jiff::tz::TimeZone) -> Option<f64> {
        let known: Vec<f64> = (span.from.0..span.to.0)
            .step_by(GRID_MS as usize)
            .filter_map(|t| *self.utilisation.get(hour_of_week(Timestamp(t), zone))?)
            .collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}
