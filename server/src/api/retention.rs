//! Retention: how long what is kept, what the last pass removed, and what the next one would.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::Timestamp;

use crate::app::App;
use crate::auth;
use crate::error::{ApiError, ApiResult};
use crate::extract::Json;
use crate::jobs::too_old_before;
use crate::store::retention::{self, Aged, HOLDS};

/// How long what is kept, and what becomes of the rest.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionView {
    /// Whether an ended run becomes an artifact before its rows go.
    archive: bool,
    /// How often what is too old is removed, seconds; 0: never.
    every_s: u32,
    /// The next look at the latest; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// What the last one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<RetentionPass>,
    /// Of each sort, how long it is kept and what the next look would remove.
    kept: Vec<KeptView>,
    /// Runs that are old enough and stay all the same, by reason.
    held: Vec<HeldView>,
    /// Events up to this number are told no longer.
    events_after: i64,
    /// The audit begins after this number.
    audit_after: i64,
}

/// How long one sort of row is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeptView {
    /// `runs`, `events`, `decisions` …
    name: String,
    /// What is older is removed; absent where it is kept for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    before: Option<Timestamp>,
    /// How many would be removed now, 10,000 at most.
    would_remove: i64,
    /// Whether there are more than that.
    and_more: bool,
}

/// Why runs stay.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeldView {
    /// `open_family`: its parent or child is open. `dead_letter`: nobody has begun it again from the step it failed at.
    /// `unsettled_build`: a build of it is not settled. `open_step`: a step of it is. `restarted_from_kept`: the run it
    /// was begun again from stays.
    reason: String,
    /// How many, 10,001 at most.
    runs: i64,
}

/// What a look at what is too old did.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RetentionPass {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// How long it took.
    duration_ms: u64,
    /// How many of what it removed.
    removed: BTreeMap<String, u64>,
    /// Whether it came to the end; if not, the next goes on.
    whole: bool,
}

const AGED: [Aged; 8] = [
    retention::COMPARISONS,
    retention::DECISIONS,
    retention::PREDICTIONS,
    retention::DELIVERIES,
    retention::MESSAGES,
    retention::REQUESTS,
    retention::CAUSES,
    retention::TICKS,
];

/// How long what is kept, what the last look removed, and what the next one would; nothing is removed by asking.
#[utoipa::path(get, path = "/api/v1/retention", tag = "health",
    responses((status = 200, body = RetentionView)))]
pub async fn get_retention(app: App, _: auth::Reader) -> ApiResult<Json<RetentionView>> {
    let (db, rules, now) = (&app.db.read, &app.config.retention, app.now_ms());
    let before = |name: &str| too_old_before(rules, now, name);
    let mut kept = Vec::new();
    for name in ["runs", "events", "audit"] {
        let count = match (name, before(name)) {
            (_, None) => 0,
            ("runs", Some(moment)) => retention::count_old_runs(db, moment).await?,
            ("events", Some(moment)) => retention::count_events(db, moment).await?,
            (_, Some(moment)) => retention::count_audit(db, moment).await?,
        };
        kept.push(KeptView::new(name, before(name), count));
    }
    for aged in AGED {
        let count = match before(aged.name) {
            Some(moment) => aged.count(db, moment).await?,
            None => 0,
        };
        kept.push(KeptView::new(aged.name, before(aged.name), count));
    }
    let mut held = Vec::new();
    for (reason, condition) in HOLDS {
        let runs = match before("runs") {
            Some(moment) => retention::count_held(db, moment, condition).await?,
            None => 0,
        };
        held.push(HeldView {
            reason: reason.to_owned(),
            runs,
        });
    }
    let last = retention::last_pass(db).await?;
    let last = last.map(serde_json::from_value).transpose();
    let every_ms = i64::from(rules.every_s) * 1_000;
    Ok(Json(RetentionView {
        archive: rules.archive,
        every_s: rules.every_s,
        next_at: (every_ms > 0).then(|| Timestamp(now - now % every_ms.max(1) + every_ms)),
        last: last.map_err(ApiError::internal)?,
        kept,
        held,
        events_after: retention::events_kept_after(db).await?,
        audit_after: retention::audit_start(db).await?.seq,
    }))
}

impl KeptView {
    fn new(name: &str, before: Option<i64>, count: i64) -> Self {
        Self {
            name: name.to_owned(),
            before: before.map(Timestamp),
            would_remove: count.min(retention::COUNTED),
            and_more: count > retention::COUNTED,
        }
    }
}
