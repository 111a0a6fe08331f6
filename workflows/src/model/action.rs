//! What an actuator is to do, with reason, benefit and inverse.

use serde::{Deserialize, Serialize};

/// One change to the world; idempotent under its `key`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Unique within the step that orders it, so that a repeated step orders nothing twice.
    pub key: String,
    /// What is done.
    #[serde(flatten)]
    pub kind: ActionKind,
    /// Why.
    pub reason: String,
    /// What it is expected to win, in the currency of the settings per hour.
    pub benefit_per_hour: f64,
    /// How sure that is, 0–1.
    pub confidence: f64,
    /// What undoes it; `None` where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<Box<ActionKind>>,
}

/// The changes this first form knows; all of them act on the twin and on a recorded webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum ActionKind {
    /// Create a virtual stand-in for an asset.
    CreateStandIn {
        /// The asset to stand in for.
        asset: String,
        /// The stand-in's id.
        stand_in: String,
        /// Where it is placed.
        locality: String,
    },
    /// Remove a virtual stand-in.
    RemoveStandIn {
        /// The stand-in's id.
        stand_in: String,
    },
    /// Let dependents use `to` in place of `from`.
    SwapTo {
        /// The asset relieved.
        from: String,
        /// The asset or stand-in that serves instead.
        to: String,
    },
    /// Give an asset a share of its usual bandwidth.
    AdjustBandwidth {
        /// The asset.
        asset: String,
        /// Share of its usual bandwidth, 0–1.
        share: f64,
    },
    /// Put the asset's part in.
    SwapPart {
        /// The asset.
        asset: String,
        /// The build that goes in.
        build: String,
        /// The window it happens in.
        window: String,
    },
}
