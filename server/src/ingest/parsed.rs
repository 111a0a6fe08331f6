//! What every parser answers: samples, and the items it had to leave out.

use crate::telemetry::{AppendReport, Rejected, Sample};

/// The most samples one request may carry.
pub const MAX_SAMPLES: usize = 100_000;

/// Why a request as a whole cannot be read; nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The text is not JSON, or not of the shape of a batch.
    #[error("line {line}, column {column}: {reason}")]
    Json {
        /// The line, from one.
        line: usize,
        /// The column, from one; zero at the end of the text.
        column: usize,
        /// What was expected.
        reason: String,
    },
    /// The body is not snappy-compressed, or its header lies about its size.
    #[error("body is not a snappy block: {reason}")]
    Snappy {
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not the protobuf message the protocol asks for.
    #[error("byte {offset} of the decompressed message: {reason}")]
    Protobuf {
        /// Where in the decompressed message.
        offset: usize,
        /// What was expected.
        reason: &'static str,
    },
    /// The request is larger than the server takes.
    #[error("request has more than {limit} {unit}; send it in parts")]
    Oversized {
        /// The most a request may have.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
}

/// A request taken apart: what can be stored, and what cannot even be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The samples to store.
    pub samples: Vec<Sample>,
    /// The position of each of them in the request; as long as `samples`.
    pub indices: Vec<usize>,
    /// The items that could not be read.
    pub rejected: Vec<Rejected>,
}

impl Parsed {
    /// Joins what the store answered to `samples` with what the parser left out, so that every
    /// index is a position in the request.
    pub fn report(&self, stored: AppendReport) -> AppendReport {
        let mut rejected = self.rejected.clone();
        rejected.extend(stored.rejected.into_iter().map(|mut item| {
            item.index = self.indices.get(item.index).copied().unwrap_or(item.index);
            item
        }));
        rejected.sort_by_key(|item| item.index);
        AppendReport {
            accepted: stored.accepted,
            rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(index: usize) -> Rejected {
        Rejected {
            index,
            field: "value".into(),
            reason: "is missing".to_owned(),
        }
    }

    #[test]
    fn every_index_of_a_report_is_a_position_in_the_request() {
        let parsed = Parsed {
            samples: Vec::new(),
            indices: vec![0, 2, 5],
            rejected: vec![rejected(1), rejected(3), rejected(4)],
        };
        let stored = AppendReport {
            accepted: 2,
            rejected: vec![rejected(1)],
        };
        let report = parsed.report(stored);
        let indices: Vec<usize> = report.rejected.iter().map(|item| item.index).collect();
        assert_eq!((report.accepted, indices), (2, vec![1, 2, 3, 4]));
    }
}
