//! The allocation rule.
//!
//! FPS > threshold? No → monitor. Yes and the item has critical dependents → create a virtual replacement; operational
//! → swap to it; not operational → find a replacement item and schedule it. Yes but no critical dependents → adjust
//! bandwidth and monitor.
//!
//! Whether a stand-in is operational shows only after it was created, so a plan may end with its creation; the rule is
//! then asked again with the state that follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bandwidth::{BandwidthError, Flow, max_min};
use super::desirability::{places, power_w};
use crate::model::{Action, ActionKind, Asset, AssetState, Twin};
use crate::twin::{Graph, Impact, STOOD_IN_SHARE, impact_of};

/// Policies compare the score for seven days with this unless they say otherwise.
const THRESHOLD: f64 = 0.2;
/// How long an unplanned outage lasts until somebody repairs it, hours.
const EMERGENCY_HOURS: f64 = 12.0;
/// Shifts smaller than this are not worth an action.
const LEAST_SHIFT: f64 = 0.01;

/// What is known when the rule is asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The graph of assets.
    pub twin: Twin,
    /// Probability of failing within seven days, by asset, where known.
    pub failure_risk: BTreeMap<String, f64>,
    /// Present utilisation 0–1, by asset, where known.
    pub utilisation: BTreeMap<String, f64>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The asset in question.
    pub asset: String,
    /// Its probability of failing within seven days.
    pub fps_7d: f64,
    /// Above this something is done; `None` takes 0.2.
    pub threshold: Option<f64>,
    /// What a policy has decided already.
    pub goal: Goal,
}

/// What a policy has decided already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Nothing: the rule chooses.
    #[default]
    Rule,
    /// Let a stand-in or a replacement item serve.
    StandIn,
    /// Move load off it.
    Bandwidth,
    /// Take back what was done.
    Undo,
}

/// The branches of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// Failure is unlikely.
    Monitor,
    /// Others stop with it: a stand-in, or a replacement item.
    Replace,
    /// Nobody stops with it: move load off it, and monitor.
    Bandwidth,
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The branch taken.
    pub branch: Branch,
    /// What actuators are to do, in order.
    pub actions: Vec<Action>,
    /// What is in effect already of the same plan, in order.
    pub done: Vec<Action>,
    /// The stand-in, created or to be created.
    pub stand_in: Option<String>,
    /// What serves in the asset's place once the actions are done.
    pub swapped_to: Option<String>,
    /// The item to be scheduled as a replacement, where no stand-in can serve.
    pub replacement_item: Option<String>,
    /// Why this and nothing else.
    pub reason: String,
}

/// The rule itself.
#[must_use]
pub fn branch(fps_7d: f64, threshold: f64, critical_dependents: usize) -> Branch {
    if fps_7d <= threshold {
        Branch::Monitor
    } else if critical_dependents > 0 {
        Branch::Replace
    } else {
        Branch::Bandwidth
    }
}

/// Plans what to do about one asset.
///
/// # Errors
///
/// An asset that is not in the twin.
pub fn plan(state: &State, request: &Request) -> Result<Plan, UnknownAsset> {
    let asset = state
        .twin
        .assets
        .get(&request.asset)
        .ok_or_else(|| UnknownAsset(request.asset.clone()))?;
    let graph = Graph::new(&state.twin);
    let case = Case {
        state,
        request,
        asset,
        impact: impact_of(&state.twin, &graph, &asset.id),
        graph,
    };
    let threshold = request.threshold.unwrap_or(THRESHOLD);
    Ok(match request.goal {
        Goal::Undo => case.take_back(),
        Goal::StandIn => case.replace(),
        Goal::Bandwidth => case.shift_load(),
        Goal::Rule => match branch(request.fps_7d, threshold, case.impact.stopped.len()) {
            Branch::Monitor => Plan::of(
                Branch::Monitor,
                format!(
                    "fails within 7 days with probability {:.3}, not above {threshold}: monitor",
                    request.fps_7d
                ),
            ),
            Branch::Replace => case.replace(),
            Branch::Bandwidth => case.shift_load(),
        },
    })
}

/// What takes a list of actions back: their inverses, the last one first. An action without an inverse stays.
#[must_use]
pub fn undo(actions: &[Action]) -> Vec<Action> {
    actions
        .iter()
        .rev()
        .filter_map(|action| {
            Some(Action {
                key: format!("undo/{}", action.key),
                kind: *action.inverse.clone()?,
                reason: format!("takes back: {}", action.reason),
                benefit_per_hour: 0.0,
                confidence: 1.0,
                inverse: Some(Box::new(action.kind.clone())),
            })
        })
        .collect()
}

/// The asset asked about is not in the twin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("asset `{0}` is unknown")]
pub struct UnknownAsset(pub String);

impl Plan {
    fn of(branch: Branch, reason: String) -> Self {
        Self {
            branch,
            actions: Vec::new(),
            done: Vec::new(),
            stand_in: None,
            swapped_to: None,
            replacement_item: None,
            reason,
        }
    }

    fn with(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }
}

/// One asset, and all that bears on it.
struct Case<'a> {
    state: &'a State,
    request: &'a Request,
    asset: &'a Asset,
    graph: Graph<'a>,
    impact: Impact,
}

impl Case<'_> {
    /// A virtual replacement; operational: swap to it; not operational: a replacement item.
    fn replace(&self) -> Plan {
        let Some(stand_in) = self.existing_stand_in() else {
            return self.create_stand_in();
        };
        let created = self.creation(&stand_in.id, &stand_in.locality);
        let swap = self.swap(&stand_in.id);
        if self.asset.state == AssetState::StoodIn {
            return Plan {
                done: vec![created, swap],
                stand_in: Some(stand_in.id.clone()),
                swapped_to: Some(stand_in.id.clone()),
                ..Plan::of(Branch::Replace, format!("`{}` serves for it", stand_in.id))
            };
        }
        let next = if self.is_operational(stand_in) {
            Plan {
                swapped_to: Some(stand_in.id.clone()),
                ..Plan::of(Branch::Replace, swap.reason.clone())
            }
            .with(swap)
        } else {
            self.replacement_item(&format!("stand-in `{}` is not operational", stand_in.id))
        };
        Plan {
            done: vec![created],
            stand_in: Some(stand_in.id.clone()),
            ..next
        }
    }

    fn create_stand_in(&self) -> Plan {
        let power = self.power_to_carry();
        let Some(place) = places(self.state, self.asset, power).into_iter().next() else {
            let because = format!("no place has {power:.0} W to spare for a stand-in");
            return self.replacement_item(&because);
        };
        let stand_in = stand_in_id(&self.asset.id);
        let created = self.creation(&stand_in, &place.locality);
        let reason = format!("{}: {}", created.reason, place.reason);
        Plan {
            stand_in: Some(stand_in),
            ..Plan::of(Branch::Replace, reason)
        }
        .with(created)
    }

    fn creation(&self, stand_in: &str, locality: &str) -> Action {
        let reason = format!(
            "`{}` stop with `{}`, which fails within 7 days with probability {:.3}; a stand-in goes to `{locality}`",
            self.impact.stopped.join("`, `"),
            self.asset.id,
            self.request.fps_7d,
        );
        let kind = ActionKind::CreateStandIn {
            asset: self.asset.id.clone(),
            stand_in: stand_in.to_owned(),
            locality: locality.to_owned(),
        };
        let inverse = ActionKind::RemoveStandIn {
            stand_in: stand_in.to_owned(),
        };
        self.action("create", kind, inverse, reason, 0.0)
    }

    fn swap(&self, stand_in: &str) -> Action {
        let reason = format!(
            "stand-in `{stand_in}` is operational, so {} dependents no longer stop with `{}`",
            self.impact.stopped.len(),
            self.asset.id
        );
        let swap = |from: &str, to: &str| ActionKind::SwapTo {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let (there, back) = (
            swap(&self.asset.id, stand_in),
            swap(stand_in, &self.asset.id),
        );
        self.action("swap", there, back, reason, self.loss_per_hour())
    }

    /// A standby asset of the same kind, the nearest first; without one, load is moved off and the asset watched.
    fn replacement_item(&self, because: &str) -> Plan {
        let same_place = |a: &Asset| a.locality == self.asset.locality;
        let item = self
            .state
            .twin
            .assets
            .values()
            .filter(|a| a.kind == self.asset.kind && a.state == AssetState::Standby)
            .filter(|a| stands_in_for(a).is_none())
            .min_by_key(|a| (!same_place(a), &a.id));
        match item {
            Some(item) => Plan {
                replacement_item: Some(item.id.clone()),
                ..Plan::of(
                    Branch::Replace,
                    format!(
                        "{because}; `{}` is free and can be scheduled as its replacement",
                        item.id
                    ),
                )
            },
            None => {
                let shifted = self.shift_load();
                Plan {
                    reason: format!(
                        "{because}, and no {} is on standby; {}",
                        self.asset.kind, shifted.reason
                    ),
                    ..shifted
                }
            }
        }
    }

    /// Moves as much load as is likely to be lost onto equals that have room, shared out fairly; then monitor.
    fn shift_load(&self) -> Plan {
        let load = self.load_of(&self.asset.id);
        let wanted = (load * self.request.fps_7d).clamp(0.0, 1.0);
        let peers = self.peers();
        let (moved, taken) = self.shared_out(wanted, &peers).unwrap_or((0.0, Vec::new()));
        if load <= 0.0 || moved / load < LEAST_SHIFT {
            let reason = format!(
                "nobody stops with `{}`, and its {} equals have no room for its load: monitor",
                self.asset.id,
                peers.len()
            );
            return Plan::of(Branch::Bandwidth, reason);
        }
        let share = ((1.0 - moved / load) * 1e4).round() / 1e4;
        let onto: Vec<String> = taken
            .iter()
            .map(|(peer, s)| format!("`{peer}` {:.1} %", s * 100.0))
            .collect();
        let reason = format!(
            "fails within 7 days with probability {:.3}: {:.1} % of its load moves to {}",
            self.request.fps_7d,
            moved / load * 100.0,
            onto.join(", ")
        );
        let set = |share: f64| ActionKind::AdjustBandwidth {
            asset: self.asset.id.clone(),
            share,
        };
        let saved = self.loss_per_hour() * (1.0 - share);
        let adjust = self.action("bandwidth", set(share), set(1.0), reason.clone(), saved);
        let plan = Plan::of(Branch::Bandwidth, reason);
        if (self.present_share() - share).abs() < LEAST_SHIFT {
            return Plan {
                done: vec![adjust],
                ..plan
            };
        }
        plan.with(adjust)
    }

    /// The inverses of what is in effect now, the last one first.
    fn take_back(&self) -> Plan {
        let mut done = Vec::new();
        if self.present_share() < 1.0 {
            let set = |share: f64| ActionKind::AdjustBandwidth {
                asset: self.asset.id.clone(),
                share,
            };
            let reason = "load was moved off it".to_owned();
            done.push(self.action(
                "bandwidth",
                set(self.present_share()),
                set(1.0),
                reason,
                0.0,
            ));
        }
        if let Some(stand_in) = self.existing_stand_in() {
            done.push(self.creation(&stand_in.id, &stand_in.locality));
            if self.asset.state == AssetState::StoodIn {
                done.push(self.swap(&stand_in.id));
            }
        }
        let reason = match done.len() {
            0 => "nothing is in effect that could be taken back".to_owned(),
            n => format!("takes back {n} actions, the last one first"),
        };
        Plan {
            actions: undo(&done),
            ..Plan::of(Branch::Monitor, reason)
        }
    }

    /// Shares `wanted` out over the peers' free capacity: how much moves, and who takes what.
    fn shared_out(
        &self,
        wanted: f64,
        peers: &[String],
    ) -> Result<(f64, Vec<(String, f64)>), BandwidthError> {
        let flows: Vec<Flow> = peers
            .iter()
            .map(|peer| Flow {
                // Whoever is likely to fail itself takes less.
                weight: 1.0
                    - self
                        .state
                        .failure_risk
                        .get(peer)
                        .copied()
                        .unwrap_or(0.0)
                        .clamp(0.0, 0.99),
                guarantee: 0.0,
                cap: (1.0 - self.load_of(peer)).clamp(0.0, 1.0),
                path: vec![0],
            })
            .collect();
        let shares = max_min(&flows, &[wanted])?;
        Ok((
            shares.iter().sum(),
            peers.iter().cloned().zip(shares).collect(),
        ))
    }

    /// Who can take over load: the serving rest of its redundancy group, else its equals in the same place.
    fn peers(&self) -> Vec<String> {
        if let Some((members, _)) = self.graph.group_of(&self.asset.id) {
            return members
                .into_iter()
                .filter(|m| *m != self.asset.id)
                .map(str::to_owned)
                .collect();
        }
        self.state
            .twin
            .assets
            .values()
            .filter(|a| a.kind == self.asset.kind && a.locality == self.asset.locality)
            .filter(|a| a.id != self.asset.id && a.state == AssetState::InService)
            .map(|a| a.id.clone())
            .collect()
    }

    /// Load is assumed full where it was never measured.
    fn load_of(&self, asset: &str) -> f64 {
        let known = self.state.utilisation.get(asset).copied();
        known.unwrap_or(1.0).clamp(0.0, 1.0)
    }

    fn present_share(&self) -> f64 {
        let share = self.asset.attributes.get("bandwidth_share");
        share.and_then(serde_json::Value::as_f64).unwrap_or(1.0)
    }

    fn existing_stand_in(&self) -> Option<&Asset> {
        let assets = &self.state.twin.assets;
        assets
            .values()
            .find(|a| stands_in_for(a) == Some(&self.asset.id))
    }

    /// Whether a stand-in could serve: it is there, it is not off, and what it needs works.
    fn is_operational(&self, stand_in: &Asset) -> bool {
        let up = matches!(stand_in.state, AssetState::Standby | AssetState::InService);
        let mut serving = self.state.twin.clone();
        if let Some(copy) = serving.assets.get_mut(&stand_in.id) {
            copy.state = AssetState::InService;
        }
        let works = Graph::new(&serving)
            .working(&std::collections::BTreeSet::new())
            .contains(stand_in.id.as_str());
        up && works
    }

    /// What a stand-in has to carry: the asset's own power and that of everybody who would stop.
    fn power_to_carry(&self) -> f64 {
        let ids = self.impact.stopped.iter().chain([&self.asset.id]);
        ids.filter_map(|id| self.state.twin.assets.get(id))
            .map(power_w)
            .sum()
    }

    /// Expected loss per hour of doing nothing: the present failure rate times what an outage costs.
    fn loss_per_hour(&self) -> f64 {
        let survival = (1.0 - self.request.fps_7d).clamp(1e-4, 1.0);
        let rate = -survival.ln() / 168.0;
        // What it would cost without the stand-in, whether or not one serves already.
        let served = if self.impact.stood_in {
            STOOD_IN_SHARE
        } else {
            1.0
        };
        let cost = self.impact.cost_per_hour / served;
        (rate * EMERGENCY_HOURS * cost * 100.0).round() / 100.0
    }

    fn action(
        &self,
        verb: &str,
        kind: ActionKind,
        inverse: ActionKind,
        reason: String,
        benefit_per_hour: f64,
    ) -> Action {
        Action {
            key: format!("{verb}/{}", self.asset.id),
            kind,
            reason,
            benefit_per_hour,
            confidence: self.request.fps_7d.clamp(0.0, 1.0),
            inverse: Some(Box::new(inverse)),
        }
    }
}

fn stand_in_id(asset: &str) -> String {
    format!("{asset}-stand-in")
}

fn stands_in_for(asset: &Asset) -> Option<&str> {
    asset.attributes.get("stands_in_for")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Hall;

    fn state() -> State {
        let hall = Hall::built_in().unwrap();
        State {
            utilisation: hall.assets.iter().map(|a| (a.id.clone(), 0.6)).collect(),
            twin: hall.twin(),
            failure_risk: BTreeMap::new(),
        }
    }

    fn ask(asset: &str, fps_7d: f64) -> Request {
        Request {
            asset: asset.into(),
            fps_7d,
            threshold: None,
            goal: Goal::Rule,
        }
    }

    /// Does to a twin what the actuators do.
    fn apply(state: &mut State, actions: &[Action]) {
        for action in actions {
            let assets = &mut state.twin.assets;
            match &action.kind {
                ActionKind::CreateStandIn {
                    asset,
                    stand_in,
                    locality,
                } => {
                    let mut copy = assets[asset].clone();
                    copy.id.clone_from(stand_in);
                    copy.locality.clone_from(locality);
                    copy.state = AssetState::Standby;
                    copy.attributes
                        .insert("stands_in_for".into(), asset.clone().into());
                    assets.insert(stand_in.clone(), copy);
                }
                ActionKind::RemoveStandIn { stand_in } => {
                    assets.remove(stand_in);
                }
                ActionKind::SwapTo { from, to } => {
                    assets.get_mut(to).unwrap().state = AssetState::InService;
                    assets.get_mut(from).unwrap().state = AssetState::StoodIn;
                }
                ActionKind::AdjustBandwidth { asset, share } => {
                    let asset = assets.get_mut(asset).unwrap();
                    asset
                        .attributes
                        .insert("bandwidth_share".into(), (*share).into());
                }
                ActionKind::SwapPart { .. } => {}
            }
        }
    }

    #[test]
    fn the_rule_word_for_word() {
        for (fps, dependents, expected) in [
            (0.1, 0, Branch::Monitor),
            (0.1, 3, Branch::Monitor),
            (0.2, 3, Branch::Monitor),
            (0.21, 1, Branch::Replace),
            (0.9, 2, Branch::Replace),
            (0.21, 0, Branch::Bandwidth),
        ] {
            assert_eq!(branch(fps, 0.2, dependents), expected, "{fps} {dependents}");
        }
    }

    #[test]
    fn an_unlikely_failure_is_only_watched() {
        let plan = plan(&state(), &ask("fan-r01-01", 0.12)).unwrap();
        assert_eq!((plan.branch, plan.actions.len()), (Branch::Monitor, 0));
    }

    #[test]
    fn critical_dependents_get_a_stand_in_and_are_swapped_to_it() {
        let mut state = state();
        let request = ask("fan-r03-04", 0.7);
        let first = plan(&state, &request).unwrap();
        let ActionKind::CreateStandIn { locality, .. } = &first.actions[0].kind else {
            panic!("{first:?}");
        };
        assert_ne!(locality, "r03");
        assert_eq!((first.actions.len(), first.swapped_to), (1, None));
        apply(&mut state, &first.actions);
        let second = plan(&state, &request).unwrap();
        assert_eq!(second.swapped_to.as_deref(), Some("fan-r03-04-stand-in"));
        assert!(second.actions[0].benefit_per_hour > 0.0);
        apply(&mut state, &second.actions);
        let third = plan(&state, &request).unwrap();
        assert!(third.actions.is_empty(), "{third:?}");
        assert_eq!(third.done, [first.actions, second.actions].concat());
    }

    #[test]
    fn without_a_working_stand_in_a_replacement_item_is_found() {
        let mut state = state();
        let request = ask("fan-r03-04", 0.7);
        let created = plan(&state, &request).unwrap().actions;
        apply(&mut state, &created);
        state
            .twin
            .assets
            .get_mut("fan-r03-04-stand-in")
            .unwrap()
            .state = AssetState::Offline;
        let found = plan(&state, &request).unwrap();
        assert_eq!(found.replacement_item.as_deref(), Some("fan-store-01"));
        assert!(found.actions.is_empty());

        // Nor is there a place for one: the same.
        let mut full = self::state();
        for place in full.twin.localities.values_mut() {
            place.power_limit_w = Some(100.0);
        }
        let found = plan(&full, &request).unwrap();
        assert_eq!(found.replacement_item.as_deref(), Some("fan-store-01"));

        // And nothing on standby: load is moved off and the asset watched.
        full.twin
            .assets
            .retain(|id, _| !id.starts_with("fan-store"));
        let shifted = plan(&full, &request).unwrap();
        assert_eq!(shifted.branch, Branch::Bandwidth);
        assert!(matches!(
            shifted.actions[0].kind,
            ActionKind::AdjustBandwidth { .. }
        ));
        assert!(shifted.reason.contains("no fan_tray is on standby"));
    }

    #[test]
    fn without_critical_dependents_load_moves_to_the_group() {
        let mut state = state();
        state.utilisation.insert("fan-r05-08".into(), 0.95);
        let plan = plan(&state, &ask("fan-r05-07", 0.5)).unwrap();
        // Wanted: half of 0.6; room: 0.05 and twice 0.4.
        let ActionKind::AdjustBandwidth { share, .. } = plan.actions[0].kind else {
            panic!("{plan:?}");
        };
        assert!((share - 0.5).abs() < 1e-9);
        assert!(
            plan.reason.contains("`fan-r05-08` 5.0 %"),
            "{}",
            plan.reason
        );
    }

    #[test]
    fn undoing_leaves_the_twin_as_it_was() {
        let before = state();
        let mut state = before.clone();
        let request = ask("fan-r03-04", 0.7);
        let mut done = Vec::new();
        for _ in 0..2 {
            let actions = plan(&state, &request).unwrap().actions;
            apply(&mut state, &actions);
            done.extend(actions);
        }
        let back = Request {
            goal: Goal::Undo,
            ..request
        };
        let planned = plan(&state, &back).unwrap().actions;
        let kinds = |all: &[Action]| all.iter().map(|a| a.kind.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(&planned), kinds(&undo(&done)));
        apply(&mut state, &planned);
        assert_eq!(state, before);
        assert!(plan(&state, &back).unwrap().actions.is_empty());
    }

    #[test]
    fn many_plans_do_not_herd_onto_one_place() {
        let state = state();
        let mut places = std::collections::BTreeSet::new();
        for rack in 1..=10 {
            let asset = format!("fan-r{rack:02}-01");
            let plan = plan(&state, &ask(&asset, 0.7)).unwrap();
            if let ActionKind::CreateStandIn { locality, .. } = &plan.actions[0].kind {
                places.insert(locality.clone());
            }
        }
        assert!(places.len() >= 2, "{places:?}");
    }

    #[test]
    fn an_unknown_asset_is_named() {
        let error = plan(&state(), &ask("fan-r99-01", 0.7)).unwrap_err();
        assert_eq!(error.to_string(), "asset `fan-r99-01` is unknown");
    }
}
