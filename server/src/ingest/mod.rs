//! Telemetry protocols: bytes in, samples out; one file per protocol, all of them pure.

pub mod csv;
pub mod json;
mod parsed;
pub mod remote_write;

pub use parsed::{IngestError, MAX_SAMPLES, Parsed};
