//! Every interleaving of two workers around one step: messages that come late, twice or never, crashes, leases that
//! run out. The model carries out the real machine; spoilt machines must be found out by the same properties.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::step_machine::{Refusal, StepEffect, StepEvent, StepState, StepStatus, apply};

type Machine = fn(&StepState, &StepEvent) -> Result<(StepState, Option<StepEffect>), Refusal>;

/// How long a lease lasts, and how far time goes.
const LEASE: i64 = 2;
const LAST: i64 = 5;
const ATTEMPTS: u32 = 2;
const FENCES: u64 = 3;

/// What a worker says of a step it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Word {
    Renew,
    Complete,
    Fail,
    Park,
    Release,
}

/// A word on its way. It may arrive now, later, several times, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    word: Word,
    fence: u64,
    wakes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    step: StepState,
    now: i64,
    /// Fence and wakes of the claim a worker believes it holds.
    workers: Vec<Option<(u64, u64)>>,
    wire: BTreeSet<Message>,
    /// What an all-knowing observer notes.
    noted: Noted,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Noted {
    recorded: u32,
    /// Claims that were not given back.
    begun: u32,
    /// The fence of the newest claim, 0 once the step was taken from it.
    holder: u64,
    stranger_was_heard: bool,
    fence_given_twice: bool,
    wake_lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Tick,
    /// `true`: the worker dies before it hears of it.
    Claim(usize, bool),
    Say(usize, Word),
    Arrive(Message),
    Expire,
    Crash(usize),
    Wake,
    Cancel,
}

struct Queue {
    workers: usize,
    machine: Machine,
}

impl Model for Queue {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            step: StepState::new(0, ATTEMPTS),
            now: 0,
            workers: vec![None; self.workers],
            wire: BTreeSet::new(),
            noted: Noted::default(),
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        acts.extend((world.now < LAST).then_some(Act::Tick));
        acts.push(Act::Expire);
        acts.extend((world.step.wakes < 1).then_some(Act::Wake));
        acts.extend((world.now == 1).then_some(Act::Cancel));
        acts.extend(world.wire.iter().map(|message| Act::Arrive(*message)));
        for (number, holds) in world.workers.iter().enumerate() {
            if holds.is_none() {
                acts.extend([Act::Claim(number, false), Act::Claim(number, true)]);
            } else {
                acts.push(Act::Crash(number));
                let words = [
                    Word::Renew,
                    Word::Complete,
                    Word::Fail,
                    Word::Park,
                    Word::Release,
                ];
                acts.extend(words.map(|word| Act::Say(number, word)));
            }
        }
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        match act {
            Act::Tick => world.now += 1,
            Act::Crash(number) => world.workers[number] = None,
            Act::Say(number, word) => {
                let (fence, wakes) = world.workers[number]?;
                world.wire.insert(Message { word, fence, wakes });
                if word != Word::Renew {
                    world.workers[number] = None;
                }
            }
            Act::Claim(number, lost) => {
                let until = world.now + LEASE;
                let claim = StepEvent::Claim {
                    now: world.now,
                    until,
                };
                world.happen(self.machine, claim)?;
                let held = (world.step.fence, world.step.wakes);
                world.workers[number] = (!lost).then_some(held);
            }
            Act::Expire => world.happen(self.machine, StepEvent::Expire { now: world.now })?,
            Act::Wake => world.happen(self.machine, StepEvent::Wake { now: world.now })?,
            Act::Cancel => world.happen(self.machine, StepEvent::Cancel)?,
            Act::Arrive(message) => world.hear(self.machine, message)?,
        }
        (world != *before).then_some(world)
    }

    /// A step that is given back again and again would go on for ever, and so would a spoilt one that has no end.
    fn within_boundary(&self, world: &World) -> bool {
        world.step.fence <= FENCES && world.noted.recorded <= 2
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("its end is recorded at most once", |_, w: &World| {
                w.noted.recorded <= 1
            }),
            Property::always("only its holder is heard", |_, w: &World| {
                !w.noted.stranger_was_heard
            }),
            Property::always("it is begun at most as often as allowed", |_, w: &World| {
                w.noted.begun <= ATTEMPTS
            }),
            Property::always("a fence is given out once", |_, w: &World| {
                !w.noted.fence_given_twice
            }),
            Property::always("no wake-up is lost", |_, w: &World| !w.noted.wake_lost),
            Property::always("it is never lost", |queue: &Self, w: &World| {
                w.can_end(queue.machine)
            }),
            Property::sometimes("it is done", |_, w: &World| {
                w.step.status == StepStatus::Done
            }),
            Property::sometimes("it is given up", |_, w: &World| {
                w.step.status == StepStatus::Failed
            }),
            Property::sometimes("a late word is refused", |_, w: &World| {
                let late = |m: &Message| m.fence < w.step.fence;
                w.step.status == StepStatus::Done && w.wire.iter().any(late)
            }),
        ]
    }
}

impl World {
    fn happen(&mut self, machine: Machine, event: StepEvent) -> Option<()> {
        let (next, effect) = machine(&self.step, &event).ok()?;
        match effect {
            Some(StepEffect::Grant { fence }) => {
                self.noted.fence_given_twice |= fence <= self.step.fence;
                self.noted.begun += 1;
                self.noted.holder = fence;
            }
            Some(
                StepEffect::RecordOutput | StepEffect::RecordFailure | StepEffect::RecordExhausted,
            ) => self.noted.recorded += 1,
            Some(StepEffect::Offer) | None => {}
        }
        if next.status != StepStatus::Leased {
            self.noted.holder = 0;
        }
        self.step = next;
        Some(())
    }

    fn hear(&mut self, machine: Machine, message: Message) -> Option<()> {
        let Message { word, fence, wakes } = message;
        let now = self.now;
        let event = match word {
            Word::Renew => StepEvent::Renew {
                fence,
                until: now + LEASE,
            },
            Word::Complete => StepEvent::Complete { fence },
            Word::Fail => StepEvent::Fail {
                fence,
                again_at: Some(now + 1),
            },
            Word::Park => StepEvent::Park { fence, now, wakes },
            Word::Release => StepEvent::Release { fence },
        };
        let (holder, seen) = (self.noted.holder, self.step.wakes);
        self.happen(machine, event)?;
        self.noted.stranger_was_heard |= fence != holder;
        if matches!(word, Word::Park | Word::Release) {
            self.noted.begun -= 1;
        }
        self.noted.wake_lost |= word == Word::Park && seen > wakes && self.step.is_parked();
        Some(())
    }

    /// Whether one who expires, wakes, claims and completes brings it to its end.
    fn can_end(&self, machine: Machine) -> bool {
        let (mut step, mut now) = (self.step, self.now);
        for _ in 0..4 * ATTEMPTS {
            now += 2 * LEASE;
            for event in [StepEvent::Expire { now }, StepEvent::Wake { now }] {
                step = machine(&step, &event).map_or(step, |(next, _)| next);
            }
            // Nobody may count on a holder from before.
            let claim = StepEvent::Claim { now, until: now };
            if let Ok((claimed, _)) = machine(&step, &claim) {
                let fence = claimed.fence;
                let done = machine(&claimed, &StepEvent::Complete { fence });
                step = done.map_or(claimed, |(next, _)| next);
            }
        }
        step.status.is_over()
    }
}

/// The properties that do not hold of a machine.
fn broken(workers: usize, machine: Machine) -> (BTreeSet<&'static str>, usize) {
    let checker = Queue { workers, machine }
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    let found = checker.discoveries().into_iter();
    let all = checker.model().properties();
    let always = |name: &&'static str| {
        all.iter()
            .any(|p| p.name == *name && p.expectation == Expectation::Always)
    };
    let found: BTreeSet<_> = found.map(|(name, _)| name).collect();
    let missing = all
        .iter()
        .filter(|p| p.expectation == Expectation::Sometimes)
        .map(|p| p.name)
        .filter(|name| !found.contains(name));
    let broken = found.iter().copied().filter(always).chain(missing);
    (broken.collect(), checker.unique_state_count())
}

#[test]
fn no_interleaving_of_two_workers_breaks_a_promise() {
    let (broken, states) = broken(2, apply);
    assert_eq!(broken, BTreeSet::new());
    assert!(states > 10_000, "only {states} states");
    eprintln!("{states} states of two workers");
}

/// Whether some interleaving makes a spoilt machine break this promise.
fn is_found_out(machine: Machine, promise: &'static str) -> bool {
    let queue = Queue {
        workers: 2,
        machine,
    };
    let enough = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = queue.checker().finish_when(enough).threads(2);
    checker.spawn_bfs().join().discovery(promise).is_some()
}

/// The holder's words with their fence read off the row instead.
fn without_the_fence(event: &StepEvent, fence: u64) -> StepEvent {
    let mut event = *event;
    match &mut event {
        StepEvent::Renew { fence: named, .. }
        | StepEvent::Complete { fence: named }
        | StepEvent::Fail { fence: named, .. }
        | StepEvent::Park { fence: named, .. }
        | StepEvent::Suspend { fence: named, .. }
        | StepEvent::Release { fence: named } => *named = fence,
        _ => {}
    }
    event
}

#[test]
fn a_machine_that_does_not_look_at_the_fence_is_found_out() {
    let spoilt: Machine = |step, event| apply(step, &without_the_fence(event, step.fence));
    assert!(is_found_out(spoilt, "only its holder is heard"));
}

#[test]
fn a_machine_that_does_not_look_at_the_state_is_found_out() {
    let spoilt: Machine = |step, event| {
        let mut step = *step;
        if matches!(event, StepEvent::Complete { .. }) {
            step.status = StepStatus::Leased;
        }
        apply(&step, event)
    };
    assert!(is_found_out(spoilt, "its end is recorded at most once"));
}

#[test]
fn a_machine_that_counts_failures_instead_of_claims_is_found_out() {
    let spoilt: Machine = |step, event| {
        let mut counted = *step;
        let ends_an_attempt = matches!(
            event,
            StepEvent::Fail { .. } | StepEvent::Park { .. } | StepEvent::Release { .. }
        );
        counted.attempt += u32::from(ends_an_attempt);
        let (mut next, effect) = apply(&counted, event)?;
        if matches!(event, StepEvent::Claim { .. }) {
            next.attempt = step.attempt;
        }
        Ok((next, effect))
    };
    assert!(is_found_out(
        spoilt,
        "it is begun at most as often as allowed"
    ));
}

#[test]
fn a_machine_that_never_gives_up_is_found_out() {
    let spoilt: Machine = |step, event| match event {
        StepEvent::Expire { .. } if step.attempt >= step.max_attempts => Err(Refusal::NotNow),
        _ => apply(step, event),
    };
    assert!(is_found_out(spoilt, "it is never lost"));
}

#[test]
fn a_machine_that_parks_whatever_happened_is_found_out() {
    let spoilt: Machine = |step, event| match *event {
        StepEvent::Park { fence, now, .. } => apply(
            step,
            &StepEvent::Park {
                fence,
                now,
                wakes: step.wakes,
            },
        ),
        _ => apply(step, event),
    };
    assert!(is_found_out(spoilt, "no wake-up is lost"));
}
