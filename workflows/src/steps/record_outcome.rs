//! `record_outcome`: tells what really happened, so that the next model learns from it.

use serde::{Deserialize, Serialize};

use super::{Outcome, Step, StepError};
use crate::host::Host;
use crate::model::Timestamp;

/// Records what really happened to an asset.
pub struct RecordOutcome;

/// What scripts hand in, and get back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// The asset.
    pub asset: String,
    /// What happened.
    pub kind: OutcomeKind,
    /// When.
    pub at: Timestamp,
    /// Whatever else is to be remembered.
    #[serde(default)]
    pub note: String,
}

/// What really happened. A swapped part censors its history: whether it would have failed is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// It failed.
    Failed,
    /// Its part was replaced before it failed.
    Replaced,
    /// A failure was prevented in another way.
    Prevented,
    /// It was looked at and found healthy.
    Healthy,
}

impl OutcomeKind {
    /// The name outcomes are stored under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Replaced => "replaced",
            Self::Prevented => "prevented",
            Self::Healthy => "healthy",
        }
    }
}

impl Step for RecordOutcome {
    const KIND: &'static str = "record_outcome";
    type Input = OutcomeRecord;
    type Output = OutcomeRecord;

    fn run(
        &self,
        input: OutcomeRecord,
        host: &dyn Host,
    ) -> Result<Outcome<OutcomeRecord>, StepError> {
        host.record_outcome(&input.asset, input.kind.name(), input.at, &input.note)?;
        Ok(Outcome::Done(input))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed};
    use super::*;

    #[test]
    fn an_outcome_is_recorded_once_and_its_kind_is_known() {
        let world = World::new();
        let input =
            json!({ "asset": "fan-r01-01", "kind": "replaced", "at": world.at, "note": "run 7" });
        let first = done(&RecordOutcome, &input, &world);
        assert_eq!(first["kind"], "replaced");
        assert_eq!(done(&RecordOutcome, &input, &world), first);
        assert_eq!(world.outcomes.borrow().len(), 1);
        let odd = json!({ "asset": "fan-r01-01", "kind": "exploded", "at": world.at });
        assert_eq!(failed(&RecordOutcome, &odd, &world).code(), "invalid_input");
    }
}
