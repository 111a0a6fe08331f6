//! `swap`: puts the part in, in its window, and takes the stand-in away again.

use serde::{Deserialize, Serialize};

use super::{Outcome, Step, StepError};
use crate::host::Host;
use crate::model::{Action, ActionKind, BuildEnd, Timestamp, WindowState};

/// Puts a finished build into an asset.
pub struct Swap;

/// What scripts hand in.
#[derive(Debug, Clone, Deserialize)]
pub struct SwapInput {
    /// The asset worked on.
    pub asset: String,
    /// The window it happens in.
    pub window: String,
    /// The build that goes in.
    pub build: String,
    /// When it goes in, which must not be before its window.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// The stand-in that serves meanwhile, if one does.
    #[serde(default)]
    pub stand_in: Option<String>,
}

/// What scripts get back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwapOutput {
    /// What was done, in order.
    pub actions: Vec<Action>,
    /// The asset worked on.
    pub asset: String,
    /// The build that went in.
    pub build: String,
    /// The window it happened in.
    pub window: String,
    /// First moment of that window.
    pub from: Timestamp,
    /// First moment after it: from then on the new part serves.
    pub to: Timestamp,
    /// Who did it.
    pub technician: Option<String>,
}

impl Step for Swap {
    const KIND: &'static str = "swap";
    type Input = SwapInput;
    type Output = SwapOutput;

    fn run(&self, input: SwapInput, host: &dyn Host) -> Result<Outcome<SwapOutput>, StepError> {
        let window = host.window(&input.window)?;
        if window.proposal.asset != input.asset {
            return Err(StepError::failed(
                "wrong_window",
                format_args!(
                    "window `{}` is for `{}`, not for `{}`",
                    window.id, window.proposal.asset, input.asset
                ),
            ));
        }
        if !matches!(window.state, WindowState::Accepted | WindowState::Done) {
            return Err(StepError::failed(
                "window_refused",
                format_args!(
                    "nobody has accepted window `{}`; propose another one",
                    window.id
                ),
            ));
        }
        if input.at.is_some_and(|at| at < window.proposal.from) {
            return Err(StepError::failed(
                "window_not_open",
                format_args!("window `{}` begins at {}", window.id, window.proposal.from),
            ));
        }
        let build = host.build(&input.build)?;
        if !matches!(build.ended, Some(BuildEnd::Completed { .. })) {
            return Err(StepError::failed(
                "not_made",
                format_args!(
                    "build `{}` has not been completed, so it cannot be put in",
                    build.id
                ),
            ));
        }
        let actions = actions(&input);
        for action in &actions {
            host.act(action)?;
        }
        host.finish_window(&window.id)?;
        Ok(Outcome::Done(SwapOutput {
            actions,
            asset: input.asset,
            build: input.build,
            window: window.id,
            from: window.proposal.from,
            to: window.proposal.to,
            technician: window.proposal.technician,
        }))
    }
}

/// The part goes in first; only then do dependents go back and the stand-in away.
fn actions(input: &SwapInput) -> Vec<Action> {
    let asset = &input.asset;
    let action =
        |verb: &str, kind: ActionKind, reason: String, inverse: Option<ActionKind>| Action {
            key: format!("{verb}/{asset}"),
            kind,
            reason,
            benefit_per_hour: 0.0,
            confidence: 1.0,
            inverse: inverse.map(Box::new),
        };
    let put_in = ActionKind::SwapPart {
        asset: asset.clone(),
        build: input.build.clone(),
        window: input.window.clone(),
    };
    let because = format!("build `{}` takes the place of the worn part", input.build);
    let mut actions = vec![action("swap_part", put_in, because, None)];
    if let Some(stand_in) = &input.stand_in {
        let swap = |from: &str, to: &str| ActionKind::SwapTo {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let because = format!("`{asset}` serves again");
        let (back, there) = (swap(stand_in, asset), swap(asset, stand_in));
        actions.push(action("swap_back", back, because, Some(there)));
        let away = ActionKind::RemoveStandIn {
            stand_in: stand_in.clone(),
        };
        let because = format!("nothing depends on `{stand_in}` any more");
        actions.push(action("remove_stand_in", away, because, None));
    }
    actions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Allocate;
    use super::super::world::{World, done, failed};
    use super::*;
    use crate::model::AssetState;

    #[test]
    fn the_part_goes_in_and_the_stand_in_goes_away() {
        let world = World::new();
        let relief = json!({ "asset": "fan-r01-01", "at": world.at, "fps": { "7d": 0.7 }, "goal": "stand_in" });
        let stand_in = done(&Allocate, &relief, &world)["stand_in"].clone();
        let window = world.accepted_window("fan-r01-01");
        let build = world.completed_build();
        let input = json!({ "asset": "fan-r01-01", "window": window, "build": build, "stand_in": stand_in, "at": world.at.plus_ms(7_200_000) });
        let swapped = done(&Swap, &input, &world);
        assert_eq!(swapped["actions"].as_array().map(Vec::len), Some(3));
        assert_eq!(done(&Swap, &input, &world), swapped);
        let asset = world.asset("fan-r01-01").unwrap();
        assert_eq!(asset.state, AssetState::InService);
        assert_eq!(asset.attributes["part_build"], json!(build));
        assert!(world.asset("fan-r01-01-stand-in").is_err());
        assert_eq!(world.window(&window).unwrap().state, WindowState::Done);
    }

    #[test]
    fn what_was_refused_or_not_made_is_not_put_in() {
        let world = World::new();
        let window = world.accepted_window("fan-r01-01");
        let build = world.completed_build();
        let ask =
            |asset: &str, build: &str| json!({ "asset": asset, "window": window, "build": build });
        assert_eq!(
            failed(&Swap, &ask("fan-r02-01", &build), &world).code(),
            "wrong_window"
        );
        assert_eq!(
            failed(&Swap, &ask("fan-r01-01", &world.open_build()), &world).code(),
            "not_made"
        );
        let mut early = ask("fan-r01-01", &build);
        early["at"] = json!(world.at);
        assert_eq!(failed(&Swap, &early, &world).code(), "window_not_open");
        for state in [WindowState::Proposed, WindowState::Rejected] {
            world.set_window(&window, state);
            assert_eq!(
                failed(&Swap, &ask("fan-r01-01", &build), &world).code(),
                "window_refused"
            );
        }
        assert!(world.acted().is_empty());
    }
}
