//! The one place that reads the time: the system's, moved by an offset.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use workflows::model::Timestamp;

/// The time as this process tells it; replayed sources and stories move it with an offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "this is the App clock")]
    pub fn now(&self) -> Timestamp {
        let system = jiff::Timestamp::now().as_millisecond();
        Timestamp(system + self.offset_ms.load(Ordering::Relaxed))
    }

    /// Now, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.now().0
    }

    /// Moves the clock by `ms`.
    pub fn advance(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_moved_runs_on_from_there() {
        let clock = Clock::default();
        clock.advance(1_000_000 - clock.now_ms());
        assert!((1_000_000..1_060_000).contains(&clock.now_ms()));
        clock.advance(3_600_000);
        assert!(clock.now_ms() >= 4_600_000);
    }
}
