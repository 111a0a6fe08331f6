//! A flag that stops a script from outside, where there are clocks.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Stops whatever script runs under limits that hold it; copies are the same flag.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicU8>);

/// Why a script is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Nobody waits for it any more, and nothing is held against it.
    GivenUp,
    /// It used up its time.
    UsedUp,
}

impl StopFlag {
    /// Raises it; the first reason stays.
    pub fn raise(&self, reason: StopReason) {
        let reason = match reason {
            StopReason::GivenUp => 1,
            StopReason::UsedUp => 2,
        };
        let _ = self
            .0
            .compare_exchange(0, reason, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Lowers it for the next script.
    pub fn lower(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Why it was raised, if it was.
    #[must_use]
    pub fn raised(&self) -> Option<StopReason> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(StopReason::GivenUp),
            _ => Some(StopReason::UsedUp),
        }
    }
}
