//! Whether and how an asset serves, as clients read it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use workflows::model::AssetState;

/// Whether and how an asset serves.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssetStateView {
    /// It serves.
    #[default]
    InService,
    /// It could serve and does not yet.
    Standby,
    /// A virtual stand-in serves for it.
    StoodIn,
    /// It does not serve.
    Offline,
    /// It will never serve again.
    Retired,
}

const STATES: [(AssetState, AssetStateView); 5] = [
    (AssetState::InService, AssetStateView::InService),
    (AssetState::Standby, AssetStateView::Standby),
    (AssetState::StoodIn, AssetStateView::StoodIn),
    (AssetState::Offline, AssetStateView::Offline),
    (AssetState::Retired, AssetStateView::Retired),
];

impl From<AssetState> for AssetStateView {
    fn from(state: AssetState) -> Self {
        STATES[state as usize].1
    }
}

impl From<AssetStateView> for AssetState {
    fn from(state: AssetStateView) -> Self {
        STATES[state as usize].0
    }
}
