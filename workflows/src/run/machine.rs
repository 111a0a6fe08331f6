//! The states of a run: an event goes in, the new state and what to do about it come out.

use serde::{Deserialize, Serialize};

use super::{Divergence, Ending};

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
    /// Its script asks for something else than its journal holds; an operator decides.
    Diverged,
}

impl RunStatus {
    /// Whether nothing moves it any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// State of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Where it stands.
    pub status: RunStatus,
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
    /// Somebody wants it stopped.
    Cancelled,
    /// An operator pinned another revision or cut the journal back; it goes on from what is left.
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
        (RunStatus::Running, RunEvent::Ended(ending)) => {
            next.status = match ending {
                Ending::Succeeded { .. } => RunStatus::Succeeded,
                Ending::Failed(_) => RunStatus::Failed,
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
        (status, RunEvent::Cancelled) if status.is_over() => return illegal("cancelled"),
        (_, RunEvent::Cancelled) => {
            next.status = RunStatus::Cancelled;
            vec![CloseOpenCalls, Announce]
        }
    };
    Ok((next, effects))
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
            _ => RunEvent::Resumed,
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

    proptest! {
        #[test]
        fn what_is_over_stays_over(events in proptest::collection::vec((0_usize..6, 0_u64..4), 0..40)) {
            let mut run = RunState::new();
            for (index, wakes) in events {
                let Ok((next, _)) = apply(&run, &event(index, wakes)) else { continue };
                if run.status.is_over() {
                    prop_assert_eq!(&next, &run);
                }
                prop_assert_eq!(next.ending.is_some(), matches!(next.status, RunStatus::Succeeded | RunStatus::Failed));
                prop_assert_eq!(next.divergence.is_some() && next.status != RunStatus::Cancelled, next.status == RunStatus::Diverged);
                run = next;
            }
        }
    }
}
