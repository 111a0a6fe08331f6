//! Every interleaving of two cells around one build: words that come late, twice or never, crashes, lost leases.
//!
//! The model carries out the real machine; the fences and sessions around it are those of the server's leases. A word
//! once said arrives at any time after, any number of times. Cells and people never lie about a plate; a person looks
//! once the machine stands still, and may answer long after. Spoilt rules must be found out by the same properties.

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::machine::{BuildEvent, OnPlate, apply};
use crate::model::BuildState;

const LEASE: u8 = 1;
const LAST: u8 = 2;
const SESSIONS: u8 = 2;
const FENCES: u8 = 3;

/// What the server checks; each rule can be left out, to see that it is needed.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// A holder's word counts under the present fence alone.
    fence: bool,
    /// What a cell says of its plate names the fence it was started under.
    plate_fence: bool,
    /// What a person says of a plate names the fence the page showed.
    page_fence: bool,
    /// A started build whose lease is lost is left in doubt.
    doubt: bool,
}

const ALL: Rules = Rules {
    fence: true,
    plate_fence: true,
    page_fence: true,
    doubt: true,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Word {
    Stage,
    Start,
    Complete,
    /// The cell's machine never moved for this job.
    Empty,
    /// A person saw nothing on the cell's plate.
    SeenEmpty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    word: Word,
    cell: usize,
    session: u8,
    fence: u8,
}

/// A cell: what it remembers over a crash, and what it does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Cell {
    session: u8,
    /// Fence of the build in hand, and whether matter moved for it.
    job: Option<(u8, bool)>,
    /// It came up with a job in hand and says what became of it.
    settling: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    state: u8,
    fence: u8,
    holder: Option<usize>,
    until: Option<u8>,
    now: u8,
    cells: [Cell; 2],
    wire: BTreeSet<Message>,
    /// Starts that were granted: cell, session, fence.
    granted: BTreeSet<(usize, u8, u8)>,
    moves: u8,
    granted_twice: bool,
    offered_in_doubt: bool,
    ends: u8,
}

const STATES: [BuildState; 6] = [
    BuildState::Waiting,
    BuildState::Leased,
    BuildState::Staged,
    BuildState::Started,
    BuildState::Uncertain,
    BuildState::Ended,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Tick,
    Expire,
    Lease(usize),
    Say(usize, Word),
    Arrive(Message),
    Move(usize),
    Crash(usize),
}

impl Model for Rules {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            state: 0,
            fence: 0,
            holder: None,
            until: None,
            now: 0,
            cells: [Cell::default(); 2],
            wire: BTreeSet::new(),
            granted: BTreeSet::new(),
            moves: 0,
            granted_twice: false,
            offered_in_doubt: false,
            ends: 0,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        acts.extend((world.now < LAST).then_some(Act::Tick));
        acts.push(Act::Expire);
        acts.extend(world.wire.iter().map(|message| Act::Arrive(*message)));
        for (number, cell) in world.cells.iter().enumerate() {
            acts.extend((cell.session + 1 < SESSIONS).then_some(Act::Crash(number)));
            match cell.job {
                None => acts.push(Act::Lease(number)),
                Some((_, true)) => acts.push(Act::Say(number, Word::Complete)),
                Some((fence, false)) if cell.settling => {
                    acts.push(Act::Say(number, Word::Empty));
                    let in_doubt = STATES[usize::from(world.state)] == BuildState::Uncertain;
                    let shown = world.holder == Some(number) && world.fence == fence;
                    acts.extend((in_doubt && shown).then_some(Act::Say(number, Word::SeenEmpty)));
                }
                Some((_, false)) => acts.extend([
                    Act::Say(number, Word::Stage),
                    Act::Say(number, Word::Start),
                    Act::Move(number),
                ]),
            }
        }
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        match act {
            Act::Tick => world.now += 1,
            Act::Expire => {
                let ran_out = world.until.is_some_and(|until| until <= world.now);
                (ran_out).then(|| world.lose(*self))?;
            }
            Act::Lease(cell) => world.lease(cell)?,
            Act::Say(cell, word) => {
                let Cell { session, job, .. } = world.cells[cell];
                let (fence, _) = job?;
                world.wire.insert(Message {
                    word,
                    cell,
                    session,
                    fence,
                });
            }
            Act::Arrive(message) => world.hear(*self, message)?,
            Act::Move(cell) => {
                let Cell { session, job, .. } = world.cells[cell];
                let (fence, _) = job?;
                world.granted.get(&(cell, session, fence))?;
                world.cells[cell].job = Some((fence, true));
                world.moves += 1;
            }
            Act::Crash(cell) => {
                let cell_now = &mut world.cells[cell];
                cell_now.session += 1;
                cell_now.settling = cell_now.job.is_some();
                if world.holder == Some(cell) && world.until.is_some() {
                    world.lose(*self);
                }
            }
        }
        (world != *before).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.fence <= FENCES
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("matter moves at most once", |_, w: &World| w.moves <= 1),
            Property::always("a start is granted once under a fence", |_, w: &World| {
                !w.granted_twice
            }),
            Property::always("nothing in doubt is offered again", |_, w: &World| {
                !w.offered_in_doubt
            }),
            Property::always("its end is recorded at most once", |_, w: &World| {
                w.ends <= 1
            }),
            Property::sometimes("it is made by a second cell", |_, w: &World| {
                w.ends == 1 && w.fence > 1
            }),
            Property::sometimes("it is in doubt", |_, w: &World| {
                STATES[usize::from(w.state)] == BuildState::Uncertain
            }),
        ]
    }
}

impl World {
    fn happen(&mut self, event: BuildEvent) -> Option<BuildState> {
        let (next, _) = apply(STATES[usize::from(self.state)], event).ok()?;
        let index = STATES.iter().position(|state| *state == next)?;
        self.state = u8::try_from(index).ok()?;
        Some(next)
    }

    fn lease(&mut self, cell: usize) -> Option<()> {
        self.happen(BuildEvent::Lease)?;
        self.fence += 1;
        self.holder = Some(cell);
        self.until = Some(self.now + LEASE);
        self.cells[cell].job = Some((self.fence, false));
        self.cells[cell].settling = false;
        Some(())
    }

    fn lose(&mut self, rules: Rules) {
        self.until = None;
        let before = STATES[usize::from(self.state)];
        if before == BuildState::Started && !rules.doubt {
            self.state = 0;
        } else {
            self.happen(BuildEvent::LeaseLost);
        }
        let offered = STATES[usize::from(self.state)] == BuildState::Waiting;
        if offered {
            self.holder = None;
        }
        self.offered_in_doubt |= offered && before == BuildState::Started;
    }

    fn hear(&mut self, rules: Rules, message: Message) -> Option<()> {
        let Message {
            word,
            cell,
            session,
            fence,
        } = message;
        // Nobody says with which connection a plate was looked at.
        let of_plate = matches!(word, Word::Empty | Word::SeenEmpty);
        if session != self.cells[cell].session && !of_plate {
            return None;
        }
        let is_holder = self.holder == Some(cell) && fence == self.fence;
        match word {
            Word::Empty => {
                let may = self.holder == Some(cell) && (!rules.plate_fence || is_holder);
                if may && self.happen(BuildEvent::Resolve(OnPlate::Nothing)).is_some() {
                    self.holder = None;
                }
                self.forget(message);
            }
            Word::SeenEmpty => {
                let may = !rules.page_fence || fence == self.fence;
                may.then(|| self.happen(BuildEvent::Resolve(OnPlate::Nothing)))??;
                self.holder = None;
            }
            _ if rules.fence && !is_holder => self.forget(message),
            Word::Stage => drop(self.happen(BuildEvent::Stage)?),
            Word::Start => {
                let asked = (cell, session, fence);
                if self.granted.contains(&asked) {
                    return None;
                }
                if rules.fence {
                    self.until?;
                }
                self.happen(BuildEvent::Start)?;
                self.granted_twice |= self.granted.iter().any(|(_, _, f)| *f == fence);
                self.granted.insert(asked);
            }
            Word::Complete => {
                self.happen(BuildEvent::Complete)?;
                self.ends += 1;
                self.until = None;
                self.forget(message);
            }
        }
        Some(())
    }

    /// The cell is answered, whatever the answer: the job is out of its hands, unless it is about another.
    fn forget(&mut self, message: Message) {
        let cell = &mut self.cells[message.cell];
        let about = cell.job.is_some_and(|(fence, _)| fence == message.fence);
        if about && cell.session == message.session {
            cell.job = None;
            cell.settling = false;
        }
    }
}

/// The properties that do not hold under some rules.
fn broken(rules: Rules) -> (BTreeSet<&'static str>, usize) {
    let checker = rules.checker().threads(2).spawn_bfs().join();
    let found: BTreeSet<_> = checker.discoveries().into_keys().collect();
    let wrong = |p: &Property<Rules>| match p.expectation {
        Expectation::Sometimes => !found.contains(p.name),
        _ => found.contains(p.name),
    };
    let all = checker.model().properties();
    let broken = all.iter().filter(|p| wrong(p)).map(|p| p.name).collect();
    (broken, checker.unique_state_count())
}

#[test]
fn no_interleaving_of_two_cells_moves_matter_twice() {
    let (broken, states) = broken(ALL);
    assert_eq!(broken, BTreeSet::new());
    assert!(states > 1_000, "only {states} states");
    eprintln!("{states} states of two cells");
}

#[test]
fn every_rule_is_needed() {
    for (missing, word) in [
        (
            Rules {
                fence: false,
                ..ALL
            },
            "matter moves at most once",
        ),
        (
            Rules {
                plate_fence: false,
                ..ALL
            },
            "matter moves at most once",
        ),
        (
            Rules {
                page_fence: false,
                ..ALL
            },
            "matter moves at most once",
        ),
        (
            Rules {
                doubt: false,
                ..ALL
            },
            "nothing in doubt is offered again",
        ),
    ] {
        let enough = HasDiscoveries::AnyOf(BTreeSet::from([word]));
        let checker = missing.checker().finish_when(enough).threads(2);
        let found = checker.spawn_bfs().join().discovery(word);
        assert!(found.is_some(), "{missing:?} breaks nothing");
    }
}
