//! The life of a revision, and who of several revisions of a policy decides about an asset.

use serde::{Deserialize, Serialize};

use super::{Decided, Decider, Facts, Outcome, PolicyError};
use crate::script::{Limits, Script, value::sha256};

/// Where a revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevisionState {
    /// Written, and asked by nobody.
    Draft,
    /// Asked beside the one that serves, and only compared.
    Shadow,
    /// Decides about a share of the assets.
    Canary,
    /// Serves.
    Active,
    /// Served or was tried once; kept.
    Retired,
}

impl RevisionState {
    /// Every state with its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Draft, "draft"),
        (Self::Shadow, "shadow"),
        (Self::Canary, "canary"),
        (Self::Active, "active"),
        (Self::Retired, "retired"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The state of this name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|&(_, n)| n == name);
        found.map(|(state, _)| state)
    }

    /// Whether at most one revision of a script stands here.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Active | Self::Canary | Self::Shadow)
    }
}

/// Why a revision is not moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// Nothing would serve any more.
    #[error("the revision serves; activate another one, or roll back, and it is retired")]
    Serves,
    /// A revision that somebody saw does not become a draft again.
    #[error("a revision that is {from} does not become a draft again")]
    NoDraft {
        /// Where it stands.
        from: &'static str,
    },
    /// A share that is none.
    #[error("the share of a canary is 1 to 100 percent, not {percent}")]
    Share {
        /// What was asked for.
        percent: i64,
    },
}

/// Whether a revision may be moved from where it stands.
///
/// # Errors
///
/// When it serves, when it would become a draft again, and when the share of a canary is none.
pub fn check_move(
    from: RevisionState,
    to: RevisionState,
    percent: Option<i64>,
) -> Result<(), MoveError> {
    use RevisionState::{Active, Canary, Draft};
    match (from, to) {
        (Active, Active) => Ok(()),
        (Active, _) => Err(MoveError::Serves),
        (_, Draft) if from != Draft => Err(MoveError::NoDraft { from: from.name() }),
        (_, Canary) => match percent.unwrap_or(0) {
            1..=100 => Ok(()),
            percent => Err(MoveError::Share { percent }),
        },
        _ => Ok(()),
    }
}

/// Whether an asset belongs to the share a canary decides about: always the same assets for the same revision, and a
/// larger share contains a smaller one.
#[must_use]
pub fn in_share(asset: &str, revision: &str, percent: i64) -> bool {
    let digest = sha256(format!("{revision}\n{asset}").as_bytes());
    let digits = digest.trim_start_matches("sha256:");
    let drawn = u64::from_str_radix(&digits[..12], 16).unwrap_or(u64::MAX);
    // 48 bits are exact in a float.
    (drawn as f64) / (1_u64 << 48) as f64 * 100.0 < percent as f64
}

/// A revision that can be asked, any number of times, or why it cannot.
pub struct Seat {
    /// Its digest.
    pub revision: String,
    decider: Result<Decider, PolicyError>,
}

/// The revisions of one policy that have a say.
pub struct Panel {
    /// The one that serves.
    pub active: Seat,
    /// The one that served before it without fault.
    pub last_good: Option<Seat>,
    /// One that decides about a share, and the share in percent.
    pub canary: Option<(Seat, i64)>,
    /// One that is only compared.
    pub shadow: Option<Seat>,
}

/// A revision that gave no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its digest.
    pub revision: String,
    /// Why.
    pub error: PolicyError,
}

/// What two revisions answered about the same facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Why it was asked: [`RevisionState::Shadow`] or [`RevisionState::Canary`].
    pub role: RevisionState,
    /// Digest of the revision compared against: the one that serves.
    pub before_revision: String,
    /// What that one answered.
    pub before: Outcome,
    /// Digest of the new revision.
    pub revision: String,
    /// What that one answered.
    pub after: Outcome,
}

/// What a panel answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The decision and the digest of the revision that made it, unless all that could failed.
    pub decided: Option<(String, Decided)>,
    /// Those that should have decided and failed, in the order they were asked.
    pub failed: Vec<Failed>,
    /// What was asked only to be compared.
    pub comparisons: Vec<Comparison>,
}

type Answer = Result<Decided, PolicyError>;

impl Seat {
    /// A revision, under limits that hold for every decision anew.
    #[must_use]
    pub fn new(revision: &str, script: Result<Script, PolicyError>, limits: &Limits) -> Self {
        Self {
            revision: revision.to_owned(),
            decider: script.map(|script| Decider::new(&script, limits)),
        }
    }

    fn ask(&mut self, facts: &Facts) -> Answer {
        match &mut self.decider {
            Ok(decider) => decider.decide(facts),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Panel {
    /// Asks whoever decides about this asset, and whoever is compared.
    ///
    /// The canary decides about its share, else the one that serves. One that fails is made up for: a canary by the
    /// one that serves, that one by the last good one.
    ///
    /// `next` is called before each that is asked, so that whoever bounds the time of one can begin to count anew.
    pub fn ask(&mut self, facts: &Facts, mut next: impl FnMut()) -> Asked {
        let mut answer = |seat: &mut Seat| {
            next();
            seat.ask(facts)
        };
        let active = answer(&mut self.active);
        let before = (self.active.revision.as_str(), Outcome::of(&active));
        let mut asked = Asked {
            decided: None,
            failed: Vec::new(),
            comparisons: Vec::new(),
        };
        if let Some((seat, percent)) = &mut self.canary
            && in_share(&facts.asset, &seat.revision, *percent)
        {
            let answer = answer(seat);
            asked.compare(RevisionState::Canary, &before, seat, &answer);
            asked.take(seat, answer);
        }
        if let Some(seat) = &mut self.shadow {
            let answer = answer(seat);
            asked.compare(RevisionState::Shadow, &before, seat, &answer);
        }
        if asked.decided.is_none() {
            asked.take(&self.active, active);
        }
        if asked.decided.is_none()
            && let Some(seat) = &mut self.last_good
        {
            let answer = answer(seat);
            asked.take(seat, answer);
        }
        asked
    }
}

impl Asked {
    fn take(&mut self, seat: &Seat, answer: Answer) {
        let revision = seat.revision.clone();
        match answer {
            Ok(decided) => self.decided = Some((revision, decided)),
            Err(error) => self.failed.push(Failed { revision, error }),
        }
    }

    fn compare(
        &mut self,
        role: RevisionState,
        (before_revision, before): &(&str, Outcome),
        seat: &Seat,
        answer: &Answer,
    ) {
        self.comparisons.push(Comparison {
            role,
            before_revision: (*before_revision).to_owned(),
            before: before.clone(),
            revision: seat.revision.clone(),
            after: Outcome::of(answer),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Timestamp;

    const MONITOR: &str = r#"fn decide(facts) { #{ action: "monitor", reason: "ok" } }"#;
    const SHIFT: &str = r#"fn decide(facts) { #{ action: "shift_bandwidth", reason: "hot" } }"#;
    const BROKEN: &str = "fn decide(facts) { facts.nothing }";

    fn seat(source: &str) -> Seat {
        let script = Script::compile("p", source).map_err(PolicyError::from);
        Seat::new(&sha256(source.as_bytes()), script, &Limits::decision())
    }

    fn panel(active: &str) -> Panel {
        Panel {
            active: seat(active),
            last_good: None,
            canary: None,
            shadow: None,
        }
    }

    fn ask(panel: &mut Panel) -> Asked {
        let facts = Facts::about("fan-1", "fan", Timestamp(0));
        panel.ask(&facts, || ())
    }

    fn action(asked: &Asked) -> &'static str {
        let decided = asked.decided.as_ref();
        decided.map_or("none", |(_, d)| d.decision.action())
    }

    #[test]
    fn a_shadow_is_compared_and_decides_nothing() {
        let mut shadow = Panel {
            shadow: Some(seat(SHIFT)),
            ..panel(MONITOR)
        };
        let asked = ask(&mut shadow);
        assert_eq!(action(&asked), "monitor");
        let [compared] = &asked.comparisons[..] else {
            panic!("{asked:?}")
        };
        assert!(compared.before.differs(&compared.after));
        let mut broken = Panel {
            shadow: Some(seat(BROKEN)),
            ..panel(MONITOR)
        };
        let asked = ask(&mut broken);
        assert_eq!(action(&asked), "monitor");
        assert!(asked.failed.is_empty(), "it had nothing to decide");
        assert!(asked.comparisons[0].after.is_failure());
    }

    #[test]
    fn a_canary_decides_about_its_share_and_is_made_up_for() {
        for (source, percent, wanted, failed) in [
            (SHIFT, 100, "shift_bandwidth", 0),
            (SHIFT, 0, "monitor", 0),
            (BROKEN, 100, "monitor", 1),
        ] {
            let mut canary = Panel {
                canary: Some((seat(source), percent)),
                ..panel(MONITOR)
            };
            let asked = ask(&mut canary);
            assert_eq!(action(&asked), wanted, "{source} {percent}");
            assert_eq!(asked.failed.len(), failed, "{source} {percent}");
            assert_eq!(asked.comparisons.len(), usize::from(percent > 0));
        }
    }

    #[test]
    fn what_serves_and_fails_is_made_up_for_by_the_last_good_one() {
        assert_eq!(action(&ask(&mut panel(BROKEN))), "none");
        let mut good = Panel {
            last_good: Some(seat(MONITOR)),
            ..panel(BROKEN)
        };
        let asked = ask(&mut good);
        assert_eq!(action(&asked), "monitor");
        assert_eq!(asked.failed[0].revision, good.active.revision);
        let mut parsed = Panel {
            active: seat("fn decide( {"),
            ..good
        };
        assert_eq!(action(&ask(&mut parsed)), "monitor");
    }

    #[test]
    fn what_serves_is_not_moved_away() {
        for (to, _) in RevisionState::ALL {
            let moved = check_move(RevisionState::Active, to, Some(10));
            assert_eq!(moved.is_ok(), to == RevisionState::Active);
            let tried = check_move(RevisionState::Retired, to, Some(10));
            assert_eq!(tried.is_ok(), to != RevisionState::Draft);
            assert_eq!(RevisionState::read(to.name()), Some(to));
        }
        for percent in [None, Some(0), Some(101), Some(-1)] {
            check_move(RevisionState::Draft, RevisionState::Canary, percent).expect_err("no share");
        }
    }

    #[test]
    fn the_share_of_a_canary_is_about_as_large_as_it_says() {
        for percent in [1, 10, 50, 90] {
            let share = (0..10_000).filter(|n| in_share(&format!("fan-{n}"), "sha256:1", percent));
            // Five standard deviations of a binomial draw are at most 250 of 10,000.
            let off = share.count().abs_diff(percent as usize * 100);
            assert!(off < 250, "{percent}: {off}");
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_contains_a_smaller_one(asset in ".{0,20}", revision in ".{0,20}", percent in 0_i64..100) {
            let small = in_share(&asset, &revision, percent);
            prop_assert!(!small || in_share(&asset, &revision, percent + 1));
            prop_assert!(in_share(&asset, &revision, 100) && !in_share(&asset, &revision, 0));
        }
    }
}
