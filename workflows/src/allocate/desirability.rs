//! How good a place is for something new: hard filters first, then a score of 0–1, then spread.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::State;
use crate::model::{Asset, AssetState, Locality};

/// Places whose score is this close to the best are equally good; which one is taken is spread over them.
const EPSILON: f64 = 0.05;
/// Weights of free power, calm and nearness in the score.
const WEIGHTS: [f64; 3] = [0.5, 0.3, 0.2];
/// At this distance nearness counts half, m.
const HALF_NEAR_M: f64 = 4.0;

/// A place and how desirable it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The locality.
    pub locality: String,
    /// 0–1, higher is better.
    pub desirability: f64,
    /// Electrical power left, W.
    pub free_power_w: f64,
    /// Why it scores so.
    pub reason: String,
}

/// The places that can take `power_w` more in the asset's stead, the chosen one first, then by score.
///
/// Among equals the choice follows a hash of asset and place, so that many plans at once do not herd onto one place.
#[must_use]
pub fn places(state: &State, asset: &Asset, power_w: f64) -> Vec<Place> {
    let mut found: Vec<Place> = state
        .twin
        .localities
        .values()
        // A stand-in beside the asset would share its fate.
        .filter(|l| l.id != asset.locality)
        .filter_map(|l| score(state, asset, l, power_w))
        .collect();
    let best = found.iter().map(|p| p.desirability).fold(0.0, f64::max);
    let rank = |p: &Place| {
        if p.desirability >= best - EPSILON {
            (0, spread(&asset.id, &p.locality))
        } else {
            (1, 0)
        }
    };
    found.sort_by(|a, b| {
        rank(a)
            .cmp(&rank(b))
            .then(b.desirability.total_cmp(&a.desirability))
            .then(a.locality.cmp(&b.locality))
    });
    found
}

fn score(state: &State, asset: &Asset, place: &Locality, power_w: f64) -> Option<Place> {
    let limit = place.power_limit_w?;
    let free = limit - used_power_w(state, &place.id);
    if free < power_w {
        return None;
    }
    let headroom = ((free - power_w) / limit).clamp(0.0, 1.0);
    let risk = worst_risk(state, &place.id);
    let metres = distance_m(state, asset, place);
    let near = HALF_NEAR_M / (HALF_NEAR_M + metres);
    let terms = [headroom, 1.0 - risk, near];
    let sum: f64 = terms.iter().zip(WEIGHTS).map(|(t, w)| t * w).sum();
    Some(Place {
        locality: place.id.clone(),
        desirability: (sum * 1e6).round() / 1e6,
        free_power_w: free,
        reason: format!(
            "{free:.0} W of {limit:.0} W free, highest failure risk there {:.1} %, {metres:.1} m away",
            risk * 100.0
        ),
    })
}

/// Power drawn in a place by everything that serves there.
fn used_power_w(state: &State, locality: &str) -> f64 {
    state
        .twin
        .assets
        .values()
        .filter(|a| a.locality == locality)
        .filter(|a| matches!(a.state, AssetState::InService | AssetState::StoodIn))
        .map(power_w)
        .sum()
}

/// Nameplate power of an asset.
pub(super) fn power_w(asset: &Asset) -> f64 {
    let watts = asset.attributes.get("power_w");
    watts.and_then(serde_json::Value::as_f64).unwrap_or(0.0)
}

fn worst_risk(state: &State, locality: &str) -> f64 {
    state
        .twin
        .assets
        .values()
        .filter(|a| a.locality == locality)
        .filter_map(|a| state.failure_risk.get(&a.id))
        .copied()
        .fold(0.0, f64::max)
        .clamp(0.0, 1.0)
}

fn distance_m(state: &State, asset: &Asset, place: &Locality) -> f64 {
    let centre = |l: &Locality| (l.x + l.width / 2.0, l.y + l.height / 2.0);
    state
        .twin
        .localities
        .get(&asset.locality)
        .map_or(0.0, |home| {
            let ((x0, y0), (x1, y1)) = (centre(home), centre(place));
            (x1 - x0).hypot(y1 - y0)
        })
}

fn spread(asset: &str, locality: &str) -> u64 {
    let digest = Sha256::digest(format!("{asset}\n{locality}").as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
