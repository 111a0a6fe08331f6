//! The states of a build: computing may be repeated, matter may not.

use serde::{Deserialize, Serialize};

use crate::model::BuildState;

/// What happens to a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event", content = "on_plate")]
pub enum BuildEvent {
    /// A cell takes it.
    Lease,
    /// The cell has verified the G-code at the machine.
    Stage,
    /// The cell is about to move matter; granted once.
    Start,
    /// The part lies on the plate and was scanned.
    Complete,
    /// The cell gave up.
    Fail,
    /// The lease ran out or the cell gave it back.
    LeaseLost,
    /// Somebody looked at the plate of an uncertain build.
    Resolve(OnPlate),
    /// Nobody wants it any more.
    Cancel,
}

/// What lies on the plate of an uncertain build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPlate {
    /// Nothing: matter never moved.
    Nothing,
    /// A piece of the part.
    Partial,
    /// The part.
    Finished,
}

/// What to do about it, in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildEffect {
    /// Only keep the state.
    Nothing,
    /// Raise the fence and hand out a lease.
    GrantLease,
    /// Let the cell move matter, and note the time.
    PermitStart,
    /// Offer it to the cells again.
    Requeue,
    /// Ask a person or the machine what lies on the plate.
    AskWhatIsOnThePlate,
    /// Tell the waiting step that the part is made.
    ReportCompleted,
    /// Tell the waiting step that no part came of it.
    ReportFailed,
    /// Have the finished part scanned, then complete it.
    ScanPlate,
    /// Ask the cell that holds it to stop; it answers with its failure.
    AskCellToStop,
}

/// An event that cannot happen to a build in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a build that is {state:?} cannot take {event:?}")]
pub struct Illegal {
    /// Where the build stands.
    pub state: BuildState,
    /// What was asked of it.
    pub event: BuildEvent,
}

/// The only code that changes a build's state.
///
/// An uncertain build found finished stays uncertain until its scan completes it: nothing is called made that was
/// not measured. The cell that lost its lease may still complete or fail it, for it saw the end.
///
/// # Errors
///
/// [`Illegal`], when the event cannot happen in this state.
pub fn apply(state: BuildState, event: BuildEvent) -> Result<(BuildState, BuildEffect), Illegal> {
    use BuildEffect as Do;
    use BuildEvent as On;
    use BuildState::{Ended, Leased, Staged, Started, Uncertain, Waiting};
    Ok(match (state, event) {
        (Waiting, On::Lease) => (Leased, Do::GrantLease),
        (Leased, On::Stage) => (Staged, Do::Nothing),
        (Staged, On::Start) => (Started, Do::PermitStart),

        (Leased | Staged, On::LeaseLost) => (Waiting, Do::Requeue),
        (Started, On::LeaseLost) => (Uncertain, Do::AskWhatIsOnThePlate),
        (Waiting | Uncertain | Ended, On::LeaseLost) => (state, Do::Nothing),

        (Started | Uncertain, On::Complete) => (Ended, Do::ReportCompleted),
        (Leased | Staged | Started | Uncertain, On::Fail) => (Ended, Do::ReportFailed),

        (Uncertain, On::Resolve(OnPlate::Nothing)) => (Waiting, Do::Requeue),
        (Uncertain, On::Resolve(OnPlate::Partial)) => (Ended, Do::ReportFailed),
        (Uncertain, On::Resolve(OnPlate::Finished)) => (Uncertain, Do::ScanPlate),

        (Waiting | Leased | Staged, On::Cancel) => (Ended, Do::ReportFailed),
        (Started, On::Cancel) => (Started, Do::AskCellToStop),
        (Uncertain, On::Cancel) => (Uncertain, Do::AskWhatIsOnThePlate),

        (state, event) => return Err(Illegal { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENTS: [BuildEvent; 10] = [
        BuildEvent::Lease,
        BuildEvent::Stage,
        BuildEvent::Start,
        BuildEvent::Complete,
        BuildEvent::Fail,
        BuildEvent::LeaseLost,
        BuildEvent::Resolve(OnPlate::Nothing),
        BuildEvent::Resolve(OnPlate::Partial),
        BuildEvent::Resolve(OnPlate::Finished),
        BuildEvent::Cancel,
    ];

    #[test]
    fn a_lease_lost_before_the_start_requeues_and_after_it_leaves_doubt() {
        for (state, after, effect) in [
            (
                BuildState::Leased,
                BuildState::Waiting,
                BuildEffect::Requeue,
            ),
            (
                BuildState::Staged,
                BuildState::Waiting,
                BuildEffect::Requeue,
            ),
            (
                BuildState::Started,
                BuildState::Uncertain,
                BuildEffect::AskWhatIsOnThePlate,
            ),
            (
                BuildState::Uncertain,
                BuildState::Uncertain,
                BuildEffect::Nothing,
            ),
            (BuildState::Ended, BuildState::Ended, BuildEffect::Nothing),
        ] {
            assert_eq!(apply(state, BuildEvent::LeaseLost), Ok((after, effect)));
        }
    }

    #[test]
    fn a_start_is_granted_from_staged_only() {
        for state in [
            BuildState::Waiting,
            BuildState::Leased,
            BuildState::Started,
            BuildState::Uncertain,
            BuildState::Ended,
        ] {
            assert!(apply(state, BuildEvent::Start).is_err(), "{state:?}");
        }
    }

    #[test]
    fn only_a_scan_makes_a_finished_plate_a_part() {
        let found = apply(
            BuildState::Uncertain,
            BuildEvent::Resolve(OnPlate::Finished),
        );
        assert_eq!(found, Ok((BuildState::Uncertain, BuildEffect::ScanPlate)));
        let scanned = apply(BuildState::Uncertain, BuildEvent::Complete);
        assert_eq!(
            scanned,
            Ok((BuildState::Ended, BuildEffect::ReportCompleted))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn matter_moves_at_most_once(path in proptest::collection::vec(0_usize..EVENTS.len(), 0..60)) {
            let mut state = BuildState::Waiting;
            let mut started = false;
            for event in path.into_iter().map(|i| EVENTS[i]) {
                let Ok((next, effect)) = apply(state, event) else { continue };
                match effect {
                    BuildEffect::PermitStart => {
                        prop_assert!(!started, "started twice");
                        started = true;
                    }
                    BuildEffect::Requeue => {
                        let seen_empty = event == BuildEvent::Resolve(OnPlate::Nothing);
                        prop_assert!(!started || seen_empty, "requeued after the start");
                        started = started && !seen_empty;
                    }
                    _ => {}
                }
                prop_assert!(!started || next != BuildState::Waiting);
                prop_assert!(state != BuildState::Ended || next == BuildState::Ended);
                state = next;
            }
        }
    }
}
