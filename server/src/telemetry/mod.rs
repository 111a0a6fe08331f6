//! Telemetry: samples in, ranges out; nothing acknowledged is ever lost.
//!
//! An accepted batch is one row of a write-ahead log before `append` returns. The samples live in
//! the bounded in-memory head until a flush seals them into compressed blocks and empties the
//! log. Several processes may share one database: each follows the log to keep its own head true.

mod chunk;
mod codec;
mod flush;
mod head;
mod log;
mod query;
mod sample;
mod seal;
mod store;

pub use codec::Samples;
pub use query::{Bucket, MAX_POINTS, RangeQuery, SeriesInfo};
pub use sample::{AppendReport, HeadLimits, MAX_NAME_BYTES, Rejected, STALE_MARKER_BITS, Sample};
pub use store::{Telemetry, TelemetryError};

#[cfg(test)]
mod tests;
