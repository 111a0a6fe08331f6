//! Every interleaving of two or three workers around one step: messages that come late, twice or never, crashes, leases
//! that run out, a dead letter that is redriven. The model carries out the real machine; spoilt machines must be found out
//! by the same properties.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::step_machine::{Refusal, StepEffect, StepEvent, StepState, StepStatus, apply};

type Machine = fn(&StepState, &StepEvent) -> Result<(StepState, Option<StepEffect>), Refusal>;

/// How long a lease lasts.
const LEASE: i64 = 2;
const ATTEMPTS: u32 = 2;

/// How far an exploration goes.
#[derive(Debug, Clone, Copy)]
struct Reach {
    workers: usize,
    /// How far time goes.
    last: i64,
    /// The most claims.
    fences: u64,
    /// Whether dead letters are redriven.
    redrives: bool,
}

const TWO_WORKERS: Reach = Reach {
    workers: 2,
    last: 5,
    fences: 3,
    redrives: false,
};
/// Less time, so that it stays small.
const THREE_WORKERS: Reach = Reach {
    workers: 3,
    last: 3,
    fences: 3,
    redrives: false,
};
/// The claims of the second life are few: what is looked for is what the first one left behind.
const REDRIVEN: Reach = Reach {
    workers: 2,
    last: 3,
    fences: 2,
    redrives: true,
};

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
    claim: Claim,
}

/// What a worker knows of the step it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Claim {
    /// Which of the rows: a step that is redriven is another.
    row: u8,
    fence: u64,
    wakes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// The step that is not over, if one is not.
    step: StepState,
    row: u8,
    now: i64,
    /// The claims the workers believe they hold; who holds which makes no difference, so they are kept in order.
    workers: Vec<Option<Claim>>,
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
    Redrive,
}

struct Queue {
    reach: Reach,
    machine: Machine,
}

impl Model for Queue {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            step: StepState::new(0, ATTEMPTS),
            row: 0,
            now: 0,
            workers: vec![None; self.reach.workers],
            wire: BTreeSet::new(),
            noted: Noted::default(),
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        acts.extend((world.now < self.reach.last).then_some(Act::Tick));
        acts.push(Act::Expire);
        acts.extend((world.step.wakes < 1).then_some(Act::Wake));
        acts.extend((world.now == 1).then_some(Act::Cancel));
        acts.extend((self.reach.redrives && world.row == 0).then_some(Act::Redrive));
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
                let claim = world.workers[number]?;
                world.wire.insert(Message { word, claim });
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
                let held = Claim {
                    row: world.row,
                    fence: world.step.fence,
                    wakes: world.step.wakes,
                };
                world.workers[number] = (!lost).then_some(held);
            }
            Act::Expire => world.happen(self.machine, StepEvent::Expire { now: world.now })?,
            Act::Wake => world.happen(self.machine, StepEvent::Wake { now: world.now })?,
            Act::Cancel => world.happen(self.machine, StepEvent::Cancel)?,
            Act::Redrive => world.happen(self.machine, StepEvent::Redrive)?,
            Act::Arrive(message) => world.hear(self.machine, message)?,
        }
        world.workers.sort_unstable();
        (world != *before).then_some(world)
    }

    /// A step that is given back again and again would go on for ever, and so would a spoilt one that has no end.
    fn within_boundary(&self, world: &World) -> bool {
        world.step.fence <= self.reach.fences && world.noted.recorded <= 2
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
                let late = |m: &Message| m.claim.fence < w.step.fence;
                w.step.status == StepStatus::Done && w.wire.iter().any(late)
            }),
            Property::sometimes("what was redriven is done", |queue: &Self, w: &World| {
                !queue.reach.redrives || (w.row == 1 && w.step.status == StepStatus::Done)
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
            Some(StepEffect::BeginAgain) => {
                self.noted = Noted::default();
                self.row += 1;
                self.step = StepState::new(self.now, next.max_attempts);
                return Some(());
            }
            Some(StepEffect::Offer) | None => {}
        }
        if next.status != StepStatus::Leased {
            self.noted.holder = 0;
        }
        self.step = next;
        Some(())
    }

    fn hear(&mut self, machine: Machine, message: Message) -> Option<()> {
        let Message { word, claim } = message;
        let Claim { row, fence, wakes } = claim;
        let now = self.now;
        if row != self.row {
            // The row it is about is over, and hears nothing any more.
            return None;
        }
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
fn broken(reach: Reach, machine: Machine) -> (BTreeSet<&'static str>, usize) {
    let checker = Queue { reach, machine }
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
    let (broken, states) = broken(TWO_WORKERS, apply);
    assert_eq!(broken, BTreeSet::new());
    assert!(states > 10_000, "only {states} states");
    eprintln!("{states} states of two workers");
}

#[test]
fn no_interleaving_of_three_workers_breaks_a_promise() {
    let (broken, states) = broken(THREE_WORKERS, apply);
    assert_eq!(broken, BTreeSet::new());
    assert!(states > 10_000, "only {states} states");
    eprintln!("{states} states of three workers");
}

#[test]
fn a_dead_letter_is_redriven_once_and_hears_nothing_of_its_first_life() {
    let (broken, states) = broken(REDRIVEN, apply);
    assert_eq!(broken, BTreeSet::new());
    assert!(states > 10_000, "only {states} states");
    eprintln!("{states} states of a step that is redriven");
}

/// Whether some interleaving makes a spoilt machine break this promise.
fn is_found_out(machine: Machine, promise: &'static str) -> bool {
    is_found_within(TWO_WORKERS, machine, promise)
}

fn is_found_within(reach: Reach, machine: Machine, promise: &'static str) -> bool {
    let queue = Queue { reach, machine };
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

#[test]
fn a_machine_that_takes_a_dead_letter_up_in_its_own_row_is_found_out() {
    let spoilt: Machine = |step, event| match event {
        StepEvent::Redrive if step.status == StepStatus::Failed => Ok((
            StepState::new(0, step.max_attempts),
            Some(StepEffect::Offer),
        )),
        _ => apply(step, event),
    };
    let promise = "its end is recorded at most once";
    assert!(is_found_within(REDRIVEN, spoilt, promise));
}
