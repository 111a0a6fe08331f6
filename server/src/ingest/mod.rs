//! Telemetry protocols: bytes in, samples out; one file per protocol, all of them pure.

mod json;
mod parsed;
pub mod remote_write;

pub use json::parse as parse_json;
pub use parsed::{IngestError, MAX_SAMPLES, Parsed};
