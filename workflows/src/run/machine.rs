//! The states of a run: an event goes in, the new state and what to do about it come out.

use serde::{Deserialize, Serialize};

use super::{Divergence, Ending, RunFailure};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is to be replayed, or being replayed.
    Running,
    /// It waits for the world.
    Waiting,
    /// It returned.
    Succeeded,
    /// It failed; what could be undone is undone.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// It ended so that a new run goes on.
    Continued,
    /// Its script asks for something else than its journal holds; an operator decides.
    Diverged,
}

impl RunStatus {
    /// Whether nothing moves it any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Continued
        )
    }
}

/// State of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Where it stands.
    pub status: RunStatus,
    /// Somebody wants it stopped: it is being undone, and ends as cancelled unless it was about to end anyway.
    pub cancelling: bool,
    /// Raised by every wake-up: a replay that ends finding it raised since it began has to be done again.
    pub wakes: u64,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// Where it diverged, while it is diverged.
    pub divergence: Option<Divergence>,
}

impl RunState {
    /// A run that has just been created.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            status: RunStatus::Running,
            cancelling: false,
            wakes: 0,
            ending: None,
            divergence: None,
        }
    }
}

impl Default for RunState {
    fn default() -> Self {
        Self::new()
    }
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// A call of it was answered.
    Woken,
    /// A replay that saw the journal as of this many wakes suspended.
    Suspended {
        /// `wakes` when that replay began.
        wakes: u64,
    },
    /// A replay came to the end.
    Ended(Ending),
    /// A replay diverged.
    Diverged(Divergence),
    /// Somebody wants it stopped, and what it did undone.
    Cancelled,
    /// Somebody wants it stopped at once, whatever is left undone.
    Forced,
    /// An operator pinned a revision; it goes on with that.
    Resumed,
}

/// What to do about it, in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEffect {
    /// Have it replayed.
    Replay,
    /// Cancel its open steps, sleeps, waits and approvals.
    CloseOpenCalls,
    /// Tell the world where it stands now.
    Announce,
}

/// An event that cannot happen to a run in its state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {status:?} cannot be {event}")]
pub struct Illegal {
    /// Where the run stands.
    pub status: RunStatus,
    /// What was asked of it.
    pub event: &'static str,
}

/// The only code that changes a run's state.
///
/// A wake-up of a run that is over or diverged changes nothing: answers may come late.
///
/// # Errors
///
/// [`Illegal`], when the event cannot happen in this state.
pub fn apply(run: &RunState, event: &RunEvent) -> Result<(RunState, Vec<RunEffect>), Illegal> {
    use RunEffect::{Announce, CloseOpenCalls, Replay};
    let mut next = run.clone();
    let illegal = |event| {
        Err(Illegal {
            status: run.status,
            event,
        })
    };
    let effects = match (run.status, event) {
        (RunStatus::Running, RunEvent::Woken) => {
            next.wakes += 1;
            vec![Replay]
        }
        (RunStatus::Waiting, RunEvent::Woken) => {
            next.wakes += 1;
            next.status = RunStatus::Running;
            vec![Replay, Announce]
        }
        (_, RunEvent::Woken) => Vec::new(),
        (RunStatus::Running, RunEvent::Suspended { wakes }) if *wakes < run.wakes => vec![Replay],
        (RunStatus::Running, RunEvent::Suspended { .. }) => {
            next.status = RunStatus::Waiting;
            vec![Announce]
        }
        (_, RunEvent::Suspended { .. }) => return illegal("suspended"),
        (RunStatus::Running, RunEvent::Ended(Ending::Cancelled(_))) if !run.cancelling => {
            return illegal("cancelled without being asked to");
        }
        // What goes on must hear of the cancel: the run is replayed, and undone.
        (RunStatus::Running, RunEvent::Ended(Ending::Continued { .. })) if run.cancelling => {
            return illegal("continued while it is being cancelled");
        }
        (RunStatus::Running, RunEvent::Ended(ending)) => {
            next.status = match ending {
                Ending::Succeeded { .. } => RunStatus::Succeeded,
                Ending::Failed(_) => RunStatus::Failed,
                Ending::Cancelled(_) => RunStatus::Cancelled,
                Ending::Continued { .. } => RunStatus::Continued,
            };
            next.ending = Some(ending.clone());
            vec![CloseOpenCalls, Announce]
        }
        (_, RunEvent::Ended(_)) => return illegal("ended"),
        (RunStatus::Running, RunEvent::Diverged(divergence)) => {
            next.status = RunStatus::Diverged;
            next.divergence = Some(divergence.clone());
            vec![Announce]
        }
        (_, RunEvent::Diverged(_)) => return illegal("diverged"),
        (RunStatus::Diverged, RunEvent::Resumed) => {
            next.status = RunStatus::Running;
            next.divergence = None;
            next.wakes += 1;
            vec![Replay, Announce]
        }
        (_, RunEvent::Resumed) => return illegal("resumed"),
        (status, RunEvent::Cancelled | RunEvent::Forced) if status.is_over() => {
            return illegal("cancelled");
        }
        // Its script cannot be replayed, so nothing can be undone.
        (RunStatus::Diverged, RunEvent::Cancelled) => stop_at_once(
            &mut next,
            "the run was cancelled; it had diverged, so nothing could be undone",
        ),
        (_, RunEvent::Forced) => stop_at_once(
            &mut next,
            "the run was cancelled by force; what it did was not undone, or not all of it",
        ),
        (_, RunEvent::Cancelled) if run.cancelling => Vec::new(),
        (_, RunEvent::Cancelled) => {
            next.cancelling = true;
            next.status = RunStatus::Running;
            next.wakes += 1;
            vec![Replay, Announce]
        }
    };
    Ok((next, effects))
}

fn stop_at_once(run: &mut RunState, message: &str) -> Vec<RunEffect> {
    run.status = RunStatus::Cancelled;
    run.cancelling = true;
    run.ending = Some(Ending::Cancelled(RunFailure::cancelled(message)));
    vec![RunEffect::CloseOpenCalls, RunEffect::Announce]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::run::Position;

    fn event(index: usize, wakes: u64) -> RunEvent {
        match index {
            0 => RunEvent::Woken,
            1 => RunEvent::Suspended { wakes },
            2 => RunEvent::Ended(Ending::Succeeded {
                result: Value::Null,
            }),
            3 => RunEvent::Diverged(Divergence {
                position: Position::top(1),
                line: None,
                recorded: None,
                requested: None,
            }),
            4 => RunEvent::Cancelled,
            5 => RunEvent::Resumed,
            6 => RunEvent::Forced,
            8 => RunEvent::Ended(Ending::Continued { event: Value::Null }),
            7 => RunEvent::Ended(Ending::Failed(RunFailure::of_run(
                "failed",
                "it failed",
                None,
            ))),
            _ => RunEvent::Ended(Ending::Cancelled(RunFailure::cancelled("it was cancelled"))),
        }
    }

    #[test]
    fn an_answer_during_a_replay_is_not_missed() {
        let (run, effects) = apply(&RunState::new(), &RunEvent::Woken).expect("legal");
        assert_eq!(effects, [RunEffect::Replay]);
        let (run, effects) = apply(&run, &RunEvent::Suspended { wakes: 0 }).expect("legal");
        assert_eq!(
            (run.status, effects),
            (RunStatus::Running, vec![RunEffect::Replay])
        );
        let (run, _) = apply(&run, &RunEvent::Suspended { wakes: 1 }).expect("legal");
        assert_eq!(run.status, RunStatus::Waiting);
    }

    #[test]
    fn a_cancelled_run_is_replayed_once_more_and_ends_as_cancelled() {
        let (run, _) = apply(&RunState::new(), &RunEvent::Suspended { wakes: 0 }).expect("legal");
        let (run, effects) = apply(&run, &RunEvent::Cancelled).expect("legal");
        assert_eq!((run.status, run.cancelling), (RunStatus::Running, true));
        assert!(effects.contains(&RunEffect::Replay));
        let (same, effects) = apply(&run, &RunEvent::Cancelled).expect("legal");
        assert_eq!((&same, effects), (&run, Vec::new()), "asked again");
        let ending = Ending::Cancelled(RunFailure::cancelled("it was"));
        let (run, _) = apply(&run, &RunEvent::Ended(ending)).expect("legal");
        assert_eq!(run.status, RunStatus::Cancelled);
        assert!(apply(&run, &RunEvent::Forced).is_err());
    }

    proptest! {
        /// Whatever happens in whatever order: nothing over moves, and the parts of a state fit together.
        #[test]
        fn what_is_over_stays_over(events in proptest::collection::vec((0_usize..10, 0_u64..4), 0..60)) {
            let mut run = RunState::new();
            for (index, wakes) in events {
                let Ok((next, effects)) = apply(&run, &event(index, wakes)) else { continue };
                if run.status.is_over() {
                    prop_assert_eq!(&next, &run);
                    prop_assert!(effects.is_empty());
                }
                prop_assert!(next.wakes >= run.wakes);
                prop_assert!(next.cancelling || !run.cancelling, "a cancel is not taken back");
                prop_assert_eq!(next.ending.is_some(), next.status.is_over());
                prop_assert!(next.divergence.is_some() || next.status != RunStatus::Diverged);
                prop_assert_eq!(
                    matches!(next.ending, Some(Ending::Cancelled(_))),
                    next.status == RunStatus::Cancelled
                );
                prop_assert!(next.cancelling || next.status != RunStatus::Cancelled);
                prop_assert!(!next.cancelling || next.status != RunStatus::Continued || run.status == next.status);
                // What ends is closed exactly once, and nobody waits for a replay that nobody does.
                let closes = effects.contains(&RunEffect::CloseOpenCalls);
                prop_assert_eq!(closes, next.status.is_over() && !run.status.is_over());
                let rises = next.wakes > run.wakes && !next.status.is_over();
                prop_assert!(!rises || effects.contains(&RunEffect::Replay));
                run = next;
            }
        }
    }
}
