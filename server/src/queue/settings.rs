//! What the queue is told at start: its clock and how long leases last.

use std::sync::Arc;
use std::time::Duration;

/// The present moment, milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How long leases last, and how often their holders say that they live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a step's lease lasts without a heartbeat.
    pub step_lease_ms: i64,
    /// How often a worker renews its leases.
    pub step_heartbeat_ms: u64,
    /// How long a build's lease lasts without a heartbeat.
    pub build_lease_ms: i64,
    /// How often a cell is to renew it.
    pub build_heartbeat_ms: i64,
    /// How often the queue looks by itself, whatever it was told.
    pub poll_ms: u64,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            step_lease_ms: 10_000,
            step_heartbeat_ms: 3_000,
            build_lease_ms: 60_000,
            build_heartbeat_ms: 15_000,
            poll_ms: 250,
        }
    }
}

impl LeaseSettings {
    /// How often the queue looks by itself.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}
