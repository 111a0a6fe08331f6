//! Looks at what was seen of a part: here it reads the design and every observation, and measures nothing yet.
//!
//! Begin with `look`, which sees one observation and says what was found in it; `inspect` decides what follows. The
//! contract's types and their units are in `wit/deps/forewright-plugin/verifier.wit`.

use plugin_sdk::artifacts;
use plugin_sdk::info;
use plugin_sdk::verify::{
    ArtifactRef, Disposition, Finding, Observation, PluginError, Report, Request,
};

/// The most findings that the contract lets a report have.
const MOST: usize = 10_000;

struct Looks;

impl plugin_sdk::Verifier for Looks {
    fn inspect(request: Request) -> Result<Report, PluginError> {
        info!("inspects {} observations", request.observations.len());
        if !is_stl(&request.expected)? {
            return Err(PluginError::InvalidInput(
                "the design is no binary STL".to_owned(),
            ));
        }
        let mut findings = request
            .observations
            .iter()
            .map(look)
            .collect::<Result<Vec<_>, _>>()?;
        findings.truncate(MOST);
        if findings.is_empty() {
            findings.push(finding("not_seen", "nobody looked".to_owned()));
        }
        // What was not measured is not accepted.
        Ok(Report {
            disposition: Disposition::Inconclusive,
            confidence: 0.0,
            findings,
            deviation: None,
        })
    }
}

plugin_sdk::verifier!(Looks);

/// Reads an observation, piece by piece.
fn look(observation: &Observation) -> Result<Finding, PluginError> {
    let mut bytes = 0;
    for piece in artifacts::pieces(&observation.artifact)? {
        bytes += piece?.len();
    }
    Ok(finding(
        "not_measured",
        format!("{bytes} bytes were read and nothing was measured yet"),
    ))
}

/// About the whole part, and not enough to reject it.
fn finding(code: &str, detail: String) -> Finding {
    Finding {
        code: code.to_owned(),
        severity: 0.2,
        at: None,
        detail,
    }
}

/// Whether an artifact is a binary STL: a header of 80 bytes, the number of triangles, and 50 bytes for each.
fn is_stl(artifact: &ArtifactRef) -> Result<bool, PluginError> {
    let mut head = Vec::new();
    let mut size = 0;
    for piece in artifacts::pieces(artifact)? {
        let piece = piece?;
        size += piece.len() as u64;
        head.extend(piece.into_iter().take(84 - head.len()));
    }
    let Some(&count) = head.get(80..).and_then(<[u8]>::first_chunk) else {
        return Ok(false);
    };
    let count = u64::from(u32::from_le_bytes(count));
    Ok(count > 0 && size == 84 + 50 * count)
}
