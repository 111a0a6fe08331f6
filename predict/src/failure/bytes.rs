//! A failure model as bytes: versioned, checked, and refused with a reason when damaged.

use super::features::FeaturePlan;
use super::hazard::FailureModel;
use crate::rng::checksum;

const MAGIC: &[u8; 4] = b"FWFM";
const VERSION: u32 = 2;
const HEADER: usize = MAGIC.len() + 4 + 8;

/// Why bytes are no failure model.
#[derive(Debug, thiserror::Error)]
pub enum BytesError {
    /// They do not start like one.
    #[error("bytes do not start with a failure model's mark")]
    NotAModel,
    /// They were written by a newer or older program.
    #[error("failure model has format version {found}, this program reads {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The checksum does not match.
    #[error("failure model is damaged: its checksum does not match its content")]
    Checksum,
    /// The content is not what the format says.
    #[error("failed to read the content of the failure model")]
    Content(#[source] serde_json::Error),
    /// The content contradicts itself.
    #[error("failure model contradicts itself: {0}")]
    Unsound(&'static str),
}

impl FailureModel {
    /// The model as bytes; the same model gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let content = serde_json::to_vec(self).expect("plain data with string keys serialises");
        let mut bytes = Vec::with_capacity(HEADER + content.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&checksum(&content).to_le_bytes());
        bytes.extend_from_slice(&content);
        bytes
    }

    /// Reads a model back. Whatever the bytes are, the answer is a usable model or an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BytesError::NotAModel)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(BytesError::NotAModel)?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(BytesError::Version { found });
        }
        let (sum, content) = rest.split_first_chunk::<8>().ok_or(BytesError::NotAModel)?;
        if u64::from_le_bytes(*sum) != checksum(content) {
            return Err(BytesError::Checksum);
        }
        let model: Self = serde_json::from_slice(content).map_err(BytesError::Content)?;
        model.check().map_err(BytesError::Unsound)?;
        Ok(model)
    }

    /// A checksum is no proof of good will: everything scoring relies on is checked again.
    fn check(&self) -> Result<(), &'static str> {
        let features = self.plan.len();
        let holds = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(what) };
        holds(
            self.plan.window > 0 && !self.plan.metrics.is_empty(),
            "it reads no features",
        )?;
        holds(
            self.feature_hash == FeaturePlan::hash(&self.plan),
            "the feature hash differs",
        )?;
        holds(self.step_ms > 0, "its step is not a positive time")?;
        holds(
            self.cap.is_finite() && self.cap > 0.0,
            "its cap is not a positive time",
        )?;
        holds(
            self.typical.len() == features,
            "typical values do not match the features",
        )?;
        holds(
            self.life.is_sound(features),
            "the trees of the remaining life are broken",
        )?;
        holds(
            !self.bands.is_empty(),
            "it has no quantiles of the remaining life",
        )?;
        holds(!self.horizons.is_empty(), "it has no horizon")?;
        let ordered =
            |pair: &[super::hazard::Hazard]| pair[0].horizon.hours < pair[1].horizon.hours;
        holds(
            self.horizons.windows(2).all(ordered),
            "its horizons are out of order",
        )?;
        for hazard in &self.horizons {
            holds(
                hazard.trees.is_sound(features),
                "the trees of a horizon are broken",
            )?;
            holds(
                hazard.curve.is_sound(),
                "the calibration of a horizon is broken",
            )?;
        }
        Ok(())
    }
}
