//! The states of a queued step: an event goes in, the new state and what to do about it come out.
//!
//! This states what the queue's SQL does. A claim raises the fence and counts the attempt; every later word of the
//! holder names the fence, and is refused as stale once the step has passed to somebody else. So a step may be
//! executed more than once, and its end is recorded at most once.

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepStatus {
    /// It may be claimed once it is due.
    Ready,
    /// Somebody works on it.
    Leased,
    /// Its output is recorded.
    Done,
    /// Its failure is recorded.
    Failed,
    /// Its run wants it no more.
    Cancelled,
}

impl StepStatus {
    /// Whether nothing moves it any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// State of a queued step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepState {
    /// Where it stands.
    pub status: StepStatus,
    /// Attempts counted so far.
    pub attempt: u32,
    /// Attempts it may have.
    pub max_attempts: u32,
    /// Raised by every claim, and by whatever shuts its holder out.
    pub fence: u64,
    /// When it may be claimed, ms since the epoch; nothing while it is parked.
    pub due: Option<i64>,
    /// Until when its holder has it without a heartbeat, ms since the epoch.
    pub lease_until: Option<i64>,
    /// Raised by every wake-up, so that one which comes while it is worked on is not lost.
    pub wakes: u64,
    /// Whether its run was begun again from it.
    pub redriven: bool,
}

impl StepState {
    /// A step just queued, due at once.
    #[must_use]
    pub const fn new(now: i64, max_attempts: u32) -> Self {
        Self {
            status: StepStatus::Ready,
            attempt: 0,
            max_attempts,
            fence: 0,
            due: Some(now),
            lease_until: None,
            wakes: 0,
            redriven: false,
        }
    }

    /// Whether a claim gets it now.
    #[must_use]
    pub fn is_claimable(&self, now: i64) -> bool {
        self.status == StepStatus::Ready
            && self.attempt < self.max_attempts
            && self.due.is_some_and(|due| due <= now)
    }

    /// Whether it waits for a wake-up.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.status == StepStatus::Ready && self.due.is_none()
    }
}

/// What happens to a step. Times are milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepEvent {
    /// A worker takes it.
    Claim {
        /// The present moment.
        now: i64,
        /// Until when the worker has it.
        until: i64,
    },
    /// Its holder lives.
    Renew {
        /// The fence of the holder's claim.
        fence: u64,
        /// Until when the holder has it now.
        until: i64,
    },
    /// Somebody looks for leases that ran out.
    Expire {
        /// The present moment.
        now: i64,
    },
    /// Its output is to be recorded.
    Complete {
        /// The fence of the holder's claim.
        fence: u64,
    },
    /// The attempt failed.
    Fail {
        /// The fence of the holder's claim.
        fence: u64,
        /// When it is tried again if that may help.
        again_at: Option<i64>,
    },
    /// It waits for the world; that is no attempt.
    Park {
        /// The fence of the holder's claim.
        fence: u64,
        /// The present moment.
        now: i64,
        /// `wakes` when it was claimed.
        wakes: u64,
    },
    /// A run's own advancement goes on later; its attempts begin anew.
    Suspend {
        /// The fence of the holder's claim.
        fence: u64,
        /// The present moment.
        now: i64,
        /// `wakes` when it was claimed.
        wakes: u64,
        /// When it is due without a wake-up.
        due: Option<i64>,
    },
    /// Its holder goes down in order; that is no attempt.
    Release {
        /// The fence of the holder's claim.
        fence: u64,
    },
    /// Something it may wait for happened.
    Wake {
        /// The present moment.
        now: i64,
    },
    /// Its run ended.
    Cancel,
    /// It is too late.
    TimeOut,
    /// Its failure ended its run, which somebody begins again from it.
    Redrive,
}

/// What to do about it, in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepEffect {
    /// Hand it out under this fence.
    Grant {
        /// The fence.
        fence: u64,
    },
    /// Answer its call with the output, and wake its run.
    RecordOutput,
    /// Answer its call with the failure, and wake its run.
    RecordFailure,
    /// Answer its call with `attempts_exhausted`, and wake its run: a dead letter.
    RecordExhausted,
    /// Tell workers that there is something to claim.
    Offer,
    /// Queue it anew in a new run, with attempts and fences of its own: another row, so that no word about this one is a
    /// word about that.
    BeginAgain,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The word of a holder whose step has passed on.
    #[error("the step has passed to somebody else")]
    Stale,
    /// It does not apply to a step in this state.
    #[error("nothing to do for a step in this state")]
    NotNow,
}

/// The next state of a step, and what to do about it.
///
/// # Errors
///
/// [`Refusal`], and then nothing of what the event would have recorded may be kept.
pub fn apply(
    step: &StepState,
    event: &StepEvent,
) -> Result<(StepState, Option<StepEffect>), Refusal> {
    let mut next = *step;
    let effect = match *event {
        StepEvent::Claim { now, until } => claim(&mut next, now, until)?,
        StepEvent::Renew { fence, until } => {
            held(step, fence)?;
            next.lease_until = Some(until);
            None
        }
        StepEvent::Expire { now } => expire(&mut next, now)?,
        StepEvent::Complete { fence } => {
            held(step, fence)?;
            end(&mut next, StepStatus::Done);
            Some(StepEffect::RecordOutput)
        }
        StepEvent::Fail { fence, again_at } => {
            held(step, fence)?;
            fail(&mut next, again_at)
        }
        StepEvent::Park { fence, now, wakes } => {
            held(step, fence)?;
            next.attempt -= 1;
            offer(&mut next, (step.wakes > wakes).then_some(now));
            Some(StepEffect::Offer)
        }
        StepEvent::Suspend {
            fence,
            now,
            wakes,
            due,
        } => {
            held(step, fence)?;
            next.attempt = 0;
            offer(&mut next, if step.wakes > wakes { Some(now) } else { due });
            Some(StepEffect::Offer)
        }
        StepEvent::Release { fence } => {
            held(step, fence)?;
            next.attempt -= 1;
            offer(&mut next, step.due);
            Some(StepEffect::Offer)
        }
        StepEvent::Wake { now } => wake(&mut next, now)?,
        StepEvent::Cancel => shut_out(&mut next, StepStatus::Cancelled)?,
        StepEvent::TimeOut => shut_out(&mut next, StepStatus::Failed)?,
        StepEvent::Redrive => redrive(&mut next)?,
    };
    Ok((next, effect))
}

/// Every word of a holder is checked here, and nowhere else.
fn held(step: &StepState, fence: u64) -> Result<(), Refusal> {
    if step.status == StepStatus::Leased && step.fence == fence {
        Ok(())
    } else {
        Err(Refusal::Stale)
    }
}

fn claim(step: &mut StepState, now: i64, until: i64) -> Result<Option<StepEffect>, Refusal> {
    if !step.is_claimable(now) {
        return Err(Refusal::NotNow);
    }
    step.status = StepStatus::Leased;
    step.attempt += 1;
    step.fence += 1;
    step.lease_until = Some(until);
    Ok(Some(StepEffect::Grant { fence: step.fence }))
}

fn expire(step: &mut StepState, now: i64) -> Result<Option<StepEffect>, Refusal> {
    let ran_out = step.lease_until.is_some_and(|until| until <= now);
    if step.status != StepStatus::Leased || !ran_out {
        return Err(Refusal::NotNow);
    }
    if step.attempt >= step.max_attempts {
        end(step, StepStatus::Failed);
        return Ok(Some(StepEffect::RecordExhausted));
    }
    offer(step, Some(now));
    Ok(Some(StepEffect::Offer))
}

fn fail(step: &mut StepState, again_at: Option<i64>) -> Option<StepEffect> {
    match again_at {
        Some(due) if step.attempt < step.max_attempts => {
            offer(step, Some(due));
            None
        }
        _ => {
            end(step, StepStatus::Failed);
            Some(StepEffect::RecordFailure)
        }
    }
}

fn wake(step: &mut StepState, now: i64) -> Result<Option<StepEffect>, Refusal> {
    if step.status.is_over() {
        return Err(Refusal::NotNow);
    }
    step.wakes += 1;
    if step.status == StepStatus::Ready && step.due.is_none_or(|due| due > now) {
        step.due = Some(now);
    }
    Ok(Some(StepEffect::Offer))
}

/// Ends it over the head of whoever has it.
fn shut_out(step: &mut StepState, status: StepStatus) -> Result<Option<StepEffect>, Refusal> {
    if step.status.is_over() {
        return Err(Refusal::NotNow);
    }
    step.fence += 1;
    end(step, status);
    Ok(None)
}

/// A dead letter is begun again once; whoever asks for it again is told what became of that.
fn redrive(step: &mut StepState) -> Result<Option<StepEffect>, Refusal> {
    if step.status != StepStatus::Failed || step.redriven {
        return Err(Refusal::NotNow);
    }
    step.redriven = true;
    Ok(Some(StepEffect::BeginAgain))
}

fn offer(step: &mut StepState, due: Option<i64>) {
    step.status = StepStatus::Ready;
    step.due = due;
    step.lease_until = None;
}

fn end(step: &mut StepState, status: StepStatus) {
    step.status = status;
    step.lease_until = None;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any event; fences and wakes are near those that are current.
    fn event() -> impl Strategy<Value = StepEvent> {
        let fence = 0_u64..8;
        prop_oneof![
            4 => (0_i64..60).prop_map(|now| StepEvent::Claim { now, until: now + 10 }),
            1 => (fence.clone(), 0_i64..70).prop_map(|(fence, until)| StepEvent::Renew { fence, until }),
            2 => (0_i64..70).prop_map(|now| StepEvent::Expire { now }),
            1 => fence.clone().prop_map(|fence| StepEvent::Complete { fence }),
            1 => (fence.clone(), proptest::option::of(0_i64..60))
                .prop_map(|(fence, again_at)| StepEvent::Fail { fence, again_at }),
            1 => (fence.clone(), 0_i64..60, 0_u64..4)
                .prop_map(|(fence, now, wakes)| StepEvent::Park { fence, now, wakes }),
            1 => (fence.clone(), 0_i64..60, 0_u64..4, proptest::option::of(0_i64..60)).prop_map(
                |(fence, now, wakes, due)| StepEvent::Suspend { fence, now, wakes, due }
            ),
            1 => fence.prop_map(|fence| StepEvent::Release { fence }),
            1 => (0_i64..60).prop_map(|now| StepEvent::Wake { now }),
            1 => Just(StepEvent::Cancel),
            1 => Just(StepEvent::TimeOut),
            1 => Just(StepEvent::Redrive),
        ]
    }

    #[test]
    fn a_wake_up_while_it_is_worked_on_is_not_lost() {
        let step = StepState::new(0, 3);
        let (step, _) = apply(&step, &StepEvent::Claim { now: 0, until: 9 }).expect("ready");
        let (step, _) = apply(&step, &StepEvent::Wake { now: 1 }).expect("leased");
        let park = |wakes| StepEvent::Park {
            fence: 1,
            now: 2,
            wakes,
        };
        let (again, _) = apply(&step, &park(0)).expect("held");
        assert!(again.is_claimable(2));
        assert_eq!(again.attempt, 0, "waiting is no attempt");
        let (parked, _) = apply(&step, &park(1)).expect("held");
        assert!(parked.is_parked());
    }

    #[test]
    fn the_last_attempt_that_vanishes_is_a_dead_letter() {
        let mut step = StepState::new(0, 2);
        for _ in 0..2 {
            (step, _) = apply(&step, &StepEvent::Claim { now: 0, until: 5 }).expect("ready");
            let early = apply(&step, &StepEvent::Expire { now: 4 });
            assert_eq!(early, Err(Refusal::NotNow));
            let (next, effect) = apply(&step, &StepEvent::Expire { now: 5 }).expect("ran out");
            let last = next.status == StepStatus::Failed;
            assert_eq!(last, effect == Some(StepEffect::RecordExhausted));
            assert!(last || next.due == Some(5));
            step = StepState {
                due: next.due.map(|_| 0),
                ..next
            };
        }
        assert_eq!(step.status, StepStatus::Failed);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_happens_a_step_keeps_its_promises(
            max_attempts in 1_u32..4,
            events in proptest::collection::vec(event(), 0..60),
        ) {
            let mut step = StepState::new(0, max_attempts);
            let mut recorded = 0;
            for event in events {
                let Ok((next, effect)) = apply(&step, &event) else { continue };
                if event == StepEvent::Redrive {
                    let only_noted = StepState { redriven: true, ..step };
                    prop_assert_eq!((step.status, step.redriven), (StepStatus::Failed, false));
                    prop_assert_eq!((next, effect), (only_noted, Some(StepEffect::BeginAgain)));
                    step = next;
                    continue;
                }
                prop_assert!(!step.status.is_over(), "it moved after its end: {event:?}");
                prop_assert!(next.fence >= step.fence);
                prop_assert!(next.attempt <= max_attempts);
                prop_assert_eq!(next.status == StepStatus::Leased, next.lease_until.is_some());
                if let Some(StepEffect::Grant { fence }) = effect {
                    prop_assert!(fence > step.fence, "a fence is given out once");
                }
                recorded += u32::from(matches!(effect, Some(
                    StepEffect::RecordOutput | StepEffect::RecordFailure | StepEffect::RecordExhausted
                )));
                prop_assert!(recorded <= 1, "its end is recorded once");
                // It can be lost only by being neither over, nor held until some time, nor offered.
                let left = next.status != StepStatus::Ready || next.attempt < max_attempts;
                prop_assert!(left, "nobody can take it, and nobody is told");
                step = next;
            }
        }
    }
}
