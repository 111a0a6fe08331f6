//! How the points of one block become bytes: times and values, each compressed without loss.

use pco::standalone::{simple_compress, simple_decompress};

/// Irregular samples of one series, in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// When, in milliseconds since 1970, strictly increasing.
    pub times_ms: Vec<i64>,
    /// What, one per time.
    pub values: Vec<f64>,
}

/// Why stored bytes cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes end early or are not what the compressor writes.
    #[error("block is damaged: {0}")]
    Damaged(String),
}

/// Compresses one block; bit-exact, whatever the values are.
pub(super) fn encode(times_ms: &[i64], values: &[f64]) -> Vec<u8> {
    let config = pco::ChunkConfig::default();
    let times = simple_compress(times_ms, &config).unwrap_or_default();
    let values = simple_compress(values, &config).unwrap_or_default();
    let mut bytes = Vec::with_capacity(4 + times.len() + values.len());
    bytes.extend_from_slice(&u32::try_from(times.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&times);
    bytes.extend_from_slice(&values);
    bytes
}

/// Reads one block back.
pub(super) fn decode(bytes: &[u8]) -> Result<(Vec<i64>, Vec<f64>), CodecError> {
    let damaged = |what: &str| CodecError::Damaged(what.to_owned());
    let (length, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged("no header"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (times, values) = rest
        .split_at_checked(length)
        .ok_or_else(|| damaged("times end early"))?;
    let times: Vec<i64> = simple_decompress(times).map_err(|e| damaged(&e.to_string()))?;
    let values: Vec<f64> = simple_decompress(values).map_err(|e| damaged(&e.to_string()))?;
    if times.len() != values.len() {
        return Err(damaged("times and values differ in number"));
    }
    Ok((times, values))
}
