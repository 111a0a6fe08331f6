//! `allocate`: lets something else carry what an ailing asset carries, or moves load off it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Outcome, Step, StepError};
use crate::allocate::{Branch, Goal, Plan, Request, State, plan, undo};
use crate::host::{Answer, Host};
use crate::model::{Action, AssetState, Timestamp, Twin};

const HOUR_MS: i64 = 3_600_000;
/// Create, swap, and one look at what came of it.
const MOST_ROUNDS: usize = 4;

/// Carries out the allocation rule for one asset, on the twin and the recorded webhook.
pub struct Allocate;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct AllocateInput {
    /// The asset in question.
    pub asset: String,
    /// The moment planned from.
    pub at: Timestamp,
    /// Its failure prediction score by horizon.
    #[serde(default)]
    pub fps: BTreeMap<String, f64>,
    /// What a policy has decided already; without one the rule chooses.
    #[serde(default)]
    pub goal: Goal,
    /// The score above which the rule acts.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// With the goal `undo`: the actions to take back; without them, whatever is in effect.
    #[serde(default)]
    pub actions: Vec<Action>,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AllocateOutput {
    /// The branch of the rule that was taken.
    pub branch: Branch,
    /// What was done, in order.
    pub actions: Vec<Action>,
    /// The stand-in, if there is one.
    pub stand_in: Option<String>,
    /// Whether something serves in the asset's place.
    pub operational: bool,
    /// What serves in its place.
    pub swapped_to: Option<String>,
    /// What can be scheduled as its replacement.
    pub replacement_item: Option<String>,
    /// Why this and nothing else.
    pub reason: String,
}

impl Step for Allocate {
    const KIND: &'static str = "allocate";
    type Input = AllocateInput;
    type Output = AllocateOutput;

    fn run(
        &self,
        input: AllocateInput,
        host: &dyn Host,
    ) -> Result<Outcome<AllocateOutput>, StepError> {
        if input.goal == Goal::Undo && !input.actions.is_empty() {
            return take_back(&input.actions, host).map(Outcome::Done);
        }
        let fps_7d = match (input.fps.get("7d"), input.goal) {
            (Some(p), _) => *p,
            (None, Goal::Undo) => 0.0,
            (None, _) => {
                return Err(StepError::failed(
                    "missing_score",
                    "field `fps` lacks the horizon `7d`, which the allocation rule compares",
                ));
            }
        };
        let request = Request {
            asset: input.asset,
            fps_7d,
            threshold: input.threshold,
            goal: input.goal,
        };
        let mut acted = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let state = observe(&request, input.at, host)?;
            let next = plan(&state, &request).map_err(|e| StepError::failed("unknown_asset", e))?;
            if next.actions.is_empty() {
                return Ok(Outcome::Done(output(next, acted)));
            }
            for action in &next.actions {
                host.act(action)?;
            }
            acted.extend(next.actions);
        }
        Err(StepError::unavailable(
            "not_settled",
            format_args!(
                "the twin does not show what was done to `{}` yet",
                request.asset
            ),
        ))
    }
}

/// What was asked for is in effect; `done` tells it whole, also when an earlier attempt did part of it.
fn output(settled: Plan, acted: Vec<Action>) -> AllocateOutput {
    AllocateOutput {
        branch: settled.branch,
        actions: if settled.done.is_empty() {
            acted
        } else {
            settled.done
        },
        operational: settled.swapped_to.is_some(),
        stand_in: settled.stand_in,
        swapped_to: settled.swapped_to,
        replacement_item: settled.replacement_item,
        reason: settled.reason,
    }
}

fn take_back(actions: &[Action], host: &dyn Host) -> Answer<AllocateOutput> {
    let inverses = undo(actions);
    for action in &inverses {
        host.act(action)?;
    }
    Ok(AllocateOutput {
        branch: Branch::Monitor,
        reason: format!("took back {} actions, the last one first", inverses.len()),
        actions: inverses,
        stand_in: None,
        operational: false,
        swapped_to: None,
        replacement_item: None,
    })
}

/// The twin, and how much the asset and its equals were used in the last hour.
fn observe(request: &Request, at: Timestamp, host: &dyn Host) -> Answer<State> {
    let twin = host.twin()?;
    let mut utilisation = BTreeMap::new();
    for id in equals(&twin, &request.asset) {
        let used = host.utilisation(&id, at.plus_ms(-HOUR_MS), at, HOUR_MS)?;
        if let Some(share) = used.into_iter().flatten().next_back() {
            utilisation.insert(id, share);
        }
    }
    Ok(State {
        twin,
        failure_risk: [(request.asset.clone(), request.fps_7d)].into(),
        utilisation,
    })
}

/// The asset, and what of its kind serves in its place or group.
fn equals(twin: &Twin, asset: &str) -> Vec<String> {
    let Some(own) = twin.assets.get(asset) else {
        return Vec::new();
    };
    twin.assets
        .values()
        .filter(|a| a.kind == own.kind && a.state == AssetState::InService || a.id == asset)
        .filter(|a| {
            let group = |a: &crate::model::Asset| a.redundancy.as_ref().map(|r| r.group.clone());
            a.locality == own.locality || (group(a).is_some() && group(a) == group(own))
        })
        .map(|a| a.id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::world::{World, done, failed};
    use super::*;

    #[test]
    fn dependents_are_swapped_to_a_stand_in_once() {
        let world = World::new();
        let input = json!({ "asset": "fan-r03-04", "at": world.at, "fps": { "7d": 0.7 }, "goal": "stand_in" });
        let first = done(&Allocate, &input, &world);
        assert_eq!(first["operational"], true);
        assert_eq!(first["swapped_to"], "fan-r03-04-stand-in");
        assert_eq!(first["actions"].as_array().map(Vec::len), Some(2));
        assert_eq!(done(&Allocate, &input, &world), first);
        assert_eq!(world.acted().len(), 2);

        let back = json!({ "asset": "fan-r03-04", "at": world.at, "goal": "undo", "actions": first["actions"] });
        let undone = done(&Allocate, &back, &world);
        assert_eq!(undone["actions"][0]["action"], "swap_to");
        assert_eq!(undone["actions"][1]["action"], "remove_stand_in");
        assert_eq!(done(&Allocate, &back, &world), undone);
        assert_eq!(
            world.asset("fan-r03-04").unwrap().state,
            AssetState::InService
        );
    }

    #[test]
    fn load_is_moved_off_once() {
        let world = World::new();
        let input = json!({ "asset": "fan-r05-08", "at": world.at, "fps": { "7d": 0.5 }, "goal": "bandwidth" });
        let first = done(&Allocate, &input, &world);
        assert_eq!(first["actions"][0]["action"], "adjust_bandwidth");
        assert_eq!(first["operational"], false);
        assert_eq!(done(&Allocate, &input, &world), first);
        assert_eq!(world.acted().len(), 1);
    }

    #[test]
    fn a_full_hall_leads_to_a_replacement_item() {
        let mut world = World::new();
        for place in world.twin.get_mut().localities.values_mut() {
            place.power_limit_w = Some(1.0);
        }
        let input = json!({ "asset": "fan-r01-01", "at": world.at, "fps": { "7d": 0.7 }, "goal": "stand_in" });
        let found = done(&Allocate, &input, &world);
        assert_eq!(found["replacement_item"], "fan-store-01");
        assert_eq!(
            (found["operational"].clone(), world.acted().len()),
            (json!(false), 0)
        );
    }

    #[test]
    fn what_cannot_work_is_named() {
        let world = World::new();
        let unknown = json!({ "asset": "fan-r99-01", "at": world.at, "fps": { "7d": 0.7 } });
        assert_eq!(failed(&Allocate, &unknown, &world).code(), "unknown_asset");
        let unscored = json!({ "asset": "fan-r01-01", "at": world.at });
        assert_eq!(failed(&Allocate, &unscored, &world).code(), "missing_score");
    }
}
