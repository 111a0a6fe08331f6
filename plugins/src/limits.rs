//! How much a call may use. Every limit has a default, a bound no manifest may exceed, and a test that hits it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of one call; the `[limits]` of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Linear memory in MiB, of all memories together.
    pub memory_mib: u32,
    /// From the beginning of the call to its end, time inside the host included.
    pub deadline_ms: u32,
    /// Instructions, in millions; only where a call is counted instead of timed.
    pub fuel_millions: u32,
    /// Log text in KiB; what is beyond is counted and left out.
    pub log_kib: u32,
    /// What an answer, or the arguments of one call to the host, may take in the host's memory, in MiB.
    pub answer_mib: u32,
    /// Elements of all tables together.
    pub table_elements: u32,
    /// Open readers and writers.
    pub handles: u32,
    /// Calls at the same time.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            deadline_ms: 1_000,
            fuel_millions: 2_000,
            log_kib: 64,
            answer_mib: 16,
            table_elements: 20_000,
            handles: 64,
            concurrency: 2,
        }
    }
}

/// What no manifest may go beyond; the pool of instances is laid out for it.
pub const GREATEST: Limits = Limits {
    memory_mib: 256,
    deadline_ms: 600_000,
    fuel_millions: 1_000_000,
    log_kib: 1_024,
    answer_mib: 64,
    table_elements: 50_000,
    handles: 1_024,
    concurrency: 16,
};

/// What one component may consist of; Python's have about twenty instances.
pub(crate) const PARTS: Parts = Parts {
    instances: 40,
    memories: 2,
    tables: 16,
};

/// Numbers of core instances, memories and tables.
pub(crate) struct Parts {
    pub(crate) instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
}

/// The name of the limit on memory that all guests share; it is the runtime's, and in no manifest.
pub(crate) const ALL_MEMORY: &str = "memory of all plugins, in MiB";

/// A limit that a manifest sets to nothing, or beyond what the host has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit `{name}` is {asked}; it has to be within 1 and {greatest}")]
pub struct OutOfBounds {
    /// Its name in the manifest.
    pub name: &'static str,
    /// What the manifest says.
    pub asked: u32,
    /// The greatest there is.
    pub greatest: u32,
}

impl Limits {
    /// Its limits by their names in manifests.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u32); 8] {
        [
            ("memory-mib", self.memory_mib),
            ("deadline-ms", self.deadline_ms),
            ("fuel-millions", self.fuel_millions),
            ("log-kib", self.log_kib),
            ("answer-mib", self.answer_mib),
            ("table-elements", self.table_elements),
            ("handles", self.handles),
            ("concurrency", self.concurrency),
        ]
    }

    /// Holds every limit against [`GREATEST`].
    ///
    /// # Errors
    ///
    /// The first that is 0 or too great.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        for ((name, asked), (_, greatest)) in self.named().into_iter().zip(GREATEST.named()) {
            if asked == 0 || asked > greatest {
                return Err(OutOfBounds {
                    name,
                    asked,
                    greatest,
                });
            }
        }
        Ok(())
    }

    /// The deadline as a span.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(u64::from(self.deadline_ms))
    }

    /// The memory in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        (self.memory_mib as usize) << 20
    }

    /// The log in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        (self.log_kib as usize) << 10
    }

    /// The answer in bytes.
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        (self.answer_mib as usize) << 20
    }

    /// The fuel in instructions.
    #[must_use]
    pub fn fuel(&self) -> u64 {
        u64::from(self.fuel_millions) * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_the_greatest_are_within_bounds() {
        assert_eq!(Limits::default().check(), Ok(()));
        assert_eq!(GREATEST.check(), Ok(()));
    }

    #[test]
    fn nothing_and_too_much_are_refused_by_name() {
        let none = Limits {
            handles: 0,
            ..Limits::default()
        };
        assert_eq!(none.check().unwrap_err().name, "handles");
        let much = Limits {
            memory_mib: 257,
            ..Limits::default()
        };
        assert_eq!(
            much.check().unwrap_err().to_string(),
            "limit `memory-mib` is 257; it has to be within 1 and 256"
        );
    }
}
