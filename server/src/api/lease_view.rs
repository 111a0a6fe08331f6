//! What a cell is told of its lease, whichever call it answers.

use serde::Serialize;
use utoipa::ToSchema;
use workflows::model::Timestamp;

use crate::app::App;
use crate::store::leases::Grant;

/// A time-limited right to make one build.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseView {
    /// Stable name.
    pub id: String,
    /// The build.
    pub build: String,
    /// Every later call repeats it.
    pub fence: i64,
    /// What to execute.
    pub gcode: GcodeView,
    /// What of.
    pub material: String,
    /// The printer profile it is sliced for.
    pub printer: String,
    /// Where the build stands.
    pub state: String,
    /// Until when the lease holds without a heartbeat.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// How long that is from a heartbeat.
    pub ttl_ms: i64,
    /// When to send the next one.
    pub heartbeat_after_ms: i64,
    /// Whether the run that ordered the build no longer wants it.
    pub cancel_requested: bool,
}

/// The G-code of a build.
#[derive(Debug, Serialize, ToSchema)]
pub struct GcodeView {
    /// Fetch it at `/artifacts/{digest}` and check it.
    pub digest: String,
    /// Its size.
    pub size_bytes: i64,
}

impl LeaseView {
    /// What a cell is told of its lease.
    pub fn new(grant: Grant, app: &App) -> Self {
        Self {
            id: grant.lease.id,
            fence: grant.lease.fence,
            expires_at: Timestamp(grant.lease.expires_at),
            state: grant.build.state,
            build: grant.build.id,
            gcode: GcodeView {
                digest: grant.build.gcode,
                size_bytes: grant.build.gcode_size_bytes,
            },
            material: grant.build.material,
            printer: grant.build.printer,
            ttl_ms: app.config.builds.lease_ms,
            heartbeat_after_ms: app.config.builds.heartbeat_ms,
            cancel_requested: grant.build.cancel_requested,
        }
    }
}
