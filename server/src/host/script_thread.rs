//! The thread a script runs on, for those who watch it from outside.

use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::{Pid, gettid};

/// A thread of this niceness gets what nobody else wants, and where everybody wants all a tenth of what others get:
/// little to them, and enough for a long journal to be replayed in the end.
const NICE: i32 = 10;

/// A thread of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScriptThread(Pid);

impl ScriptThread {
    /// The one this is called on.
    pub(super) fn here() -> Self {
        Self(gettid())
    }

    /// Processor time it has used; nothing where the system does not tell.
    pub(super) fn used(self) -> Option<Duration> {
        let path = format!("/proc/self/task/{}/schedstat", self.0);
        let told = std::fs::read_to_string(path).ok()?;
        let nanos = told.split_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(nanos))
    }

    /// Lets everybody else go first from now on. It cannot be undone, so the thread must be nobody else's.
    pub(super) fn step_back(self) {
        // Elsewhere than on Linux a priority belongs to the process, which has to keep its own.
        #[cfg(target_os = "linux")]
        if let Err(error) = setpriority_process(Some(self.0), NICE) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "failed to lower a thread's priority"
            );
        }
    }
}
